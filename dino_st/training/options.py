"""The options of training on pairs, of triplets and of contrastive training, and their defaults."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import field_validator, model_validator

from dino_st.encoders.loading import PoolingName
from dino_st.support.options import FrozenOptions, option

Loss = Literal["cosine", "cosent", "angle"]

LOSSES: dict[Loss, str] = {
    "cosine": "CosineSimilarityLoss",
    "cosent": "CoSENTLoss",
    "angle": "AnglELoss",
}
"""Names of losses, and the class of `sentence_transformers.sentence_transformer.losses` behind each."""


ObjectiveName = Literal["graded", "joint"]

Choice = Literal["auto", "on", "off"]


class TrainingOptions(FrozenOptions):
    """How an encoder is trained; the defaults are the published values (arXiv 2104.07540, section 4)."""

    loss: Loss = option("cosine", "cosine is the published one")
    objective: ObjectiveName = option(
        "graded",
        "graded: the loss on all pairs (published); joint: beside it a contrastive one on the pairs of a high score, "
        "each of which must be nearer than the others' texts",
    )
    positive_score: float = option(0.75, "score from which on the joint objective takes a pair for the same in meaning")
    batch_size: int = option(32, "pairs in one step, over all processes together", ge=1)
    learning_rate: float = option(2e-5, "peak learning rate of AdamW; static embeddings need more, such as 5e-4", gt=0)
    weight_decay: float = option(
        0.01, "weight decay of AdamW, not of biases and norms (0.01 is the default of fit)", ge=0
    )
    warmup_share: float = option(0.1, "share of the steps in which the learning rate rises from 0", ge=0, lt=1)
    epochs: int = option(1, "passes over the training split", ge=1)
    evaluation_steps: int = option(100, "steps between two evaluations on the validation split", ge=1)
    seed: int = option(42, "seed of dropout and of the order of the pairs", ge=0, lt=2**32)
    max_seq_length: int | None = option(None, "tokens kept of a sentence; without it, what the encoder allows", ge=1)
    layers: int | None = option(
        None, "keep the first so many layers of a plain transformers model, such as a language model", ge=1
    )
    pooling: PoolingName = option(
        "mean", "how the token vectors of a plain transformers model become a sentence's; other encoders keep their own"
    )
    bidirectional: bool = option(False, "let the tokens of a causal language model see those behind them, too")
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "arithmetic of the forward pass; auto is bfloat16 where a GPU has it, else float32"
    )
    gradient_checkpointing: Choice = option(
        "auto",
        "compute activations twice instead of keeping them: less memory, more time, the same weights; auto does so on "
        "the CPU for encoders with more than 100 million weights besides the embedding",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option(
        "auto", "where training runs; choose one of several GPUs with CUDA_VISIBLE_DEVICES"
    )
    balanced_batches: bool = option(False, "spread the scores evenly over the batches, each pair still once an epoch")
    sorted_batches: int = option(
        0,
        "make batches of pairs of about the same length, with less padding: sort within so many shuffled batches, such "
        "as 50; 0 leaves lengths as they come",
        ge=0,
    )
    one_forward: Choice = option(
        "auto",
        "encode all texts of a batch in one forward pass, not the first of each pair by themselves; auto does so on a "
        "GPU, and on the CPU takes some passes, each for texts of about the same length, of which mini-batches of "
        "triplets are made, too, unless it is off: the same weights but for rounding and dropout",
    )
    torch_compile: bool = option(
        False, "compile the encoder with torch: some minutes at the start, and quicker steps, which long runs repay"
    )
    dataloader_num_workers: int = option(
        0, "processes that fetch batches; texts are tokenized ahead, so that few encoders gain by them", ge=0
    )
    weights_only: bool = option(
        False,
        "write checkpoints of better weights alone, without the optimizer's state, which is twice their size: an "
        "interrupted run then starts over",
    )
    start_share: float | str = option(
        0.0,
        "keep the mean of the start's weights, with this share from 0 (published) to below 1, and the best "
        "checkpoint's; auto: the share of 0, 0.25, 0.5 and 0.75 that the validation split likes best",
    )
    keep_checkpoints: bool = option(False, "leave the trainer's checkpoints in the output")
    report_to: Literal["none", "tensorboard", "wandb", "trackio", "mlflow"] = option(
        "none", "experiment tracker that is shown progress and parameters; a package of this name must be installed"
    )

    @field_validator("start_share")
    @classmethod
    def _auto_or_share(cls, value: float | str) -> float | str:
        if value == "auto":
            return value
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if not 0 <= share < 1:
            raise ValueError("'auto', or a number from 0 to below 1")
        return share

    @model_validator(mode="after")
    def _batches_have_one_order(self) -> Self:
        if self.balanced_batches and self.sorted_batches:
            raise ValueError("either balanced_batches or sorted_batches, each of which decides which pairs meet")
        return self


class ContrastiveOptions(TrainingOptions):
    """How an encoder is trained on triplets; the defaults are SynCSE's published values (arXiv 2305.15077).

    Its script leaves warm-up and weight decay at the trainer's defaults, which are 0, and clips as everyone does.
    """

    loss: Loss = option("cosine", "loss of the pairs of --pairs; cosine is the published one")
    objective: Literal["graded"] = option("graded", "of pairs alone; triplets are contrasted whatever it says")
    batch_size: int = option(512, "triplets in one step, over all processes together", ge=2)
    learning_rate: float = option(5e-5, "peak learning rate of AdamW; static embeddings need more, such as 5e-4", gt=0)
    weight_decay: float = option(0.0, "weight decay of AdamW, not of biases and norms", ge=0)
    warmup_share: float = option(
        0.0, "share of the steps in which the learning rate rises from 0 (published: none)", ge=0, lt=1
    )
    epochs: int = option(3, "passes over the training split", ge=1)
    evaluation_steps: int = option(25, "steps between two evaluations", ge=1)
    seed: int = option(42, "seed of dropout and of the order of the triplets", ge=0, lt=2**32)
    max_seq_length: int | None = option(32, "tokens kept of a sentence", ge=1)
    mlm_weight: float = option(
        0.0,
        "weight of a masked-language-model loss beside the contrastive one (published: 0.1), for encoders that come "
        "with a head for it; 0 leaves it out",
        ge=0,
    )
    mlm_probability: float = option(0.15, "share of the tokens that are masked for it", gt=0, lt=1)
    mlp_head: Literal["none", "train", "keep"] = option(
        "none",
        "a linear layer with tanh behind the pooling: keep saves it with the encoder (published), train has it in "
        "training alone and drops it then (as SimCSE without labels)",
    )
    scale: float = option(20.0, "factor of the cosines in the loss, 1 / temperature", gt=0)
    mini_batch_size: int = option(
        64,
        "triplets encoded at once; larger batches go through gradient caching, which gives the same gradients in less "
        "memory. 0 encodes the whole batch",
        ge=0,
    )
    pooling: PoolingName = option(
        "cls", "cls (published) or mean, among others, for a plain transformers encoder; others keep their own"
    )
    pairs_batch_size: int = option(32, "pairs of --pairs in one step", ge=1)
    checkpoint_choice: Literal["validation", "sts-dev"] = option(
        "validation",
        "validation: by the validation split; sts-dev: by the mean of STSb and SICK dev, as published, "
        "which uses human labels",
    )

    @model_validator(mode="after")
    def _pairs_only(self) -> Self:
        for name in PAIRS_ONLY:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"no {name}, which is of training on pairs alone")
        return self

    @model_validator(mode="after")
    def _the_start_has_no_new_layer(self) -> Self:
        if self.start_share and self.mlp_head == "keep":
            raise ValueError("either start_share or mlp_head='keep', whose layer has no start but random weights")
        return self


PAIRS_ONLY = ("balanced_batches", "sorted_batches", "objective", "positive_score")
"""Options of training on pairs that mean nothing for triplets."""
