"""People judge a sample of pairs without seeing their labels.

The sample is that of the DINO paper's Table 3 (arXiv 2104.07540): so many pairs of each assigned score, shuffled
together. It depends on the pairs and the seed alone, not on the order of the rows.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.data.tables import write_json_objects
from dino_st.errors import ConfigurationError, DatasetError, DinoError, InputError
from dino_st.inspection.agreement import AGREEMENT_HEAD, agreement, agreement_cells, judged_rows, middle, shown_name
from dino_st.inspection.judgements import (
    KEYS_OF,
    RULE,
    SCALE,
    UNNAMED,
    Answer,
    AnswerFile,
    AuditPair,
    Judgements,
    answers_of,
    check_annotators,
    confusion_markdown,
    confusion_table,
    count_judgements,
    markdown_table,
    open_answers,
    read_judgements,
)
from dino_st.inspection.options import AuditOptions
from dino_st.support.files import no_directory, write_text
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import logger
from dino_st.support.text import printable

if TYPE_CHECKING:
    from dino_st.inspection.pairs import WrittenPairs


ANSWERS = "audit.jsonl"
"""The file of answers in the audited directory, where no other is named."""

KEYS = "0, 1, 5, 9 judge as 0, 0.1, 0.5, 0.9; u: undo, s: skip, q: quit and go on later, ?: the rule"

Ask = Callable[[], str | None]
"""Gives the next key or line, None where there is no more."""

Show = Callable[[str], None]
"""Shows lines to the judge."""


class Command(Enum):
    """What the judge may ask for instead of judging."""

    UNDO = "u"
    SKIP = "s"
    QUIT = "q"
    RULE = "?"


_MEANINGS: dict[str, float | Command] = {
    **KEYS_OF,
    **{f"{score:g}": score for score in SCALE},
    **{command.value: command for command in Command},
}


def parse_key(text: str) -> float | Command | None:
    """What a key, or a line of input, means: `5` or `0.5` a judgement, `u` a command; None for anything else."""
    return _MEANINGS.get(text.strip().lower())


def draw_sample(pairs: WrittenPairs, options: AuditOptions) -> list[AuditPair]:
    """Draws pairs of each assigned score, all where there are too few, and shuffles them together; equal ones once.

    Raises DatasetError where they are no pairs with numeric scores, a score is not finite, or there are none.
    """
    import numpy as np

    from dino_st.inspection.pairs import assigned_scores, has_many_scores

    names = pairs.table.column_names
    if not pairs.table.num_rows:
        raise DatasetError(f"{pairs.directory}: holds no pair to judge; generate some first")
    if not {SENTENCE1, SENTENCE2, SCORE} <= set(names):
        raise DatasetError(
            f"{pairs.directory}: has the columns {names}; an audit is for pairs with numeric scores: sentence1, "
            "sentence2, score"
        )
    scores = np.array([np.nan if score is None else score for score in pairs.table[SCORE].to_pylist()], np.float64)
    strange = np.flatnonzero(~np.isfinite(scores))
    if len(strange):
        raise DatasetError(f"{pairs.directory}: the score of row {strange[0]} is no finite number; prepare it again")
    if has_many_scores(scores):
        logger.warning("%s has too many different scores; pairs count under the nearest label", pairs.directory)
    assigned = assigned_scores(scores, pairs.levels).tolist()
    groups: dict[float, set[tuple[str, str]]] = {}
    for x1, x2, score in zip(
        *(pairs.table[name].to_pylist() for name in (SENTENCE1, SENTENCE2)), assigned, strict=True
    ):
        if x1 is not None and x2 is not None:
            groups.setdefault(score, set()).add((x1, x2))
    drawn: list[tuple[bytes, AuditPair]] = []
    for score, texts in groups.items():
        keyed = ((_draw(options.seed, "draw", score, *pair), *pair) for pair in texts)
        for _, x1, x2 in heapq.nsmallest(options.per_score, keyed):
            drawn.append((_draw(options.seed, "order", score, x1, x2), AuditPair(x1, x2, score)))
    if not drawn:
        raise DatasetError(f"{pairs.directory}: no row has two texts; generate pairs again")
    return [pair for _, pair in sorted(drawn, key=lambda item: item[0])]


def _draw(seed: int, purpose: str, score: float, first: str, second: str) -> bytes:
    """Random bits that belong to a pair, whatever its row; another way to draw them would end audits in progress."""
    key = json.dumps([seed, purpose, f"{score:g}", first, second])
    return blake2b(key.encode(), digest_size=16).digest()


def describe_sample(sample: Sequence[AuditPair], options: AuditOptions) -> dict[str, Any]:
    """What a sample is, so that answers to another one are never mixed in."""
    texts = (text for pair in sample for text in (pair.sentence1, pair.sentence2, f"{pair.generated:g}"))
    return {"pairs": len(sample), **options.model_dump(), "sample": hash_texts(texts)}


def changed_since(judged: Mapping[str, Any], read: Callable[[], WrittenPairs]) -> str | None:
    """Why the answers to a sample (the header of their file) may not be about the pairs that are there now, if so."""
    options = AuditOptions.of(**{name: judged[name] for name in AuditOptions.model_fields if name in judged})
    try:
        pairs = read()
        now = describe_sample(draw_sample(pairs, options), options)
    except DinoError as error:
        return f"whether the pairs are still the same cannot be said: {error}"
    if now["sample"] == judged.get("sample"):
        return None
    return f"{pairs.directory} was written anew since these pairs were drawn; the table is about the pairs of then"


def judge(file: AnswerFile, ask: Ask, show: Show) -> bool:
    """Asks for every pair that has no answer yet; whether all are judged or skipped now, or else the judge quit."""
    sample, done = file.questions, len(file.answers)
    show(f"{RULE}\n{KEYS}" if not done else f"Going on at {min(done + 1, len(sample))} of {len(sample)}.\n{KEYS}")
    asked = -1
    while True:
        place = len(file.answers)
        if place != asked:
            show(_question(sample, place))
            asked = place
        text = ask()
        key = Command.QUIT if text is None else parse_key(text)
        if place == len(sample) and key is not Command.UNDO:
            return True
        if key is Command.QUIT:
            return False
        if key is Command.UNDO:
            if not file.undo():
                show("There is nothing to take back.")
        elif key is Command.RULE:
            show(f"{RULE}\n{KEYS}")
        elif key is None:
            if text and text.strip():
                show(f"{printable(text.strip())[:20]!r} is no answer. {KEYS}")
        else:
            file.add(Answer(sample[place], None if key is Command.SKIP else key))


def _question(sample: Sequence[AuditPair], place: int) -> str:
    if place == len(sample):
        return "\nThat was the last one. u: take it back; any other key: end."
    pair = sample[place]
    return f"\n{place + 1} of {len(sample)}\n  1: {printable(pair.sentence1)}\n  2: {printable(pair.sentence2)}"


@contextmanager
def open_audit(
    directory: Path, answers: Path, options: AuditOptions, annotators: Iterable[str]
) -> Iterator[dict[str, AnswerFile]]:
    """Draws the sample, or finds it half judged, and opens the answers of each annotator, in an order of their own."""
    from dino_st.inspection.pairs import WrittenPairs

    _check_name(answers)
    sample = draw_sample(WrittenPairs.read(directory), options)
    identity = describe_sample(sample, options)
    with ExitStack() as stack:
        files = {}
        for name in annotators:
            named = identity if name == UNNAMED else {**identity, "annotator": name}
            order = order_for(name, sample, options)
            files[name] = stack.enter_context(open_answers(answers_of(answers, name), order, named))
        yield files


def order_for(annotator: str, sample: Sequence[AuditPair], options: AuditOptions) -> list[AuditPair]:
    """The sample in an annotator's own order, which depends on the name and the seed; as drawn for who gave none."""
    if annotator == UNNAMED:
        return list(sample)
    purpose = f"order for {annotator}"
    return sorted(sample, key=lambda pair: _draw(options.seed, purpose, pair.generated, pair.sentence1, pair.sentence2))


def run_audit(
    directory: Path, answers: Path, options: AuditOptions, ask: Ask, show: Show, *, annotators: Sequence[str]
) -> str | None:
    """Draws the sample, or finds it half judged, and asks until the end or until the judge quits.

    Returns the confusion table as Markdown, which is then written beside the answers as well; None if the judge quit.
    """
    names = check_annotators(annotators)
    if len(names) > 1:
        raise ConfigurationError(
            f"--annotators: {len(names)} names are given, and one person judges on a terminal; give one name, or --web "
            "for a page with a link for each"
        )
    name = names[0] if names else UNNAMED
    with open_audit(directory, answers, options, [name]) as files:
        file = files[name]
        scores = Counter(pair.generated for pair in file.questions)
        few = sum(count < options.per_score for count in scores.values())
        if few and not file.answers:
            show(f"{few} of {len(scores)} assigned scores have fewer than {options.per_score} pairs; all are asked.")
        if not judge(file, ask, show):
            show(f"{len(file.answers)} of {len(file.questions)} done; run the same command to go on.")
            return None
    return write_table(answers)


def import_judgements(directory: Path, answers: Path, options: AuditOptions, export: Path) -> str:
    """Adds the judgements of an export of Argilla or Label Studio to those of their annotators; says what was added."""
    from dino_st.inspection.exchange import read_export

    found = read_export(export)
    counts: Counter[str] = Counter()
    with open_audit(directory, answers, options, check_annotators(found)) as files:
        for name, file in files.items():
            answered = {answer.pair for answer in file.answers}
            by_texts: dict[tuple[str, str], list[AuditPair]] = {}
            for pair in file.questions:
                by_texts.setdefault((pair.sentence1, pair.sentence2), []).append(pair)
            for texts, judged in found[name].items():
                pairs = by_texts.get(texts, [])
                counts["strange"] += not pairs
                for pair in pairs:
                    counts["old" if pair in answered else "new"] += 1
                    if pair not in answered:
                        file.add(Answer(pair, judged))
    if not counts["new"] and not counts["old"]:
        raise InputError(
            f"{export}: none of its {counts['strange']} judgements is of a pair of this sample; give the same -n and "
            "--seed as when the sample was drawn"
        )
    words = {"old": "of pairs that were judged already", "strange": "of pairs that are not in the sample"}
    left = "".join(f"; {counts[name]} {what} were left out" for name, what in words.items() if counts[name])
    return f"{counts['new']} judgements by {len(found)} annotators ({', '.join(found)}) were added{left}"


def summarise(directory: Path, answers: Path) -> str:
    """Writes the table of what was judged so far, and warns where the directory holds other pairs by now.

    Returns the confusion table as Markdown, which is written beside the answers as `.md` and `.json`, too.
    """
    from dino_st.inspection.pairs import WrittenPairs

    _check_name(answers)
    if not answers.exists() and not directory.is_dir():
        raise InputError(no_directory(directory, "one of `dino-st generate` or `prepare`"))
    judgements = read_judgements(answers)
    if judgements.sample and (changed := changed_since(judgements.sample, lambda: WrittenPairs.read(directory))):
        logger.warning("%s", changed)
    return write_table(answers, judgements)


def write_table(answers: Path, judgements: Judgements | None = None) -> str:
    """Writes what was judged, by terminal and page, as `.md` and `.json` beside the answers; returns the former.

    The judged pairs with their scores are written, too, as a table; see `scores_of`. The judgements are read, unless
    they were already.
    """
    judgements = judgements or read_judgements(answers)
    given = middle(judgements)
    if not given:
        raise InputError(f"{answers}: nothing was judged yet; run `dino-st audit` without --summary first")
    rows = count_answers(given)
    left = judgements.sample.get("pairs", len(given)) - len(given)
    heading = f"Audit of {len(given)} pairs" + (f", {left} still to be judged" if left else "")
    text = confusion_markdown(rows, heading=heading)
    content = {**judgements.sample, "answered": len(given), "left": left, "level": 0.95, "rows": rows}
    if set(judgements.by_annotator) != {UNNAMED}:
        together = agreement(judgements)
        text += _by_annotator(judgements, together)
        content["agreement"] = together
        content["annotators"] = {
            name: {"answered": len(own), "rows": count_answers(own)} for name, own in judgements.by_annotator.items()
        }
    write_text(answers.with_suffix(".md"), text)
    write_text(answers.with_suffix(".json"), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_json_objects(scores_of(answers), judged_rows(judgements))
    return text


def scores_of(answers: Path) -> Path:
    """The file of the judged pairs as a table to evaluate on, beside the answers."""
    return answers.with_name(f"{answers.stem}-scores{answers.suffix}")


def count_answers(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """The confusion table of answers; see `count_judgements`."""
    return count_judgements((answer.pair.generated, answer.judged) for answer in answers)


MIDDLE = (
    "Where several people judged a pair, the first table counts it once, with the lower median of their judgements, so "
    "that the intervals are those of so many pairs."
)


def agreement_words(together: Mapping[str, Any]) -> str:
    """What `agreement` says of all annotators, in a sentence."""
    if together["alpha"] is None:
        return "Krippendorff's α is not defined: fewer than two people judged the same pair, or all judgements are one."
    return f"Krippendorff's α for interval data is {together['alpha']:.2f}, on {together['pairs']} pairs."


def _by_annotator(judgements: Judgements, together: Mapping[str, Any]) -> str:
    parts = ["", MIDDLE, ""]
    if together["each_two"]:
        cells = map(agreement_cells, together["each_two"])
        parts += ["## Agreement", "", agreement_words(together), "", markdown_table(AGREEMENT_HEAD, cells), ""]
    for name, own in judgements.by_annotator.items():
        parts += [f"## {shown_name(name)}", "", confusion_table(count_answers(own)), ""]
    return "\n".join(parts)


def _check_name(answers: Path) -> None:
    """Makes sure that answers, table and JSON do not share a name."""
    if answers.suffix != ".jsonl":
        raise ConfigurationError(
            f"--output {answers}: expected a name that ends in .jsonl; the table is written beside it as .md and .json"
        )
