from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.errors import DatasetError, InputError, MissingExtraError, OutputError
from dino_st.inspection import page
from dino_st.inspection.contents import Posteriors, find, labelled_rows
from dino_st.inspection.options import PICTURES, ReportOptions
from dino_st.inspection.page import Section, render
from dino_st.inspection.pairs import WrittenPairs
from dino_st.inspection.report import build_sections, write_report
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import save_prepared
from dino_st.support.hashes import hash_file
from dino_st.training.options import TrainingOptions
from dino_st.training.record import Score, TrainingRecord, write_record

PNG = b"\x89PNG\r\n\x1a\n"
LABELS = ("1", "0.5", "0")
SCRIPT = '<script>alert("x")</script> & <img src=https://example.org/x.png onerror=alert(1)>'


def raw_rows(count: int = 12, **more: Any) -> dict[str, Any]:
    scores = [(1.0, 0.5, 0.0)[i % 3] for i in range(count)]
    texts = {"sentence1": [f"A cat number {i} sat." for i in range(count)]}
    texts["sentence2"] = [f"A cat number {i} {('sits', 'ran', 'flew home')[i % 3]}." for i in range(count)]
    return texts | {"score": scores} | more


def write_raw(
    directory: Path, rows: Mapping[str, Any], *, counts: Mapping[str, int] | None = None, **task: Any
) -> Path:
    (directory / "data").mkdir(parents=True)
    table = pa.table(dict(rows))
    pyarrow.parquet.write_table(table, directory / "data/train-00000.parquet")
    digest = hash_file(directory / "data/train-00000.parquet")
    instruction = ['First <b>way</b>: <X1> "', 'Second way: <X1> "']
    labels = {label: {"instruction": instruction, "counter_labels": []} for label in LABELS}
    shard = {"file": "data/train-00000.parquet", "rows": len(table), "sha256": digest, "counts": dict(counts or {})}
    content = {
        "format": "dino-st raw 1",
        "complete": True,
        "configuration": {"task": {"task_name": "t", "labels": labels} | task, "seed": 7},
        "provenance": {"model": "some-model"},
        "shards": [shard] if len(table) else [],
    }
    (directory / "manifest.json").write_text(json.dumps(content))
    return directory


def write_training(directory: Path, curve: Sequence[tuple[int, float]]) -> None:
    points = tuple(Score(step=step, spearman=value) for step, value in curve)
    record = TrainingRecord(
        status="complete",
        options=TrainingOptions(),
        encoder="some-encoder",
        encoder_revision=None,
        data={"train": 3},
        provenance={},
        processes=1,
        versions={},
        start=0.5,
        curve=points,
        best=points[-1] if points else None,
        seconds=2.0,
    )
    write_record(directory, record)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a whole recipe leaves behind, with log-probabilities, phrasings and texts full of HTML."""
    directory = tmp_path_factory.mktemp("reported") / "recipe"
    rows = raw_rows(24)
    own = [LABELS.index(f"{score:g}") for score in rows["score"]]
    log_probs = [[-1.0 if label == right else -3.0 for label in range(3)] for right in own]
    log_probs[0] = [-5.0, -1.0, -5.0]
    rows["sentence2"][0] = SCRIPT
    raw = write_raw(
        directory / "raw",
        rows | {"log_probs": log_probs, "instruction": [i // 12 for i in range(24)], "tries": [1] * 24},
        counts={"rows": 24, "draws": 30, "tries": 40, "rejected: no closing quote": 5, "given up": 6},
    )
    pairs = Dataset(pyarrow.parquet.read_table(raw / "data/train-00000.parquet")).select_columns(
        ["sentence1", "sentence2", "score"]
    )
    save_prepared(prepare_pairs(pairs, random_negatives=1), directory / "prepared")
    rejected = {"sentence1": SCRIPT, "sentence2": "x", "score": 1.0, "reason": "near_copy", "value": 0.97}
    (directory / "prepared/rejected.jsonl").write_text(json.dumps(rejected) + "\n")
    write_training(directory / "model", [(100, 0.6), (200, 0.75)])
    (directory / "scores").mkdir()
    scores = {"untrained": {"A": 60.0, "average": 60.0}, "tr<i>ned": {"A": 70.5, "average": 70.5}}
    (directory / "scores/scores.json").write_text(json.dumps(scores))
    return directory


@pytest.fixture
def copy(recipe: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(recipe, tmp_path / "recipe"))


@pytest.fixture(scope="module")
def written(recipe: Path) -> Path:
    """Its report."""
    result = CliRunner().invoke(app, ["report", str(recipe), "--output", str(recipe.parent / "report")])
    assert result.exit_code == 0, result.output
    return recipe.parent / "report/index.html"


class Page(HTMLParser):
    """Collects tags, what they refer to, and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def references(self) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags for name in ("src", "href", "srcset") if name in attrs]


def section(sections: Sequence[Section], title: str) -> Section:
    return next(part for part in sections if part.title == title)


def test_a_recipe_becomes_one_page_and_pictures(written: Path) -> None:
    names = {path.stem for path in written.parent.glob("*.png")}
    by_set = {f"{what}-{kind}" for what in ("labels", "lengths", "overlap") for kind in ("raw", "prepared")}
    assert names == by_set | {"posterior-raw", "rejections", "training"}
    assert all((written.parent / f"{name}.png").read_bytes().startswith(PNG) for name in names)
    assert sum(tag == "img" for tag, _ in Page(written).tags) == len(names)


def test_the_page_needs_nothing_from_outside_and_runs_no_script(written: Path) -> None:
    page = Page(written)
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in page.references())
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    style = page.text.partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    policy = next(attrs["content"] for _, attrs in page.tags if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_generated_text_is_shown_as_it_is_and_never_as_html(written: Path) -> None:
    assert SCRIPT in Page(written).text
    assert "tr<i>ned" in Page(written).text
    assert "<script" not in written.read_text(encoding="utf-8")


def test_a_report_of_the_same_directory_is_the_same_to_the_byte(tmp_path: Path) -> None:
    write_training(tmp_path / "run", [(1, 0.5), (2, 0.6)])
    first, second = (write_report(tmp_path / "run", tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_sections_hold_what_the_stages_counted(recipe: Path) -> None:
    _, sections = build_sections(recipe, ReportOptions())
    rejected = section(sections, "Rejections")
    assert list(rejected.tables[0].rows) == [
        ("generation (raw)", "no closing quote", "5", "12.5 % of 40 tries"),
        ("generation (raw)", "given up", "6", "20.0 % of 30 draws"),
        ("preparation (prepared)", "near copy", "1", ""),
    ]
    assert rejected.tables[1].rows == [("near copy", SCRIPT, "x", "1.0", "0.97")]
    phrasings = {tuple(row[:3]) for row in section(sections, "Instructions").tables[0].rows}
    assert phrasings == {(label, number, "4") for label in LABELS for number in "12"}
    assert section(sections, "Instructions").tables[0].rows[0][-1] == 'First <b>way</b>: <X1> "'
    results = section(sections, "Results").tables[0]
    assert [row[1] for row in results.rows] == ["60.00", "70.50"]
    assert results.bold == {(1, 1), (1, 2)}


def test_every_picture_says_what_it_means_and_has_its_numbers_in_a_table(recipe: Path, written: Path) -> None:
    shown = [part for part in build_sections(recipe, ReportOptions())[1] if part.pictures]
    assert {picture.name.partition("-")[0] for part in shown for picture in part.pictures} == set(PICTURES)
    assert all(len(part.tables) >= len(part.pictures) for part in shown)
    page = Page(written)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert all("in the table below" in (attrs["alt"] or "") for attrs in images)
    help_text = " ".join(CliRunner().invoke(app, ["report", "--help"]).output.split())
    guide = " ".join((Path(__file__).parents[2] / "docs/how-to/audit.md").read_text(encoding="utf-8").split())
    for meaning in PICTURES.values():
        assert meaning in page.text
        assert meaning in help_text
        assert meaning in guide


def test_smoothed_scores_are_explained_by_the_labels_they_were_written_as(recipe: Path) -> None:
    labels = section(build_sections(recipe, ReportOptions())[1], "Labels")
    assert "label 0 became 0.1, 1 became 0.9" in labels.notes[0]
    assert [row[:2] for row in labels.tables[1].rows] == [
        ("0", "random negative"),
        ("0.1", "0"),
        ("0.5", "0.5"),
        ("0.9", "1"),
    ]


def test_a_training_is_shown_with_its_options_and_the_numbers_of_its_curve(recipe: Path) -> None:
    options, curve = section(build_sections(recipe, ReportOptions())[1], "Training").tables
    facts = dict(options.rows)
    assert [facts[name] for name in ("epochs", "learning rate", "started from")] == ["1", "2e-05", "some-encoder"]
    assert facts["Spearman × 100 kept"] == "75.00 at step 200"
    assert curve.rows == [("untrained", "50.00"), ("100", "60.00"), ("200", "75.00")]
    assert curve.bold == {(2, 1)}


def test_parts_of_one_data_set_may_be_given_one_by_one_or_by_what_holds_them(copy: Path, tmp_path: Path) -> None:
    for old, new in (("raw", "my-pairs"), ("prepared", "my-splits"), ("model", "my-encoder")):
        (copy / old).rename(copy / new)
    parts = [copy / name for name in ("my-pairs", "my-splits", "my-encoder", "scores")]
    result = CliRunner().invoke(app, ["report", *map(str, parts), "--output", str(tmp_path / "page")])
    assert result.exit_code == 0, result.output
    one_by_one = build_sections(parts, ReportOptions())[1]
    together = build_sections(copy, ReportOptions())[1]
    assert [part.title for part in one_by_one] == [part.title for part in together]
    for title in ("Labels", "Training", "Results"):
        assert section(one_by_one, title).tables == section(together, title).tables


def test_several_runs_stand_side_by_side_under_their_own_names(tmp_path: Path) -> None:
    first = write_raw(tmp_path / "<i>enc[b] $é$ 日本_" / "raw", raw_rows())
    second = write_raw(tmp_path / "b", raw_rows(6))
    write_training(tmp_path / "m1", [(1, 0.5)])
    write_training(tmp_path / "m2", [])
    for name, model in (("s1", "a"), ("s2", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.json").write_text(json.dumps({model: {"T": 1.0, "average": 1.0}}))
    directories = [first, second, *(tmp_path / name for name in ("m1", "m2", "s1", "s2"))]
    labels = section(build_sections(directories, ReportOptions())[1], "Labels")
    assert [picture.name for picture in labels.pictures] == ["labels-raw", "labels-raw-2"]
    assert labels.tables[0].caption == "Labels of the <i>enc[b] $é$ 日本_/raw rows"
    page = Page(write_report(directories, tmp_path / "page"))
    assert "<i>enc[b] $é$ 日本_/raw: language model" in page.text
    assert list(section(build_sections(directories, ReportOptions())[1], "Results").tables[0].rows) == [
        ["a (s1)", "1.00", "1.00"],
        ["a (s2)", "1.00", "1.00"],
    ]
    assert not {"i", "b"} & {tag for tag, _ in page.tags}


def test_remarks_show_commands_as_code_and_their_markup_as_text() -> None:
    text = render("t", [Section("s", ["Run `dino-st <b>` and `alone"])])
    assert "<p>Run <code>dino-st &lt;b&gt;</code> and `alone</p>" in text


def test_the_posterior_is_that_of_bayes_and_orders_the_examples(recipe: Path) -> None:
    rows = labelled_rows(WrittenPairs.read(recipe / "raw"), ReportOptions())
    belief = rows.posteriors
    assert isinstance(belief, Posteriors)
    right = np.exp(-1) / (np.exp(-1) + 2 * np.exp(-3))
    assert belief.of_own[1:] == pytest.approx([right] * 23)
    assert belief.of_own[0] == pytest.approx(np.exp(-5) / (np.exp(-1) + 2 * np.exp(-5)))
    _, sections = build_sections(recipe, ReportOptions(examples=3))
    doubtful = next(
        table for table in section(sections, "Examples").tables if table.caption == "Label 1: most doubtful"
    )
    assert doubtful.rows[0][1] == SCRIPT
    assert doubtful.rows[0][-1] == "0.5"


def test_log_probabilities_that_say_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    usable = [-1.0, -2.0, float("-inf")]
    log_probs = [usable] * 9 + [None, [-1.0, float("nan"), -1.0], [-1.0, -2.0]]
    raw = write_raw(tmp_path / "raw", raw_rows(12, log_probs=pa.array(log_probs, pa.list_(pa.float64()))))
    belief = labelled_rows(WrittenPairs.read(raw), ReportOptions()).posteriors
    assert isinstance(belief, Posteriors)
    assert sum(belief.left_out.values()) == 3
    assert len(belief.rows) == 9
    notes = section(build_sections(raw, ReportOptions())[1], "Label posterior").notes
    assert any("1 raw rows with a log-probability that is NaN" in note for note in notes)


def test_without_log_probabilities_the_page_says_so_and_draws_examples(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", raw_rows())
    _, sections = build_sections(raw, ReportOptions(examples=2))
    absent = section(sections, "Label posterior").absent
    assert "no log-probabilities; `dino-st generate --score-labels` writes them" in absent
    assert [len(table.rows) for table in section(sections, "Examples").tables] == [2, 2, 2]
    assert "There is no record of a training run" in section(sections, "Training").absent


def test_large_sets_are_sampled_with_a_fixed_seed_and_the_page_says_so(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", raw_rows(3000))
    options = ReportOptions(sample=100)
    rows = labelled_rows(WrittenPairs.read(raw), options)
    assert rows.table.num_rows == 100
    assert rows.totals.tolist() == [1000, 1000, 1000]
    assert rows.table.equals(labelled_rows(WrittenPairs.read(raw), options).table)
    notes = section(build_sections(raw, options)[1], "What is here").notes
    assert any("computed on 100 of 3,000 rows, drawn at random with a fixed seed" in note for note in notes)


def test_overlap_and_lengths_are_counted_in_words(tmp_path: Path) -> None:
    rows = {"sentence1": ["a b c", "x y"], "sentence2": ["A b d", "z"], "score": [1.0, 0.0]}
    found = labelled_rows(WrittenPairs.read(write_raw(tmp_path / "raw", rows)), ReportOptions())
    assert found.overlap is not None
    assert found.overlap.tolist() == [0.5, 0.0]
    assert found.words["sentence2"].tolist() == [3, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_one_pair_or_one_label_is_enough_for_a_page(count: int, tmp_path: Path) -> None:
    rows = {"sentence1": ["a b"] * count, "sentence2": ["a"] * count, "score": [0.5] * count}
    page = Page(write_report(write_raw(tmp_path / "raw", rows), tmp_path / "out"))
    assert "There is one label only" in page.text


def test_rows_without_a_finite_score_or_a_text_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = raw_rows(6)
    rows["score"] = [0.0, float("nan"), None, float("inf"), 1.0, 1.0]
    rows["sentence2"][5] = None
    raw = write_raw(tmp_path / "raw", rows)
    found = labelled_rows(WrittenPairs.read(raw), ReportOptions())
    assert found.left_out == {"without a text": 1, "without a finite score": 3}
    assert found.totals.tolist() == [1, 1]
    notes = section(build_sections(raw, ReportOptions())[1], "What is here").notes
    assert "3 raw rows without a finite score are left out." in notes
    rows["score"] = [float("nan")] * 6
    with pytest.raises(DatasetError, match="none of 6 rows has texts and a usable score"):
        write_report(write_raw(tmp_path / "nan", rows), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_single_texts_with_named_labels_are_shown_without_overlap(tmp_path: Path) -> None:
    rows = {"text": ["Good $film$.", "Bad <film>."] * 3, "label": ["$good", "bad"] * 3}
    _, sections = build_sections(write_raw(tmp_path / "raw", rows), ReportOptions())
    assert "single texts" in section(sections, "Token overlap").absent
    write_report(tmp_path / "raw", tmp_path / "out")


def test_posterior_targets_count_under_the_nearest_assigned_score(copy: Path) -> None:
    for split in ("train", "validation"):
        path = copy / f"prepared/data/{split}.parquet"
        table = pyarrow.parquet.read_table(path)
        mixed = pa.array(np.linspace(0.0, 0.9, len(table)))
        pyarrow.parquet.write_table(table.set_column(2, "score", mixed), path)
    rows = labelled_rows(WrittenPairs.read(copy / "prepared"), ReportOptions())
    assert rows.is_nearest
    assert rows.groups == ("0", "0.1", "0.5", "0.9")


def test_nothing_generated_yet_is_said(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", {"sentence1": pa.array([], pa.string())})
    assert "no rows with labels" in Page(write_report(raw, tmp_path / "out")).text


def test_a_trained_run_alone_is_enough_and_an_unfinished_one_too(tmp_path: Path) -> None:
    write_training(tmp_path / "run", [(1, 0.5)])
    write_report(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out/training.png").is_file()
    write_training(tmp_path / "new", [])
    with pytest.raises(OutputError, match="holds the report on something else"):
        write_report(tmp_path / "new", tmp_path / "out")
    write_report(tmp_path / "run", tmp_path / "out")  # the same one is renewed
    write_report(tmp_path / "new", tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/training.png").exists(), "of the earlier report"
    assert "was not evaluated yet" in Page(tmp_path / "out/index.html").text


def test_undefined_scores_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"a": {"T": NaN, "average": NaN}, "b": {"T": 1, "average": 1}}')
    table = section(build_sections(tmp_path, ReportOptions())[1], "Results").tables[0]
    assert [row[1] for row in table.rows] == ["undefined", "1.00"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": {"T": "x"}}', '{"a": {"T": 1}, "b": {}}', "{"])
def test_damaged_scores_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(InputError, match=r"scores\.json: .*run the evaluation again"):
        find([tmp_path])


def test_wrong_directories_and_outputs_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such directory"):
        find([tmp_path / "no"])
    with pytest.raises(InputError, match="holds nothing to report"):
        find([tmp_path])
    raw = write_raw(tmp_path / "raw", raw_rows())
    with pytest.raises(OutputError, match="holds something else than a report"):
        write_report(raw, raw)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/preparation.json").write_text("{}")
    with pytest.raises(InputError, match=r"preparation\.json"):
        find([tmp_path])


def test_damaged_rejections_are_refused_with_their_line(copy: Path) -> None:
    (copy / "prepared/rejected.jsonl").write_text('{"reason": "x"}\n{"why": "y"}\n')
    with pytest.raises(InputError, match=r"rejected\.jsonl, line 2: expected an object with a field 'reason'"):
        find([copy])
    (copy / "prepared/rejected.jsonl").write_text("{\n")
    with pytest.raises(InputError, match=r"rejected\.jsonl: cannot be read"):
        find([copy])


def test_answers_that_cannot_be_read_cost_their_section_alone(copy: Path, tmp_path: Path) -> None:
    (copy / "prepared/audit.jsonl").write_text('{"bad\n')
    page = write_report(copy, tmp_path / "page").read_text(encoding="utf-8")
    assert "audit.jsonl" in page
    assert "No pair was judged" not in page
    assert "some-encoder" in page


def judge_all(directory: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(directory), "-n", "2"], input="9\n" * 9)
    assert result.exit_code == 0, result.output


def test_judgements_are_shown_by_assigned_label(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", raw_rows())
    judge_all(raw)
    shown = section(build_sections(raw, ReportOptions())[1], "Human check")
    assert not shown.notes
    assert [row[:4] for row in shown.tables[0].rows] == [
        [score, "2", "0", "100 % (34 to 100)"] for score in ("1", "0.5", "0")
    ]


def test_judgements_of_pairs_that_were_replaced_are_not_shown_as_current(tmp_path: Path) -> None:
    judge_all(write_raw(tmp_path / "old", raw_rows()))
    rows = raw_rows()
    rows["sentence2"] = [f"Another text {text}" for text in rows["sentence2"]]
    new = write_raw(tmp_path / "new", rows)
    shutil.copy(tmp_path / "old/audit.jsonl", new)
    shown = section(build_sections(new, ReportOptions())[1], "Human check")
    assert [note.partition(str(new))[2] for note in shown.notes] == [
        " was written anew since these pairs were drawn; the table is about the pairs of then"
    ]
    assert len(shown.tables) == 1


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_is_installed", lambda module: module != "jinja2")
    with pytest.raises(MissingExtraError, match=r'needs Jinja2; run: pip install "dino-st\[report\]"'):
        write_report(tmp_path, tmp_path / "out")
