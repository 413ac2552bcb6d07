from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from dino_st.data.sentences import read_sentences
from dino_st.data.shards import ShardDirectory, Wave, collect_waves, shard_name, store_wave, write_waves
from dino_st.errors import OutputError
from dino_st.support.files import replacing, write_text
from dino_st.support.hashes import hash_texts

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string())])
CONFIGURATION = {"seed": 1, "decoding": {"top_k": 5, "top_p": 0.9}}
CARD = "---\ntags:\n- dino-st\n---\n"


def opened(directory: Path, configuration: Any = CONFIGURATION) -> Any:
    return ShardDirectory(directory).open(configuration=configuration, provenance={"model": "m"}, schema=SCHEMA)


def wave(*texts: str, number: int = 0) -> Wave:
    return Wave(
        number, [{"text": text, "label": "0"} for text in texts], {"draws": len(texts) + 1, "rejected: empty": 1}
    )


def test_waves_come_back_in_order_with_their_counts(tmp_path: Path) -> None:
    with opened(tmp_path / "raw") as store:
        store.put(wave("a", "b"))
        store.put(wave("c", number=1))
        store.finish(CARD)
    with opened(tmp_path / "raw") as store:
        assert store.is_complete
        assert store.to_dataset()["text"][:] == ["a", "b", "c"]
        assert store.to_dataset()["text"][:] == ["a", "b", "c"]
        assert store.counts == {"draws": 5, "rejected: empty": 2}


def test_no_thread_but_pythons_own_lets_go_of_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of Arrow's that does while the program ends aborts it, behind its last line."""
    released: list[int] = []

    class Content(bytearray):
        def __del__(self) -> None:
            released.append(threading.get_ident())

    class File(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return Content(super().read(size))  # type: ignore[return-value] # what it is made of is Arrow's to read

    with opened(tmp_path / "raw") as store:
        store.put(wave(*"abc"))
        content = store.file_of(0).read_bytes()
        monkeypatch.setattr(Path, "open", lambda path, mode: File(content))
        known = {thread.ident for thread in threading.enumerate()}
        for _ in range(40):
            assert store._table_of(0).num_rows == 3
    assert released
    assert set(released) <= known


def test_datasets_reads_the_directory_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path / "raw") as store:
        store.put(wave("a", "b"))
        store.put(wave("c", number=1))
        store.finish(CARD)
    loaded = datasets.load_dataset(str(tmp_path / "raw"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["text"][:] == ["a", "b", "c"]
    assert loaded.column_names == ["text", "label"]


def test_an_interrupted_run_continues_behind_its_last_wave(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as store:  # noqa: PT012
        store.put(wave("a"))
        raise KeyboardInterrupt
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == ([0], False)
        store.put(wave("b", number=1))
        assert store.to_dataset()["text"][:] == ["a", "b"]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_shard_is_written_again_alone(damage: str, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number, text in enumerate("abc"):
            store.put(wave(text, number=number))
        store.finish(CARD)
    manifest = (tmp_path / "manifest.json").read_bytes()
    shard = tmp_path / "data/train-00001.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:-9]) if damage == "changed" else shard.unlink()
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == ([0, 2], False)
        store.put(wave("b", number=1))
        assert store.to_dataset()["text"][:] == ["a", "b", "c"]
        store.finish(CARD)
    assert (shard.read_bytes(), (tmp_path / "manifest.json").read_bytes()) == (content, manifest)


def test_waves_may_be_finished_in_any_order(tmp_path: Path) -> None:
    with opened(tmp_path / "raw") as store:
        for number in (2, 0, 1):
            store.put(wave("abc"[number], number=number))
        store.finish(CARD)
    with opened(tmp_path / "in-order") as store:
        for number in range(3):
            store.put(wave("abc"[number], number=number))
        store.finish(CARD)
    assert ShardDirectory(tmp_path / "raw").to_dataset()["text"][:] == ["a", "b", "c"]
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("raw", "in-order")]
    assert manifests[0] == manifests[1]


def test_beyond_99_999_waves_files_sort_as_waves_do(tmp_path: Path) -> None:
    numbers = [0, 7, 99_998, 99_999, 100_000, 100_001, 999_999, 1_000_000]
    with opened(tmp_path) as store:
        for number in reversed(numbers):
            store.put(wave(str(number), number=number))
        store.finish(CARD)
    names = [shard_name(number) for number in numbers]
    assert names == sorted(names)
    assert [f"data/{path.name}" for path in sorted((tmp_path / "data").iterdir())] == names
    texts = [str(number) for number in numbers]
    assert ShardDirectory(tmp_path).to_dataset()["text"][:] == texts
    assert read_sentences(tmp_path).texts[:] == texts
    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path.parent / "cache"))
    assert loaded["text"][:] == texts


def written_by_an_older_version(directory: Path, numbers: list[int], *, complete: bool) -> list[dict[str, Any]]:
    """Entries without a number of their own, files with five digits or more, lines that count the shards before."""
    with opened(directory) as store:
        for number in numbers:
            store.put(wave(str(number), number=number))
        store.finish(CARD)
    shards = []
    for number, shard in store.shards.items():
        name = f"data/shard-{number:05d}.parquet"
        (directory / shard["file"]).rename(directory / name)
        shards.append(shard | {"file": name})
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(
        json.dumps(manifest | {"complete": complete, "shards": shards if complete else shards[:1]})
    )
    if not complete:
        lines = [{"place": place, "shard": shard} for place, shard in enumerate(shards)]
        (directory / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    return shards


@pytest.mark.parametrize("complete", [True, False])
def test_a_directory_of_an_older_version_is_read_and_continued(complete: bool, tmp_path: Path) -> None:
    numbers = [99_999, 100_000, 100_001]
    shards = written_by_an_older_version(tmp_path, numbers, complete=complete)
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == (numbers, complete)
        names = [f"data/train-{name}.parquet" for name in ("99999", "a100000", "a100001")]
        assert list(store.shards.values()) == [
            shard | {"file": name} for shard, name in zip(shards, names, strict=True)
        ]
        store.put(wave("one more", number=100_002))
        assert store.to_dataset()["text"][:] == [*map(str, numbers), "one more"]
    (tmp_path / "data/train-a100000.parquet").write_bytes(b"damaged")
    with opened(tmp_path) as store:
        assert store.waves == [99_999, 100_001, 100_002]
        store.put(wave("100000", number=100_000))
        store.finish(CARD)
        assert store.to_dataset()["text"][:] == [*map(str, numbers), "one more"]
    assert not list((tmp_path / "data").glob("shard-*"))


def test_the_manifest_is_read_once_and_again_only_where_another_process_changed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
    reads: list[Path] = []
    read_text = Path.read_text

    def counted(self: Path, *arguments: Any, **named: Any) -> str:
        reads.extend([self] if self.name == "manifest.json" else [])
        return read_text(self, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", counted)
    directory = ShardDirectory(tmp_path)
    with directory.open(configuration=CONFIGURATION, provenance={}, schema=SCHEMA):
        directory.put(wave("b", number=1))
        directory.finish(CARD)
    assert directory.to_dataset()["text"][:] == ["a", "b"]
    assert reads == [tmp_path / "manifest.json"]
    waiting = ShardDirectory(tmp_path)
    with opened(tmp_path) as store:
        store.put(wave("c", number=2))
    with waiting.open(configuration=CONFIGURATION, provenance={}, schema=SCHEMA):
        assert waiting.waves == [0, 1, 2]


def test_examples_are_the_same_after_an_interruption_and_kept_while_writing(tmp_path: Path) -> None:
    def rows(number: int) -> Wave:
        pairs = [{"sentence1": f"{number} {i}", "sentence2": "x", "score": i % 2} for i in range(20)]
        return Wave(number, pairs, {"rows": 20})

    schema = pa.schema([("sentence1", pa.string()), ("sentence2", pa.string()), ("score", pa.float64())])
    found = []
    for name, parts in (("whole", [[0, 1, 2]]), ("pieces", [[1], [2, 0]])):
        for part in parts:
            directory = ShardDirectory(tmp_path / name)
            with directory.open(configuration={"seed": 3}, provenance={}, schema=schema):
                for number in part:
                    directory.put(rows(number))
        if name == "whole":
            shutil.rmtree(tmp_path / name)  # nothing is read back
        found.append(directory.examples())
    assert found[0] == found[1]
    assert {label: len(texts) for label, texts in found[0].items()} == {"0": 4, "1": 4}
    assert list(found[0]) == ["0", "1"]


def test_examples_of_a_wave_that_is_written_again_are_those_of_its_last_rows(tmp_path: Path) -> None:
    def rows(*names: str) -> Wave:
        return Wave(0, [{"sentence1": name, "sentence2": "x", "score": 0.0} for name in names], {"rows": len(names)})

    schema = pa.schema([("sentence1", pa.string()), ("sentence2", pa.string()), ("score", pa.float64())])
    directory = ShardDirectory(tmp_path)
    with directory.open(configuration={}, provenance={}, schema=schema):
        for names in ("a", "bc"):
            directory.put(rows(*names))
        assert directory.examples() == {"0": [["b", "x"], ["c", "x"]]}
        directory.finish("# raw")
        directory.put(rows("d", "e", "f"))  # as where failed requests of a complete run are made again
        assert directory.examples() == ShardDirectory(tmp_path).examples() == {"0": [[n, "x"] for n in "def"]}


def test_what_is_seen_of_labels_depends_neither_on_who_looked_nor_on_the_order_of_the_waves(tmp_path: Path) -> None:
    schema = pa.schema([("sentence1", pa.string()), ("sentence2", pa.string()), ("score", pa.float64())])
    texts = {
        0: [("a b", "a c", 0.5)],
        1: [("a b", "a b", 1.0), ("a b", "a", 0.5)],
        2: [("a", "b", 0.0), ("a", "a", 0.5)],
    }
    # Shared words of label 0.5: 1/3, 1/2 and 1; label 0.5 comes first in wave 0, 1 in wave 1, and 0 in wave 2.
    expected = [("0.5", 3, 0.3333, 0.5), ("1", 1, 1.0, 1.0), ("0", 1, 0.0, 0.0)]

    def rows(number: int, count: int | None = None) -> Wave:
        return Wave(number, [dict(zip(schema.names, pair, strict=True)) for pair in texts[number][:count]], {})

    def seen(directory: ShardDirectory) -> list[tuple[Any, ...]]:
        return [
            (label, *(one[key] for key in ("pairs", "identical", "overlap")))
            for label, one in directory.quality().items()
        ]

    for place, order in enumerate(itertools.permutations(texts)):
        directory = ShardDirectory(tmp_path / str(place))
        with directory.open(configuration={}, provenance={}, schema=schema):
            for number in order:
                directory.put(rows(number, 1))
                directory.put(rows(number))  # again, with more in it
            assert seen(directory) == expected
            directory.file_of(1).unlink()
            directory.put(rows(1))
            assert seen(directory) == expected
        assert seen(ShardDirectory(directory.path)) == expected
        directory.file_of(2).unlink()
        with directory.open(configuration={}, provenance={}, schema=schema):
            assert 2 not in directory
            directory.put(rows(2))
            assert seen(directory) == expected


class Interrupted(Exception):  # noqa: N818
    pass


def test_the_loop_of_all_runs_goes_on_with_the_waves_that_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[int] = []

    def waves(store: Any, dies_at: int | None = None) -> Generator[Wave, None, None]:
        for number in range(4):
            if number == dies_at:
                raise Interrupted
            if number not in store:
                made.append(number)
                yield wave("abcd"[number], number=number)

    def run(path: Path, **options: Any) -> ShardDirectory:
        described: dict[str, Any] = {"configuration": CONFIGURATION, "provenance": {}, "schema": SCHEMA}
        waves_of = partial(waves, **options)
        return write_waves(ShardDirectory(path), waves_of, card=lambda name, **facts: f"# {name} {facts}", **described)

    with pytest.raises(Interrupted):
        run(tmp_path / "raw", dies_at=2)
    assert run(tmp_path / "raw").to_dataset()["text"][:] == list("abcd")
    (tmp_path / "raw/data/train-00001.parquet").unlink()
    assert run(tmp_path / "raw").new_rows == 1
    assert made == [0, 1, 2, 3, 1]
    caplog.set_level("INFO")
    run(tmp_path / "raw")
    assert "is complete already; nothing to do" in caplog.text
    in_memory = collect_waves(waves, SCHEMA)
    assert in_memory.to_dataset().to_list() == ShardDirectory(tmp_path / "raw").to_dataset().to_list()
    assert in_memory.counts == ShardDirectory(tmp_path / "raw").counts


def test_a_shard_with_another_number_of_rows_than_the_manifest_says_is_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a", "b"))
        store.finish(CARD)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 2', '"rows": 3'))
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == ([], False)


def test_files_that_would_be_read_with_the_shards_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        (tmp_path / "data/train-00099.parquet").write_bytes(b"")
        (tmp_path / "data/edited.csv").write_bytes(b"")
        store.finish(CARD)
    first, second = (record.getMessage() for record in caplog.records)
    assert "data/train-00099.parquet is not of this run, but datasets.load_dataset may read it" in first
    assert "data/edited.csv is not of this run, and is not read" in second


def test_a_changed_configuration_is_refused_and_said(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
    changed = {"seed": 2, "decoding": {"top_k": 5, "top_p": 0.5}}
    with (
        pytest.raises(OutputError, match=r"seed was 1, now 2\n  top_p was 0.9, now 0.5"),
        opened(tmp_path, changed),
    ):
        pass
    with opened(tmp_path) as store:
        assert store.waves == [0]


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds something else \(thesis.tex\)"), opened(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"format": "other"}',
        "[]",
        '{"format": "dino-st raw 1", "complete": true, "configuration": {}, "provenance": {}, "shards": [1]}',
        '{"format": "dino-st raw 1", "complete": true, "configuration": 3, "provenance": {}, "shards": []}',
    ],
)
def test_a_damaged_manifest_is_refused_and_nothing_is_lost(content: str, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(OutputError, match="manifest"), opened(tmp_path):
        pass
    assert (tmp_path / "data/train-00000.parquet").is_file()


def test_a_run_killed_while_it_wrote_its_first_file_starts_again(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.4711.tmp").write_text("{")
    (tmp_path / ".lock").write_text("")
    with opened(tmp_path) as store:
        assert store.waves == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.json"]


def test_a_directory_is_known_as_ours_before_its_first_wave(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as store:  # noqa: PT012
        store.write_card(CARD)
        raise KeyboardInterrupt
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == ([], False)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("")
    with pytest.raises(OutputError, match="this is a file"), opened(tmp_path / "raw"):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"cannot be created|not writable"), opened(tmp_path / "raw"):
        pass


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"), opened(tmp_path / "file" / "raw"):
        pass


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        code = (
            "import sys; from pathlib import Path; from tests.data.test_shards import opened\n"
            f"with opened(Path({str(tmp_path)!r})): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
        )
    assert "another process is writing there" in second.stderr


def test_the_manifest_never_names_a_shard_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[bool] = []
    fsync = os.fsync

    def checked(descriptor: int) -> None:
        fsync(descriptor)
        found = ShardDirectory(tmp_path)
        named.extend(found.file_of(number).is_file() for number in found.waves)

    monkeypatch.setattr(os, "fsync", checked)
    with opened(tmp_path) as store:
        store.put(wave("a"))
        store.put(wave("b", number=1))
        store.finish(CARD)
    assert len(named) > 5
    assert all(named)


def test_a_wave_is_entered_without_writing_the_others_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        before = (tmp_path / "manifest.json").read_text()
        for number, text in enumerate("abc"):
            store.put(wave(text, number=number))
            assert (tmp_path / "manifest.json").read_text() == before
            assert len(ShardDirectory(tmp_path).waves) == number + 1
        store.finish(CARD)
    assert len(json.loads((tmp_path / "manifest.json").read_text())["shards"]) == 3
    assert not (tmp_path / "manifest.jsonl").exists()


@pytest.mark.parametrize(("damage", "left"), [("cut", [0]), ("garbled", [0, 1]), ("lost", [1]), ("whole", [0, 1])])
def test_of_the_lines_behind_the_manifest_those_that_are_whole_count(
    damage: str, left: list[int], tmp_path: Path
) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        store.put(wave("b", number=1))
    journal = tmp_path / "manifest.jsonl"
    content = journal.read_bytes()
    first, second = content.splitlines(keepends=True)
    damaged = {"cut": content[:-1], "garbled": first + b"\0\n" + second, "lost": second}
    journal.write_bytes(damaged.get(damage, content))
    with opened(tmp_path) as store:
        assert store.waves == left
        for number in range(3):
            if number not in store:
                store.put(wave("abc"[number], number=number))
        assert store.to_dataset()["text"][:] == ["a", "b", "c"]
    assert len(ShardDirectory(tmp_path).waves) == 3


@pytest.mark.parametrize("line", [b"123", b"null", b"{}", b'{"place": 0}', b'{"place": "0", "shard": {"file": 1}}'])
def test_lines_of_something_else_are_no_shards(line: bytes, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
    with (tmp_path / "manifest.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    assert len(ShardDirectory(tmp_path).waves) == 1


def test_temporary_files_of_others_are_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
    (tmp_path / "notes").mkdir()
    mine = [tmp_path / "notes/.mine.tmp", tmp_path / "notes/.a.1.tmp", tmp_path / ".mine.tmp", tmp_path / "data/.b.tmp"]
    for path in (*mine, tmp_path / "data/.train-00001.parquet.4711.tmp"):
        path.write_text("keep")
    with opened(tmp_path):
        pass
    assert all(path.exists() for path in mine)
    assert not (tmp_path / "data/.train-00001.parquet.4711.tmp").exists()


def test_a_finished_run_leaves_nothing_of_a_worker_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        (tmp_path / "data/.train-00001.parquet.4711.tmp").write_text("half")
        store.finish(CARD)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["train-00000.parquet"]


def test_a_run_killed_between_moving_the_lines_and_removing_them_counts_them_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        journal = (tmp_path / "manifest.jsonl").read_bytes()
        store.finish(CARD)
    (tmp_path / "manifest.jsonl").write_bytes(journal)
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == ([0], True)
    assert not (tmp_path / "manifest.jsonl").exists()


def test_shards_without_a_manifest_are_refused_as_what_they_are(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        store.finish(CARD)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"holds shards but no manifest\.json.*load_dataset"), opened(tmp_path):
        pass


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="No space left on device"):
                store.put(wave("b", number=1))
    with opened(tmp_path) as store:
        assert store.to_dataset()["text"][:] == ["a"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["train-00000.parquet"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ValueError, match="half way"), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("ne")
        raise ValueError("half way")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_the_manifest_names_every_shard_with_its_hash(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave("a"))
        store.finish(CARD)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["configuration"] == CONFIGURATION
    assert manifest["shards"][0]["file"] == "data/train-00000.parquet"
    assert len(manifest["shards"][0]["sha256"]) == 64
    assert list(ShardDirectory(tmp_path).shards.values()) == manifest["shards"]
    assert not ShardDirectory(tmp_path / "new").is_begun


def test_the_hash_of_texts_knows_where_each_ends() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])


def test_an_empty_wave_leaves_an_empty_shard(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(wave())
        assert isinstance(store, ShardDirectory)
        assert store.to_dataset().column_names == ["text", "label"]


def test_waves_that_others_wrote_are_entered_together_and_leave_what_put_leaves(tmp_path: Path) -> None:
    texts = {0: "a", 1: "b", 2: "c"}
    with opened(tmp_path / "put") as store:
        for number, text in texts.items():
            store.put(wave(text, number=number))
        examples = store.examples()
        store.finish(CARD)
    with opened(tmp_path / "entered") as store:
        others = [
            store_wave(store.path, wave(texts[number], number=number), SCHEMA, CONFIGURATION) for number in (2, 0)
        ]
        store.enter(others)
        assert store.waves == [0, 2]
        assert len((store.path / "manifest.jsonl").read_text().splitlines()) == 2
    with opened(tmp_path / "entered") as store:
        store.enter([store_wave(store.path, wave("b", number=1), SCHEMA, CONFIGURATION)])
        assert store.new_rows == 1
        assert store.examples() == examples
        store.finish(CARD)
    for file in ("manifest.json", *(f"data/train-0000{number}.parquet" for number in texts)):
        assert (tmp_path / "entered" / file).read_bytes() == (tmp_path / "put" / file).read_bytes()


def test_rows_of_one_run_come_from_gpus_of_one_kind(tmp_path: Path) -> None:
    of = {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3"}
    with opened(tmp_path, CONFIGURATION | of) as store:
        store.put(wave("a"))
    refused = pytest.raises(OutputError, match="gpu was 'NVIDIA H100 80GB HBM3', now 'NVIDIA A10G'")
    with refused, opened(tmp_path, CONFIGURATION | of | {"gpu": "NVIDIA A10G"}):
        pass


def test_a_directory_from_before_gpus_were_recorded_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path, CONFIGURATION | {"device": "cuda"}) as store:
        store.put(wave("a"))
    with opened(tmp_path, CONFIGURATION | {"device": "cuda", "gpu": "NVIDIA A10G"}) as store:
        assert store.waves == [0]
