"""What many texts of a run have in common and their sentences have not."""

from __future__ import annotations

import json
import pickle
import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset

from dino_st import prepare_pairs
from dino_st.backends.chat import ChatRequest
from dino_st.data.habits import SAMPLED, TextSample
from dino_st.data.quality import (
    LabelStatistics,
    doubts,
    habits_in,
    quality_lines,
    quality_section,
    summarise,
    warn_of_doubts,
)
from dino_st.data.shards import MANIFEST, RowsInMemory, ShardDirectory, Wave, samples_of
from dino_st.preparation.splits import load_prepared, save_prepared
from dino_st.preparation.triplets import prepare_triplets
from dino_st.syncse.run import generate_triplets
from tests.fake_chat import FakeChat

WHO = (
    "a baker",
    "two girls",
    "the old sailor",
    "my neighbour",
    "some tourists",
    "our teacher",
    "every guest",
    "a clown",
)
DOES = (
    "sells bread to",
    "laughs at",
    "waits for",
    "draws",
    "writes about",
    "sings for",
    "hides from",
    "greets",
)
WHOM = ("the mayor", "a lost dog", "the crowd", "her sister", "ten visitors", "a tired nurse", "the camera", "his boss")
WHERE = ("near the river", "in May", "at noon", "behind a shed", "on the train", "by mistake", "with joy", "after work")


def sentence(place: int, salt: str) -> str:
    """A sentence of four parts that are drawn for its place."""
    drawn = random.Random(f"{salt} {place}")
    words = " ".join(drawn.choice(parts) for parts in (WHO, DOES, WHOM, WHERE))
    return f"{words[:1].upper()}{words[1:]}."


def pairs(change: Callable[[str, int], str], number: int = 400) -> list[tuple[str, str]]:
    return [(sentence(i, "first"), change(sentence(i, "second"), i)) for i in range(number)]


def some(change: Callable[[str], str], one_in: int = 8) -> Callable[[str, int], str]:
    """Changes one text of so many."""
    return lambda text, i: text if i % one_in else change(text)


def german(place: int) -> str:
    drawn = random.Random(place)
    first = drawn.choice(("Der Mann", "Eine Frau", "Das Kind", "Unser Lehrer", "Jeder Gast", "Mein Nachbar"))
    does = drawn.choice(("wartet auf", "lacht über", "singt für", "schreibt an", "redet mit", "zeigt auf"))
    return f"{first} {does} {drawn.choice(('uns', 'die Katze', 'das Haus', 'mich', 'einen Hund'))}."


def inside(text: str) -> str:
    return f"{text[0].lower()}{text[1:]}"


def fronted(text: str) -> str:
    """A sentence of these parts whose last one stands first."""
    [where] = (where for where in WHERE if text.endswith(f" {where}."))
    return f"{where[0].upper()}{where[1:]}, {inside(text).removesuffix(f' {where}.')}."


def with_words_twice(text: str, words: int) -> str:
    return " ".join([*text.split()[: words + 1], *text.split()[1:]])


HABITS: dict[str, Callable[[str, int], str]] = {
    "begin with “of course,”": some(lambda text: f"Of course, {inside(text)}"),
    "begin with “natürlich,”": some(lambda text: f"Natürlich, {inside(text)}"),
    "begin with “当然，”": some(lambda text: f"当然，{text}"),
    "contain “—”": lambda text, i: f"{('Berlin', 'Lima', 'Oslo')[i % 3]} — {text}",
    "begin with one to three words and “,”": lambda text, i: f"{('Sure', 'Yes', 'Well')[i % 3]}, {inside(text)}",
    "end with “hope this helps!”": some(lambda text: f"{text} Hope this helps!"),
    "begin their last part with “reversing the”": some(
        lambda text: f"{text[:-1]}, reversing the {random.Random(text).choice(WHOM).split()[-1]}."
    ),
    "end with a part that begins with a word in -ing": (
        lambda text, i: (
            f"{text[:-1]}, {('changing', 'swapping', 'keeping', 'adding')[i % 4]} {WHERE[i % 8].split()[-1]}."
        )
    ),
    "contain “(”": some(lambda text: f"{text[:-1]} ({random.Random(text).choice(WHO)})."),
    "are “the service is not available.”": some(lambda text: "The service is not available."),
    "have no mark at their end, as where they are cut": some(lambda text: text.rsplit(" ", 1)[0]),
    "have two words without the space between them": some(
        lambda text: " ".join(text.split(" ")[:-2]) + " " + "".join(text.split(" ")[-2:])
    ),
    "have one to three words twice in a row": lambda text, i: text if i % 25 else with_words_twice(text, 1 + i % 3),
    "begin with a small letter": some(lambda text: text.split(" ", 1)[1], one_in=12),
    "are in another language than their sentences": lambda text, i: text if i % 25 else german(i),
    "are cut at 6 words": lambda text, i: " ".join(text.split()[:6]),
    "are cut at 25 characters": lambda text, i: text[:25].rstrip(),
}


@pytest.mark.parametrize("habit", HABITS)
def test_what_many_texts_have_and_their_sentences_have_not_is_told_with_its_number_and_two_of_them(habit: str) -> None:
    made = pairs(HABITS[habit])
    [*found] = TextSample(made).habits()
    [told] = [one for one in found if f"{habit} (as in “" in one]
    number, _, of, *_ = told.split()
    assert of == str(len(set(made)))
    assert 0 < int(number) <= int(of)
    assert told.count("“") == habit.count("“") + 2
    assert "of their sentences" not in told
    assert TextSample((second, first) for first, second in made).habits() != found
    assert TextSample((second, second) for _, second in made).habits() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text, i: text,
        lambda text, i: "Yes." if i == 0 else text,
        some(lambda text: f"Of course, {inside(text)}", one_in=25),
        some(lambda text: f"{text[:-1]}, {random.Random(text).choice(WHOM)}."),
        lambda _, i: fronted(sentence(i, "first")),
        lambda text, i: text if i % 80 else with_words_twice(text, 2),
    ],
)
def test_good_texts_have_no_habit(change: Callable[[str, int], str]) -> None:
    assert TextSample(pairs(change)).habits() == []


PORTUGUESE, SPANISH = (
    [" ".join(random.Random(f"{language} {i}").choice(part) for part in parts) for i in range(40)]
    for language, parts in {
        "pt": (
            ("O homem", "Uma mulher", "A criança", "O trem"),
            ("fica na rua", "chega ao parque", "corre pelo campo"),
            ("com o cão.", "no domingo.", "em casa."),
        ),
        "es": (
            ("El hombre", "Una mujer", "La niña", "El tren"),
            ("queda en la calle", "llega al parque", "corre por el campo"),
            ("con el perro.", "el domingo.", "en casa."),
        ),
    }.items()
)


@pytest.mark.parametrize(
    ("sentences", "texts", "told"),
    [
        (PORTUGUESE, SPANISH, "texts seem to be in Spanish, and their sentences in Portuguese (as “"),
        (SPANISH, PORTUGUESE, "texts seem to be in Portuguese, and their sentences in Spanish (as “"),
        (PORTUGUESE, PORTUGUESE[::-1], ""),
        (SPANISH, SPANISH[::-1], ""),
        ([sentence(i, "first") for i in range(40)], [sentence(i, "second") for i in range(40)], ""),
    ],
)
def test_texts_that_are_together_in_a_language_near_that_of_their_sentences_are_told(
    sentences: list[str], texts: list[str], told: str
) -> None:
    found = habits_in(summarise([], {"0.5": TextSample(zip(sentences, texts, strict=True))}))
    assert [one for one in found if "seem to be in" in one and told and told in one] == [
        one for one in found if "seem to be in" in one
    ]
    assert any("seem to be in" in one for one in found) == bool(told)


@pytest.mark.parametrize(("cut", "of", "is_told"), [(5, 60, True), (2, 60, False), (3, 60, True), (3, 400, False)])
def test_texts_of_all_labels_that_lack_their_last_mark_are_told_together(cut: int, of: int, is_told: bool) -> None:
    def stopped(text: str, i: int) -> str:
        return text.rsplit(" ", 1)[0] if i < cut else text

    good = TextSample(pairs(lambda text, i: text, of // 2))
    samples = {"1": good, "0": TextSample(pairs(stopped, of - of // 2))}
    told = [one for one in habits_in(summarise([], samples)) if "no mark at their end" in one]
    assert [
        f"label 0: most of the {cut} in {len(good.pairs()) + len(samples['0'].pairs())} texts of all labels that" in one
        for one in told
    ] == ([True] * is_told)


@pytest.mark.parametrize("are_cut", [True, False])
def test_an_excerpt_shows_where_the_rest_of_a_text_is(are_cut: bool) -> None:
    def altered(text: str, i: int) -> str:
        long = f"{sentence(i, 'second')[:-1]}, {sentence(i + 400, 'second')[:-1]}, {text}"
        return long[:-1] if are_cut else f"Note: {long}"

    told = [one for one in TextSample(pairs(altered, 60)).habits() if ("no mark" if are_cut else "Note") in one]
    excerpts = re.findall("“([^”]{30,})”", told[0])
    assert len(excerpts) == 2
    for shown in excerpts:
        assert len(shown) == 91
        assert shown[0 if are_cut else -1] == "…"
        assert are_cut or shown.startswith("Note: ")


def test_eight_of_sixty_texts_are_told_and_seven_are_not() -> None:
    few, less = (
        TextSample(pairs(lambda text, i, many=many: with_words_twice(text, 2) if i < many else text, 60)).habits()
        for many in (8, 7)
    )
    assert ["8 of 60 have one to three words twice in a row" in one for one in few] == [True]
    assert less == []


def test_short_words_without_the_space_are_told_and_words_that_come_again_are_none() -> None:
    names = [f"{one}{two}{three}" for one in "BDFGKLMNPRST" for two in "aeiou" for three in "lnr"]
    made = [(f"{one} and {other} saw the sun set.", f"{other} saw it with {one}.") for one, other in pairwise(names)]
    assert TextSample(made).habits() == []
    lost = [(one, two if i % 8 else two.replace(" saw", "saw")) for i, (one, two) in enumerate(made)]
    [told] = TextSample(lost).habits()
    assert "23 of 179 have two words without the space between them (as in “" in told
    known = [(one, two if i % 8 else two.replace("it", "the sunset")) for i, (one, two) in enumerate(made)]
    assert TextSample(known).habits() == []


@pytest.mark.parametrize(
    "lose",
    [
        lambda text: text.encode("ascii", "ignore").decode(),
        lambda text: text.replace("ü", "u").replace("ö", "o"),
        lambda text: text.replace("ü", "ue").replace("ö", "oe"),
    ],
)
def test_words_that_others_have_with_accents_are_told(lose: Callable[[str], str]) -> None:
    words = (
        ("Der Müller", "Die Mütter", "Meine Mutter", "Unser König", "Der Gärtner"),
        ("hört", "kocht", "übt", "lacht"),
    )
    drawn = [[[random.Random(f"{i} {j}").choice(part) for part in words] for j in (0, 1)] for i in range(400)]
    made = [
        (f"{one[0]} geht’s {one[1]} {i}.", f"{other[0]} {('geht’s', 'gehts')[i % 2]} {other[1]} {i}.")
        for i, (one, other) in enumerate(drawn)
    ]
    assert TextSample(made).habits() == []
    few = [(one, lose(two)) if i < 8 else (one, two) for i, (one, two) in enumerate(made)]
    assert TextSample(few).habits() == []
    lost = [(one, lose(two)) if i % 10 < 2 else (one, two) for i, (one, two) in enumerate(made)]
    [told] = TextSample(lost).habits()
    assert "have words without the accents that others have (as in “" in told


@pytest.mark.parametrize(
    ("label", "asking", "answered", "asking_back", "is_told"),
    [
        ("1", 20, 20, 0, True),
        ("positive", 20, 12, 0, True),
        ("0.5", 20, 20, 0, False),  # an answer is on the topic
        ("negative", 20, 20, 0, False),
        ("1", 8, 8, 0, False),
        ("1", 30, 12, 0, False),
        ("1", 20, 20, 4, False),  # as texts of another kind than the sentences may be
    ],
)
def test_questions_that_are_answered_are_told(
    label: str, asking: int, answered: int, asking_back: int, *, is_told: bool
) -> None:
    def reworded(i: int) -> str:
        asks = answered <= i < asking or asking <= i < asking + asking_back
        return f"Does {inside(sentence(i, 'second'))[:-1]}?" if asks else sentence(i, "second")

    made = [
        (f"Why {inside(sentence(i, 'first'))[:-1]}?" if i < asking else sentence(i, "first"), reworded(i))
        for i in range(100)
    ]
    found = habits_in(summarise([], {label: TextSample(made), **({"1": TextSample()} if label == "0.5" else {})}))
    words = f"label {label}: for {answered} of {asking} sentences that ask something, texts ask nothing (as in “"
    assert [words in one for one in found if "ask" in one] == [True] * is_told


def shuffled(text: str) -> str:
    words = text.removesuffix(".").split()
    random.Random(text).shuffle(words)
    return f"{' '.join(words)}."


@pytest.mark.parametrize(
    ("change", "is_told"),
    [
        (lambda text, i: text, False),
        (lambda text, i: fronted(text), False),
        (some(lambda text: f"The truth is, {inside(text)}", one_in=2), False),
        (some(shuffled, one_in=50), False),
        (some(shuffled, one_in=5), True),
        (lambda text, i: shuffled(text), True),
    ],
)
def test_texts_whose_words_stand_in_no_order_are_told(change: Callable[[str, int], str], *, is_told: bool) -> None:
    good = TextSample(pairs(lambda text, i: text))
    found = habits_in(summarise([], {"0": good, "0.5": TextSample(pairs(change))}))
    told = "pairs of frequent words that never stand side by side in the sentences do in"
    assert [told in one and one.startswith("label 0.5: ") for one in found if "side by side" in one] == [True] * is_told
    assert habits_in(summarise([], {"0.5": TextSample(pairs(change, 7))})) == [], "so few tell nothing"


@pytest.mark.parametrize(
    ("label", "one_in", "text", "is_told"),
    [
        ("1", 3, "Later they went home to rest.", True),
        ("1", 5, "Later they went home to rest.", False),
        ("positive", 3, "Later they went home to rest.", True),
        ("0.5", 3, "Later they went home to rest.", False),
        ("1", 3, "Dann ging er nach Hause und schlief.", False),  # as a translation does
    ],
)
def test_texts_that_share_no_long_word_with_sentences_that_they_should_say_again_are_told(
    label: str, one_in: int, text: str, *, is_told: bool
) -> None:
    made = [
        (one, f"{text[:-1]}{chr(97 + i % 26)}." if i % one_in == 0 else reworded(one))
        for i, (one, _) in enumerate(pairs(lambda text, _: text))
    ]
    found = habits_in(summarise([], {label: TextSample(made), **({"1": TextSample()} if label == "0.5" else {})}))
    told = f"share no word of 4 letters or more with their sentences (as “{text[:9]}"
    assert [told in one for one in found if "share no word" in one] == [True] * is_told


def test_a_beginning_that_the_sentences_have_as_often_is_none() -> None:
    made = [(f"Of course, {inside(one)}", f"Of course, {inside(two)}") for one, two in pairs(lambda text, _: text)]
    mixed = [(two, one) if i % 16 else (one, two) for i, (one, two) in enumerate(pairs(HABITS["contain “(”"]))]
    assert TextSample(made).habits() == TextSample(mixed).habits() == []


def test_how_many_sentences_have_a_habit_of_their_texts_is_told() -> None:
    made = pairs(HABITS["begin with “of course,”"])
    made[1:4] = [(f"Of course, {inside(one)}", two) for one, two in made[1:4]]
    assert "begin with “of course,”; the same of their sentences: 3 (as in" in TextSample(made).habits()[0]
    made[4:8] = [(f"Of course, {inside(one)}", two) for one, two in made[4:8]]
    assert TextSample(made).habits() == [], "50 of 400, and 7 of the sentences alone"


def test_texts_of_one_length_are_not_cut_where_their_sentences_are_no_longer() -> None:
    made = [
        (one if place < 2 else one[:24], two)
        for place, (one, two) in enumerate(pairs(HABITS["are cut at 25 characters"]))
    ]
    assert "are cut" not in str(TextSample(made).habits())


def test_few_sentences_make_no_habit_however_often_they_are_answered_so() -> None:
    made = [(sentence(i % 9, "first"), f"Sure, {inside(sentence(i, 'second'))}") for i in range(300)]
    assert TextSample(made).habits() == []
    assert len(TextSample(made[:10] + pairs(lambda text, _: f"Sure, {inside(text)}", 10)).habits()) == 1


def test_a_sample_is_the_same_whatever_the_order_and_the_waves_and_no_larger_for_more_pairs() -> None:
    made = [(f"{sentence(i, 'first')} {i}", f"{i} {sentence(i, 'second')}") for i in range(7 * SAMPLED)]
    whole, other = TextSample(made), TextSample()
    for start in random.Random(0).sample(range(0, len(made), 500), len(made) // 500):
        other.update(TextSample(made[start : start + 500]))
        assert len(other._kept) <= 2 * SAMPLED
    assert whole.habits() == other.habits()
    assert whole._kept == other._kept
    assert len(whole._kept) == SAMPLED
    assert len(next(iter(TextSample([("a", "b" * 10**6)])._kept.values()))[1]) < 2_000


def test_triplets_have_habits_by_role_and_single_texts_none() -> None:
    rows = [{"anchor": one, "positive": one[::-1], "negative": two} for one, two in pairs(HABITS["contain “—”"])]
    summary = summarise([], samples_of(rows))
    assert [label for label, one in summary.items() if "contain “—”" in str(one["habits"])] == ["negative"]
    assert quality_lines(summary) == doubts(summary) == []
    assert "contain “—”" in quality_section(summary)
    assert "words shared" not in quality_section(summary)
    assert samples_of([{"text": "Sure, it rains.", "label": "x"}] * 99) == {}


def test_a_run_of_triplets_and_their_preparation_warn_of_habits_and_record_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat = FakeChat(lambda request: f"By the end of it, {inside(sentence(0, request.key))}")
    generate_triplets(chat, sentences=[sentence(i, "first") for i in range(40)], output_dir=tmp_path / "raw")
    raw = ShardDirectory(tmp_path / "raw")
    assert raw.counts["rows"] >= 30
    assert set(raw.quality()) == {"positive", "negative"}
    assert json.loads((tmp_path / "raw" / MANIFEST).read_text())["quality"] == raw.quality()
    assert "## Habits" in (tmp_path / "raw/README.md").read_text()
    [warning] = [record.message for record in caplog.records if "in common" in record.message]
    assert f"label negative: {raw.counts['rows']} of" in warning
    assert "begin with “by the end”" in warning
    caplog.clear()
    splits = prepare_triplets(raw.to_dataset(), validation_share=0.1)
    assert "begin with “by the end”" in caplog.text
    save_prepared(splits, tmp_path / "prepared")
    assert load_prepared(tmp_path / "prepared").quality == splits.quality
    assert "begin with “by the end”" in (tmp_path / "prepared/README.md").read_text()


def test_pairs_have_habits_wherever_they_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = pairs(HABITS["contain “—”"], 60)
    rows = [{"sentence1": one, "sentence2": two, "score": 1.0} for one, two in made]
    rows += [{"sentence1": one, "sentence2": two, "score": 0.0} for one, two in pairs(lambda text, _: text, 60)]
    store = RowsInMemory(pa.schema({"sentence1": pa.string(), "sentence2": pa.string(), "score": pa.float64()}))
    store.put(Wave(0, rows, {}))
    assert ["habits" in one for one in store.quality().values()] == [True, False]
    quality = prepare_pairs(Dataset.from_list(rows)).quality
    assert ["habits" in one for one in quality.values()] == [False, True]
    assert "label 1: " in caplog.text
    assert "label 0: " not in caplog.text


def test_what_two_workers_hand_on_of_their_waves_is_the_sample_of_all_and_ever_less() -> None:
    waves = [[(f"Sentence {i}.", f"Text {i} of a wave.") for i in range(n * 2000, (n + 1) * 2000)] for n in range(16)]
    workers, whole, sizes = [TextSample(), TextSample()], TextSample(), []
    for number, wave in enumerate(waves):
        handed_on = workers[number % 2].take_in(TextSample(wave))
        sizes.append(len(pickle.dumps(handed_on)))
        whole.update(handed_on)
    everything = TextSample(pair for wave in waves for pair in wave)
    for sample in (whole, everything):
        sample.habits()
    assert whole._kept == everything._kept
    assert len(everything._kept) == SAMPLED
    assert max(sizes[-4:]) < sizes[0] / 4


def reworded(text: str) -> str:
    """A sentence that keeps most of the words of another."""
    return f"It is said that {inside(text).removesuffix('.').rsplit(' ', 1)[0]} then."


@pytest.mark.parametrize(
    ("text_of", "is_told"),
    [
        (lambda i: reworded(sentence(i, "first")), False),
        (lambda i: reworded(sentence((i + 1) % 400, "first")), True),
        (lambda i: reworded(sentence(random.Random(i).randrange(400), "first")), True),
        (lambda i: reworded(sentence(i + i % 2, "first")), True),  # half of them are right
        (lambda i: reworded(sentence(i + (i % 50 == 0), "first")), False),
        (lambda i: f"Satz {i} ist übersetzt.", False),
    ],
)
def test_texts_that_belong_to_other_sentences_are_told(text_of: Callable[[int], str], is_told: bool) -> None:
    made = [(sentence(i, "first"), text_of(i)) for i in range(400)]
    assert bool(TextSample(made).strangers()) == is_told
    assert TextSample(made[:19]).strangers() == "", "so few tell nothing"
    summary = summarise([], {"1": TextSample(made), "0.5": TextSample(made), "0": TextSample(made)})
    assert [label for label, one in summary.items() if "strangers" in one] == ["0.5", "1"] * is_told
    assert not any("strangers" in one for one in summarise([], {"0": TextSample(made), "5": TextSample()}).values())


@pytest.mark.parametrize(("both", "is_told"), [(6, True), (4, False)])
def test_texts_that_stand_under_several_labels_of_one_sentence_are_told(both: int, is_told: bool) -> None:
    made = {label: [(sentence(i, "first"), sentence(i, label)) for i in range(80)] for label in ("1", "0.5")}
    for i in range(both):
        made["0.5"][i] = (made["0.5"][i][0], made["1"][i][1].upper())
    made["0.5"] += [(text, text) for text, _ in made["1"][:20]]
    made["1"] += [(text, text) for text, _ in made["1"][:20]]
    summary = summarise([], {label: TextSample(pairs) for label, pairs in made.items()})
    told = " ".join(one.get("out_of_order", "") for one in summary.values())
    assert (f"{both} of {160 - both} texts stand under several labels of their sentence" in told) == is_told


def test_texts_of_a_few_sentences_each_are_told_where_there_are_many_of_them() -> None:
    made = [(f"The first man plays {i} it.", f"Somebody plays {i}.") for i in range(100)]
    for i in range(6):
        made[i] = (made[i][0], f"Nothing of the kind was {('asked', 'heard', 'seen')[i % 3]}.")
    for few in (0, 2):
        told = [one for one in habits_in(summarise([], {"1": TextSample(made[few:])})) if "was asked.”" in one]
        assert [f"is the text of 2 different sentences, among {100 - few} pairs" in one for one in told] == [True] * (
            not few
        )


@pytest.mark.parametrize(
    ("text", "sentences", "is_told"),
    [
        ("Sorry, something went wrong.", 10, True),
        ("Sorry, something went wrong.", 4, False),
        ("Sorry, no.", 10, False),  # so short a text may stand for many
        ("The first man plays it.", 10, False),  # as texts on the same things are
    ],
)
def test_a_text_of_a_few_in_a_hundred_sentences_under_all_labels_is_told(
    text: str, sentences: int, is_told: bool
) -> None:
    labels = ("1", "0.5", "0")
    made = {
        label: [(f"The first man plays {i} it.", f"Somebody plays {label} of {i}.") for i in range(100)]
        for label in labels
    }
    for i in range(sentences):
        own = made[labels[i % 3]]
        own[i] = (own[i][0], text)
    found = habits_in(summarise([], {label: TextSample(pairs) for label, pairs in made.items()}))
    told = [habit for habit in found if text in habit]
    assert len(told) == is_told
    assert all(f"is the text of {sentences} different sentences, among 300 pairs of all labels" in one for one in told)


@pytest.mark.parametrize(("exchanged", "is_told"), [(2, False), (30, True)])
def test_labels_that_were_exchanged_for_a_part_of_the_sentences_are_told(exchanged: int, is_told: bool) -> None:
    made: dict[str, list[tuple[str, str]]] = {"1": [], "0": []}
    for i in range(1500):
        one = f"A man in room {i} plays the flute."
        texts = {"1": f"Somebody in room {i} plays the flute.", "0": "Nobody knows why it rains."}
        above, below = ("0", "1") if i % 100 < exchanged else ("1", "0")
        made["1"].append((one, texts[above]))
        made["0"].append((one, texts[below]))
    samples = {label: TextSample(pairs) for label, pairs in made.items()}
    found = doubts(summarise([{label: LabelStatistics(overlaps=Counter({0.5: 1500})) for label in made}], samples))
    assert (
        any("sentences, texts of label 0 share more words with x1 than those of 1" in one for one in found) == is_told
    )


@pytest.mark.parametrize(("copies", "is_told"), [(5, True), (4, False)])
def test_texts_that_should_differ_and_do_so_in_case_and_marks_alone_are_told(
    copies: int, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = [
        (one := sentence(i, "first"), one.upper().replace(".", "!") if i < copies else f"Nobody is in room {i}.")
        for i in range(100)
    ]
    warn_of_doubts(summarise([], {label: TextSample(made) for label in ("0", "0.5", "1", "negative", "word")}))
    told = [record.message for record in caplog.records if "case and marks" in record.message]
    assert len(told) == is_told
    for label in ("0", "0.5", "negative") if is_told else ():
        assert f"label {label}: {copies} of 100 (as in “" in told[0]
    assert not any("label 1: " in one or "label word: " in one for one in told)


@pytest.mark.parametrize("further", [0, 1])
def test_a_run_whose_server_answers_for_other_sentences_is_told(
    further: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = [sentence(i, "first") for i in range(120)]
    known = list(dict.fromkeys(known))[:100]

    def answer(request: ChatRequest) -> str:
        place = max((request.prompt.rfind(one), i) for i, one in enumerate(known))[1]
        text = reworded(known[(place + further) % len(known)])
        return f"Nobody says so: {inside(text)}" if request.key.startswith("negative") else text

    generate_triplets(FakeChat(answer), sentences=known, output_dir=tmp_path / "raw")
    assert ShardDirectory(tmp_path / "raw").counts["rows"] > 60
    told = [record.message for record in caplog.records if "for other sentences" in record.message]
    assert len(told) == further
    assert all(message.startswith("label positive: ") for message in told)
    quality = json.loads((tmp_path / "raw" / MANIFEST).read_text()).get("quality", {})
    assert ("strangers" in quality.get("positive", {})) == bool(further)
