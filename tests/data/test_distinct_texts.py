from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dino_st.data.sentences import DistinctTexts
from dino_st.errors import OutputError

TEXTS = ["One.", "Two.", "Drei – ä.", "two.", "  Two  of them. "]


@pytest.fixture
def texts() -> DistinctTexts:
    made = DistinctTexts()
    for text in TEXTS:
        assert made.add(text)
    return made


def test_texts_are_read_like_a_tuple(texts: DistinctTexts) -> None:
    assert list(texts) == texts[:] == TEXTS
    assert (len(texts), texts[0], texts[-1]) == (5, "One.", "  Two  of them. ")
    for part in (slice(1, 3), slice(-2, None), slice(3, 99), slice(4, 2), slice(None, None, 2), slice(None, None, -1)):
        assert texts[part] == TEXTS[part]
    with pytest.raises(IndexError):
        texts[5]


def test_a_text_is_taken_once_and_leaves_no_gap(texts: DistinctTexts) -> None:
    assert not texts.add("Two.")
    assert not texts.add("Drei\u00a0– a\u0308.")
    assert not texts.add("Two of them.")
    assert not texts.add("\ufeffT\u00adwo.")
    assert texts.add("Six.")
    assert texts[:] == [*TEXTS, "Six."]


def test_two_readers_do_not_disturb_each_other(texts: DistinctTexts) -> None:
    assert [(a, b) for a in texts for b in texts] == [(a, b) for a in TEXTS for b in TEXTS]


def test_another_thread_reads_them(texts: DistinctTexts) -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(list, texts).result() == list(TEXTS)


def test_more_texts_than_the_cache_holds_are_kept() -> None:
    texts = DistinctTexts()
    for number in range(20_000):
        texts.add(f"{number} " + "word " * 50)
    assert len(texts) == 20_000
    assert texts[12_345].startswith("12345 ")
    assert sum(1 for _ in texts) == 20_000


def test_a_full_disk_is_said(texts: DistinctTexts) -> None:
    texts._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(OutputError, match="TMPDIR"):  # noqa: PT012
        for number in range(2_000):
            texts.add(f"{number} " + "word " * 20)
