from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from dino_st.decoding.stopping import Ending, StopRule, TextForm
from dino_st.support.text import count_words
from dino_st.tasks.spec import TaskSpec
from tests.conftest import VOCABULARY


def rule(tokenizer: Any, min_words: int = 1, **form: Any) -> StopRule:
    return StopRule(tokenizer, VOCABULARY, end_ids={0}, min_words=min_words, form=TextForm(**form))


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
        (' A cat. " and more', Ending("A cat.", None)),
        ('The so-called "cat" sat."', Ending(None, "quotation inside")),
        ('She said: "No."', Ending(None, "quotation inside")),
        ('"', Ending(None, "empty")),
        (' \t"', Ending(None, "empty")),
        ('."', Ending(None, "empty")),
        (' … !"', Ending(None, "empty")),
        (' 9!"', Ending("9!", None)),
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
        ids = [*tokenizer("A cat.")["input_ids"], tokenizer.convert_tokens_to_ids(token)]
        ending, used = follow(rule(tokenizer), ids)
        assert used == len(ids)
        assert ending is not None
        assert ending.text is not None
        assert '"' not in ending.text


def test_a_curly_mark_spread_over_three_tokens_ends_the_text_where_asked(tokenizer: Any) -> None:
    byte_tokens = ["â", "Ģ", "Ŀ"]  # the bytes E2 80 9D of ” in the byte-level alphabet
    ids = [*tokenizer("A cat")["input_ids"], *tokenizer.convert_tokens_to_ids(byte_tokens)]
    assert None not in ids
    assert follow(rule(tokenizer, closing_marks=('"', "“", "”")), ids) == (Ending("A cat", None), len(ids))
    assert follow(rule(tokenizer), ids)[0] is None


def test_a_curly_mark_that_opens_a_quotation_ends_no_text(tokenizer: Any) -> None:
    stop = rule(tokenizer, closing_marks=('"', "“", "”"))
    for text, expected in (
        ("The so-called “cat”", Ending(None, "quotation inside")),
        ("A cat. “", Ending("A cat.", None)),
    ):
        assert follow(stop, tokenizer(text)["input_ids"])[0] == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "Ein Hund schläft.“ Und", "Ein Hund schläft."),
        ("de", 'Ein Hund schläft." Und', "Ein Hund schläft."),
        ("de", "„Nein“, sagte sie.“", "„Nein“, sagte sie."),
        ("fr", " Il dort. »", "Il dort."),
        ("fr", " Il dit « non » et dort. »", "Il dit « non » et dort."),
        ("es", 'Dijo "no" y se fue.»', 'Dijo "no" y se fue.'),
        ("zh", "他说“不”。”", "他说“不”。"),
        ("ja", "犬が寝ている。」そして", "犬が寝ている。"),
    ],
)
def test_the_marks_of_a_language_end_a_text(language: str, text: str, expected: str, tokenizer: Any) -> None:
    spec = TaskSpec.load(f"sts-x2.{language}")
    stop = rule(tokenizer, closing_marks=spec.closing_marks, opening_marks=spec.opening_marks)
    assert follow(stop, tokenizer(text)["input_ids"])[0] == Ending(expected, None)


def test_a_mark_of_several_characters_ends_a_text_of_several_lines(tokenizer: Any) -> None:
    stop = rule(tokenizer, closing_marks=("###",), allow_newlines=True)
    ids = tokenizer('Two "lines" # here.\n\nAnd one more. ### Next')["input_ids"]
    assert follow(stop, ids)[0] == Ending('Two "lines" # here.\n\nAnd one more.', None)
    assert follow(rule(tokenizer, closing_marks=("\n",)), ids)[0] == Ending('Two "lines" # here.', None)


@pytest.fixture(scope="module")
def byte_fallback() -> PreTrainedTokenizerFast:
    """A tokenizer as multilingual models have them: letters it does not know are a token for each of their bytes."""
    pieces = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *'abcdefghijklmnopqrstuvwxyz"', "猫"]
    bpe = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="<s>")


@pytest.mark.parametrize("text", ["straße", "日本 の 猫", "l’été 🎈🐈‍⬛", "ça va", "ไทย"])
def test_letters_that_are_tokens_of_their_bytes_come_out_whole(text: str, byte_fallback: Any) -> None:
    for mark in ('"', "“", "」"):
        stop = StopRule(byte_fallback, len(byte_fallback), end_ids={0}, min_words=1, form=TextForm((mark,)))
        ids = byte_fallback(text + mark + "abc")["input_ids"]
        assert len(ids) > len(text), "the letters are to be split"
        assert follow(stop, ids)[0] == Ending(text, None)


def test_a_text_that_ends_inside_a_character_is_rejected(byte_fallback: Any, tokenizer: Any) -> None:
    for cut, known in (
        (byte_fallback, byte_fallback("ab 日")["input_ids"]),
        (tokenizer, tokenizer("ab 日")["input_ids"]),
    ):
        stop = StopRule(cut, len(cut), end_ids={0}, min_words=1, form=TextForm(('"', "”")))
        assert follow(stop, [*known, *cut('"')["input_ids"]])[0] == Ending("ab 日", None)
        for missing in (1, 2):
            assert follow(stop, [*known[:-missing], *cut('"')["input_ids"]])[0] == Ending(None, "broken character")


def test_texts_of_any_bytes_are_whole_or_rejected(byte_fallback: Any) -> None:
    stop = StopRule(byte_fallback, len(byte_fallback), end_ids={0}, min_words=1, form=TextForm(('"', "“")))
    dice, endings = random.Random(0), set()
    pieces = [byte_fallback(letter)["input_ids"] for letter in 'ab"“é日🎈']
    for _ in range(2000):
        ids = [id_ for piece in dice.choices(pieces, k=5) for id_ in piece if dice.random() < 0.95]
        ending, _ = follow(stop, ids)
        endings.add(None if ending is None else ending.rejection)
        assert ending is None or ending.text is None or "\ufffd" not in ending.text
    assert endings >= {None, "broken character"}


def test_words_are_counted_as_the_form_says(tokenizer: Any) -> None:
    ids = tokenizer("犬が寝ている。」")["input_ids"]
    assert follow(rule(tokenizer, 3, closing_marks=("」",)), ids)[0] == Ending(None, "too few words")
    counting = rule(tokenizer, 3, closing_marks=("」",), count_words=count_words)
    assert follow(counting, ids)[0] == Ending("犬が寝ている。", None)


def test_texts_with_too_few_words_are_rejected(tokenizer: Any) -> None:
    ending, _ = follow(rule(tokenizer, min_words=3), tokenizer('A cat."')["input_ids"])
    assert ending == Ending(None, "too few words")


def test_a_special_token_inside_a_text_rejects_it(tokenizer: Any) -> None:
    ids = [*tokenizer("A cat")["input_ids"], 0]
    assert follow(rule(tokenizer), ids)[0] == Ending(None, "special token")


def test_end_of_text_and_ids_beyond_the_tokenizer_cannot_be_drawn(tokenizer: Any) -> None:
    stop = StopRule(tokenizer, VOCABULARY + 10, end_ids={0, 5}, min_words=1, form=TextForm())
    unreachable = set(stop.unreachable.nonzero().flatten().tolist())
    assert unreachable == {0, 5, *range(len(tokenizer), VOCABULARY + 10)}


def test_no_added_token_that_stands_for_no_text_can_be_drawn(tokenizer: Any) -> None:
    added = copy.deepcopy(tokenizer)
    special = ["<start_of_turn>", "<unused7>", "[INST]", "PAD8"]
    added.add_tokens([AddedToken(token, special=True) for token in special])
    tags, texts = ["<think>", "</tool_call>", "[THINK]", "◁think▷"], ["\n\n", "New York", "(c)"]
    added.add_tokens([AddedToken(token, special=False) for token in [*tags, *texts]])
    assert not set(added.convert_tokens_to_ids(special)) & set(added.all_special_ids)
    stop = StopRule(added, len(added), end_ids={0}, min_words=1, form=TextForm())
    unreachable = set(stop.unreachable.nonzero().flatten().tolist())
    assert unreachable == {0, *added.convert_tokens_to_ids([*special, *tags])}
    assert follow(stop, added("A cat<unused7>")["input_ids"])[0] == Ending(None, "special token")
