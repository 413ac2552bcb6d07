"""The options of generation beside those of decoding, and their defaults; light enough for `--help`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dino_st.options import FrozenOptions


class GenerationOptions(FrozenOptions):
    """What is generated, and on what hardware."""

    samples: Annotated[int, Field(ge=1, description="texts drawn for each sentence and label")] = 2
    seed: Annotated[int, Field(ge=0, description="seed of every draw")] = 42
    batch_size: Annotated[
        int | str,
        Field(
            description="streams (rows of the model's batch) decoded together; one text takes a stream for its label "
            "and one for each counter-label; auto goes by free memory"
        ),
    ] = "auto"
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:1, … or mps")] = "auto"
    dtype: Annotated[
        str,
        Field(description="auto (bfloat16 where the hardware computes in it), float32, bfloat16, float16 or float64"),
    ] = "auto"
    prompt_format: Annotated[
        Literal["auto", "raw", "chat"],
        Field(description="raw text, a chat, or auto: a chat where the tokenizer has a chat template"),
    ] = "auto"
    trust_remote_code: Annotated[bool, Field(description="let code that comes with the model run")] = False

    @field_validator("batch_size")
    @classmethod
    def _auto_or_positive(cls, value: int | str) -> int | str:
        if value == "auto":
            return value
        if not str(value).isdecimal() or int(value) < 1:
            raise ValueError("'auto', or a number of streams, at least 1")
        return int(value)


DEFAULTS = GenerationOptions()
