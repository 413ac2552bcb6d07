"""The table of scores in its four forms."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dino_st.errors import OutputError
from dino_st.evaluation.table import MTEBS_OWN, PUBLISHED, STS_SCORES, TRANSFER_SCORES, PublishedScores, ScoreTable

PLAIN = dict(zip(STS_SCORES.columns, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0], strict=True))
BETTER = dict(zip(STS_SCORES.columns, [11.0, 19.0, 31.0, 41.0, 51.0, 61.0, 71.0], strict=True))


def test_json_holds_every_score_and_the_average() -> None:
    assert json.loads(ScoreTable({"./a": PLAIN}).to_json()) == {"./a": {**PLAIN, "average": 40.0}}


def test_the_average_is_the_papers_where_its_seven_tasks_are_there() -> None:
    assert ScoreTable({"a": {**PLAIN, "DinoSICKRAll": 100.0}}).average("a") == 40.0
    assert ScoreTable({"a": {"DinoSTS12": 10.0, "STS22": 30.0}}).average("a") == 20.0


def test_markdown_has_the_papers_columns_the_best_in_bold_and_the_published_rows() -> None:
    lines = ScoreTable({"a_b": PLAIN, "c": BETTER}).to_markdown().splitlines()
    assert lines[0] == "| Model | STS12 | STS13 | STS14 | STS15 | STS16 | STSb | SICK | Avg. |"
    assert lines[2] == r"| a\_b | 10.00 | **20.00** | 30.00 | 40.00 | 50.00 | 60.00 | 70.00 | 40.00 |"
    assert lines[3].endswith("| **71.00** | **40.71** |")
    assert "| *STS-Dino-x2* | 70.27 | 81.26 | 71.25 | 80.49 | 77.18 | 77.82 | 68.09 | 75.20 |" in lines
    assert "arXiv 2104.07540" in lines[-1]


def test_latex_escapes_names_and_rules_off_the_published_rows() -> None:
    latex = ScoreTable({"a_b & 100%": PLAIN, "c": BETTER}).to_latex()
    assert r"a\_b \& 100\% & 10.00 & \textbf{20.00}" in latex
    assert latex.index(r"c & \textbf{11.00}") < latex.rindex(r"\midrule") < latex.index("STS-Dino-x1x2 & 64.87")
    assert latex.count(r"\\") == 1 + 2 + 1 + len(STS_SCORES.rows)


def test_the_terminal_table_shows_names_with_brackets_as_they_are() -> None:
    out = StringIO()
    Console(file=out, width=160).print(ScoreTable({"[a]": PLAIN, "c": BETTER}).to_rich())
    assert "[a]" in out.getvalue()
    assert "S-RoBERTa, NLI" in out.getvalue()


def test_the_table_fits_a_terminal_of_80_columns_with_a_line_for_each_published_row() -> None:
    out = StringIO()
    Console(file=out, width=80).print(ScoreTable({"untrained": PLAIN, "a/long/path/to/an/encoder": BETTER}).to_rich())
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["STS-Dino-x1x2", "64.87", "78.30", "66.38", "79.60", "76.47", "76.51", "74.26", "73.77"] in lines
    assert any(line[:3] == ["S-RoBERTa,", "NLI", "71.54"] for line in lines)


def test_a_single_model_is_not_bold_and_other_tasks_have_no_published_rows() -> None:
    markdown = ScoreTable({"a": {"STS22": 12.5}}).to_markdown()
    assert "| a | 12.50 | 12.50 |" in markdown
    assert "Dino" not in markdown


@pytest.mark.parametrize("paper", PUBLISHED, ids=["sts", "transfer"])
def test_published_averages_are_those_of_their_rows_as_far_as_the_papers_round(paper: PublishedScores) -> None:
    for *scores, average in paper.rows.values():
        assert sum(scores) / len(scores) == pytest.approx(average, abs=0.031)


def test_the_transfer_tasks_have_published_rows_of_their_own() -> None:
    scores = dict.fromkeys(TRANSFER_SCORES.columns, 80.0)
    lines = ScoreTable({"a": scores}).to_markdown().splitlines()
    assert lines[0] == "| Model | MR | CR | SUBJ | MPQA | SST | TREC | MRPC | Avg. |"
    assert "| *SynCSE-partial* | 85.41 | 91.44 | 93.39 | 89.91 | 91.21 | 84.40 | 76.87 | 87.52 |" in lines
    assert lines[-1].startswith("Accuracy × 100. In italics: Zhang, Lan and He 2023")


def test_all_files_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    ScoreTable({"a": PLAIN}).write(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["scores.json", "scores.md", "scores.tex"]


def test_an_unwritable_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/scores: cannot be created"):
        ScoreTable({"a": PLAIN}).write(tmp_path / "file" / "scores")


def test_names_are_shown_as_they_are_whatever_a_terminal_markdown_or_latex_would_make_of_them() -> None:
    names = ("enc[b]", "[/b]", "<i>x</i>\\", "./é/日本", ":smile:")
    table = ScoreTable({name: {"T[x]": 1.0} for name in (*names, "red\x1b[31m")})
    out = StringIO()
    Console(file=out, width=100).print(table.to_rich())
    shown = [line.split()[0] for line in out.getvalue().splitlines() if line.endswith("1.00 ")]
    assert shown == [*names, "red\N{REPLACEMENT CHARACTER}[31m"]
    assert "T[x]" in out.getvalue()
    assert "\x1b" not in out.getvalue() + table.to_markdown() + table.to_latex()
    assert r"| \<i\>x\</i\>\\ |" in table.to_markdown()
    assert r"| Model | T\[x\] |" in table.to_markdown()
    assert "\n{[}/b] & " in table.to_latex()
    assert r"\textless{}i\textgreater{}x\textless{}/i\textgreater{}\textbackslash{} &" in table.to_latex()


def test_mtebs_own_tasks_stand_in_a_row_under_ours() -> None:
    own = {task: 70.0 + number for number, task in enumerate(MTEBS_OWN.values())}
    table = ScoreTable(
        {"a": dict.fromkeys(STS_SCORES.columns, 60.0) | own, "b": dict.fromkeys(STS_SCORES.columns, 50.0) | own}
    )
    lines = table.to_markdown().splitlines()
    assert lines[0] == "| Model | STS12 | STS13 | STS14 | STS15 | STS16 | STSb | SICK | Avg. |"
    assert lines[2].startswith("| a | **60.00** |")
    expected = "| a (MTEB's own tasks) | 70.00 | 71.00 | 72.00 | 73.00 | 74.00 | 75.00 | 76.00 | 73.00 |"
    assert lines[3] == expected
    assert "Spearman × 100. In italics" in lines[-1]
    assert table.to_dict()["a"]["average"] == 60.0
    assert table.to_dict()["a"]["SICK-R"] == 76.0
    alone = ScoreTable({"a": own})
    assert alone.to_markdown().splitlines()[0].startswith("| Model | STS12 | STS13 |")
