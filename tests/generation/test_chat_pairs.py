"""Pairs by a chat server: what several replies say together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dino_st.backends.chat import ChatRequest
from dino_st.data.shards import ShardDirectory
from dino_st.decoding.options import DecodingOptions
from dino_st.generation.chat import ChatPairRun
from dino_st.generation.options import GenerationOptions
from dino_st.tasks.spec import TaskSpec
from tests.fake_chat import FakeChat

SENTENCES = ["A man plays a flute.", "Two dogs run.", "The cat sleeps.", "Stocks fell on Monday."]


@pytest.mark.parametrize(
    ("answer", "is_told"),
    [
        (lambda request: "The model is currently busy.", True),
        (lambda request: "It rains." if "cat" in request.prompt else f"Text {request.key}.", False),
        (lambda request: "It rains." if "different" in request.prompt else f"Text {request.key}.", False),
    ],
)
def test_one_text_for_all_labels_of_many_sentences_is_told(
    answer: Callable[[ChatRequest], str], is_told: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    run = ChatPairRun(
        FakeChat(answer),
        TaskSpec.load("sts-x2"),
        DecodingOptions(decay_constant=0),
        GenerationOptions(samples=1),
        SENTENCES,
    )
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        run.into(ShardDirectory(tmp_path / "raw"), False)
    told = [message for message in caplog.messages if "one and the same text under all labels" in message]
    assert len(told) == is_told
    assert not is_told or told[0].startswith(
        "4 of 4 sentences have one and the same text under all labels, such as 'The"
    )


@pytest.mark.parametrize("is_greedy", [True, False])
def test_a_server_that_does_not_sample_is_told(
    is_greedy: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def answer(request: ChatRequest) -> str:
        return f"Text {len(request.prompt) if is_greedy else request.key}."

    run = ChatPairRun(
        FakeChat(answer),
        TaskSpec.load("sts-x2"),
        DecodingOptions(decay_constant=0),
        GenerationOptions(samples=2),
        SENTENCES,
    )
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        run.into(ShardDirectory(tmp_path / "raw"), False)
    told = [message for message in caplog.messages if "all samples of one prompt are the same text" in message]
    assert [message.split(" times")[0] for message in told] == ["12 of 12"] * is_greedy
