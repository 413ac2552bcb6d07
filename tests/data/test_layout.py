"""Fields before and behind texts that are no part of them, and texts that were cut: told or refused over many texts."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dino_st.data.pairs import read_pairs
from dino_st.data.sentences import read_sentences
from dino_st.errors import InputError

SENTENCES = [
    "A man plays a flute.",
    "It rains in the north.",
    "Two dogs run over the green grass.",
    "Nobody was at home, he said.",
    "She has been to Rome twice.",
    "Why do they sleep?",
    "The train left at 9 and was late.",
    "Some people sing well.",
    "In 1987 the museum was closed.",
    "Three boys play football.",
    "The old house on the hill burnt down.",
    "We never met again.",
]
NAMES = ["Ann", "Bob", "Eve", "Tom", "Jim", "Sue", "Pat", "Kim", "Ian", "Amy", "Max", "Zoe"]

REFUSED: dict[str, Callable[[int, str], str]] = {
    "captions of Flickr8k": lambda i, text: f"{1000268201 + i // 5 * 7919}_693b08cb{i // 5:02x}.jpg,{text}",
    "names of recordings, as Kaldi writes them": lambda i, text: f"spk{i % 3}_utt{1000 + i} {text.upper()}",
    "the same behind the text": lambda i, text: f"<s> {text} </s> (spk{i % 3}_utt{1000 + i})",
    "LJSpeech": lambda i, text: f"LJ001-{i:04d}|{text}|{text}",
    "git log --oneline": lambda i, text: f"{0xA1B2C3D4E5 + i * 7919:x} {text}",
    "times": lambda i, text: f"12/03/2024, 10:{i:02d} - {text}",
    "ls -l": lambda i, text: f"-rw-r--r--@ 1 ann staff {1000 + i} Jan {i + 1:2d} 10:00 a {i}.txt",
    "columns": lambda i, text: f"{100000 + i};{text};{i % 2}",
}

TOLD: dict[str, tuple[Callable[[int, str], str], str]] = {
    "sentiment behind @ (Financial PhraseBank)": (lambda i, text: f"{text}@{('neutral', 'positive')[i % 2]}", "behind"),
    "labels behind a comma": (lambda i, text: f"{text},{('sports', 'news', 'world')[i % 3]}", "behind"),
    "labels in brackets": (lambda i, text: f"{text} [{('sports', 'news')[i % 2]}]", "behind"),
    "a tag behind a space": (lambda i, text: f"{text.rstrip('.?')} {('NEG', 'POS')[i % 2]}", "behind"),
    "a number behind a space": (lambda i, text: f"{text} {i % 2}", "behind"),
    "speakers": (lambda i, text: f"{('Ann', 'Bob B.')[i % 2]}: {text}", "before"),
    "labels before a bar": (lambda i, text: f"{('ham', 'spam')[i % 2]}|{text}", "before"),
    "labels before a comma": (lambda i, text: f"{('ham', 'spam')[i % 2]},{text}", "before"),
    "labels before a space": (lambda i, text: f"{('ham', 'spam')[i % 2]} {text}", "before"),
    "numbers before a space": (lambda i, text: f"{i % 2} {text}", "before"),
    "a numbered list": (lambda i, text: f"{i + 1}) {text}", "before"),
    "numbers in brackets": (lambda i, text: f"({i + 1}) {text}", "before"),
    "boxes to tick": (lambda i, text: f"[{' x'[i % 2]}] {text}", "before"),
    "bullets": (lambda i, text: f"• {text}", "before"),
    "languages": (lambda i, text: f"[{('en', 'de')[i % 2]}] {text}", "before"),
    "the same before all": (lambda i, text: f"text: {text}", "before"),
    "numbered labels": (lambda i, text: f"Sentence {i + 1}: {text}", "before"),
    "labels that come three times each": (lambda i, text: f"{NAMES[i // 3]}: {text}", "before"),
}


def lines(write: Callable[[int, str], str]) -> list[str]:
    return [write(i, text) for i, text in enumerate(SENTENCES)]


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("head", ["", "image,caption\n"])
def test_lines_with_a_code_of_their_own_are_no_sentences(kind: str, head: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(head + "\n".join(lines(REFUSED[kind])), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"a\.txt: (\(nearly\) every line has an id.* such as |this looks like)"
    ) as refusal:
        read_sentences(file)
    if (told := re.search("such as '(.*?)';", str(refusal.value))) is not None:
        assert told[1] in lines(REFUSED[kind])[0 if head else 1], "the first behind the line that may name columns"
    with pytest.raises(InputError):
        read_sentences(file, limit=3)


@pytest.mark.parametrize("kind", TOLD)
def test_labels_that_most_texts_have_are_told(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write, place = TOLD[kind]
    texts = lines(write)
    first = re.escape(repr(texts[0][:60]))
    told = rf"12 of 12 texts( of column 'text')? hold a number, a code or a label {place} them, such as {first};"
    file, table = tmp_path / "a.txt", tmp_path / "a.jsonl"
    file.write_text("\n".join(texts), encoding="utf-8")
    table.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    for source in (file, table):
        caplog.clear()
        assert read_sentences(source).texts[:] == texts
        assert re.search(told, caplog.text), caplog.text


@pytest.mark.parametrize(
    "text", ["img_{}.jpg", "data/a{}/b", "https://example.org/{}", "c0ffee{}", "user@example{}.org"]
)
def test_a_column_of_codes_beside_the_texts_is_told(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.csv"
    rows = "".join(f'{text.format(i, i)},"{one}",{i % 2}\n' for i, one in enumerate(SENTENCES))
    file.write_text("text,caption,x\n" + rows, encoding="utf-8")
    assert len(read_sentences(file).texts) == 12
    told = "are a single word or code|hold no space|hold an address and nothing else"
    assert re.search(f"12 of 12 texts of column 'text' ({told})", caplog.text)
    caplog.clear()
    file.write_text("sentence1,sentence2,score\n" + rows, encoding="utf-8")
    assert len(read_pairs(file)) == 12
    assert re.search(f"12 of 12 texts of column 'sentence1' ({told})", caplog.text)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda i, text: f"Die Stra=C3=9Fe {i} {text} 0.", "characters as mails write them"),
        (lambda i, text: f"{text} twenty @-@ two 1 @,@ 000", "marks of a tokenizer"),
        (lambda i, text: f"<unk> and <unk> {text}", "tags of HTML or XML"),
        (lambda i, text: f"0:{10 + i}", "nothing but numbers"),
    ],
)
def test_what_is_told_of_texts_is_not_told_again_as_their_first_and_last_words(
    write: Callable[[int, str], str], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n".join(f"{write(i, text)}" for i, text in enumerate(SENTENCES * 2)), encoding="utf-8")
    read_sentences(file)
    assert [record.getMessage().partition(" hold ")[2].partition(",")[0] for record in caplog.records] == [told]


@pytest.mark.parametrize(
    "texts", [[f'{text} "no", {i}' for i, text in enumerate(SENTENCES[:3])], ["A, b.", "C, d.", "E, f."]]
)
def test_texts_in_the_quotation_marks_of_csv_are_told_though_they_are_few(
    texts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.txt"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([text] for text in [*SENTENCES, *texts])
    read_sentences(file)
    assert "4 of 15 texts stand in quotation marks as a file of CSV has them, such as" in caplog.text
    caplog.clear()
    file.write_text("\n".join(['"He came, and went."'] * 4 + ["So, he came.", '"No, ""no"""']), encoding="utf-8")
    read_sentences(file)
    assert "CSV" not in caplog.text


def test_single_words_are_told_where_they_are_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = " ".join(SENTENCES).replace(".", " .").split()
    file = tmp_path / "a.txt"
    file.write_text("\n".join(words), encoding="utf-8")
    read_sentences(file)
    assert re.search("texts are a single word or code", caplog.text)


@pytest.mark.parametrize(
    "write",
    [
        lambda i, text: text,
        lambda i, text: text.lower().rstrip("."),
        lambda i, text: text.upper(),
        lambda i, text: f"Yes, {text}" if i < 6 else text,
        lambda i, text: f"“{text}" if i < 6 else f"({text})",
        lambda i, text: f"{i} {text}" if i < 4 else text,
        lambda i, text: f"{text.rstrip('.')} in {1980 + i}.",
        lambda i, text: f"so {text.lower()}",
        lambda i, text: "他们在" + "北京上海"[i % 4] + "见面。",
        lambda i, text: f"{text.split()[0]}!",
        lambda i, text: f"{NAMES[i]}: {text}",
        lambda i, text: f"{NAMES[i // 2]}: {text}",
        lambda i, text: f"2-({i}-chlorophenyl)-1,3-dioxane was in Rome when {text.lower()}",
        lambda i, text: f"2024-02-{10 + i} was the day in Rome when {text.lower()}",
        lambda i, text: f"{12 + i} people saw how {text.lower()}",
        lambda i, text: f"At 08:{10 + i} {text.lower()}",
        lambda i, text: f"— {text}",
        lambda i, text: f"§ {i} Abs. 1 {text}",
        lambda i, text: f"See https://example.org/a?id={i} for how {text.lower()}",
    ],
)
def test_ordinary_sentences_are_read_without_a_word(
    write: Callable[[int, str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n".join(lines(write)), encoding="utf-8")
    read_sentences(file)
    assert not caplog.text


def test_codes_and_repeated_texts_among_many_sentences_are_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"{text} {SENTENCES[place]}" for text in SENTENCES for place in range(12)] * 2
    texts = [f"{text} {number}." for number, text in enumerate(texts)]
    file = tmp_path / "a.txt"
    cases = [f"COVID-19 came back {number} times." for number in range(6)]
    file.write_text("\n".join(cases + texts), encoding="utf-8")
    assert len(read_sentences(file).texts) == len(cases + texts)
    table = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": text}) for text in ["Thank you."] * 22 + texts]
    table.write_text("\n".join(rows), encoding="utf-8")
    read_sentences(table)
    assert not caplog.text


LONG = "when the museum of the old town on the hill was closed many of its paintings went to other places and nobody"


@pytest.mark.parametrize("place", ["lines", "column"])
def test_texts_that_were_cut_at_a_length_are_told(place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = [f"{text} {i} {LONG[: 19 * i]}".strip() + "." for i in range(5) for text in SENTENCES]
    file = tmp_path / ("a.txt" if place == "lines" else "a.jsonl")
    for texts, unit in (
        ([text[:60] for text in whole], "60 characters"),
        ([" ".join(text.split()[:12]) for text in whole], "12 words"),
        ([" ".join(text.split()[:7]) for text in whole], "7 words"),
        (whole, ""),
        ([text for text in whole if len(text) <= 60], ""),
    ):
        caplog.clear()
        rows = texts if place == "lines" else [json.dumps({"text": text}) for text in texts]
        file.write_text("\n".join(rows), encoding="utf-8")
        read_sentences(file)
        if unit:
            told = re.search(
                rf"\d+ of 60 texts.* have {unit}, the most of all, and end in no mark, .*, such as '(.*?)';",
                caplog.text,
            )
            assert told is not None
            number, name = unit.split()
            longest = [text for text in texts if len(text if name == "characters" else text.split()) == int(number)]
            assert told[1] == next(text for text in longest if not text.endswith((".", "?")))[-60:]
        else:
            assert "the most of all" not in caplog.text


def test_texts_that_were_cut_are_told_where_a_few_are_longer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut = [f"{text} {i} {LONG}"[:70] for i in range(5) for text in SENTENCES]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in [*cut, f"{cut[0]}, he said."]), encoding="utf-8")
    read_sentences(file)
    assert (
        "60 of 61 texts of column 'text' have 70 characters, the most of nearly all, and end in no mark" in caplog.text
    )


LONGER = "the station and the harbour were full of people who had come from far away to see the ship and its crew"
NOT_CUT = {
    "lengths that are spread evenly": [LONGER[i:][: 41 + i // 6] for i in range(54)],
    "one long heading": [*SENTENCES * 5, LONGER],
    "a few long headings among many": [*SENTENCES * 60, *(LONGER[i:][:80] for i in range(7))],
    "two long headings that stand in many rows": [*SENTENCES * 5, *[LONGER[:80], LONGER[1:81]] * 12],
    "many of one length, most with a mark": [
        *SENTENCES * 5,
        *(LONGER[i:][:79] + ".!?"[i % 3] for i in range(12)),
        *(LONGER[i:][:80] for i in range(8)),
    ],
}


@pytest.mark.parametrize("kind", NOT_CUT)
def test_long_texts_without_a_mark_are_not_always_cut(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in NOT_CUT[kind]), encoding="utf-8")
    read_sentences(file)
    assert "the most of all" not in caplog.text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{} {} Read more", "240 of 240 texts end with the same words (“read more”), such as"),
        ("{} {} Share", "240 of 240 texts end with the same words (“share”), such as"),
        ("Breaking news {} {}", "240 of 240 texts begin with the same words (“breaking news”), such as"),
        ("A {} {}", ""),
    ],
)
def test_words_that_all_texts_begin_or_end_with_are_told(
    line: str, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"{one}{vowel}{two}" for one in "bdfgk" for vowel in "aeiou" for two in "rt"]
    texts = [
        line.format(f"{one} {other}s", f"plays {i % 7} of {other}.") for i, one in enumerate(words) for other in words
    ]
    (tmp_path / "a.txt").write_text("\n".join(texts[::10][:240]) + "\n", "utf-8")
    read_sentences(tmp_path / "a.txt")
    assert told in caplog.text if told else "the same words" not in caplog.text
