"""A chat backend for tests, whose answers come from a function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dino_st.backends.chat import ChatReply, ChatRequest

Answer = Callable[[ChatRequest], str | None]


@dataclass
class FakeChat:
    """Answers from a function; None is a request that failed."""

    answer: Answer
    name: str = "fake"
    is_chat: bool = True
    asked: list[ChatRequest] = field(default_factory=list)
    kind: str = "fake"
    failure: str = "status 400: no"

    def configuration(self) -> dict[str, Any]:
        return {"backend": self.kind, "model": self.name}

    @property
    def usage(self) -> Counter[str]:
        return Counter(requests=len(self.asked))

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        self.asked += requests
        replies = []
        for request in requests:
            text = self.answer(request)
            reply = ChatReply(request.key, text, None if text is not None else self.failure, 10, 5)
            replies.append(reply)
            if on_reply is not None:
                on_reply(reply)
        return replies
