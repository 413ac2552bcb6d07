"""The options of models that write: a local one, one that chats, a chat server."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from dino_st.support.options import DeviceName, DtypeName, FrozenOptions, option

BackendName = Literal["local", "openai"]


def _auto_or_number(value: int | str, unit: str) -> int | str:
    """Checks that a value is `auto` or a number, of which the unit is named in the plural."""
    if value == "auto":
        return value
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError(f"'auto', or a number of {unit}, at least 1")
    return int(value)


class ModelOptions(FrozenOptions):
    """How a local language model runs."""

    batch_size: int | str = option(
        "auto",
        "streams (rows of the model's batch) decoded together; one text takes a stream for its label and one for each "
        "counter-label; auto goes by free memory",
    )
    device: DeviceName = option("auto", "auto, cpu, cuda, cuda:1, … or mps")
    dtype: DtypeName = option(
        "auto", "auto (bfloat16 where the hardware computes in it), float32, bfloat16, float16 or float64"
    )
    prompt_format: Literal["auto", "raw", "chat"] = option(
        "auto", "raw text, a chat, or auto: a chat where the tokenizer has a chat template"
    )
    trust_remote_code: bool = option(False, "let code that comes with the model run")

    def known_identity(self) -> dict[str, str]:
        """What of a model's identity these options settle by themselves; see `LocalWriter.identity`."""
        known = {"prompt_format": self.prompt_format, "dtype": self.dtype, "device": self.device.partition(":")[0]}
        return {name: value for name, value in known.items() if value != "auto"}

    @field_validator("batch_size")
    @classmethod
    def _auto_or_positive(cls, value: int | str) -> int | str:
        return _auto_or_number(value, "streams")


class ChatOptions(FrozenOptions):
    """Which model writes."""

    backend: BackendName = option(
        "local",
        "which model writes: local (one on this machine) or openai (a server that speaks OpenAI's protocol: "
        "vLLM, Ollama, hosted ones; the key comes from OPENAI_API_KEY)",
    )
    base_url: str | None = option(None, "address of the chat server, such as http://localhost:8000/v1")


class SynCSEOptions(FrozenOptions):
    """How positives and hard negatives are asked for."""

    seed: int | None = option(42, "seed of every draw; none sends none to a server", ge=0)
    max_tries: int = option(
        4,
        "requests for a sentence's positive, and for its negative, before a run gives it up; each try has another "
        "instruction",
        ge=1,
    )
    max_new_tokens: int = option(96, "tokens that one sentence of a reply may take", ge=4)


class ClusterOptions(FrozenOptions):
    """Who writes the waves of a local model; the rows do not depend on it."""

    engine: Literal["local", "ray"] = option(
        "local", "who writes: local (this process) or ray (workers on the GPUs of this machine, or of a Ray cluster)"
    )
    workers: int | str = option("auto", "processes that write; auto goes by the GPUs that there are, or else the CPUs")
    ray_address: str | None = option(
        None, "cluster to use: auto (that of this machine) or HOST:PORT; without it, this machine alone"
    )
    gpus_per_worker: float | None = option(
        None, "GPUs of a worker, also a part of one; without it, 1 where there is any, unless device is cpu", ge=0
    )
    cpus_per_worker: float = option(2.0, "CPUs of a worker, which are its threads, too", gt=0)

    @field_validator("workers")
    @classmethod
    def _auto_or_positive(cls, value: int | str) -> int | str:
        return _auto_or_number(value, "processes")

    @model_validator(mode="after")
    def _is_of_ray(self) -> Self:
        others = sorted(self.model_fields_set - {"engine"})
        if others and self.engine == "local":
            raise ValueError(f"engine='ray' along with {', '.join(others)}")
        return self


class ServerOptions(FrozenOptions):
    """How a chat server is asked."""

    endpoint: Literal["chat", "completions"] = option(
        "chat",
        "what a server is asked by: chat (its model's chat template), or completions (raw text to continue, for base "
        "models)",
    )
    temperature: float | None = option(1.0, "temperature of sampling; none leaves it out of requests", ge=0, le=2)
    top_p: float | None = option(1.0, "share of the probability sampled from; none leaves it out", gt=0, le=1)
    seed: int | None = option(42, "sent with each request, mixed with its key; none leaves it out", ge=0)
    token_limit: Literal["auto", "max_tokens", "max_completion_tokens", "none"] = option(
        "auto", "the name by which the server knows the limit of tokens; auto tries both, none sends no limit"
    )
    concurrency: int = option(64, "requests in flight", ge=1, le=4096)
    requests_per_minute: float | None = option(None, "limit of attempts; none means no limit", gt=0)
    timeout: float = option(60.0, "seconds for one attempt, to its last byte", gt=0)
    max_retries: int = option(6, "attempts beyond the first", ge=0)
    backoff_seconds: float = option(1.0, "pause before the second attempt; then doubled", ge=0)
    longest_wait_seconds: float = option(120.0, "longest pause, also where the server asks for more", ge=0)
    price_per_million_prompt_tokens: float | None = option(None, "to count the cost", ge=0)
    price_per_million_completion_tokens: float | None = option(None, "to count the cost", ge=0)
    batch_api: bool = option(
        False,
        "ask by the provider's batch interface (OpenAI's Batch API), which answers within a day and costs less: all "
        "that is to be asked goes out in files, and the same command collects the replies",
    )
    batch_requests: int = option(
        50_000, "requests of one batch at most; fewer where the account's queue takes fewer at once", ge=1, le=50_000
    )
    batch_poll_seconds: float = option(60.0, "seconds between two looks at pending batches", gt=0)
    batch_wait: bool = option(
        True, "wait for pending batches; otherwise end at once with exit code 4, and collect them in a later run"
    )

    @model_validator(mode="after")
    def _is_of_batches(self) -> Self:
        others = sorted(self.model_fields_set & {"batch_poll_seconds", "batch_requests", "batch_wait"})
        if others and not self.batch_api:
            raise ValueError(f"batch_api=True along with {', '.join(others)}")
        return self


DRAWING_OPTIONS = ("top_k", "top_p", "min_words", "curly_quotes", "max_total_tokens")
"""Options of decoding that say how a local model draws its answers in a chat."""

LOCAL_OPTIONS = (*ModelOptions.model_fields, "seed", *DRAWING_OPTIONS)
"""Options of a local model that chats."""

SERVER_OPTIONS = tuple(ServerOptions.model_fields)
"""Options of a chat server."""
