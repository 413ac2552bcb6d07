from __future__ import annotations

import copy
from typing import Any

import pytest
from tokenizers import AddedToken

from dino_st.decoding.stopping import Ending, StopRule
from tests.conftest import VOCABULARY


def rule(tokenizer: Any, **options: Any) -> StopRule:
    return StopRule(tokenizer, VOCABULARY, end_ids={0}, **({"min_words": 1, "curly_quotes": False} | options))


def follow(stop: StopRule, ids: list[int]) -> tuple[Ending | None, int]:
    """Feeds tokens one by one as the engine does; returns the ending and after how many tokens it came."""
    for n in range(1, len(ids) + 1):
        if stop.may_end[ids[n - 1]] and (ending := stop.examine(ids[:n])):
            return ending, n
    return None, len(ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('A cat."', Ending("A cat.", None)),
        (' A cat " and more', Ending("A cat", None)),
        ('"', Ending(None, "empty")),
        (' \t"', Ending(None, "empty")),
        ('A cat\nsat"', Ending(None, "newline")),
        ('\nA cat"', Ending(None, "newline")),
        ('A naïve café ünïcode 猫"', Ending("A naïve café ünïcode 猫", None)),
        ("“A cat” sat", None),
    ],
)
def test_a_text_ends_at_its_first_mark_or_line_break(text: str, expected: Ending | None, tokenizer: Any) -> None:
    ending, _ = follow(rule(tokenizer), tokenizer(text)["input_ids"])
    assert ending == expected


def test_a_mark_inside_a_larger_token_ends_the_text(tokenizer: Any) -> None:
    merged = [token for token in tokenizer.get_vocab() if '"' in token and len(token) > 1]
    assert merged, "the tokenizer of the tests is meant to have such tokens"
    for token in merged:
        ids = [*tokenizer("A cat")["input_ids"], tokenizer.convert_tokens_to_ids(token)]
        ending, used = follow(rule(tokenizer), ids)
        assert used == len(ids)
        assert ending is not None
        assert ending.text is not None
        assert '"' not in ending.text


def test_a_curly_mark_spread_over_three_tokens_ends_the_text_where_asked(tokenizer: Any) -> None:
    byte_tokens = ["â", "Ģ", "Ŀ"]  # the bytes E2 80 9D of ” in the byte-level alphabet
    ids = [*tokenizer("A cat")["input_ids"], *tokenizer.convert_tokens_to_ids(byte_tokens)]
    assert None not in ids
    assert follow(rule(tokenizer, curly_quotes=True), ids) == (Ending("A cat", None), len(ids))
    assert follow(rule(tokenizer), ids)[0] is None


def test_texts_with_too_few_words_are_rejected(tokenizer: Any) -> None:
    ending, _ = follow(rule(tokenizer, min_words=3), tokenizer('A cat."')["input_ids"])
    assert ending == Ending(None, "too few words")


def test_a_special_token_inside_a_text_rejects_it(tokenizer: Any) -> None:
    ids = [*tokenizer("A cat")["input_ids"], 0]
    assert follow(rule(tokenizer), ids)[0] == Ending(None, "special token")


def test_end_of_text_and_ids_beyond_the_tokenizer_cannot_be_drawn(tokenizer: Any) -> None:
    stop = StopRule(tokenizer, VOCABULARY + 10, end_ids={0, 5}, min_words=1, curly_quotes=False)
    unreachable = set(stop.unreachable.nonzero().flatten().tolist())
    assert unreachable == {0, 5, *range(len(tokenizer), VOCABULARY + 10)}


def test_no_added_token_that_stands_for_no_text_can_be_drawn(tokenizer: Any) -> None:
    added = copy.deepcopy(tokenizer)
    special = ["<start_of_turn>", "<unused7>", "[INST]", "PAD8"]
    added.add_tokens([AddedToken(token, special=True) for token in special])
    tags, texts = ["<think>", "</tool_call>", "[THINK]", "◁think▷"], ["\n\n", "New York", "(c)"]
    added.add_tokens([AddedToken(token, special=False) for token in [*tags, *texts]])
    assert not set(added.convert_tokens_to_ids(special)) & set(added.all_special_ids)
    stop = StopRule(added, len(added), end_ids={0}, min_words=1, curly_quotes=False)
    unreachable = set(stop.unreachable.nonzero().flatten().tolist())
    assert unreachable == {0, *added.convert_tokens_to_ids([*special, *tags])}
    assert follow(stop, added("A cat<unused7>")["input_ids"])[0] == Ending(None, "special token")
