"""The options of chat backends: who writes, how a server is asked, where it is, and the key to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from dino_st.errors import ConfigurationError
from dino_st.support.options import FrozenOptions

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


KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
_HOSTED = "https://api.openai.com/v1"
_NO_KEY = "none"


class ServerOptions(FrozenOptions):
    """How a chat server is asked."""

    temperature: Annotated[float | None, Field(ge=0, le=2, description="of sampling; none leaves it to the server")] = (
        1.0
    )
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


@dataclass(frozen=True)
class ServerAddress:
    """Where a chat server is.

    Attributes:
        url: As it is called.
        host: With the port, for messages.
        public: Without a query, for manifests.
        is_hosted: Whether it is OpenAI's own, for want of another address.
    """

    url: str
    host: str
    public: str
    is_hosted: bool

    @classmethod
    def of(cls, base_url: str | None) -> ServerAddress:
        """Checks an address.

        Args:
            base_url: Such as `http://localhost:8000/v1`; None for `OPENAI_BASE_URL`, or else OpenAI's own.

        Raises:
            ConfigurationError: If it is no address, or holds a user name or password.
        """
        url = base_url or os.environ.get(URL_VARIABLE) or _HOSTED
        expected = "expected an address such as http://localhost:8000/v1"
        if "@" in url:  # and is not repeated, since a password may stand in it
            raise ConfigurationError(f"base URL: it holds a user name or password; {expected}, and {KEY_VARIABLE} set")
        try:
            parts = urlsplit(url)
            named = parts.hostname and parts.port != 0
        except ValueError as error:
            raise ConfigurationError(f"base URL: {scrubbed(str(error))}; {expected}") from None
        if parts.scheme not in ("http", "https") or not named:
            raise ConfigurationError(f"base URL {scrubbed(url)!r}: {expected}")
        public = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        return cls(url, parts.netloc, scrubbed(public), is_hosted=url == _HOSTED)

    def key(self) -> str:
        """The key from the environment, or a placeholder where a server of one's own may need none.

        Raises:
            ConfigurationError: If it is missing, or cannot be sent.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key and self.is_hosted:
            raise ConfigurationError(
                f"{KEY_VARIABLE} is not set, and {self.host} asks for a key; set it in the environment, or give the "
                "base URL of a server of your own"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigurationError(f"{KEY_VARIABLE} holds characters that no key has; set it to the key alone")
        return key or _NO_KEY


def scrubbed(text: str, *, shortest: int = 1) -> str:
    """A text without the key, should it stand in it.

    Args:
        text: Words of a server or of a library.
        shortest: Characters below which a key is let be, since it may be a word; for texts that are data.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return text.replace(key, "***") if len(key) >= max(1, shortest) else text
