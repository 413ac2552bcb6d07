"""The options of models that write: a local one, one that chats, a chat server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dino_st.support.options import FrozenOptions

BackendName = Literal["local", "openai"]


class ModelOptions(FrozenOptions):
    """How a local language model runs."""

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


class ChatOptions(FrozenOptions):
    """Which model writes."""

    backend: Annotated[
        BackendName,
        Field(
            description="which model writes: local (one on this machine) or openai (a chat server that speaks OpenAI's "
            "protocol: vLLM, Ollama, hosted ones; the key comes from OPENAI_API_KEY)"
        ),
    ] = "local"
    base_url: Annotated[
        str | None, Field(description="address of the chat server, such as http://localhost:8000/v1")
    ] = None


class SynCSEOptions(FrozenOptions):
    """How positives and hard negatives are asked for."""

    seed: Annotated[int, Field(ge=0, description="seed of every draw")] = 42
    max_tries: Annotated[
        int,
        Field(
            ge=1,
            description="requests for a sentence's positive, and for its negative, before a run gives it up; each try "
            "has another instruction",
        ),
    ] = 4
    max_new_tokens: Annotated[int, Field(ge=4, description="tokens that one sentence of a reply may take")] = 96


class ServerOptions(FrozenOptions):
    """How a chat server is asked."""

    temperature: Annotated[float | None, Field(ge=0, le=2, description="temperature of sampling")] = 1.0
    top_p: Annotated[float | None, Field(gt=0, le=1, description="share of the probability sampled from")] = 1.0
    seed: Annotated[int | None, Field(ge=0, description="sent with each request, mixed with its key")] = 42
    concurrency: Annotated[int, Field(ge=1, le=4096, description="requests in flight")] = 64
    requests_per_minute: Annotated[float | None, Field(gt=0, description="limit of attempts; none means no limit")] = (
        None
    )
    timeout: Annotated[float, Field(gt=0, description="seconds for one attempt, to its last byte")] = 60.0
    max_retries: Annotated[int, Field(ge=0, description="attempts beyond the first")] = 6
    backoff_seconds: Annotated[float, Field(ge=0, description="pause before the second attempt; then doubled")] = 1.0
    longest_wait_seconds: Annotated[
        float, Field(ge=0, description="longest pause, also where the server asks for more")
    ] = 120.0
    price_per_million_prompt_tokens: Annotated[float | None, Field(ge=0, description="to count the cost")] = None
    price_per_million_completion_tokens: Annotated[float | None, Field(ge=0, description="to count the cost")] = None


DRAWING_OPTIONS = ("top_k", "top_p", "min_words", "curly_quotes", "max_total_tokens")
"""Options of decoding that say how a local model draws its answers in a chat."""

LOCAL_OPTIONS = (*ModelOptions.model_fields, "seed", *DRAWING_OPTIONS)
"""Options of a local model that chats."""

SERVER_OPTIONS = tuple(ServerOptions.model_fields)
"""Options of a chat server."""
