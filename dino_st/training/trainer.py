"""`SentenceTransformerTrainer` set up for the recipe: arguments, loss, evaluator and when to evaluate."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from datasets import DatasetDict
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from dino_st.errors import ConfigurationError
from dino_st.support.files import write_text
from dino_st.support.progress import progress
from dino_st.training.batches import tokens_ahead
from dino_st.training.distributed import ShareOfBatches, check_devices, check_shares
from dino_st.training.heads import WithMaskedTokens
from dino_st.training.objective import METRIC, Objective
from dino_st.training.options import Choice, TrainingOptions
from dino_st.training.passes import in_one_pass, in_passes_by_length

logger = logging.getLogger(__name__)

_LARGE = 100_000_000
"""Weights besides the embedding above which activations are not kept on a CPU, whose memory gives no warning."""


def training_arguments(
    options: TrainingOptions, checkpoints: Path, processes: int = 1, *, batch_sizes: Sequence[str] = ("batch_size",)
) -> SentenceTransformerTrainingArguments:
    """The recipe in the words of the trainer; with several processes, as under `torchrun`, this joins their group.

    `batch_sizes` are the options that say how large the batches are. Raises ConfigurationError where the device is
    missing, there are fewer GPUs than processes, or these cannot share a batch.
    """
    check_shares(processes, {name: getattr(options, name) for name in batch_sizes})
    on_cpu = use_cpu(options.device)
    if not on_cpu:
        check_devices(processes)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=options.batch_size // processes,
        per_device_eval_batch_size=options.batch_size // processes,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup_share,  # a float below 1 is a share
        num_train_epochs=options.epochs,
        seed=options.seed,
        bf16=_use_bfloat16(options.dtype, on_cpu=on_cpu),
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and processes > 1 else None,
        dataloader_pin_memory=not on_cpu,
        dataloader_num_workers=options.dataloader_num_workers,
        accelerator_config={"non_blocking": torch.cuda.is_available() and not on_cpu},  # of pinned memory
        logging_nan_inf_filter=on_cpu,  # looks at each step's loss, for which a GPU would have to be waited for
        torch_compile=options.torch_compile,
        dataloader_drop_last=processes > 1,  # or else it warns, and sets it
        eval_strategy="steps",
        eval_steps=options.evaluation_steps,
        save_strategy="best" if options.weights_only else "steps",
        save_steps=options.evaluation_steps,
        save_only_model=options.weights_only,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        logging_steps=options.evaluation_steps,
        report_to="none",
        disable_tqdm=True,
    )
    arguments.dataloader_drop_last = False  # a batch that is not whole is shared like any other
    # Without torchrun the trainer would spread each batch over all GPUs with DataParallel, and multiply it.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def set_gradient_checkpointing(options: TrainingOptions, model: SentenceTransformer) -> None:
    """Has activations, which take most of the memory, computed twice instead of kept where the options say so."""
    transformer: Any = getattr(model[0], "model", None)
    chosen = options.gradient_checkpointing == "on"
    if transformer is not None and options.gradient_checkpointing == "auto":
        besides = sum(map(torch.numel, model.parameters())) - transformer.get_input_embeddings().weight.numel()
        chosen = use_cpu(options.device) and besides > _LARGE
    # Not by the trainer's argument, whose name changes within transformers 5.
    enable = "activation_checkpointing_enable" if hasattr(transformer, "activation_checkpointing_enable") else ""
    if chosen and transformer is not None:
        getattr(transformer, enable or "gradient_checkpointing_enable")()


def use_cpu(device: str) -> bool:
    """Whether to train on the CPU; raises where the device asked for is missing."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return not (available["cuda"] or available["mps"])
    if not available[device]:
        raise ConfigurationError(f"device is {device!r}, which this machine lacks; choose 'auto' or 'cpu'")
    return device == "cpu"


def _use_bfloat16(dtype: str, *, on_cpu: bool) -> bool:
    """Whether the forward pass is in bfloat16."""
    if dtype != "auto":
        return dtype == "bfloat16"
    if on_cpu or not torch.cuda.is_available():
        return False
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def hardware_name(device: torch.device) -> str:
    """What a device is, for people."""
    name: str = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return name or f"{device.type}, {torch.get_num_threads()} threads"


def make_trainer(
    model: SentenceTransformer,
    objective: Objective,
    arguments: SentenceTransformerTrainingArguments,
    report: ReportProgress,
) -> SentenceTransformerTrainer:
    """Makes the trainer of a model; `report` takes the place of the trainer's own bars and lines."""
    card = model.model_card_data
    card.local_files_only, card.generate_widget_examples = True, False
    parts = len(objective.train) if isinstance(objective.train, DatasetDict) else 1
    card.train_datasets = [{"name": objective.data_name}] * parts
    prompt = model.prompts.get(model.default_prompt_name or "")
    if prompt:  # `encode` puts it before each sentence, so the validation pairs have it, too
        logger.info("the encoder's default prompt %r stands before each sentence, as in `encode`", prompt)
        arguments.prompts = prompt
    if objective.batch_sampler is not None:
        arguments.batch_sampler = objective.batch_sampler
    vars(card)["set_widget_examples"] = lambda _: None  # shows a progress bar even where no examples are wanted
    loss = objective.loss(model)
    choose_passes(loss, objective.one_forward, arguments)
    try:
        kind = SharingTrainer if arguments.world_size > 1 else SentenceTransformerTrainer
        trainer: SentenceTransformerTrainer = kind(
            model=model,
            args=arguments,
            train_dataset=objective.train,
            loss=loss,
            evaluator=objective.evaluator(on_gpu=not arguments.use_cpu),
            callbacks=[TellEpoch(), EvaluateAtEpochEnd(), report],
        )
    finally:
        del vars(card)["set_widget_examples"]
    trainer.remove_callback(PrinterCallback)
    trainer.data_collator.preprocess_fn = tokens_ahead(model, objective.parts(), prompt or None)
    return trainer


def choose_passes(loss: Any, one_forward: Choice, arguments: SentenceTransformerTrainingArguments) -> None:
    """Has a loss, or several by name, encode the texts of a batch in the passes that `one_forward` asks for."""
    for each in loss.values() if isinstance(loss, dict) else [loss]:
        encodes = each.loss if isinstance(each, WithMaskedTokens) else each
        if one_forward == "on" or (one_forward == "auto" and not arguments.use_cpu):
            in_one_pass(encodes)
        elif one_forward == "auto" and arguments.world_size == 1 and not arguments.torch_compile:
            in_passes_by_length(encodes)


class SharingTrainer(SentenceTransformerTrainer):
    """The trainer where several processes share the batches of one, and know the same of how it goes."""

    def train(self, *arguments: Any, **named: Any) -> Any:
        """Trains without what torch has to say, in every step, on how libraries call it."""
        with warnings.catch_warnings():
            for told in (r"torch\.distributed\.nn\.functional\.all_gather", "`broadcast_buffers` is deprecated"):
                warnings.filterwarnings("ignore", told, FutureWarning)
            return super().train(*arguments, **named)

    def get_train_dataloader(self) -> Any:
        """Loads this process's part of the batches that one process would have, in the order that it would have."""
        size = self.args.train_batch_size * self.args.world_size
        whole = self._build_dataloader(self.train_dataset, size, dataset_kind="train")
        part = ShareOfBatches(whole.batch_sampler, self.args.world_size, self.args.process_index)
        loader = DataLoader(
            whole.dataset,
            batch_sampler=part,
            collate_fn=whole.collate_fn,
            num_workers=whole.num_workers,
            pin_memory=whole.pin_memory,
        )
        self._train_dataloader = prepare_data_loader(
            loader,
            device=self.accelerator.device,
            num_processes=1,  # the parts are dealt already
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=self.accelerator.use_seedable_sampler,
        )
        return self._train_dataloader

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        """Takes the scores of the first process for those of all, which choose the checkpoint by them."""
        output = super().evaluation_loop(*arguments, **named)
        return output._replace(metrics=broadcast_object_list([output.metrics])[0])

    def _save_rng_state(self, output_dir: str) -> None:
        """Saves the random state of each process before the first one writes that the checkpoint is whole."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()


def newest_checkpoint(folder: Path) -> str | None:
    """The checkpoint to continue from."""
    newest: str | None = get_last_checkpoint(str(folder)) if folder.is_dir() else None  # type: ignore[no-untyped-call]
    return newest


def mend_checkpoints(folder: Path) -> None:
    """Removes checkpoints that were interrupted, and brings the path of the best one up to date; one process does.

    The trainer writes its state last, so a checkpoint without a readable one was interrupted. The state names the best
    checkpoint by its path, which is another one where the run was moved since. Checkpoints without the optimizer's
    state are of no use: a run that wrote them starts over.
    """
    while newest := newest_checkpoint(folder):
        file = Path(newest, "trainer_state.json")
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s was interrupted while it was written; it is removed", newest)
            shutil.rmtree(newest)
            continue
        if not any(Path(newest).glob("optimizer.*")):
            logger.warning("%s holds weights alone (weights_only), so training starts over", newest)
            shutil.rmtree(folder)
            return
        best = state.get("best_model_checkpoint")
        if best and str(folder / Path(best).name) != best:
            moved = state | {"best_model_checkpoint": str(folder / Path(best).name)}
            write_text(file, json.dumps(moved, indent=2) + "\n")
        return


def validation_score(trainer: SentenceTransformerTrainer) -> float:
    """Spearman's correlation of the model as it is, NaN where it is undefined; the same in each process.

    Not by `trainer.evaluate()`: called before `train()` under `torchrun`, it leaves the trainer with a model that is
    not wrapped for distributed training, and the processes then train apart without a word.
    """
    evaluator: Any = trainer.evaluator
    score: float = evaluator(trainer.model)[METRIC.removeprefix("eval_")]
    return broadcast_object_list([float(score)])[0] if trainer.args.world_size > 1 else float(score)


def start_score(trainer: SentenceTransformerTrainer) -> float | None:
    """Spearman's correlation before training, or None where it is undefined."""
    score = validation_score(trainer)
    if not math.isfinite(score):
        logger.warning(
            "untrained start: no Spearman correlation on the validation split, since the encoder gives all sentences "
            "the same embedding: its weights are empty, or its tokenizer knows none of the words"
        )
        return None
    logger.info("untrained start: Spearman %.4f on the validation split", score)
    return score


class TellEpoch(TrainerCallback):
    """Tells the batch sampler which epoch begins, since it shuffles by that.

    Where a run continues in the middle of an epoch, accelerate wraps the sampler and tells the wrapper alone; what
    follows would be batches of the first epoch. Older transformers leave it at that.
    """

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Takes note of the epoch in which a run continues."""
        self._epoch = int(state.epoch or 0)

    def on_epoch_begin(self, *_: Any, train_dataloader: Any = None, **__: Any) -> None:
        """Tells the sampler itself, also where each of several processes has a wrapper around it."""
        sampler = train_dataloader.batch_sampler
        sampler = getattr(sampler, "batch_sampler", sampler)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self._epoch)
        self._epoch += 1


class EvaluateAtEpochEnd(TrainerCallback):
    """Evaluates and saves at the end of each epoch, unless its last step was evaluated already."""

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:  # noqa: ARG002
        """Asks the trainer for an evaluation and a checkpoint."""
        if not any(entry["step"] == state.global_step and METRIC in entry for entry in state.log_history):
            control.should_evaluate = control.should_save = True
        return control


class ReportProgress(TrainerCallback):
    """Shows the steps as progress and logs each evaluation, in the main process."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._scored = -1

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Opens the progress bar."""
        shown = state.is_world_process_zero
        bar = progress("training", state.max_steps, "steps", done=state.global_step, shown=shown)
        self._advance = self._open.enter_context(bar)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Moves the progress bar."""
        self._advance(1)

    def on_evaluate(self, args: Any, state: TrainerState, *_: Any, **named: Any) -> None:  # noqa: ARG002
        """Logs the score."""
        if state.is_world_process_zero and state.global_step != self._scored:
            self._scored = state.global_step  # the last step is evaluated as a step and as the end of the epoch
            score = named["metrics"][METRIC]
            logger.info("step %d: Spearman %.4f on the validation split", state.global_step, score)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Closes the progress bar."""
        self.close()

    def close(self) -> None:
        """Closes the progress bar, if it is still open."""
        self._open.close()


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Hides the progress bars that transformers shows for every file it reads or writes, in favour of ours."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]
