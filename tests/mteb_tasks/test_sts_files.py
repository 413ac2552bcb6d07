"""Reading SentEval's layout: sizes, quirks of the real files, and what is said about broken ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from dino_st.errors import DatasetError, InputError
from mteb_tasks import sts_files
from mteb_tasks.sts_files import ScoredPair, find_root, pairs_dataset, pairs_revision, read_dev_pairs
from tests.mteb_tasks.fixtures import write_sts_directory
from tests.mteb_tasks.fixtures.senteval import SICK, STS_BENCHMARK, YEARS

SHARED = Path(__file__).parents[3] / "shared" / "data" / "sts"

needs_real_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the SemEval files are not here")


@pytest.fixture(scope="module")
def sts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sts_directory(tmp_path_factory.mktemp("sts"))


@pytest.fixture
def broken(sts_dir: Path, tmp_path: Path) -> Path:
    """A copy to break; STS12 alone, since that is what the tests break."""
    shutil.copytree(sts_dir / "STS" / "STS12-en-test", tmp_path / "STS" / "STS12-en-test")
    return tmp_path


@pytest.mark.parametrize("year", YEARS)
def test_a_year_has_the_published_number_of_pairs_of_every_source(sts_dir: Path, year: str) -> None:
    pairs = getattr(sts_files, year).read(sts_dir)
    counts = {source: sum(pair.source == source for pair in pairs) for source in YEARS[year]}
    assert counts == YEARS[year]


def test_pairs_without_a_gold_score_are_left_out(sts_dir: Path) -> None:
    assert not any(pair.sentence1 == "Nobody scored this" for pair in sts_files.STS15.read(sts_dir))


def test_a_pair_is_read_as_it_stands_in_the_file(sts_dir: Path) -> None:
    folder = sts_dir / "STS" / "STS12-en-test"
    first = (folder / "STS.input.MSRpar.txt").read_text(encoding="utf-8").split("\n")[0].split("\t")
    score = float((folder / "STS.gs.MSRpar.txt").read_text(encoding="utf-8").split("\n")[0])
    assert sts_files.STS12.read(sts_dir)[0] == ScoredPair(first[0], first[1], score, "MSRpar")


def test_sts_benchmark_keeps_unbalanced_quotation_marks(sts_dir: Path) -> None:
    pairs = sts_files.STS_BENCHMARK_TEST.read(sts_dir)
    assert len(pairs) == STS_BENCHMARK["test"]
    assert pairs[0].sentence1.startswith('"')
    assert pairs[0].sentence1.count('"') == 1


def test_sick_is_read_without_its_header_and_its_carriage_returns(sts_dir: Path) -> None:
    pairs = sts_files.SICK_TEST.read(sts_dir)
    assert len(pairs) == SICK["test_annotated"]
    assert all(1 <= pair.score <= 5 for pair in pairs)
    assert not any("\r" in pair.sentence1 + pair.sentence2 for pair in pairs)


def test_the_tokenised_release_loads_too(tmp_path: Path) -> None:
    root = write_sts_directory(tmp_path, tokenised=True)
    assert len(sts_files.STS16.read(root)) == 1186
    assert sts_files.STS16.read(root)[0].sentence1.endswith(" .")
    assert len(sts_files.STS_BENCHMARK_DEV.read(root)) == 1500


def test_characters_that_only_splitlines_would_split_at_stay_in_the_sentence(broken: Path) -> None:
    path = broken / "STS" / "STS12-en-test" / "STS.input.MSRpar.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[3] = "One\x0bsentence\x85here\tAnother\u2028one"
    path.write_bytes("\n".join(lines).encode())
    assert sts_files.STS12.read(broken)[3].sentence1 == "One\x0bsentence\x85here"


def test_windows_line_ends_and_a_last_line_without_one_change_nothing(broken: Path, sts_dir: Path) -> None:
    for path in (broken / "STS" / "STS12-en-test").iterdir():
        path.write_bytes(path.read_bytes().removesuffix(b"\n").replace(b"\n", b"\r\n"))
    assert sts_files.STS12.read(broken) == sts_files.STS12.read(sts_dir)


def test_pairs_become_columns_with_a_source_where_there_is_one(sts_dir: Path) -> None:
    data = pairs_dataset([ScoredPair("a", "b", 1.5, "x"), ScoredPair("c", "d", 2.0)])
    assert data.to_dict() == {
        "sentence1": ["a", "c"],
        "sentence2": ["b", "d"],
        "score": [1.5, 2.0],
        "source": ["x", ""],
    }
    assert {name: (len(data), data.column_names) for name, data in read_dev_pairs(sts_dir).items()} == {
        "STSb dev": (1500, ["sentence1", "sentence2", "score"]),
        "SICK dev": (500, ["sentence1", "sentence2", "score"]),
    }


@pytest.mark.parametrize("part", ["STS", "SICK"])
@pytest.mark.parametrize("below", ["", "downstream", "data/downstream"])
def test_a_senteval_checkout_is_found_by_any_of_its_roots(tmp_path: Path, below: str, part: str) -> None:
    (tmp_path / below / part).mkdir(parents=True)
    assert find_root(tmp_path) == tmp_path / below


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, InputError, r"SICK_trial\.txt' is missing, so '.*sick' is not a complete directory"),
        ("head\n1\tA.\tB.\t3\n2\tA.\tB.\n", InputError, r"SICK_trial\.txt', line 3: 3 tab-sep.* at least 4"),
        ("head\n1\tA.\tB.\t3\n2\tA.\tB.\tx\n", InputError, r"SICK_trial\.txt', line 3: the gold score is 'x'"),
        ("head\n1\tA.\tB.\t3\n", DatasetError, r"SICK_trial\.txt': 'SICK_trial' has 1 scored pairs, the .* 500"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(
    content: str | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    root = tmp_path / "sick"
    (root / "SICK").mkdir(parents=True)
    if content is not None:
        (root / "SICK" / "SICK_trial.txt").write_text(content)
    with pytest.raises(error, match=message):
        sts_files.SICK_TRIAL.read(root)


def test_what_cannot_be_read_is_named_with_the_systems_word(tmp_path: Path) -> None:
    (tmp_path / "SICK" / "SICK_trial.txt").mkdir(parents=True)
    with pytest.raises(InputError, match=r"SICK_trial\.txt' cannot be read \(Is a directory\)"):
        sts_files.SICK_TRIAL.read(tmp_path)


def test_a_directory_that_does_not_exist_is_named_with_the_expected_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere' does not exist[\s\S]*STS\.input\.MSRpar\.txt"):
        find_root(tmp_path / "nowhere")
    (tmp_path / "nowhere-else").mkdir()
    with pytest.raises(InputError, match=r"^The STS directory .*' does not exist; .*nowhere-else'\? Give a directory"):
        find_root(tmp_path / "nowhere-elze")
    with pytest.raises(InputError, match=r"' does not hold 'TREC'\. Give a directory"):
        find_root(tmp_path, ("TREC",))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file' is a file"):
        find_root(tmp_path / "file")


def test_a_directory_without_sts_and_sick_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds neither 'STS' nor 'SICK'[\s\S]*SICK_test_annotated"):
        find_root(tmp_path)


def test_a_missing_file_is_named_with_the_expected_layout(broken: Path) -> None:
    for kind in ("gs", "input"):
        (broken / "STS" / "STS12-en-test" / f"STS.{kind}.MSRvid.txt").unlink()
        message = rf"{kind}\.MSRvid\.txt' is missing, so '{broken}' is [\s\S]*DIR/STS/STSBenchmark"
        with pytest.raises(InputError, match=message):
            sts_files.STS12.read(broken)


def test_a_missing_pair_is_an_error_that_names_the_source_and_both_counts(broken: Path) -> None:
    for kind in ("input", "gs"):
        path = broken / "STS" / "STS12-en-test" / f"STS.{kind}.SMTeuroparl.txt"
        path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(
        DatasetError,
        match=r"gs\.SMTeuroparl\.txt': source 'SMTeuroparl' has 458 scored pairs, the published data has 459",
    ):
        sts_files.STS12.read(broken)


def test_fewer_gold_lines_than_inputs_are_refused(broken: Path) -> None:
    path = broken / "STS" / "STS12-en-test" / "STS.gs.MSRpar.txt"
    path.write_bytes(path.read_bytes().rstrip(b"\n").rsplit(b"\n", 2)[0] + b"\n")
    with pytest.raises(InputError, match=r"MSRpar\.txt' has 750 lines but its gold file .* has 748"):
        sts_files.STS12.read(broken)


@pytest.mark.parametrize("score", ["high", "nan", "1,5"])
def test_a_score_that_is_no_number_is_refused_with_its_line(broken: Path, score: str) -> None:
    path = broken / "STS" / "STS12-en-test" / "STS.gs.MSRpar.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[6] = score
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=rf"STS\.gs\.MSRpar\.txt', line 7: the gold score is '{score}'"):
        sts_files.STS12.read(broken)


def test_a_line_with_one_sentence_is_refused_with_its_line(broken: Path) -> None:
    path = broken / "STS" / "STS12-en-test" / "STS.input.MSRpar.txt"
    path.write_bytes(path.read_bytes().replace(b"\t", b" ", 1))
    with pytest.raises(InputError, match=r"MSRpar\.txt', line 1: 1 tab-separated columns, expected at least 2"):
        sts_files.STS12.read(broken)


def test_invalid_utf8_is_refused(broken: Path) -> None:
    path = broken / "STS" / "STS12-en-test" / "STS.input.MSRpar.txt"
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(InputError, match=r"is not UTF-8 \(byte 0\)"):
        sts_files.STS12.read(broken)


def test_the_hash_names_the_content_and_not_the_line_ends(sts_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(sts_dir / "SICK", tmp_path / "SICK")
    path = tmp_path / "SICK" / "SICK_test_annotated.txt"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    before = pairs_revision({"test": sts_files.SICK_TEST.read(sts_dir)})
    assert pairs_revision({"test": sts_files.SICK_TEST.read(tmp_path)}) == before
    pairs = [ScoredPair("a", "b\tc", 1.5, "x"), ScoredPair("ü", "", 0.0)]  # stored results are found by this name
    assert pairs_revision({"dev": pairs, "test": []}) == "4ea044ad2264e73e2bc776bb27f99fd1024a06ba"
    path.write_bytes(path.read_bytes().replace(b"\t3.", b"\t2.", 1))
    assert pairs_revision({"test": sts_files.SICK_TEST.read(tmp_path)}) != before


def test_scores_that_were_shifted_by_a_line_are_told(broken: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = broken / "STS" / "STS12-en-test"
    drawn = random.Random(0)
    scores = [drawn.randrange(6) for _ in range(750)]
    words = [f"a{i} b{i} c{i} d{i} e{i}".split() for i in range(750)]
    pairs = [
        " ".join(one) + "\t" + " ".join(one[:score] + ["x"] * (5 - score))
        for one, score in zip(words, scores, strict=True)
    ]
    (folder / "STS.input.MSRpar.txt").write_text("\n".join(pairs) + "\n")
    gold = folder / "STS.gs.MSRpar.txt"
    for moved, is_told in ((scores, False), (scores[1:] + scores[:1], True)):
        caplog.clear()
        gold.write_text("".join(f"{score}\n" for score in moved))
        sts_files.STS12.read(broken)
        assert ("STS.gs.MSRpar.txt: from about row 1 to row" in caplog.text) == is_told


QUOTED = {
    "as published": ('"No", he said.', False),
    "where needed": ('"""No"", he said."', True),
    "all": ('"No."', True),
}


@pytest.mark.parametrize("how", QUOTED)
def test_texts_that_a_csv_writer_has_quoted_are_told(
    how: str, sts_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text, is_told = QUOTED[how]
    name = Path("STS", "STSBenchmark", "sts-test.csv")
    (tmp_path / name).parent.mkdir(parents=True)
    rows = [line.split("\t")[:5] for line in (sts_dir / name).read_text().splitlines()]
    others = [text if how == "all" else "He said no."] * len(rows)
    others[::9] = [text] * len(others[::9])
    (tmp_path / name).write_text(
        "".join("\t".join([*row, text, other]) + "\n" for row, other in zip(rows, others, strict=True))
    )
    sts_files.STS_BENCHMARK_TEST.read(tmp_path)
    assert ("texts stand in quotation marks as a file of CSV has them" in caplog.text) == is_told


@needs_real_data
def test_the_real_files_have_the_published_sizes(caplog: pytest.LogCaptureFixture) -> None:
    root = find_root(SHARED)
    totals = {year: len(getattr(sts_files, year).read(root)) for year in YEARS}
    assert totals == {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186}
    tables = (sts_files.STS_BENCHMARK_TEST, sts_files.SICK_TRAIN, sts_files.SICK_TRIAL, sts_files.SICK_TEST)
    assert [len(table.read(root)) for table in tables] == [1379, 4500, 500, 4927]
    assert caplog.text == ""
