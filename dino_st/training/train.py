"""Training an encoder on `SentenceTransformerTrainer`: on pairs as DINO does, on triplets as SynCSE does, or on both.

**Pairs** (`train_encoder`): mean pooling, CosineSimilarityLoss, batches of 32, a learning rate of 2e-5 with 10 %
warm-up, one epoch, and the checkpoint that has the best Spearman correlation on the generated validation split (arXiv
2104.07540, section 4). No human label is used anywhere. The joint objective (`objective="joint"`) trains those pairs
that mean the same by MultipleNegativesRankingLoss (Henderson et al. 2017, arXiv 1705.00652) as well, in the same run.

**Triplets** (`train_contrastive`): MultipleNegativesRankingLoss with scale 20 (a temperature of 0.05) and hard
negatives, batches of 512 without any text twice, a learning rate of 5e-5 that falls to 0, no warm-up, 3 epochs, 32
tokens, CLS pooling (arXiv 2305.15077 and its training script). Batches that do not fit go through gradient caching,
which gives the same gradients. What differs from the published script:

- It chooses the checkpoint by the mean of Spearman's correlations on STSb and SICK dev every 25 steps, which uses human
  labels. Here that is done only when it is asked for (`checkpoint_choice="sts-dev"`). The default is Spearman's
  correlation on pairs made of generated validation triplets: (anchor, positive) scores 1, (anchor, negative) scores 0.
  The share of triplets whose positive is nearer than their negative soon reaches 100 % and tells no checkpoint from
  another, and so do ranks within a batch; this compares the similarities of different anchors, too, as the STS tasks
  do. It cannot exceed √3/2 ≈ 0.87, since there are two scores only.
- Its masked-language-model loss (`mlm_weight=0.1`) and its linear layer with tanh behind the CLS token
  (`mlp_head="keep"`) are off unless they are asked for, as in the recipes `syncse-partial` and `syncse-scratch`, since
  not every encoder can have them: see `dino_st.training.heads`.

With pairs beside the triplets both losses are trained together, each on its own data: a step takes a batch of the one
or of the other, in proportion to how many there are.

**Several processes**, as `torchrun` starts them, share each batch, and the weights are those of one process but for
rounding and dropout: see `dino_st.training.distributed`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dino_st.data.alignment import FEWEST_RANKED
from dino_st.data.columns import ROWS_HASH
from dino_st.encoders.directory import active_adapters, directory_revision, local_directory, state_revision
from dino_st.encoders.loading import (
    check_saved_form,
    encoder_files,
    load_trainable_encoder,
    routes,
    warn_of_similarity,
    warn_of_tokens,
)
from dino_st.errors import (
    ConfigurationError,
    DinoError,
    DinoWarning,
    InputError,
    MissingExtraError,
    OutOfMemoryError,
    OutputError,
    TrainingError,
    first_line,
)
from dino_st.support.files import CARD, check_can_become_directory, only_writer
from dino_st.support.hashes import versions
from dino_st.training.distributed import check_agreement, count_processes, hush_others, lost_another, telling_of_waits
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.record import (
    CHECKPOINTS,
    PAIRS,
    Average,
    Score,
    TrainingRecord,
    add_to_card,
    check_same_run,
    clear_run,
    differences,
    fill_card,
    read_record,
    remove_checkpoints,
    write_record,
)
from dino_st.training.trackers import check_tracker, make_tracker

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, DatasetDict
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    from dino_st.encoders.averaging import Weights
    from dino_st.training.objective import Objective

    Splits: TypeAlias = str | os.PathLike[str] | DatasetDict
    Encoder: TypeAlias = str | os.PathLike[str] | SentenceTransformer

logger = logging.getLogger(__name__)

_LOOKED_AT = 500
"""Training rows whose texts show what an encoder makes of them."""

_CUT = "texts cut"
"""What the record calls the share of texts that are longer than what the encoder reads, of those that are looked at."""

_ADAPTERS_SINCE = "5.6"
"""The transformers that the extra `peft` asks for; 5.5 reads adapters back as they were before training."""

_AS_BEFORE = 1e-4
"""By how much less than this the best checkpoint's score differs when it is read back; rounding moves it by 1e-6."""


def train_encoder(
    data: Splits,
    encoder: Encoder,
    output_dir: str | os.PathLike[str],
    *,
    options: TrainingOptions | None = None,
    judged: Dataset | pa.Table | None = None,
    judged_by: str = "people",
    resume: bool = True,
    overwrite: bool = False,
    **changes: Any,
) -> SentenceTransformer:
    """Trains an encoder on pairs, keeps its best checkpoint and saves it with a card and the record of the run.

    Example:
        >>> splits = prepare_pairs(raw)
        >>> encoder = train_encoder(splits, "roberta-base", "my-encoder")

    The untrained start is scored first. Evaluation is by Spearman on the validation split, every
    `evaluation_steps` steps and at the end of each epoch. Under `torchrun` the processes share each batch, and the
    result is that of one process but for rounding and dropout.

    Args:
        data: What `prepare_pairs` returned, a directory of `save_prepared`, or any `DatasetDict` with `train` and
            `validation`, whose columns `sentence1`, `sentence2` and `score` are used.
        encoder: A name on the hub or of a bundled encoder, a sentence-transformers directory, a transformers directory
            (mean pooling is added), or a model, which is trained in place.
        output_dir: Where the encoder, `training.json` and, while training, the checkpoints go.
        options: How to train; the defaults are the published values.
        judged: Pairs that people scored (`sentence1`, `sentence2`, `score`), as in an audit, to choose the
            checkpoint by in place of the validation split; those that are in the training split leave it.
        judged_by: Whose scores these are, for the record and the card, such as `people` or the name of a model.
        resume: Continue an interrupted run of the same call from its newest checkpoint, and return the outcome of a
            finished one. With False an earlier run in `output_dir` is discarded.
        overwrite: Discard another run (other options, data or encoder) in `output_dir`, which is refused otherwise.
        **changes: Fields of `TrainingOptions`, in place of `options` or of what it says: `loss` (`cosine`, `cosent` or
            `angle`), `objective` (`graded` or `joint`, for which a `batch_size` of 128 is a good start), `batch_size`,
            `learning_rate` (2e-5; static embeddings such as `dino-tiny-encoder` need more,
            5e-4), `warmup_share`, `epochs`, `evaluation_steps`, `max_seq_length`, `layers`, `pooling` and
            `bidirectional` (of a plain transformers model: see `load_trainable_encoder`), `dtype`, `device`, `seed`,
            `report_to` (`tensorboard`, `wandb`, `trackio` or `mlflow`), ….

    Returns:
        The best checkpoint; in the main process it is saved in `output_dir`.

    Raises:
        ConfigurationError: An option is unknown or out of range.
        DatasetError: A split or column is missing, scores are not numbers, or there are fewer pairs than a batch.
        InputError: `data` is a directory that cannot be read.
        MissingExtraError: The package of `report_to` is not installed.
        ModelError: The encoder cannot be loaded.
        OutputError: `output_dir` holds something else, or another run, or cannot be written.
        OutOfMemoryError: A batch does not fit.
        TrainingError: No evaluation gave a score, or the best checkpoint could not be read back.
    """
    options = TrainingOptions.of(options, **changes)
    hush_others()
    check_tracker(options)
    check_can_become_directory(Path(output_dir).expanduser().resolve())
    from dino_st.training.data import as_datasets, count_positives, data_facts, pair_splits

    tables, provenance = pair_splits(data, options.batch_size, options.loss, judged=judged, judged_by=judged_by)
    facts = data_facts(tables, "pairs")
    if options.objective == "joint":
        facts["pairs to contrast"] = count_positives(tables["train"], options)
    record = _new_record(options, encoder, facts, provenance)
    place = _find_place(output_dir, record, resume=resume, overwrite=overwrite)
    from dino_st.training.objective import pair_objective

    return _train_or_resume(encoder, pair_objective(as_datasets(tables, facts), options), place, record)


def train_contrastive(
    data: Splits,
    encoder: Encoder,
    output_dir: str | os.PathLike[str],
    *,
    pairs: Splits | None = None,
    options: ContrastiveOptions | None = None,
    sts_dev: Mapping[str, Dataset] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    **changes: Any,
) -> SentenceTransformer:
    """Trains an encoder on triplets, keeps its best checkpoint and saves it with a card and the record of the run.

    Example:
        >>> splits = prepare_triplets(read_triplets("triplets.csv"))
        >>> encoder = train_contrastive(splits, "roberta-base", "my-encoder")

    Args:
        data: What `prepare_triplets` returned, a directory of `save_prepared`, or any `DatasetDict` with `train` and
            `validation` of the columns `anchor`, `positive`, `negative`.
        encoder: As for `train_encoder`; a plain transformers encoder gets `pooling`.
        output_dir: Where the encoder, `training.json` and, while training, the checkpoints go.
        pairs: What `prepare_pairs` returned, or a directory of it: trained on together with the triplets. What the
            checkpoint is chosen by is left out of both training splits.
        options: How to train; the defaults are SynCSE's published values.
        sts_dev: For `checkpoint_choice="sts-dev"`: sets of pairs `sentence1`, `sentence2`, `score`, whose correlations
            are averaged.
        resume: As for `train_encoder`.
        overwrite: As for `train_encoder`.
        **changes: Fields of `ContrastiveOptions`, in place of `options` or of what it says: `batch_size` (triplets in
            one step), `mini_batch_size` (those encoded at once, through gradient caching; static embeddings are always
            encoded whole), `mlm_weight` and `mlp_head` (off; 0.1 and `keep` as published), `scale`, `learning_rate`,
            `epochs`, `pooling`, `checkpoint_choice`, and for `pairs` `loss` and `pairs_batch_size`, ….

    Returns:
        The best checkpoint; it is saved in `output_dir`.

    Raises:
        ConfigurationError: An option is unknown or out of range, `sts_dev` does not fit `checkpoint_choice`, or the
            encoder has no head for `mlm_weight`.
        DatasetError: The data cannot be trained on: it has labels, holds pairs, or repeats too much.
        DinoError: Whatever else `train_encoder` raises.
    """
    options = ContrastiveOptions.of(options, **changes)
    hush_others()
    check_tracker(options)
    check_can_become_directory(Path(output_dir).expanduser().resolve())
    _check_choice(options, sts_dev)
    from dino_st.training.data import as_datasets, data_facts, pair_splits, triplet_splits, without_validated

    tables, provenance = triplet_splits(data, options)
    more, pair_facts = None, dict[str, Any]()
    if pairs is not None:
        pair_parts, origin = pair_splits(pairs, options.pairs_batch_size, options.loss, size_option="pairs_batch_size")
        if options.checkpoint_choice == "validation":
            tables, pair_parts = without_validated(tables, pair_parts, options)
        pair_facts = data_facts(pair_parts, "rows")
        more = as_datasets(pair_parts, pair_facts)
        provenance = {**provenance, PAIRS: origin}
    triplet_facts = data_facts(tables, "triplets")
    facts = {**triplet_facts, **{f"pairs {name}": value for name, value in pair_facts.items()}}
    if sts_dev is not None:
        facts |= {f"sts-dev {name}": value for name, value in data_facts(sts_dev, "pairs").items()}
    record = _new_record(options, encoder, facts, provenance)
    place = _find_place(output_dir, record, resume=resume, overwrite=overwrite)
    from dino_st.training.objective import triplet_objective

    splits = as_datasets(tables, triplet_facts)
    return _train_or_resume(encoder, triplet_objective(splits, more, sts_dev, options), place, record)


def _check_choice(options: ContrastiveOptions, sts_dev: Mapping[str, Dataset] | None) -> None:
    """Raises where what chooses the checkpoint is not what was given."""
    if options.checkpoint_choice == "sts-dev" and not sts_dev:
        raise ConfigurationError(
            "checkpoint_choice is 'sts-dev', but there are no scored pairs to choose by; give sts_dev={name: pairs}, "
            "on the command line --sts-dir DIR with STS data in SentEval layout"
        )
    if options.checkpoint_choice == "validation" and sts_dev:
        raise ConfigurationError("sts_dev is given, but checkpoint_choice is 'validation'; choose 'sts-dev' to use it")


def _new_record(
    options: TrainingOptions, encoder: Encoder, data: dict[str, int | str], provenance: dict[str, Any]
) -> TrainingRecord:
    """What a run is, written down before it starts."""
    name, revision = type(encoder).__name__, None
    if isinstance(encoder, str | os.PathLike):
        encoder_files(encoder)
        directory = local_directory(encoder)
        name = os.fspath(encoder) if directory is None else directory.name
        revision = None if directory is None else directory_revision(directory)
    elif hasattr(encoder, "prompts"):  # else it is no encoder, which is told when it is to be loaded
        revision = state_revision(encoder)
    return TrainingRecord(
        options=options,
        encoder=name,
        encoder_revision=revision,
        data=data,
        provenance=provenance,
        processes=count_processes(),
        versions=versions("dino-st", "sentence-transformers", "transformers", "torch"),
    )


@dataclass(frozen=True)
class _Place:
    """Where a run writes, and the record of the run that it continues, if it does."""

    directory: Path
    earlier: TrainingRecord | None


def _find_place(output_dir: str | os.PathLike[str], record: TrainingRecord, *, resume: bool, overwrite: bool) -> _Place:
    """Looks at the output before anything slow is imported, and refuses one that holds another run."""
    directory = Path(output_dir).expanduser().resolve()
    earlier = read_record(directory)
    if earlier is not None and overwrite and differences(earlier, record):
        resume = False
    if earlier is not None and resume:
        check_same_run(directory, earlier, record)
    return _Place(directory, earlier if resume else None)


def _train_or_resume(
    encoder: Encoder, objective: Objective, place: _Place, record: TrainingRecord
) -> SentenceTransformer:
    """Trains into a directory, continues what was begun there, or returns what is finished there."""
    few = min(map(len, objective.validation.values()))
    if few < FEWEST_RANKED:
        logger.warning(
            "the checkpoint is chosen by %d pairs: their score says next to nothing, and neither does the choice; "
            "prepare a validation split from more pairs",
            few,
        )
    from dino_st.training import trainer as setup

    with telling_of_waits(record.processes):
        arguments = setup.training_arguments(
            record.options, place.directory / CHECKPOINTS, record.processes, batch_sizes=objective.batch_sizes
        )
    with _worded(record.options, place.directory):
        if record.processes > 1:
            check_agreement(_common(record, place.earlier))
        if place.earlier is not None:
            if place.earlier.status == "complete":
                logger.info("%s: training is done already", place.directory)
                return load_trainable_encoder(place.directory, device=record.options.device)
            if place.earlier.processes != record.processes:
                logger.warning(
                    "%s: begun by %d processes and continued by %d, whose dropout is not that of one undisturbed run",
                    place.directory,
                    place.earlier.processes,
                    record.processes,
                )
            record = record.model_copy(update={"start": place.earlier.start})
        model, cut = _load(encoder, objective, record.options)
        if cut:
            record = record.model_copy(update={"data": {**record.data, _CUT: f"{cut:.1%}"}})
        _train(model, encoder, objective, arguments, place.directory, record, fresh=place.earlier is None)
    return model


def _common(record: TrainingRecord, earlier: TrainingRecord | None) -> dict[str, str]:
    """What must be the same for all processes that train together, by what people call it."""
    return {
        "data": ", ".join(f"{name} {value}" for name, value in record.data.items() if name.endswith(ROWS_HASH)),
        "options": str(record.options.model_dump(exclude={"device"})),
        "encoder": record.encoder_revision or record.encoder,
        "output directory": "a new one" if earlier is None else f"a run that is {earlier.status}",
    }


def _load(encoder: Encoder, objective: Objective, options: TrainingOptions) -> tuple[SentenceTransformer, float]:
    """Loads what is to be trained, and says which share of the texts it cuts.

    It is on the CPU at first: the trainer knows which device is this process's own.
    """
    from transformers import set_seed

    from dino_st.training.batches import texts_of
    from dino_st.training.trainer import quiet_bars

    set_seed(options.seed)  # which draws the weights that no file holds, such as those of BERT's unused pooler
    shape = {name: getattr(options, name) for name in ("max_seq_length", "layers", "pooling", "bidirectional")}
    model = load_trainable_encoder(encoder, device="cpu", **shape)
    name = str(encoder) if isinstance(encoder, str | os.PathLike) else "the encoder"
    is_chosen = options.max_seq_length is not None
    cut = warn_of_tokens(model, texts_of(objective.parts(), _LOOKED_AT), name, is_length_chosen=is_chosen)
    warn_of_similarity(model, name)
    if names := routes(model):
        raise TrainingError(
            f"{name} reads texts by routes ({', '.join(names)}), and pairs of sentences do not say which; train it "
            "with sentence-transformers' own Trainer on these splits, with router_mapping, or take one without routes"
        )
    if model is encoder:
        with quiet_bars():
            check_saved_form(model)
        _check_adapters(model)
    if options.start_share and active_adapters(model):
        raise ConfigurationError(
            "start_share together with an adapter of PEFT, whose factors have no mean; merge it into its base model "
            "first, or leave start_share out"
        )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise TrainingError(
            "no weight of the encoder can be trained, since all are frozen (requires_grad); thaw them, and merge an "
            "adapter of PEFT into its base model first"
        )
    return model, cut


def _check_adapters(model: SentenceTransformer) -> None:
    """Refuses adapters that transformers would read back from a checkpoint without their weights."""
    from packaging.version import Version

    if active_adapters(model) and Version(there := version("transformers")) < Version(_ADAPTERS_SINCE):
        raise MissingExtraError(
            f"the encoder has an adapter of PEFT, and transformers {there} reads the checkpoints of adapters without "
            f'their weights; it takes {_ADAPTERS_SINCE} or newer; run: pip install "dino-st[peft]"'
        )


def _train(
    model: SentenceTransformer,
    encoder: Encoder,
    objective: Objective,
    arguments: SentenceTransformerTrainingArguments,
    directory: Path,
    record: TrainingRecord,
    *,
    fresh: bool,
) -> None:
    """Trains a model that was loaded from `encoder`, and writes the outcome.

    The record that says that the run is complete comes last.
    """
    from accelerate import PartialState

    from dino_st.encoders.averaging import weights_of
    from dino_st.training import trainer as setup
    from dino_st.training.heads import training_heads
    from dino_st.training.objective import METRIC

    started, checkpoints = time.monotonic(), directory / CHECKPOINTS
    is_main = arguments.process_index == 0
    with contextlib.ExitStack() as written:
        with training_heads(model, encoder, record.options), setup.quiet_bars():
            PartialState().wait_for_everyone()  # all have read the record of an earlier run by now
            if is_main:
                written.enter_context(only_writer(directory, leave=False))
                if fresh:
                    clear_run(directory)
                write_record(directory, record)
                setup.mend_checkpoints(checkpoints)
            PartialState().wait_for_everyone()
            report = written.enter_context(contextlib.closing(setup.ReportProgress()))
            setup.set_gradient_checkpointing(record.options, model)
            start = weights_of(model) if record.options.start_share else {}
            trainer = setup.make_trainer(model, objective, arguments, report)
            if record.start is None:
                record = record.model_copy(update={"start": setup.start_score(trainer)})
                if is_main:
                    write_record(directory, record)
            if is_main and record.options.report_to != "none":
                trainer.add_callback(make_tracker(record, directory, METRIC))
            trainer.train(resume_from_checkpoint=setup.newest_checkpoint(checkpoints))
            record = _outcome(trainer, record, start)
            record = record.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
            trainer.accelerator.wait_for_everyone()  # the others are done with reading the best checkpoint
        if is_main:
            fill_card(model.model_card_data, record)
            model.save_pretrained(str(directory))
            add_to_card(directory / CARD, record)
            write_record(directory, record)
            if not record.options.keep_checkpoints:
                remove_checkpoints(directory)
        trainer.accelerator.wait_for_everyone()


def _outcome(trainer: SentenceTransformerTrainer, record: TrainingRecord, start: Weights) -> TrainingRecord:
    """Reads the curve and the best score from the trainer, and makes sure that the model has the weights to keep.

    They are those of the best checkpoint, or their mean with those of the start.
    """
    from dino_st.encoders.averaging import keep_average
    from dino_st.training.objective import METRIC
    from dino_st.training.trainer import hardware_name, validation_score

    state = trainer.state
    scores = [Score(step=int(entry["step"]), spearman=entry[METRIC]) for entry in state.log_history if METRIC in entry]
    curve = tuple(score for score in scores if math.isfinite(score.spearman))
    if not curve or state.best_model_checkpoint is None:
        raise TrainingError(
            "no evaluation gave a Spearman correlation: the encoder gives all sentences the same embedding, or its "
            "weights are not finite. "
            + (
                "Choose a lower learning_rate"
                if record.start is not None
                else "It did so before training, too: take an encoder whose weights are whole and whose tokenizer "
                "knows the words of these texts"
            )
        )
    best = max(curve, key=lambda score: score.spearman)
    loaded = trainer.evaluate()[METRIC]
    if not abs(loaded - best.spearman) < _AS_BEFORE:
        raise TrainingError(
            f"the best checkpoint (step {best.step}, Spearman {best.spearman:.4f}) could not be read back: the model "
            f"scores {loaded:.4f}. The checkpoints are in {Path(state.best_model_checkpoint).parent}"
        )
    outcome: dict[str, Any] = {"curve": curve, "best": best, "hardware": hardware_name(trainer.args.device)}
    kept = best.spearman
    if share := record.options.start_share:
        score = functools.partial(validation_score, trainer)
        found = keep_average(trainer.model, start, share, kept, score)
        outcome["averages"] = tuple(Average(start_share=number, spearman=reached) for number, reached in found)
        kept = found[0][1]
    if record.start is not None and round(kept, 4) < round(record.start, 4):
        warnings.warn(
            f"training made the encoder worse on the {record.validation_kind} validation split: Spearman "
            f"{record.start:.4f} before, {kept:.4f} at best. Choose another learning_rate, or look at the pairs",
            DinoWarning,
            stacklevel=5,
        )
    return record.model_copy(update={"status": "complete", **outcome})


@contextlib.contextmanager
def _worded(options: TrainingOptions, directory: Path) -> Iterator[None]:
    """Words what can fail in the middle of training."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except DinoError:
        raise
    except torch.OutOfMemoryError as error:
        cached = isinstance(options, ContrastiveOptions)
        raise OutOfMemoryError(
            f"a batch of {options.batch_size} {'triplets' if cached else 'pairs'} does not fit into memory; choose a "
            f"smaller {'mini_batch_size' if cached else 'batch_size'} or max_seq_length, or gradient_checkpointing='on'"
        ) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if lost_another(error):
            raise TrainingError(
                f"another of the processes that train together has ended ({first_line(error)}); look for what "
                f"it says. What was finished is in {directory}: the same command continues it"
            ) from error
        if "deserializing" in str(error) or "PytorchStreamReader" in str(error):
            raise InputError(
                f"{directory / CHECKPOINTS}: the newest checkpoint is damaged ({first_line(error)}); remove "
                "it, and the run continues from the one before"
            ) from error
        # torch's and safetensors' writers have errors of their own for a disk that is full
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = "the disk seems to be full" if isinstance(error, RuntimeError) else reason
        raise OutputError(f"{directory}: cannot be written ({reason}); free space and run again") from error
