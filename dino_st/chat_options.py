"""The options of chat backends and of SynCSE beside a backend's own, and their defaults; light enough for `--help`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dino_st.options import FrozenOptions

BackendName = Literal["local", "openai"]


class ChatOptions(FrozenOptions):
    """Who writes."""

    backend: Annotated[
        BackendName,
        Field(
            description="who writes: local (a model on this machine) or openai (a chat server that speaks OpenAI's "
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
