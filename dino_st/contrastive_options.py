"""The options of triplets and of contrastive training, and their defaults; light enough for `--help`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dino_st.options import FrozenOptions
from dino_st.training_options import TrainingOptions

PUBLISHED_CONTRASTIVE_RATE = 5e-5
"""Of encoders of the size of RoBERTa-base; see `dino_st.encoder_loading.recommended_learning_rate` for others."""

Negatives = Literal["0.5", "0", "both"]


class TripletOptions(FrozenOptions):
    """How triplets become training triplets."""

    negatives: Annotated[
        Negatives, Field(description="of DINO pairs: the label whose texts become negatives, 0.5, 0 or both")
    ] = "0.5"
    validation_share: Annotated[
        float, Field(ge=0, lt=1, description="share of the anchors that goes to the validation split")
    ] = 0.1
    max_validation: Annotated[
        int,
        Field(ge=0, description="anchors in the validation split at most, as it is scored often; 0 for no limit"),
    ] = 2000
    seed: Annotated[int, Field(ge=0, description="seed of every random choice of the preparation")] = 42

    @field_validator("negatives", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """YAML and Python say 0.5 as a number, too."""
        return format(value, "g") if isinstance(value, int | float) and not isinstance(value, bool) else value


class ContrastiveOptions(TrainingOptions):
    """How an encoder is trained on triplets; the defaults are SynCSE's published values (arXiv 2305.15077).

    Its script leaves warm-up and weight decay at the trainer's defaults, which are 0, and clips as everyone does.
    """

    loss: Annotated[str, Field(description="loss of the pairs of --pairs: cosine (published), cosent or angle")] = (
        "cosine"
    )
    batch_size: Annotated[int, Field(ge=2, description="triplets in one step")] = 512
    learning_rate: Annotated[
        float | None,
        Field(
            gt=0, description="peak learning rate of AdamW; without it, what the encoder's folder recommends, else 5e-5"
        ),
    ] = None
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


TRIPLET_DEFAULTS = TripletOptions()
DEFAULTS = ContrastiveOptions()
