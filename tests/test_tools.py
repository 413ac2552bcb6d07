"""The programs that make the bundled models: what decides their data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from dino_st.models import bundled_directory
from tools.bundled_lm.documents import templates
from tools.bundled_lm.lexicon import inflected
from tools.bundled_lm.news import News
from tools.bundled_lm.sources import SOURCES, Evaluation, read_corpora, tidy, words
from tools.bundled_lm.train import learning_rate

ROOT = Path(__file__).parents[1]


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    folder = tmp_path / "eval" / "STS" / "STS99"
    folder.mkdir(parents=True)
    (tmp_path / "eval" / "SICK").mkdir()
    (folder / "input.txt").write_text("A man's dog runs.\tOne two three four five six seven eight nine ten.\n")
    (folder / "gs.txt").write_text("4.2\n")
    return Evaluation.read(tmp_path / "eval")


@pytest.mark.parametrize("sentence", ["A man's dog runs.", "a mans dog runs", "A MAN’S DOG... RUNS!"])
def test_an_evaluation_sentence_is_found_whatever_its_case_and_punctuation(
    sentence: str, evaluation: Evaluation
) -> None:
    assert evaluation.overlaps(sentence) == "sentence"


def test_eight_words_in_a_row_are_too_many_and_seven_are_not(evaluation: Evaluation) -> None:
    assert evaluation.overlaps("zero, two three four five six seven eight nine!") == "8-gram"
    assert evaluation.overlaps("two three four five six seven eight and more") is None


def test_corpora_lose_what_must_not_be_learnt_and_count_it(tmp_path: Path, evaluation: Evaluation) -> None:
    root = tmp_path / "corpora"
    for source in SOURCES:
        (root / source.folder).mkdir(parents=True)
        (root / source.folder / "sentences.txt").write_text("")
    (root / "open_english_wordnet" / "glosses.tsv").write_text("1-a\table\t(usually) having the necessary means\n")
    lines = [
        "A man's dog runs.",
        "Where is my red hat ?",
        "where is my red hat",
        "too short",
        'He said "go away" to me.',
    ]
    (root / "tatoeba_laser_eng" / "sentences.txt").write_text("\n".join(lines))
    group = {"id": "7", "sentences": ["two three four five six seven eight nine", "A red bus stops ."]}
    (root / "coco_captions_val2017" / "groups.jsonl").write_text(json.dumps(group))
    corpora = read_corpora(root, evaluation)
    assert corpora.sentences["everyday"] == ["Where is my red hat?"]
    assert corpora.groups["caption"] == [["A red bus stops."]]
    assert corpora.sentences["definition"] == ["having the necessary means"]
    assert corpora.dropped == {"odd": 1, "length": 1, "repeated": 1, "sentence": 1, "8-gram": 1}


def test_tokenisation_is_undone() -> None:
    assert tidy("he ca n't  swim , can he ?") == "he can't swim, can he?"
    assert words("He can't swim.") == ("he", "cant", "swim")


@pytest.mark.parametrize(
    ("lemma", "pos", "tag", "form"),
    [
        ("city", "n", "ns", "cities"),
        ("box", "n", "ns", "boxes"),
        ("day", "n", "ns", "days"),
        ("slice", "v", "ving", "slicing"),
        ("chop", "v", "ved", "chopped"),
        ("buy", "v", "ved", "bought"),
        ("carry", "v", "vs", "carries"),
        ("agree", "v", "ving", "agreeing"),
    ],
)
def test_regular_forms(lemma: str, pos: str, tag: str, form: str) -> None:
    assert inflected(lemma, pos)[tag] == form


def test_documents_are_built_from_the_tasks_own_instructions() -> None:
    heads, middle = templates()
    assert set(heads) == {"1", "0.5", "0"}
    assert middle == '"\nSentence 2: "'
    assert heads["1"] == 'Task: Write two sentences that mean the same thing.\nSentence 1: "'


def test_two_tellings_of_one_event_share_its_facts_and_no_slot_stays_empty() -> None:
    news, rng = News(), random.Random(0)
    for _ in range(300):
        first, second = news.same(rng)
        assert first != second
        assert not set("{}") & set(first + second + "".join(news.similar(rng)))
        assert set(words(first)) & set(words(second))


def test_the_learning_rate_rises_stays_and_falls_to_nothing() -> None:
    shares = [learning_rate(step, 3000) for step in range(3000)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[100] == shares[900] == 1.0
    assert shares[2000] == pytest.approx(0.5)
    assert shares[-1] < 0.001


def test_no_shipped_sentence_stands_in_an_evaluation_file(shared: Path) -> None:
    found = Evaluation.read(shared / "data" / "sts")
    sentences = (ROOT / "recipes" / "quickstart-sentences.txt").read_text(encoding="utf-8").splitlines()
    assert len(sentences) == len(set(sentences)) == 1000
    assert [sentence for sentence in sentences if found.overlaps(sentence)] == []


@pytest.mark.parametrize("name", ["dino-tiny", "dino-tiny-encoder"])
def test_the_cards_name_every_source_with_its_licence(name: str) -> None:
    directory = bundled_directory(name)
    assert directory is not None
    card = (directory / "README.md").read_text(encoding="utf-8")
    missing = [source for source in SOURCES if source.origin not in card or source.licence not in card]
    assert missing == []
