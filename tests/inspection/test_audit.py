from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from dino_st.cli.main import app
from dino_st.errors import DatasetError, InputError, OutputError
from dino_st.inspection.audit import Command, describe_sample, draw_sample, judge, parse_key, summarise
from dino_st.inspection.judgements import (
    SCALE,
    Answer,
    AuditPair,
    confusion_markdown,
    count_judgements,
    fitting,
    has_judgements,
    open_answers,
    percent,
    read_answers,
    read_judgements,
    wilson_interval,
)
from dino_st.inspection.options import AuditOptions
from dino_st.inspection.pairs import WrittenPairs, assigned_scores
from dino_st.pipeline.stages import _judged_pairs
from dino_st.support.hashes import hash_file
from dino_st.support.text import printable

ROOT = Path(__file__).parents[2]


def written(scores: list[float | None], *, levels: tuple[float, ...] = ()) -> WrittenPairs:
    rows = {
        "sentence1": [f"First {i}." for i in range(len(scores))],
        "sentence2": [f"Second {i}." for i in range(len(scores))],
        "score": pa.array(scores, pa.float64()),
    }
    return WrittenPairs("raw", Path("somewhere"), pa.table(rows), levels=levels)


def write_raw(directory: Path, scores: list[float], *, text: str = "Second {}.") -> Path:
    import pyarrow.parquet

    (directory / "data").mkdir(parents=True)
    table = written(list(scores)).table
    table = table.set_column(1, "sentence2", pa.array([text.format(i) for i in range(len(scores))]))
    pyarrow.parquet.write_table(table, directory / "data/train-00000.parquet")
    digest = hash_file(directory / "data/train-00000.parquet")
    shard = {"file": "data/train-00000.parquet", "rows": len(scores), "sha256": digest, "counts": {"rows": len(scores)}}
    manifest: dict[str, Any] = {"format": "dino-st raw 1", "complete": True, "configuration": {}, "provenance": {}}
    (directory / "manifest.json").write_text(json.dumps(manifest | {"shards": [shard]}))
    return directory


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw", [0.0, 0.5, 1.0] * 5)


@pytest.fixture
def audit(raw: Path) -> Callable[..., Result]:
    def invoke(keys: str, *arguments: str, directory: Path = raw) -> Result:
        return CliRunner().invoke(app, ["audit", str(directory), "-n", "2", *arguments], input=keys)

    return invoke


def keys_of(text: str) -> Callable[[], str | None]:
    remaining: Iterator[str] = iter(text)
    return lambda: next(remaining, None)


# The four examples of Newcombe 1998 (Statistics in Medicine 17, 857-872), Table I, score method.
@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_published(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_of_nothing_is_everything_and_that_of_all_ends_at_one() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert percent(0, 0) == "–"
    assert wilson_interval(7, 7)[1] == 1.0


@pytest.mark.parametrize("name", ["bundled-lm", "smollm2"])
def test_the_confusion_of_a_published_audit_is_the_table_beside_it(name: str) -> None:
    lines = (ROOT / f"docs/audits/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = count_judgements((row["generated"], row["judged"]) for row in map(json.loads, lines))
    table = (ROOT / "docs/audits/README.md").read_text(encoding="utf-8")
    for row, label in zip(rows, ("1", "0.5", "0"), strict=True):
        counts = " | ".join(str(row["counts"][name]["count"]) for name in ("0.9", "0.5", "0.1", "0"))
        fits = percent(row["fits"]["count"], row["fits"]["of"])
        assert f"| label {label} | {counts} | {fits} |" in table


def test_fitting_judgements_follow_smoothed_and_raw_scores() -> None:
    assert fitting(1.0) == fitting(0.9) == (0.9,)
    assert fitting(0.5) == fitting(0.3) == (0.5,)
    assert fitting(0.7) == (0.9,)
    assert fitting(0.0) == fitting(0.1) == (0.0, 0.1)
    assert fitting(1.5) == fitting(-0.1) == ()


def test_scores_of_another_scale_have_no_fitting_judgement() -> None:
    row = count_judgements([(4.0, 0.9)])[0]
    assert row["fits"] is None
    assert confusion_markdown([row], heading="Audit").splitlines()[4].endswith("| – |")


def test_the_table_of_judgements_is_counted_and_written_as_it_was_by_hand() -> None:
    rows = count_judgements([(0.9, 0.9), (0.9, 0.5), (0.9, 0.9), (0.9, None), (0.1, None)])
    ends = {"low": 0.2077, "high": 0.9385}  # Wilson's formula for 2 of 3
    assert rows[0]["fits"] == rows[0]["counts"]["0.9"] == {"count": 2, "of": 3, "share": 0.6667} | ends
    assert rows[1]["fits"] == {"count": 0, "of": 0, "share": None, "low": 0.0, "high": 1.0}
    nothing = "0 % (0 to 56)"
    page = f"""# Audit

| assigned | judged | skipped | judged 0.9 | judged 0.5 | judged 0.1 | judged 0 | fits |
| ---: | ---: | ---: | --- | --- | --- | --- | --- |
| 0.9 | 3 | 1 | 67 % (21 to 94) | 33 % (6 to 79) | {nothing} | {nothing} | 67 % (21 to 94) |
| 0.1 | 0 | 1 | – | – | – | – | – |

Shares of the judged pairs of a row, with Wilson's 95 % intervals. A pair fits """
    written = confusion_markdown(rows, heading="Audit")
    assert written.startswith(page)
    assert ", or 0 or 0.1 and its score is below 0.3.\n\n- 0.9: the same meaning" in written
    assert written.endswith("sentence 2 says nothing\n")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("0", 0.0), ("1", 0.1), (" 5\n", 0.5), ("9", 0.9), ("0.5", 0.5), ("U", Command.UNDO), ("?", Command.RULE)],
)
def test_keys_mean_judgements_and_commands(text: str, meaning: object) -> None:
    assert parse_key(text) == meaning


@pytest.mark.parametrize("text", ["", "2", "0.7", "undo", "\x1b[A", "nan"])
def test_other_keys_mean_nothing(text: str) -> None:
    assert parse_key(text) is None


def test_the_sample_has_so_many_of_each_score_whatever_the_order_of_the_rows() -> None:
    pairs = written([0.0, 0.5, 1.0] * 20 + [0.5])
    options = AuditOptions(per_score=7, seed=3)
    sample = draw_sample(pairs, options)
    assert Counter(pair.generated for pair in sample) == {0.0: 7, 0.5: 7, 1.0: 7}
    assert [pair.generated for pair in sample] != sorted(pair.generated for pair in sample)
    turned = WrittenPairs("raw", pairs.directory, pairs.table.take(list(range(60, -1, -1))))
    assert draw_sample(turned, options) == sample
    assert draw_sample(pairs, AuditOptions(per_score=7, seed=4)) != sample


def test_equal_pairs_are_asked_once_and_small_scores_wholly() -> None:
    pairs = written([1.0, 0.0])
    doubled = WrittenPairs("raw", pairs.directory, pa.concat_tables([pairs.table, pairs.table]))
    assert len(draw_sample(doubled, AuditOptions())) == 2
    assert len(draw_sample(written([0.5]), AuditOptions())) == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "holds no pair to judge"), ([0.0, float("nan")], "score of row 1 is no finite"), ([None], "row 0 is no")],
)
def test_sets_that_cannot_be_judged_are_refused(scores: list[float | None], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        draw_sample(written(scores), AuditOptions())


def test_sets_without_numeric_scores_are_refused() -> None:
    table = pa.table({"text": ["a"], "label": ["good"]})
    with pytest.raises(DatasetError, match="an audit is for pairs with numeric scores"):
        draw_sample(WrittenPairs("raw", Path("d"), table), AuditOptions())


def test_many_scores_count_under_the_nearest_level_that_was_assigned() -> None:
    import numpy as np

    scores = np.linspace(0, 1, 21)
    assert set(assigned_scores(scores, (0.1, 0.5, 0.9)).tolist()) == {0.1, 0.5, 0.9}
    assert assigned_scores(scores[:5], ()) == pytest.approx(scores[:5])
    with pytest.raises(DatasetError, match="21 different scores"):
        assigned_scores(scores, ())


def test_undo_skip_and_quit_leave_what_was_answered(tmp_path: Path) -> None:
    sample = [AuditPair("a", str(i), 0.5) for i in range(4)]
    shown: list[str] = []
    with open_answers(tmp_path / "a.jsonl", sample, {}) as file:
        assert not judge(file, keys_of("u95usz?q"), shown.append)
        assert [answer.judged for answer in file.answers] == [0.9, None]
    assert any("nothing to take back" in text for text in shown)
    assert any("'z' is no answer" in text for text in shown)
    with open_answers(tmp_path / "a.jsonl", sample, {}) as file:
        assert judge(file, keys_of("01u5 "), shown.append)
    assert [answer.judged for answer in read_answers(tmp_path / "a.jsonl")[1]] == [0.9, None, 0.0, 0.5]


def test_answers_are_written_readably_and_taken_back_without_a_trace(tmp_path: Path) -> None:
    pair = AuditPair("Ü", "half \ud83d of a pair", 0.5)
    path = tmp_path / "a.jsonl"
    with open_answers(path, [pair], {}) as file:
        empty = path.read_bytes()
        file.add(Answer(pair, 0.5))
        assert '{"sentence1": "Ü", "sentence2": "half'.encode() in path.read_bytes()
        assert read_answers(path)[1] == [Answer(pair, 0.5)]
        assert file.undo()
        assert path.read_bytes() == empty


def test_what_cannot_be_written_or_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    pair = AuditPair("a", "b", 0.5)
    with open_answers(tmp_path / "a.jsonl", [pair], {}) as file:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"a\.jsonl: cannot be written \(No space left on device\); what was"):
            file.add(Answer(pair, 0.5))
    with pytest.raises(InputError, match=r"b\.jsonl: cannot be read \(No such file or directory\); expected"):
        read_answers(tmp_path / "b.jsonl")


def test_the_last_answer_can_be_taken_back_in_a_later_session(tmp_path: Path) -> None:
    sample = [AuditPair("a", "b", 0.5)]
    for keys, judged in (("9", 0.9), ("u5x", 0.5)):
        with open_answers(tmp_path / "a.jsonl", sample, {}) as file:
            judge(file, keys_of(keys), lambda _: None)
            assert file.answers[0].judged == judged


def test_questions_say_nothing_of_the_score(tmp_path: Path) -> None:
    sample = [AuditPair("One.", "Two.", 0.4711)]
    shown: list[str] = []
    with open_answers(tmp_path / "a.jsonl", sample, {}) as file:
        judge(file, keys_of("9"), shown.append)
    assert "One." in "".join(shown)
    assert "0.47" not in "".join(shown)


def test_answers_are_on_disk_before_the_next_question(tmp_path: Path) -> None:
    sample = [AuditPair("a", str(i), 0.5) for i in range(3)]
    path = tmp_path / "a.jsonl"
    lines: list[int] = []

    def ask() -> str | None:
        lines.append(len(path.read_text().splitlines()) - 1)
        return "9"

    with open_answers(path, sample, {}) as file:
        judge(file, ask, lambda _: None)
    assert lines == [0, 1, 2, 3]


def test_a_line_cut_off_by_a_crash_is_asked_again(tmp_path: Path) -> None:
    sample = [AuditPair("a", str(i), 0.5) for i in range(2)]
    path = tmp_path / "a.jsonl"
    with open_answers(path, sample, {}) as file:
        judge(file, keys_of("99"), lambda _: None)
    path.write_bytes(path.read_bytes()[:-9])
    with open_answers(path, sample, {}) as file:
        assert len(file.answers) == 1
        file.add(Answer(sample[1], 0.1))
    assert [answer.judged for answer in read_answers(path)[1]] == [0.9, 0.1]


@pytest.mark.parametrize(
    "line", ['{"sentence1": "a"}', "no json", '{"sentence1":"a","sentence2":"0","generated":0.5,"judged":0.7}']
)
def test_damaged_lines_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with open_answers(path, [], {}):
        pass
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: is no answer; .* 0\.9, 0\.5, 0\.1, 0 or null"):
        read_answers(path)


def test_a_file_in_use_or_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with (
        open_answers(path, [], {}),
        pytest.raises(OutputError, match="another audit is writing"),
        open_answers(path, [], {}),
    ):
        pass
    path.write_text('{"sentence1": "a"}\n')
    with pytest.raises(OutputError, match="is no file of `dino-st audit`"), open_answers(path, [], {}):
        pass


def test_the_answers_of_everybody_are_read_from_the_files_beside_one_another(tmp_path: Path) -> None:
    pair, answers = AuditPair("a", "b", 0.5), tmp_path / "a.jsonl"
    assert not has_judgements(answers)
    for name, seed, judged in (("", 1, 0.9), (".ann", 2, None), (".ben", 1, 0.1), (".a.b", 1, 0.1)):
        with open_answers(tmp_path / f"a{name}.jsonl", [pair], {"seed": seed, "annotator": name}) as file:
            if judged is not None:  # who judged nothing yet does not say which sample it is
                file.add(Answer(pair, judged))
    found = read_judgements(answers)
    assert found.sample == {"seed": 1}
    assert [[answer.judged for answer in given] for given in found.by_annotator.values()] == [[0.9], [0.1]]
    assert [*found.by_annotator] == ["", "ben"]
    answers.unlink()
    assert has_judgements(answers)
    assert read_judgements(answers).by_annotator.keys() == {"ben"}
    with open_answers(tmp_path / "a.cid.jsonl", [pair], {"seed": 3}) as file:
        file.add(Answer(pair, 0.5))
    with pytest.raises(
        InputError, match=r"a\.cid\.jsonl: holds judgements of another sample than /.*a\.ben\.jsonl; move"
    ):
        read_judgements(answers)


def test_control_characters_never_reach_the_terminal() -> None:
    assert printable("A \x1b[31mcat\x07\u202e\x9b1m") == "A \ufffd[31mcat\ufffd\ufffd\ufffd1m"
    assert printable("one\ttwo\nthree") == "one two three"
    assert printable("naïve 猫 👩‍👧") == "naïve 猫 👩‍👧"


def test_piped_keys_are_enough_from_the_first_pair_to_the_table(audit: Callable[..., Result], raw: Path) -> None:
    first = audit("9\n\nx\n5\n")
    assert first.exit_code == 0, first.output
    assert "2 of 6 done; run the same command to go on" in first.output
    assert not (raw / "audit.md").exists()
    second = audit("0\n1\ns\n9\n")
    assert second.exit_code == 0, second.output
    assert "Going on at 3 of 6" in second.output
    content = json.loads((raw / "audit.json").read_text())
    assert (content["answered"], content["left"], content["per_score"]) == (6, 0, 2)
    assert sum(row["judged"] for row in content["rows"]) == 5
    assert sum(row["skipped"] for row in content["rows"]) == 1
    assert (raw / "audit.md").read_text().strip() in second.output
    assert all(f"judged {score:g}" in second.output for score in SCALE)


def test_judged_pairs_are_a_table_to_evaluate_on(audit: Callable[..., Result], raw: Path) -> None:
    for name, keys in (("ann", "9\n5\n9\n1\ns\n0\n"), ("ben", "1\n1\n1\n1\n1\n1\n")):
        audit(keys, "--annotators", name)
    done = audit("", "--summary")
    scores = raw / "audit-scores.jsonl"
    assert f"The judged pairs, for `dino-st evaluate --pairs`: {scores}" in done.output
    table = {
        (row["sentence1"], row["sentence2"]): row["score"] for row in map(json.loads, scores.read_text().splitlines())
    }
    by_ann = {(one.pair.sentence1, one.pair.sentence2): one.judged for one in read_answers(raw / "audit.ann.jsonl")[1]}
    assert table == {pair: 0.1 if judged is None else round((judged + 0.1) / 2, 6) for pair, judged in by_ann.items()}
    assert read_judgements(raw / "audit.jsonl").by_annotator.keys() == {"ann", "ben"}  # it is nobody's answers


def test_a_summary_can_be_had_at_any_time(audit: Callable[..., Result], raw: Path) -> None:
    before = audit("", "--summary")
    assert before.exit_code == 1
    assert "audit.jsonl: nothing was judged yet" in " ".join(before.output.split())
    audit("9\nq\n")
    summary = audit("", "--summary")
    assert summary.exit_code == 0, summary.output
    assert "# Audit of 1 pairs, 5 still to be judged" in summary.output
    audit("u\nq\n")
    assert "nothing was judged yet" in audit("", "--summary").output


def test_another_sample_in_the_same_file_is_refused(audit: Callable[..., Result], tmp_path: Path) -> None:
    answers = str(tmp_path / "judge.jsonl")
    assert audit("9\n", "--output", answers).exit_code == 0
    refused = audit("9\n", "--output", answers, "--seed", "1")
    assert refused.exit_code == 1
    assert "holds the answers to another sample (seed: was 42, now 1" in " ".join(refused.output.split())
    assert not re.search(r"[0-9a-f]{9}", refused.output.replace("\n", "").partition("(seed")[2])
    other = write_raw(tmp_path / "other", [0.0, 0.5, 1.0] * 5, text="Other {}.")
    assert "sample: was" in audit("9\n", "--output", answers, directory=other).output


def test_a_file_without_answers_takes_another_sample(audit: Callable[..., Result], raw: Path) -> None:
    assert audit("q\n").exit_code == 0
    assert audit("9\nq\n", "--seed", "1").exit_code == 0
    assert json.loads((raw / "audit.jsonl").read_text().splitlines()[0])["seed"] == 1
    assert "was 1, now 42" in " ".join(audit("9\n").output.split())


def test_a_summary_says_where_the_pairs_are_not_those_of_the_data_any_more(
    audit: Callable[..., Result], raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = str(tmp_path / "judge.jsonl")
    assert audit("9\n", "--output", answers).exit_code == 0
    assert audit("", "--summary", "--output", answers).exit_code == 0
    assert not caplog.messages
    other = write_raw(tmp_path / "other", [0.0, 0.5, 1.0] * 5, text="Other {}.")
    assert audit("", "--summary", "--output", answers, directory=other).exit_code == 0
    assert "written anew since these pairs were drawn" in caplog.text
    assert audit("", "--summary", "--output", answers, directory=tmp_path / "gone").exit_code == 0
    assert "there is no such directory" in caplog.text


def test_judged_pairs_that_are_not_of_the_data_any_more_choose_a_checkpoint_with_a_warning(
    audit: Callable[..., Result], raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert audit("9\n").exit_code == 0
    assert len(_judged_pairs(str(raw))) > 0
    assert not caplog.messages
    other = write_raw(tmp_path / "other", [0.0, 0.5, 1.0] * 5, text="Other {}.")
    shutil.copy(raw / "audit.jsonl", other)
    assert _judged_pairs(str(other)) == _judged_pairs(str(raw))
    assert "other was written anew since these pairs were drawn; what people judged chooses" in caplog.text


def test_wrong_directories_and_names_are_explained(audit: Callable[..., Result], tmp_path: Path, raw: Path) -> None:
    def message(result: Result) -> str:
        assert "Traceback" not in result.output
        return " ".join(result.output.split())

    assert "there is no such directory" in message(audit("", directory=tmp_path / "no"))
    table = tmp_path / "pairs.csv"
    table.write_text("sentence1,sentence2,score\na,b,1\n", encoding="utf-8")
    for arguments in ([], ["--summary"]):
        assert "pairs.csv: is a file, and no directory; expected one of" in message(
            audit("", *arguments, directory=table)
        )
    (tmp_path / "prepared").mkdir()
    missing = message(audit("", directory=tmp_path))
    assert "holds neither manifest.json nor preparation.json" in missing
    assert "did you mean" in missing
    wrong = audit("", "--output", str(tmp_path / "a.txt"))
    assert wrong.exit_code == 2
    assert "ends in .jsonl" in message(wrong)
    none = CliRunner().invoke(app, ["audit", str(raw), "-n", "0"])
    assert none.exit_code == 2
    (raw / "data/train-00000.parquet").write_bytes(b"no parquet")
    assert "not as manifest.json describes it; run the command that wrote it again" in message(audit(""))


def test_escape_sequences_in_generated_text_are_shown_harmless(audit: Callable[..., Result], tmp_path: Path) -> None:
    nasty = write_raw(tmp_path / "nasty", [0.0, 1.0], text="\x1b]0;owned\x07 [red]:cat: {}")
    output = audit("q\n", directory=nasty).output
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[red]:cat:" in output


def test_a_summary_is_whole_or_not_there(tmp_path: Path) -> None:
    sample = [AuditPair("a", "b", 0.9)]
    path = tmp_path / "mine.jsonl"
    with open_answers(path, sample, describe_sample(sample, AuditOptions())) as file:
        judge(file, keys_of("9"), lambda _: None)
    summarise(tmp_path, path)
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")) == [
        "mine-scores.jsonl",
        "mine.json",
        "mine.jsonl",
        "mine.md",
    ]


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are Unix's")
def test_single_keys_are_enough_on_a_terminal(raw: Path) -> None:
    import pty
    import select
    import termios

    terminal, end = pty.openpty()
    code = ["-c", "from dino_st.cli.main import main; main()", "audit", str(raw), "-n", "1"]
    process = subprocess.Popen([sys.executable, *code], stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    output = b""

    def read_until(text: bytes) -> None:
        nonlocal output
        while text not in output:
            assert select.select([terminal], [], [], 60)[0], output
            output += os.read(terminal, 4096)

    try:
        for key, expected in ((b"9", b"1 of 3"), (b"5", b"2 of 3"), (b"0", b"3 of 3"), (b"x", b"last one")):
            read_until(expected)
            while termios.tcgetattr(terminal)[3] & termios.ICANON:  # a key before that would be thrown away
                time.sleep(0.01)
            os.write(terminal, key)
        read_until(b"audit.json")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert [answer.judged for answer in read_answers(raw / "audit.jsonl")[1]] == [0.9, 0.5, 0.0]
