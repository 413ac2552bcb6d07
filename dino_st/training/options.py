"""The options of training on pairs, of triplets and of contrastive training, and their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dino_st.errors import suggest
from dino_st.support.options import FrozenOptions

LOSSES: dict[str, str] = {
    "cosine": "CosineSimilarityLoss",
    "cosent": "CoSENTLoss",
    "angle": "AnglELoss",
}
"""Names of losses, and the class of `sentence_transformers.sentence_transformer.losses` behind each."""

_DEVICES = ("auto", "cpu", "cuda", "mps")


class TrainingOptions(FrozenOptions):
    """How an encoder is trained; the defaults are the published values (arXiv 2104.07540, section 4)."""

    loss: Annotated[str, Field(description="cosine (published), cosent or angle")] = "cosine"
    batch_size: Annotated[int, Field(ge=1, description="pairs in one step, over all processes together")] = 32
    learning_rate: Annotated[
        float, Field(gt=0, description="peak learning rate of AdamW; static embeddings need more, such as 5e-4")
    ] = 2e-5
    weight_decay: Annotated[
        float, Field(ge=0, description="weight decay of AdamW, not of biases and norms (0.01 is the default of fit)")
    ] = 0.01
    warmup_share: Annotated[
        float, Field(ge=0, lt=1, description="share of the steps in which the learning rate rises from 0")
    ] = 0.1
    epochs: Annotated[int, Field(ge=1, description="passes over the training split")] = 1
    evaluation_steps: Annotated[
        int, Field(ge=1, description="steps between two evaluations on the validation split")
    ] = 100
    seed: Annotated[int, Field(ge=0, lt=2**32, description="seed of dropout and of the order of the pairs")] = 42
    max_seq_length: Annotated[
        int | None, Field(ge=1, description="tokens kept of a sentence; without it, what the encoder allows")
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="arithmetic of the forward pass; auto is bfloat16 where a GPU has it, else float32"),
    ] = "auto"
    device: Annotated[str, Field(description="auto, cpu, cuda or mps (one of several GPUs: CUDA_VISIBLE_DEVICES)")] = (
        "auto"
    )
    balanced_batches: Annotated[
        bool, Field(description="spread the scores evenly over the batches, each pair still once an epoch")
    ] = False
    keep_checkpoints: Annotated[bool, Field(description="leave the trainer's checkpoints in the output")] = False

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, loss: str) -> str:
        if loss not in LOSSES:
            raise ValueError(f"the name of a loss; {suggest(loss, LOSSES)}")
        return loss

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if device not in _DEVICES:
            raise ValueError(
                f"a kind of device; {suggest(device, _DEVICES)} (choose one of several GPUs with CUDA_VISIBLE_DEVICES)"
            )
        return device


class ContrastiveOptions(TrainingOptions):
    """How an encoder is trained on triplets; the defaults are SynCSE's published values (arXiv 2305.15077).

    Its script leaves warm-up and weight decay at the trainer's defaults, which are 0, and clips as everyone does.
    """

    loss: Annotated[str, Field(description="loss of the pairs of --pairs: cosine (published), cosent or angle")] = (
        "cosine"
    )
    batch_size: Annotated[int, Field(ge=2, description="triplets in one step")] = 512
    learning_rate: Annotated[
        float, Field(gt=0, description="peak learning rate of AdamW; static embeddings need more, such as 5e-4")
    ] = 5e-5
    weight_decay: Annotated[float, Field(ge=0, description="weight decay of AdamW, not of biases and norms")] = 0.0
    warmup_share: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the steps in which the learning rate rises from 0 (published: none)"),
    ] = 0.0
    epochs: Annotated[int, Field(ge=1, description="passes over the training split")] = 3
    evaluation_steps: Annotated[int, Field(ge=1, description="steps between two evaluations")] = 25
    seed: Annotated[int, Field(ge=0, lt=2**32, description="seed of dropout and of the order of the triplets")] = 42
    max_seq_length: Annotated[int | None, Field(ge=1, description="tokens kept of a sentence")] = 32
    scale: Annotated[float, Field(gt=0, description="factor of the cosines in the loss, 1 / temperature")] = 20.0
    mini_batch_size: Annotated[
        int,
        Field(
            ge=0,
            description="triplets encoded at once; larger batches go through gradient caching, which gives the same "
            "gradients in less memory. 0 encodes the whole batch",
        ),
    ] = 64
    pooling: Annotated[
        Literal["cls", "mean"],
        Field(description="cls (published) or mean, for a plain transformers encoder; others keep their own"),
    ] = "cls"
    pairs_batch_size: Annotated[int, Field(ge=1, description="pairs of --pairs in one step")] = 32
    checkpoint_choice: Annotated[
        Literal["validation", "sts-dev"],
        Field(
            description="validation: by the generated validation split; sts-dev: by the mean of STSb and SICK dev, as "
            "published, which uses human labels"
        ),
    ] = "validation"
