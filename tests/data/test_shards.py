from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from dino_st.data.shards import ShardStore, Wave, open_store, read_manifest
from dino_st.errors import OutputError
from dino_st.support.files import replacing, write_text
from dino_st.support.hashes import hash_texts

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string())])
CONFIGURATION = {"seed": 1, "decoding": {"top_k": 5, "top_p": 0.9}}
CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n"


def opened(directory: Path, configuration: Any = CONFIGURATION) -> Any:
    return open_store(directory, configuration=configuration, provenance={"model": "m"}, schema=SCHEMA)


def wave(*texts: str, number: int = 0) -> Wave:
    return Wave(
        number, [{"text": text, "label": "0"} for text in texts], {"draws": len(texts) + 1, "rejected: empty": 1}
    )


def test_waves_come_back_in_order_with_their_counts(tmp_path: Path) -> None:
    with opened(tmp_path / "raw") as store:
        store.append(wave("a", "b"))
        store.append(wave("c", number=1))
        store.finish(CARD)
    with opened(tmp_path / "raw") as store:
        assert store.is_complete
        assert [row["text"] for row in store.rows()] == ["a", "b", "c"]
        assert store.to_dataset()["text"][:] == ["a", "b", "c"]
        assert store.counts == {"draws": 5, "rejected: empty": 2}


def test_datasets_reads_the_directory_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path / "raw") as store:
        store.append(wave("a", "b"))
        store.append(wave("c", number=1))
        store.finish(CARD)
    loaded = datasets.load_dataset(str(tmp_path / "raw"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["text"][:] == ["a", "b", "c"]
    assert loaded.column_names == ["text", "label"]


def test_an_interrupted_run_continues_behind_its_last_wave(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as store:  # noqa: PT012
        store.append(wave("a"))
        raise KeyboardInterrupt
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == (1, False)
        store.append(wave("b", number=1))
        assert [row["text"] for row in store.rows()] == ["a", "b"]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_shard_and_all_behind_it_are_written_again(damage: str, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number, text in enumerate("abc"):
            store.append(wave(text, number=number))
        store.finish(CARD)
    shard = tmp_path / "data/shard-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-9]) if damage == "changed" else shard.unlink()
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == (1, False)


def test_a_shard_with_another_number_of_rows_than_the_manifest_says_is_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a", "b"))
        store.finish(CARD)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 2', '"rows": 3'))
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == (0, False)


def test_files_that_would_be_read_with_the_shards_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
        (tmp_path / "data/shard-00099.parquet").write_bytes(b"")
        store.finish(CARD)
    assert ["data/shard-00099.parquet is not of this run" in record.getMessage() for record in caplog.records] == [True]


def test_a_changed_configuration_is_refused_and_said(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
    changed = {"seed": 2, "decoding": {"top_k": 5, "top_p": 0.5}}
    with (
        pytest.raises(OutputError, match=r"seed: was 1, now 2\n  decoding.top_p: was 0.9, now 0.5"),
        opened(tmp_path, changed),
    ):
        pass
    with opened(tmp_path) as store:
        assert store.waves == 1


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
        store.append(wave("a"))
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(OutputError, match="manifest"), opened(tmp_path):
        pass
    assert (tmp_path / "data/shard-00000.parquet").is_file()


def test_a_run_killed_while_it_wrote_its_first_file_starts_again(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.4711.tmp").write_text("{")
    (tmp_path / ".lock").write_text("")
    with opened(tmp_path) as store:
        assert store.waves == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.json"]


def test_a_directory_is_known_as_ours_before_its_first_wave(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as store:  # noqa: PT012
        store.write_card(CARD)
        raise KeyboardInterrupt
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == (0, False)


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
        store.append(wave("a"))
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
        shards = (read_manifest(tmp_path) or {"shards": []})["shards"]
        named.extend((tmp_path / shard["file"]).is_file() for shard in shards)

    monkeypatch.setattr(os, "fsync", checked)
    with opened(tmp_path) as store:
        store.append(wave("a"))
        store.append(wave("b", number=1))
        store.finish(CARD)
    assert len(named) > 5
    assert all(named)


def test_a_wave_is_entered_without_writing_the_others_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        before = (tmp_path / "manifest.json").read_text()
        for number, text in enumerate("abc"):
            store.append(wave(text, number=number))
            assert (tmp_path / "manifest.json").read_text() == before
            assert len((read_manifest(tmp_path) or {})["shards"]) == number + 1
        store.finish(CARD)
    assert len(json.loads((tmp_path / "manifest.json").read_text())["shards"]) == 3
    assert not (tmp_path / "manifest.jsonl").exists()


@pytest.mark.parametrize(("damage", "left"), [("cut", 1), ("garbled", 1), ("whole", 2)])
def test_lines_behind_the_manifest_count_up_to_the_first_damaged_one(damage: str, left: int, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
        store.append(wave("b", number=1))
    journal = tmp_path / "manifest.jsonl"
    content = journal.read_bytes()
    first, second = content.splitlines(keepends=True)
    journal.write_bytes({"cut": content[:-1], "garbled": first + b"\0\n" + second}.get(damage, content))
    with opened(tmp_path) as store:
        assert store.waves == left
        for number in range(left, 3):
            store.append(wave("abc"[number], number=number))
        assert [row["text"] for row in store.rows()] == ["a", "b", "c"]
    assert len((read_manifest(tmp_path) or {})["shards"]) == 3


@pytest.mark.parametrize("line", [b"123", b"null", b"{}", b'{"place": 0}', b'{"place": "0", "shard": {"file": 1}}'])
def test_lines_of_something_else_are_no_shards(line: bytes, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
    with (tmp_path / "manifest.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    assert len((read_manifest(tmp_path) or {})["shards"]) == 1


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_shards_behind_lost_lines_are_written_again_and_none_twice(lost: int, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
        store.append(wave("b", number=1))
        (tmp_path / "manifest.jsonl").unlink()
        store.append(wave("c", number=2))
        store.append(wave("d", number=3))
        lines = (tmp_path / "manifest.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "manifest.jsonl").write_bytes(b"".join(lines[lost - 1 :]))
    with opened(tmp_path) as store:
        assert store.waves == 0
        for number, text in enumerate("abcd"):
            store.append(wave(text, number=number))
        store.finish(CARD)
        assert [row["text"] for row in store.rows()] == list("abcd")


def test_temporary_files_of_others_are_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
    (tmp_path / "notes").mkdir()
    mine = [tmp_path / "notes/.mine.tmp", tmp_path / "notes/.a.1.tmp", tmp_path / ".mine.tmp", tmp_path / "data/.b.tmp"]
    for path in (*mine, tmp_path / "data/.shard-00001.parquet.4711.tmp"):
        path.write_text("keep")
    with opened(tmp_path):
        pass
    assert all(path.exists() for path in mine)
    assert not (tmp_path / "data/.shard-00001.parquet.4711.tmp").exists()


def test_a_run_killed_between_moving_the_lines_and_removing_them_counts_them_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
        journal = (tmp_path / "manifest.jsonl").read_bytes()
        store.finish(CARD)
    (tmp_path / "manifest.jsonl").write_bytes(journal)
    with opened(tmp_path) as store:
        assert (store.waves, store.is_complete) == (1, True)
    assert not (tmp_path / "manifest.jsonl").exists()


def test_shards_without_a_manifest_are_refused_as_what_they_are(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))
        store.finish(CARD)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"holds shards but no manifest\.json.*load_dataset"), opened(tmp_path):
        pass


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as store:
        store.append(wave("a"))

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="No space left on device"):
                store.append(wave("b", number=1))
    with opened(tmp_path) as store:
        assert [row["text"] for row in store.rows()] == ["a"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["shard-00000.parquet"]


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
        store.append(wave("a"))
        store.finish(CARD)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["configuration"] == CONFIGURATION
    assert manifest["shards"][0]["file"] == "data/shard-00000.parquet"
    assert len(manifest["shards"][0]["sha256"]) == 64
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "new") is None


def test_the_hash_of_texts_knows_where_each_ends() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])


def test_an_empty_wave_leaves_an_empty_shard(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append(wave())
        assert isinstance(store, ShardStore)
        assert store.to_dataset().column_names == ["text", "label"]
