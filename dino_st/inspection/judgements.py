"""What people judged: one line each, on disk before the next question, and the table against assigned scores."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import IO, Any

from dino_st.data.columns import SENTENCE1, SENTENCE2
from dino_st.errors import ConfigurationError, InputError, OutputError
from dino_st.support.files import make_directory, write_text


def wilson_interval(successes: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), which stays within 0 and 1 and holds for few trials, too.

    Example:
        >>> low, high = wilson_interval(86, 100)
        >>> round(low, 2), round(high, 2)
        (0.78, 0.91)

    Args:
        successes: How often it happened, from 0 to `total`.
        total: How often it could have happened.
        level: Probability with which such intervals hold the true share, above 0 and below 1.

    Returns:
        The lower and upper end; 0 and 1 where nothing was counted.

    Raises:
        ConfigurationError: The counts contradict each other or the level is out of range.
    """
    if not 0 <= successes <= total:
        raise ConfigurationError(f"{successes} of {total} is no share; expected a count from 0 to the total")
    if not 0 < level < 1:
        raise ConfigurationError(f"level = {level}: expected above 0 and below 1")
    if not total:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    centre = share + z * z / (2 * total)
    scale = 1 + z * z / total
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    return low, 1.0 if successes == total else min(1.0, (centre + spread) / scale)


def percent(successes: int, total: int) -> str:
    """A share with its 95 % interval for people, such as `86 % (78 to 91)`.

    Args:
        successes: How often it happened.
        total: How often it could have happened.

    Returns:
        The words; a dash where nothing was counted.
    """
    if not total:
        return "–"
    low, high = wilson_interval(successes, total)
    return f"{100 * successes / total:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


SCALE: Mapping[float, str] = {
    0.9: "the same meaning or nearly so: tense, article, a synonym or a detail of no weight may differ",
    0.5: "somewhat similar: the topic or a clear part of the content is shared; who, what, where or how many differs",
    0.1: "unrelated, though of one broad kind, or with one unimportant word in common",
    0.0: "nothing to do with each other, or sentence 2 says nothing",
}
"""What a judgement means, highest first (the scale of the DINO paper, arXiv 2104.07540, Table 3)."""

RULE = "\n".join(
    [
        "How alike are the two sentences in what they say? Slips of grammar and style do not count.",
        *(f"  {key}  {score:g}: {SCALE[score]}" for key, score in (("9", 0.9), ("5", 0.5), ("1", 0.1), ("0", 0.0))),
    ]
)

_SIMILAR_FROM, _SAME_FROM = 0.3, 0.7
"""Halfway between 0.1 and 0.5, and between 0.5 and 0.9: what a label asks for. Below, 0 and 0.1 are equally right."""


def fitting(assigned: float) -> tuple[float, ...]:
    """The judgements that fit an assigned score.

    Args:
        assigned: A score on the scale from 0 to 1, smoothed or not.

    Returns:
        0.9 for what was meant to be the same, 0.5 for somewhat similar, 0 and 0.1 for unrelated; none for scores of
        another scale.
    """
    if not 0 <= assigned <= 1:
        return ()
    if assigned < _SIMILAR_FROM:
        return (0.0, 0.1)
    return (0.5,) if assigned < _SAME_FROM else (0.9,)


def confusion(answers: Iterable[tuple[float, float | None]]) -> list[dict[str, Any]]:
    """Counts judgements by assigned score.

    Args:
        answers: The assigned score and the judgement of each pair; None for a skipped one.

    Returns:
        A row for each assigned score, the highest first: `assigned`, `judged` (how many were), `skipped`, `counts` (by
        judgement: `count`, `share`, and the ends `low` and `high` of Wilson's 95 % interval), and `fits` (the same for
        the judgements that fit the score; None where the scale is another).
    """
    tallies: dict[float, Counter[float | None]] = {}
    for assigned, judged in answers:
        tallies.setdefault(assigned, Counter())[judged] += 1
    rows = []
    for assigned in sorted(tallies, reverse=True):
        tally = tallies[assigned]
        judged = sum(tally[score] for score in SCALE)
        wanted = fitting(assigned)
        rows.append(
            {
                "assigned": assigned,
                "judged": judged,
                "skipped": tally[None],
                "counts": {f"{score:g}": _share(tally[score], judged) for score in SCALE},
                "fits": _share(sum(tally[score] for score in wanted), judged) if wanted else None,
            }
        )
    return rows


def to_markdown(rows: Sequence[Mapping[str, Any]], *, heading: str) -> str:
    """The confusion table for people.

    Args:
        rows: From `confusion`.
        heading: What was judged.

    Returns:
        Markdown with a final newline.
    """
    judgements = [f"{score:g}" for score in SCALE]
    lines = [
        f"# {heading}",
        "",
        "| assigned | judged | skipped | " + " | ".join(f"judged {name}" for name in judgements) + " | fits |",
        "| ---: | ---: | ---: | " + " | ".join("---" for _ in judgements) + " | --- |",
    ]
    for row in rows:
        shares = [row["counts"][name] for name in judgements]
        cells = [f"{row['assigned']:g}", str(row["judged"]), str(row["skipped"]), *(map(_words, shares))]
        lines.append("| " + " | ".join([*cells, _words(row["fits"]) if row["fits"] else "–"]) + " |")
    meanings = [f"- {score:g}: {meaning}" for score, meaning in SCALE.items()]
    notes = (
        "Shares of the judged pairs of a row, with Wilson's 95 % intervals. A pair fits where it was judged 0.9 and "
        f"its score is at least {_SAME_FROM:g}, 0.5 and its score is from {_SIMILAR_FROM:g} to below {_SAME_FROM:g}, "
        f"or 0 or 0.1 and its score is below {_SIMILAR_FROM:g}."
    )
    return "\n".join([*lines, "", notes, "", *meanings]) + "\n"


def _share(count: int, total: int) -> dict[str, float | int | None]:
    low, high = wilson_interval(count, total)
    return {
        "count": count,
        "of": total,
        "share": round(count / total, 4) if total else None,
        "low": round(low, 4),
        "high": round(high, 4),
    }


def _words(share: Mapping[str, Any]) -> str:
    return percent(share["count"], share["of"])


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


class AnswerFile:
    """The answers of one sample in its order; use `open_answers`."""

    def __init__(self, stream: IO[bytes], path: Path, answers: Sequence[Answer], ends: Sequence[int]) -> None:
        self._stream = stream
        self._path = path
        self._answers = list(answers)
        self._ends = list(ends)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers so far."""
        return tuple(self._answers)

    def add(self, answer: Answer) -> None:
        """Appends an answer and flushes it to disk.

        Raises:
            OutputError: The disk is full or the file not writable any more.
        """
        line = json.dumps(_as_row(answer), ensure_ascii=False) + "\n"
        self._write(self._ends[-1], line.encode("utf-8", "surrogatepass"))
        self._answers.append(answer)
        self._ends.append(self._stream.tell())

    def undo(self) -> bool:
        """Takes the last answer back, on disk as well.

        Returns:
            Whether there was one.
        """
        if not self._answers:
            return False
        self._write(self._ends[-2], b"")
        self._answers.pop()
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
    """Opens the file of answers, new or to be continued, and keeps other processes out meanwhile.

    Args:
        path: The file; it and its directory are made if missing.
        sample: The pairs in the order in which they are asked for.
        identity: What makes the sample what it is; must be as it was for a file to be continued.

    Yields:
        The answers.

    Raises:
        InputError: The file is damaged.
        OutputError: It belongs to another sample or is something else, is in use, or cannot be written.
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
        if not path.exists() or not path.stat().st_size or _is_unanswered(path):
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
            for number, (answer, pair) in enumerate(zip(answers, sample, strict=False), start=2):
                if answer.pair != pair:
                    raise InputError(f"{path}, line {number}: answers another pair than was asked for; {_ANEW}")
            if len(answers) > len(sample):
                raise InputError(f"{path}: holds {len(answers)} answers for {len(sample)} pairs; {_ANEW}")
            yield AnswerFile(stream, path, answers, ends)
    finally:
        lock.release()


def read_answers(path: Path) -> tuple[dict[str, Any], list[Answer]]:
    """Reads a file of answers.

    Args:
        path: The file.

    Returns:
        What the sample is (seed, pairs, …), and the answers.

    Raises:
        InputError: There is no such file, or it is damaged.
        OutputError: It is something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); expected the answers of `dino-st audit`"
        ) from None
    header, answers, _ = _parse(path, content)
    return header, answers


def _is_unanswered(path: Path) -> bool:
    """Whether a file of ours holds no answer, so that a sample of another size may take its place."""
    try:
        header, answers, _ = _parse(path, path.read_bytes())
    except (OSError, OutputError, InputError):
        return False  # what is wrong is said where the file is opened
    return bool(header) and not answers


def _parse(path: Path, content: bytes) -> tuple[dict[str, Any], list[Answer], list[int]]:
    """Header, answers, and where the header and each answer end; a last line without an end was cut off and is left."""
    lines = content.split(b"\n")[:-1]
    header = _object(lines[0]) if lines else None
    if header is None or header.get("format") != _FORMAT:
        raise OutputError(f"{path}: is no file of `dino-st audit`; choose another --output")
    ends, answers = [len(lines[0]) + 1], []
    for number, line in enumerate(lines[1:], start=2):
        answer = _answer(_object(line))
        if answer is None:
            raise InputError(
                f"{path}, line {number}: is no answer; expected sentence1, sentence2, generated, and judged as one of "
                f"{', '.join(f'{score:g}' for score in SCALE)} or null; mend or remove the line"
            )
        answers.append(answer)
        ends.append(ends[-1] + len(line) + 1)
    return header, answers, ends


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _answer(row: Mapping[str, Any] | None) -> Answer | None:
    """The answer that a line holds, if any."""
    if row is None or not {SENTENCE1, SENTENCE2, "generated", "judged"} <= row.keys():
        return None
    first, second, generated, judged = row[SENTENCE1], row[SENTENCE2], row["generated"], row["judged"]
    texts = isinstance(first, str) and isinstance(second, str)
    numbers = isinstance(generated, int | float) and (judged is None or judged in tuple(SCALE))
    if not texts or not numbers or isinstance(judged, bool):
        return None
    return Answer(AuditPair(first, second, float(generated)), None if judged is None else float(judged))


def _as_row(answer: Answer) -> dict[str, Any]:
    pair = answer.pair
    return {
        SENTENCE1: pair.sentence1,
        SENTENCE2: pair.sentence2,
        "generated": pair.generated,
        "judged": answer.judged,
    }


def _check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changes = [
        f"{name}: was {old.get(name)!r}, now {new.get(name)!r}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
    if changes:
        raise OutputError(
            f"{path}: holds the answers to another sample ({'; '.join(changes)}): the options are other ones, or the "
            "data was written anew since. Repeat the command as it was, on the data as it was, to continue; "
            f"{_ANEW}"
        )
