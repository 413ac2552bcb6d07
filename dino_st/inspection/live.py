"""The page of runs that are still writing: how far they are, what was rejected, and the newest texts.

Runs are only read, without their locks: what the manifest does not name yet is not looked at, and what cannot be read
at this moment is read at the next look.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_st.data.quality import LabelStatistics, doubts, measure, quality_table, summarise
from dino_st.data.shards import MANIFEST, ShardDirectory, texts_by_label
from dino_st.errors import DinoError
from dino_st.inspection.contents import KINDS, named, places
from dino_st.inspection.options import ReportOptions
from dino_st.inspection.page import PAGE, Section, Table, check_extras, check_page_directory, render, subject_of
from dino_st.inspection.report import rejected_counts, title_of, write_report
from dino_st.support.files import make_directory, write_text
from dino_st.training.record import CHECKPOINTS, read_record

_PACE = 20
"""Newest waves whose median time says how fast a run is."""


@dataclass
class Run:
    """A directory of shards that is looked at again and again; every shard is read once."""

    path: Path
    seen: dict[str, dict[str, LabelStatistics]] = field(default_factory=dict)
    newest: dict[str, list[list[str]]] = field(default_factory=dict)

    def look(self, name: str, options: ReportOptions, now: float) -> tuple[list[Section], bool]:
        """What is there now, and whether the run is whole."""
        directory = ShardDirectory(self.path)
        times = {number: self._time_of(self.path / directory.shards[number]["file"]) for number in directory.waves}
        ordered = sorted(directory.waves, key=lambda number: (times[number], number))
        task = directory.configuration.get("task")
        labels = list(task.get("labels", ())) if isinstance(task, Mapping) else []
        if self.seen.keys().isdisjoint(shard["sha256"] for shard in directory.shards.values()):
            self.newest.clear()  # another run took its place
        for number in ordered:
            digest = directory.shards[number]["sha256"]
            if digest not in self.seen:
                rows = directory.rows_of(number)
                self.seen[digest] = measure(rows, labels)
                for row in rows:
                    for label, texts in texts_by_label(row).items():
                        self.newest[label] = [texts, *self.newest.get(label, [])][: options.examples]
        present = [directory.shards[number]["sha256"] for number in directory.waves]
        quality = summarise(self.seen[digest] for digest in present)
        began = self._time_of(self.path / MANIFEST)
        sections = [_progress(name, directory, [times[number] for number in ordered], ordered, began, now)]
        rejected = [(why, f"{count:,}", share) for why, count, share in rejected_counts("raw", directory.counts)]
        if rejected:
            table = Table(("reason", "number", "share"), rejected, "Rejected so far", texts=frozenset({0}))
            sections.append(Section(_title("Rejections", name), (), (), [table]))
        if quality:
            caption, (head, *cells) = quality_table(quality)
            notes = [caption, *(f"Doubtful: {doubt}." for doubt in doubts(quality))]
            sections.append(Section(_title("Labels so far", name), notes, (), [Table(head, cells)]))
        tables = [
            Table([f"text {i + 1}" for i in range(len(rows[0]))], rows, f"Label {label}", texts=frozenset({0, 1}))
            for label, rows in sorted(self.newest.items())
            if rows
        ]
        if tables:
            sections.append(Section(_title("Newest texts", name), (), (), tables))
        return sections, directory.is_complete

    @staticmethod
    def _time_of(file: Path) -> float:
        """When a file was written; the beginning of time where it is away at this moment."""
        try:
            return file.stat().st_mtime
        except OSError:
            return 0.0


def _title(what: str, name: str) -> str:
    """A heading, with the name of the run where there are several of its kind."""
    return what if name in KINDS else f"{what}, {name}"


def _progress(
    name: str, directory: ShardDirectory, times: Sequence[float], waves: Sequence[int], began: float, now: float
) -> Section:
    """How far a run is; its pace is the median time that the newest waves of this start took for each unit."""
    done, wanted, unit = amounts(directory)
    units = [_units(directory.counts_of(number)) for number in waves]
    # The manifest is written when a run starts or goes on.
    steps = [(time_, n) for time_, n in zip(times, units, strict=True) if time_ >= began and n]
    before = [began, *(time_ for time_, _ in steps)]
    paces = [(time_ - last) / n for last, (time_, n) in zip(before, steps, strict=False)][-_PACE:]
    pace = statistics.median(paces) if paces else 0.0
    is_running = not directory.is_complete
    facts = [
        ("state", "running" if is_running else "whole"),
        (unit, f"{done:,}" + (f" of {wanted:,}" if wanted else "")),
        ("rows", f"{directory.counts['rows']:,}"),
    ]
    notes = []
    if is_running and pace > 0:
        facts.append(("pace", f"{1 / pace:,.1f} {unit} a second" if pace < 1 else f"{pace:,.1f} s for each"))
        if wanted:
            facts.append(("time left", f"about {_duration(pace * max(wanted - done, 0))}"))
    elif is_running:
        notes.append("The pace is known when the first wave of this start is written.")
    if times and is_running:
        quiet = max(now - max(times), 0)
        facts.append(("last wave", f"{_clock(max(times))}, {_duration(quiet)} ago"))
        if pace > 0 and units and quiet > max(60, 5 * pace * max(units)):
            notes.append(
                "Nothing came for much longer than a wave takes. If the run was ended, the same command continues it."
            )
    share = min(done / wanted, 1.0) if wanted else None
    return Section(_title("Progress", name), notes, (), [Table(("", ""), facts, texts=frozenset({0, 1}))], share=share)


def amounts(directory: ShardDirectory) -> tuple[int, int, str]:
    """What a run has done, what it is to do (0 where that is not known), and what is counted."""
    inputs, counts = directory.configuration.get("inputs") or {}, directory.counts
    unit = next((unit for unit in ("pairs", "inputs") if unit in counts), "inputs" if "sentences" in inputs else "rows")
    wanted = next((inputs[name] for name in ("pairs", "sentences", "num") if inputs.get(name)), 0)
    parts = str(directory.configuration.get("shard") or "").partition("/")[2]
    return counts[unit], wanted // int(parts or 1), unit


def _units(counts: Mapping[str, int]) -> int:
    """What a wave has of that which `amounts` counts."""
    return next((counts[unit] for unit in ("pairs", "inputs", "rows") if counts.get(unit)), 0)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _duration(seconds: float) -> str:
    """A time for people: `42 s`, `7 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _training(name: str, path: Path) -> tuple[list[Section], bool]:
    """How far a training is, by its newest checkpoint, and whether it is whole."""
    record = read_record(path)
    is_whole = record is not None and record.status == "complete"
    states = sorted(
        (path / CHECKPOINTS).glob("checkpoint-*/trainer_state.json"), key=lambda file: int(file.parent.name[11:] or 0)
    )
    facts, share, points = [("state", "whole" if is_whole else "running")], 1.0 if is_whole else None, []
    if states and not is_whole:
        state = json.loads(states[-1].read_text(encoding="utf-8"))
        step, steps = int(state.get("global_step", 0)), int(state.get("max_steps", 0))
        facts.append(("steps at the newest checkpoint", f"{step:,} of {steps:,}"))
        share = step / steps if steps else None
        points = [
            (f"{entry['step']:,}", f"{100 * entry[key]:.2f}")
            for entry in state.get("log_history", ())
            for key in entry
            if key.endswith("spearman_cosine")
        ]
    tables = [Table(("", ""), facts, texts=frozenset({0, 1}))]
    if points:
        tables.append(Table(("step", "Spearman × 100"), points, "On the validation pairs", folds=True))
    return [Section(_title("Training" if name == "model" else "Progress", name), (), (), tables, share=share)], is_whole


@dataclass
class Watch:
    """Some directories, what was read of them so far, and remarks on the last look."""

    directories: Sequence[Path]
    options: ReportOptions
    runs: dict[Path, Run] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def look(self, now: float) -> tuple[list[Section], bool]:
        """The sections of now, and whether everything is whole."""
        present = [directory for directory in self.directories if directory.is_dir()]
        waiting = [directory for directory in self.directories if not self._is_begun(directory)]
        sections: list[Section] = []
        is_whole = not waiting
        self.notes = [f"{directory}: nothing is there yet; waiting for a run to begin." for directory in waiting]
        for name, path in named("raw", places(present, "raw")).items():
            found, ended = self.runs.setdefault(path, Run(path)).look(name, self.options, now)
            sections, is_whole = sections + found, is_whole and ended
        for name, path in named("model", places(present, "model")).items():
            found, ended = _training(name, path)
            sections, is_whole = sections + found, is_whole and ended
        for directory in present:
            if not any((directory / file).is_file() for file in KINDS.values()) and not places([directory], "scores"):
                is_whole = False  # a recipe, whose last stage writes scores
        return sections, is_whole

    @staticmethod
    def _is_begun(directory: Path) -> bool:
        return directory.is_dir() and any(places([directory], kind) for kind in KINDS)


def follow_runs(
    directories: Sequence[Path],
    output: Path,
    options: ReportOptions,
    say: Callable[[str], Any],
    *,
    overwrite: bool = False,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Any] = time.sleep,
) -> Path:
    """Writes the page of running directories every few seconds until they are whole, and then their report.

    They are those of runs, of a recipe, or ones that a run is about to make; `output` and `overwrite` are as for
    `write_report`, and `say` is told where the page is, which is returned.
    """
    check_extras(("Jinja2", "jinja2"), ("matplotlib", "matplotlib"))
    subject = subject_of(directories)
    check_page_directory(output, subject, overwrite=overwrite)
    make_directory(output)
    watch, title = Watch(directories, options), title_of(directories)
    sections: list[Section] = []
    address, said = (output / PAGE).resolve().as_uri(), set[str]()
    lines = [f"Open {address}: it loads itself again until the run is whole. Ctrl-C ends the looking, not the run."]
    try:
        while True:
            try:
                sections, is_whole = watch.look(clock())
            except (DinoError, OSError, ValueError) as error:  # in the middle of a change; the last look stays
                watch.notes, is_whole = [f"Something cannot be read at this moment: {error}"], False
            if is_whole:
                return write_report(directories, output, options)
            notes = [f"Looked at {_clock(clock())}.", *watch.notes]
            write_text(
                output / PAGE, render(title, [Section("Live", notes), *sections], subject, refresh=options.every)
            )
            for line in [*lines, *watch.notes]:
                if line not in said:
                    say(line)
                    said.add(line)
            sleep(options.every)
    except (KeyboardInterrupt, SystemExit):
        notes = [f"Nobody looks any more since {_clock(clock())}.", *watch.notes]
        write_text(output / PAGE, render(title, [Section("Live", notes), *sections], subject))
        raise
