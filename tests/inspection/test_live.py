"""The page of runs that are still writing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from dino_st.data.shards import ShardDirectory
from dino_st.inspection.live import Watch, follow_runs
from dino_st.inspection.options import ReportOptions
from dino_st.inspection.page import Section, render
from dino_st.support.files import LOCK, only_writer
from dino_st.support.hashes import hash_file
from dino_st.training.options import TrainingOptions
from dino_st.training.record import TrainingRecord, write_record

BEGAN = 1_000_000.0
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCRIPT = "<script>alert(1)</script> [bold]é日本[/bold]"


def write_waves(directory: Path, number: int, *, wanted: int = 40, complete: bool = False) -> None:
    """A run as far as its first waves, of ten inputs and twenty rows, one in ten seconds; the last only as a line."""
    (directory / "data").mkdir(parents=True, exist_ok=True)
    labels = {label: {"instruction": '<X1> "', "counter_labels": []} for label in ("1", "0")}
    shards = []
    for wave in range(number):
        name = f"data/train-{wave:05d}.parquet"
        texts = [f"{SCRIPT} wave {wave} row {row}" for row in range(20)]
        rows = {"sentence1": texts, "sentence2": texts[::-1], "score": [1.0, 0.0] * 10}
        if not (directory / name).exists():
            pyarrow.parquet.write_table(pa.table(rows), directory / name)
            os.utime(directory / name, (BEGAN, BEGAN + 10 * (wave + 1)))
        counts = {"inputs": 10, "rows": 20, "draws": 25, "tries": 30, "rejected: no closing quote": 5}
        shards.append({"file": name, "rows": 20, "sha256": hash_file(directory / name), "counts": counts})
    content = {
        "format": "dino-st raw 1",
        "complete": complete,
        "configuration": {"task": {"task_name": "t", "labels": labels}, "inputs": {"sentences": wanted}, "seed": 7},
        "provenance": {"model": "some-model"},
        "shards": shards if complete else shards[:-1],
    }
    (directory / "manifest.json").write_text(json.dumps(content))
    os.utime(directory / "manifest.json", (BEGAN, BEGAN))
    line = "" if complete or not shards else json.dumps({"shard": shards[-1]}) + "\n"
    (directory / "manifest.jsonl").write_text(line + '{"shard": {"file": "data/tra')


def facts(sections: list[Section], title: str = "Progress") -> dict[str, str]:
    [found] = [section for section in sections if section.title == title]
    return {row[0]: row[1] for row in found.tables[0].rows}


def test_how_far_how_fast_and_how_long_still(tmp_path: Path) -> None:
    write_waves(tmp_path / "raw", 3)
    sections, is_whole = Watch([tmp_path / "raw"], ReportOptions()).look(BEGAN + 35)
    assert not is_whole
    found = facts(sections)
    assert (found["state"], found["inputs"], found["rows"]) == ("running", "30 of 40", "60")
    assert (found["pace"], found["time left"]) == ("1.0 s for each", "about 10 s")
    assert found["last wave"].endswith(", 5 s ago")
    assert sections[0].share == 0.75
    assert not sections[0].notes
    [rejections] = [section for section in sections if section.title == "Rejections"]
    assert rejections.tables[0].rows == [("no closing quote", "15", "16.7 % of 90 tries")]
    [labels] = [section for section in sections if section.title == "Labels so far"]
    assert [row[:2] for row in labels.tables[0].rows] == [["1", "30"], ["0", "30"]]


def test_a_pause_does_not_slow_the_pace_and_silence_is_told(tmp_path: Path) -> None:
    write_waves(tmp_path / "raw", 3)
    os.utime(tmp_path / "raw/manifest.json", (BEGAN, BEGAN + 19))  # went on behind the first wave
    os.utime(tmp_path / "raw/data/train-00001.parquet", (BEGAN, BEGAN + 20))
    sections, _ = Watch([tmp_path / "raw"], ReportOptions()).look(BEGAN + 5000)
    assert facts(sections)["pace"] == "1.8 inputs a second"  # the median of 0.1 and 1 s for each
    assert facts(sections)["last wave"].endswith(", 83 min ago") or "1 h 23 min ago" in facts(sections)["last wave"]
    assert "Nothing came for much longer than a wave takes" in sections[0].notes[0]


def test_the_newest_texts_come_first_and_every_shard_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    rows_of = ShardDirectory.rows_of
    monkeypatch.setattr(ShardDirectory, "rows_of", lambda self, number: read.append(number) or rows_of(self, number))
    raw = tmp_path / "raw"
    write_waves(raw, 2)
    watch = Watch([raw], ReportOptions(examples=2))
    watch.look(BEGAN)
    write_waves(raw, 3)
    sections, _ = watch.look(BEGAN)
    assert read == [0, 1, 2]
    [newest] = [section for section in sections if section.title == "Newest texts"]
    assert [table.caption for table in newest.tables] == ["Label 0", "Label 1"]
    assert [row[0].partition(" wave ")[2] for row in newest.tables[1].rows] == ["2 row 18", "2 row 16"]


def test_looking_takes_no_lock_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_waves(raw, 2)
    with only_writer(raw):
        before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(raw.rglob("*"))}
        Watch([raw], ReportOptions()).look(BEGAN)
        assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(raw.rglob("*"))}
    (raw / LOCK).unlink()
    Watch([raw], ReportOptions()).look(BEGAN)
    assert not (raw / LOCK).exists()


def follow(directory: Path, output: Path, steps: list[Callable[[], Any]]) -> tuple[list[str], list[str], Path]:
    """Follows, doing a step in each pause; pages in the pauses, what was said, and the page in the end."""
    pages: list[str] = []
    said: list[str] = []

    def pause(_: float) -> None:
        pages.append((output / "index.html").read_text(encoding="utf-8"))
        steps.pop(0)()

    page = follow_runs([directory], output, ReportOptions(every=7), said.append, clock=lambda: BEGAN, sleep=pause)
    return pages, said, page


def test_a_run_is_followed_from_before_its_beginning_until_it_is_whole(tmp_path: Path) -> None:
    raw = tmp_path / "<i>ra[w]é"
    steps = [lambda: write_waves(raw, 0), lambda: write_waves(raw, 2), lambda: write_waves(raw, 4, complete=True)]
    pages, said, page = follow(raw, tmp_path / "page", steps)
    assert "nothing is there yet" in pages[0]
    assert "0 of 40" in pages[1]
    assert "20 of 40" in pages[2]
    assert all('<meta http-equiv="refresh" content="7">' in text for text in pages)
    assert all("<script" not in text and "<i>" not in text for text in pages)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [bold]é日本[/bold] wave 1 row 19" in pages[2]
    assert said[0].startswith(f"Open {page.as_uri()}")
    assert said[1:] == [f"{raw}: nothing is there yet; waiting for a run to begin."]
    report = page.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in report
    assert "raw rows" in report


def test_what_cannot_be_read_for_a_moment_is_read_at_the_next_look(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_waves(raw, 2)
    away, here = raw / "data/train-00001.parquet", tmp_path / "away"

    def put_back() -> None:
        here.rename(away)

    def finish() -> None:
        write_waves(raw, 2, wanted=20, complete=True)

    away.rename(here)
    pages, said, _ = follow(raw, tmp_path / "page", [put_back, finish])
    assert "Something cannot be read at this moment" in pages[0]
    assert "Something cannot be read" in said[1]
    assert "20 of 40" in pages[1]


def test_who_stops_looking_leaves_a_page_that_stands_still(tmp_path: Path) -> None:
    write_waves(tmp_path / "raw", 1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(tmp_path / "raw", tmp_path / "page", [interrupt])
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in page
    assert "Nobody looks any more" in page
    assert "10 of 40" in page


def test_a_recipe_is_whole_with_its_scores_and_training_is_shown_by_its_newest_checkpoint(tmp_path: Path) -> None:
    write_waves(tmp_path / "raw", 4, complete=True)
    watch = Watch([tmp_path], ReportOptions())
    assert not watch.look(BEGAN)[1]
    record = TrainingRecord(
        options=TrainingOptions(), encoder="e", encoder_revision=None, data={}, provenance={}, processes=1, versions={}
    )
    write_record(tmp_path / "model", record)
    for step in (9, 100):
        checkpoint = tmp_path / f"model/checkpoints/checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        history = [{"step": step, "eval_validation_spearman_cosine": 0.5}, {"step": step, "loss": 1.0}]
        state = {"global_step": step, "max_steps": 400, "log_history": history}
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    sections, is_whole = watch.look(BEGAN)
    assert not is_whole
    assert facts(sections, "Training")["steps at the newest checkpoint"] == "100 of 400"
    [training] = [section for section in sections if section.title == "Training"]
    assert training.share == 0.25
    assert training.tables[1].rows == [("100", "50.00")]
    write_record(tmp_path / "model", record.model_copy(update={"status": "complete"}))
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/scores.json").write_text('{"a": {"T": 1.0}}')
    assert watch.look(BEGAN)[1]


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_browser_loads_the_page_again_by_itself_and_nothing_else(tmp_path: Path) -> None:
    write_waves(tmp_path / "raw", 3)
    sections, _ = Watch([tmp_path / "raw"], ReportOptions()).look(BEGAN)
    (tmp_path / "index.html").write_text(render("<b>t", sections, refresh=1), encoding="utf-8")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            asked.append(str(arguments[1]))

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/index.html"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [str(BROWSER), *flags, "--remote-debugging-port=0", address]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while sum("index.html" in line for line in asked) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        server.shutdown()
        server.server_close()
    assert sum("index.html" in line for line in asked) >= 2
    assert {line for line in asked if "favicon" not in line} == {"GET /index.html HTTP/1.1"}


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_browser_shows_what_models_wrote_as_text(tmp_path: Path) -> None:
    write_waves(tmp_path / "raw", 3)
    sections, _ = Watch([tmp_path / "raw"], ReportOptions()).look(BEGAN)
    page = tmp_path / "index.html"
    page.write_text(render("<b>t", sections), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    dom = subprocess.run([str(BROWSER), *flags, page.as_uri()], capture_output=True, timeout=60, check=True)
    shown = dom.stdout.decode()
    assert "30 of 40" in shown
    assert "<h1>&lt;b&gt;t</h1>" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [bold]é日本[/bold]" in shown
