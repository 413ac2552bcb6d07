"""What people judged: one line each, on disk before the next question, and the table against assigned scores."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from dino_st.errors import ConfigurationError, InputError, OutputError
from dino_st.support.files import make_directory, write_text
from dino_st.support.text import with_short_hashes

SCALE: Mapping[float, str] = {
    0.9: "the same meaning or nearly so: tense, article, a synonym or a detail of no weight may differ",
    0.5: "somewhat similar: the topic or a clear part of the content is shared; who, what, where or how many differs",
    0.1: "unrelated, though of one broad kind, or with one unimportant word in common",
    0.0: "nothing to do with each other, or sentence 2 says nothing",
}
"""What a judgement means, highest first (the scale of the DINO paper, arXiv 2104.07540, Table 3)."""

SCALE_IN_WORDS = ", ".join(f"{score:g}" for score in SCALE)

KEYS_OF: Mapping[str, float] = {"9": 0.9, "5": 0.5, "1": 0.1, "0": 0.0}
"""The key of each judgement, highest first."""

QUESTION = "How alike are the two sentences in what they say? Slips of grammar and style do not count."

RULE = "\n".join([QUESTION, *(f"  {key}  {score:g}: {SCALE[score]}" for key, score in KEYS_OF.items())])

CONFUSION_HEAD = ("assigned", "judged", "skipped", *(f"judged {score:g}" for score in SCALE), "fits")

_SIMILAR_FROM, _SAME_FROM = 0.3, 0.7
"""Halfway between 0.1 and 0.5, and between 0.5 and 0.9: what a label asks for. Below, 0 and 0.1 are equally right."""


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which stays within 0 and 1 and holds for few trials, too; 0 and 1 for none."""
    from scipy.stats import binomtest

    if not total:
        return 0.0, 1.0
    interval = binomtest(successes, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def percent(successes: int, total: int) -> str:
    """A share with its 95 % interval for people, such as `86 % (78 to 91)`; a dash where nothing was counted."""
    if not total:
        return "–"
    low, high = wilson_interval(successes, total)
    return f"{100 * successes / total:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def fitting(assigned: float) -> tuple[float, ...]:
    """The judgements that fit an assigned score, smoothed or not; none for scores of another scale than 0 to 1."""
    if not 0 <= assigned <= 1:
        return ()
    if assigned < _SIMILAR_FROM:
        return (0.0, 0.1)
    return (0.5,) if assigned < _SAME_FROM else (0.9,)


def count_judgements(answers: Iterable[tuple[float, float | None]]) -> list[dict[str, Any]]:
    """The confusion table of assigned scores and judgements (None for a skipped pair).

    A row for each assigned score, the highest first, has `assigned`, `judged` (how many were), `skipped`, `counts` (by
    judgement: `count`, `share`, and the ends `low` and `high` of Wilson's 95 % interval), and `fits` (the same for the
    judgements that fit the score; None where the scale is another).
    """
    tallies: dict[float, Counter[float | None]] = {}
    for assigned, judged in answers:
        tallies.setdefault(assigned, Counter())[judged] += 1
    rows = []
    for assigned in sorted(tallies, reverse=True):
        tally = tallies[assigned]
        total = sum(tally[score] for score in SCALE)
        wanted = fitting(assigned)
        rows.append(
            {
                "assigned": assigned,
                "judged": total,
                "skipped": tally[None],
                "counts": {f"{score:g}": _share(tally[score], total) for score in SCALE},
                "fits": _share(sum(tally[score] for score in wanted), total) if wanted else None,
            }
        )
    return rows


def _share(count: int, total: int) -> dict[str, float | int | None]:
    low, high = wilson_interval(count, total)
    share = round(count / total, 4) if total else None
    return {"count": count, "of": total, "share": share, "low": round(low, 4), "high": round(high, 4)}


def confusion_cells(row: Mapping[str, Any]) -> list[str]:
    """One row of `count_judgements` in words, under `CONFUSION_HEAD`."""
    shares = [
        percent(share["count"], share["of"]) if share else "–" for share in (*row["counts"].values(), row["fits"])
    ]
    return [f"{row['assigned']:g}", str(row["judged"]), str(row["skipped"]), *shares]


def confusion_markdown(rows: Sequence[Mapping[str, Any]], *, heading: str) -> str:
    """The rows of `count_judgements` as a page of Markdown."""
    meanings = [f"- {score:g}: {meaning}" for score, meaning in SCALE.items()]
    notes = (
        "Shares of the judged pairs of a row, with Wilson's 95 % intervals. A pair fits where it was judged 0.9 and "
        f"its score is at least {_SAME_FROM:g}, 0.5 and its score is from {_SIMILAR_FROM:g} to below {_SAME_FROM:g}, "
        f"or 0 or 0.1 and its score is below {_SIMILAR_FROM:g}."
    )
    return "\n".join([f"# {heading}", "", confusion_table(rows), "", notes, "", *meanings]) + "\n"


def confusion_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `count_judgements` as a table of Markdown."""
    return markdown_table(CONFUSION_HEAD, map(confusion_cells, rows), numbers=3)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """A table of Markdown, of which the first `numbers` columns stand to the right."""
    alignment = ["---:"] * numbers + ["---"] * (len(head) - numbers)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, alignment, *rows))


_FORMAT = "dino-st audit 1"
_ANEW = "choose another --output, or remove the file to start over"


@dataclass(frozen=True)
class AuditPair:
    """A pair to judge, and the score that it was assigned, which is not shown."""

    sentence1: str
    sentence2: str
    generated: float


@dataclass(frozen=True)
class Answer:
    """A judgement of a pair; None where it was skipped."""

    pair: AuditPair
    judged: float | None


def _on_the_scale(judged: float) -> float:
    if judged not in SCALE:
        raise ValueError
    return judged


class _Line(BaseModel):
    """An answer in the file."""

    model_config = ConfigDict(strict=True)

    sentence1: str
    sentence2: str
    generated: float
    judged: Annotated[float, AfterValidator(_on_the_scale)] | None


class AnswerFile:
    """The answers of one annotator, and all questions in their order, those answered first; use `open_answers`."""

    def __init__(
        self, stream: IO[bytes], path: Path, answers: list[Answer], ends: list[int], questions: Sequence[AuditPair]
    ) -> None:
        self.answers = answers
        self.questions = questions
        self._stream = stream
        self._path = path
        self._ends = ends  # of the header and of each answer

    def add(self, answer: Answer) -> None:
        """Appends an answer and flushes it to disk."""
        line = json.dumps(vars(answer.pair) | {"judged": answer.judged}, ensure_ascii=False) + "\n"
        self._write(self._ends[-1], line.encode("utf-8", "surrogatepass"))
        self.answers.append(answer)
        self._ends.append(self._stream.tell())

    def undo(self) -> bool:
        """Takes the last answer back, on disk as well; False if there was none."""
        if not self.answers:
            return False
        self._write(self._ends[-2], b"")
        self.answers.pop()
        self._ends.pop()
        return True

    def _write(self, place: int, content: bytes) -> None:
        try:
            self._stream.seek(place)
            self._stream.truncate()
            self._stream.write(content)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot be written ({error.strerror or error}); what was answered before is there. Make "
                "room and run the same command to continue"
            ) from error


@contextmanager
def open_answers(path: Path, sample: Sequence[AuditPair], identity: Mapping[str, Any]) -> Iterator[AnswerFile]:
    """Opens the file of answers to a sample in its order, new or to be continued, and keeps other processes out.

    `identity` is what makes the sample what it is; it must be as it was for a file to be continued. Raises InputError
    where the file is damaged, and OutputError where it is of another sample or kind, is in use, or cannot be written.
    """
    from filelock import FileLock, Timeout

    make_directory(path.parent)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{path}: another audit is writing there; end it first, or choose another --output") from None
    try:
        header = {"format": _FORMAT, **identity}
        if _is_unanswered(path):
            write_text(path, json.dumps(header, ensure_ascii=False) + "\n")
        try:
            stream = path.open("r+b")
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror or error}); choose another --output"
            ) from None
        with stream:
            found, answers, ends = _parse(path, stream.read())
            _check_same(path, found, header)
            open_questions = dict.fromkeys(sample)
            for number, answer in enumerate(answers, start=2):
                if answer.pair not in open_questions:
                    what = "a pair for the second time" if answer.pair in sample else "another pair than was asked for"
                    raise InputError(f"{path}, line {number}: answers {what}; {_ANEW}")
                del open_questions[answer.pair]
            yield AnswerFile(stream, path, answers, ends, [*(answer.pair for answer in answers), *open_questions])
    finally:
        lock.release()


def read_answers(path: Path) -> tuple[dict[str, Any], list[Answer]]:
    """What the sample of a file of answers is (seed, pairs, …), and the answers.

    Raises InputError where there is no such file, or it is damaged, and OutputError where it is something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); expected the answers of `dino-st audit`"
        ) from None
    header, answers, _ = _parse(path, content)
    return header, answers


@dataclass(frozen=True)
class Judgements:
    """What everybody judged of one sample."""

    sample: Mapping[str, Any]  # what it is (seed, pairs, …)
    by_annotator: Mapping[str, Sequence[Answer]]  # of those who gave answers; `UNNAMED` is who gave no name

    def by_pair(self) -> dict[AuditPair, dict[str, float | None]]:
        """The judgements of each pair by annotator."""
        pairs: dict[AuditPair, dict[str, float | None]] = {}
        for annotator, answers in self.by_annotator.items():
            for answer in answers:
                pairs.setdefault(answer.pair, {})[annotator] = answer.judged
        return pairs


UNNAMED = ""
"""The annotator who gave no name, whose answers are in the file without one."""

_ANNOTATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def check_annotators(names: Iterable[str]) -> list[str]:
    """Names of annotators in the order given, each fit to be a part of a file's name and an address.

    A ConfigurationError says that one is not, or that two are one file where capital letters do not count.
    """
    known: dict[str, str] = {}
    for name in names:
        if not _ANNOTATOR.fullmatch(name):
            raise ConfigurationError(
                f"--annotators {name!r}: expected up to 40 of the letters a to z, digits, - and _, the first one a "
                "letter or digit; the name becomes part of a file's name"
            )
        if name.lower() in known:
            raise ConfigurationError(
                f"--annotators {name!r}: is the same file as that of {known[name.lower()]!r}; choose another name"
            )
        known[name.lower()] = name
    return list(known.values())


def answers_of(answers: Path, annotator: str) -> Path:
    """The file of an annotator's answers, beside the one of who gave no name."""
    return answers if annotator == UNNAMED else answers.with_name(f"{answers.stem}.{annotator}{answers.suffix}")


def has_judgements(answers: Path) -> bool:
    """Whether there is a file of answers there, of who gave no name or of an annotator."""
    return bool(_files(answers))


def _files(answers: Path) -> dict[str, Path]:
    """The files of answers to a sample by annotator, who gave no name first."""
    beside = answers.parent.glob(f"{glob.escape(answers.stem)}.*{glob.escape(answers.suffix)}")
    names = sorted(file.name[len(answers.stem) + 1 : -len(answers.suffix)] for file in beside)
    unnamed = {UNNAMED: answers} if answers.is_file() else {}
    return unnamed | {name: answers_of(answers, name) for name in names if _ANNOTATOR.fullmatch(name)}


def read_judgements(answers: Path) -> Judgements:
    """Reads the answers of everybody who judged the sample of a file, on the terminal or on the page.

    Where nobody did yet, there is no answer. Raises as `read_answers` does, and InputError where two files are about
    different samples.
    """
    files = _files(answers)
    sample: dict[str, Any] = {}
    given: dict[str, Sequence[Answer]] = {}
    for name, file in files.items():
        header, found = read_answers(file)
        header = {field: value for field, value in header.items() if field not in ("format", "annotator")}
        if found and given and header != sample:
            raise InputError(
                f"{file}: holds judgements of another sample than {answers_of(answers, next(iter(given)))}; move one "
                "of them to another directory"
            )
        if found:
            given[name] = found
        sample = header if found or not sample else sample
    return Judgements(sample, given)


def _is_unanswered(path: Path) -> bool:
    """Whether there is no file, or one of ours without an answer, so that another sample may take its place."""
    if not path.exists() or not path.stat().st_size:
        return True
    try:
        return not read_answers(path)[1]
    except (OutputError, InputError):
        return False  # what is wrong is said where the file is opened


def _parse(path: Path, content: bytes) -> tuple[dict[str, Any], list[Answer], list[int]]:
    """Header, answers, and where the header and each answer end; a last line without an end was cut off and is left."""
    first, *lines = content.split(b"\n")[:-1] or [b""]
    try:
        header = json.loads(first)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise OutputError(f"{path}: is no file of `dino-st audit`; choose another --output")
    ends, answers = [len(first) + 1], []
    for number, line in enumerate(lines, start=2):
        try:
            row = _Line.model_validate(json.loads(line))
        except ValueError:
            raise InputError(
                f"{path}, line {number}: is no answer; expected sentence1, sentence2, generated, and judged as one of "
                f"{SCALE_IN_WORDS} or null; mend or remove the line"
            ) from None
        answers.append(Answer(AuditPair(row.sentence1, row.sentence2, row.generated), row.judged))
        ends.append(ends[-1] + len(line) + 1)
    return header, answers, ends


def _check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changes = [
        with_short_hashes(f"{name}: was {old.get(name)!r}, now {new.get(name)!r}")
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
    if changes:
        raise OutputError(
            f"{path}: holds the answers to another sample ({'; '.join(changes)}): the options are other ones, or the "
            "data was written anew since. Repeat the command as it was, on the data as it was, to continue; "
            f"{_ANEW}"
        )
