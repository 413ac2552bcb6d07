from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import fsspec
import pytest

from dino_st.errors import ConfigurationError, MissingExtraError, OutputError
from dino_st.support import objects
from dino_st.support.files import check_can_become_directory, only_writer, write_text
from dino_st.support.objects import ObjectPath, address_of, place
from tests.shelf import Shelf


@pytest.fixture
def at(tmp_path: Path) -> ObjectPath:
    found = place(f"shelf://{tmp_path}/raw")
    assert isinstance(found, ObjectPath)
    return found


@pytest.fixture(autouse=True)
def whole_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "puts", 0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(objects, "_DEAD_SECONDS", 0.5)
    monkeypatch.setattr(objects, "_SETTLE_SECONDS", 0.1)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        (Path("s3://bucket/a/b"), "s3://bucket/a/b"),
        ("hdfs:///a", "hdfs:///a"),
        (Path("simplecache::s3://bucket"), "simplecache::s3://bucket"),
        ("raw", None),
        ("/raw/a:b", None),
        ("a::b", None),
        ("C:/raw", None),
        (Path("s3://"), "s3://"),
    ],
)
def test_an_address_is_known_with_the_slashes_that_pathlib_leaves_it(path: str | Path, address: str | None) -> None:
    assert address_of(path) == address


def test_what_is_on_disk_is_a_path_whatever_it_is_called(tmp_path: Path) -> None:
    assert place("a/b") == Path("a/b")
    assert place(f"file://{tmp_path}/a") == place(Path(f"file://{tmp_path}/a")) == tmp_path / "a"


def test_an_unknown_protocol_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigurationError, match=r"s33://bucket/a: no file system is known for 's33'; did you mean 's3'"
    ):
        place(Path("s33://bucket/a"))


@pytest.mark.parametrize("address", ["memory://", Path("memory://"), "memory:///", "simplecache::memory://a/b"])
def test_an_address_names_one_bucket(address: str | Path) -> None:
    with pytest.raises(ConfigurationError, match="expected one address that names a bucket, such as s3://"):
        place(address)


def test_what_must_be_installed_is_named() -> None:
    fsspec.register_implementation("nowhere", "not_installed_fs.FileSystem", clobber=True)
    with pytest.raises(
        MissingExtraError, match=r"nowhere://a/b: .*'nowhere' is not installed; run: pip install not_inst"
    ):
        place("nowhere://a/b")


def test_objects_are_found_by_the_names_of_paths(at: ObjectPath) -> None:
    assert not any(found(at) for found in (ObjectPath.exists, ObjectPath.is_dir, ObjectPath.is_file))
    assert list(at.iterdir()) == []
    write_text(at / "data" / "a.txt", "ä")
    write_text(at / "b.json", "{}")
    assert [found.name for found in at.iterdir()] == ["b.json", "data"]
    assert list((at / "data").glob("*.txt")) == [at / "data" / "a.txt"]
    assert at.is_dir()
    assert not at.is_file()
    assert (at / "data" / "a.txt").read_text(encoding="utf-8") == "ä"
    write_text(at / "data" / "data" / "d.txt", "")
    assert [found.name for found in (at / "data").iterdir()] == ["a.txt", "data"]
    (at / "b.json").replace(at / "c.json")
    (at / "c.json").unlink()
    (at / "c.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (at / "c.json").unlink()
    with pytest.raises(FileNotFoundError):
        (at / "c.json").read_bytes()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError("Access Denied"),
            r"may not be used \(PermissionError: Access Denied\); check this machine's cred",
        ),
        (type("NoCredentialsError", (Exception,), {})("none"), r"\(NoCredentialsError: none\); check this machine's"),
        (ConnectionError("no route"), r"\(ConnectionError: no route\); check address and network"),
        (FileNotFoundError("no such bucket"), r"there is no such bucket \(no such bucket\); create it first"),
        (OSError(28, "full"), "full"),
    ],
)
def test_what_a_store_refuses_is_told_before_anything_is_written(
    error: Exception, message: str, at: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_can_become_directory(at)
    assert not at.exists()
    monkeypatch.setattr(Shelf, "fails_at", 0)
    monkeypatch.setattr(Shelf, "error", error)
    with pytest.raises(OutputError, match=re.escape(str(at)) + r"/\.\d+\.tmp: .*" + message):
        check_can_become_directory(at)


# Who may write


def lock_of(at: ObjectPath) -> dict[str, str]:
    content: dict[str, str] = json.loads((at / ".lock").read_text())
    return content


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("knows_conditions", [True, False])
def test_a_second_writer_is_refused_while_the_first_lives(
    knows_conditions: bool, at: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shelf, "knows_conditions", knows_conditions)
    with only_writer(at) as check:
        first = lock_of(at)
        with (
            pytest.raises(OutputError, match=r"\.lock: process \d+ on .* is writing there; wait for it"),
            only_writer(at),
        ):
            pass
        check()
        assert lock_of(at)["key"] == first["key"]
        assert lock_of(at)["alive"] > first["alive"]
    assert not at.exists()
    with only_writer(at):
        pass


@pytest.mark.usefixtures("impatient")
def test_what_a_killed_writer_left_is_taken_over_after_a_while(
    at: ObjectPath, caplog: pytest.LogCaptureFixture
) -> None:
    write_text(at / ".lock", json.dumps({"owner": "process 1 on elsewhere", "key": "k", "alive": "2020"}))
    start = time.monotonic()
    with only_writer(at):
        assert time.monotonic() - start >= 0.5
        assert lock_of(at)["owner"] != "process 1 on elsewhere"
    assert "process 1 on elsewhere wrote there and has not said that it ended" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_of_several_that_wait_for_a_dead_one_a_single_one_goes_on(at: ObjectPath) -> None:
    write_text(at / ".lock", "{}")
    inside, refused, go = [], [], threading.Event()

    def contend(number: int) -> None:
        try:
            with only_writer(at):
                inside.append(number)
                go.wait(10)
        except OutputError:
            refused.append(number)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while len(refused) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("now", ["{}", None])
def test_a_writer_that_was_taken_for_dead_ends_before_it_enters_anything(now: str | None, at: ObjectPath) -> None:
    def until_lost() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            check()
            (at / ".lock").unlink(missing_ok=True) if now is None else write_text(at / ".lock", now)
            time.sleep(0.2)

    with (
        only_writer(at) as check,
        pytest.raises(OutputError, match="the lock is gone, or another process has it; this one ends"),
    ):
        until_lost()
    assert (at / ".lock").exists() == (now is not None)


@pytest.mark.usefixtures("impatient")
def test_a_network_that_is_gone_for_a_while_loses_no_lease(
    at: ObjectPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with only_writer(at) as check:
        with monkeypatch.context() as patched:
            patched.setattr(Shelf, "fails_at", 0)
            time.sleep(0.3)
        before = lock_of(at)["alive"]
        time.sleep(0.3)
        check()
        assert lock_of(at)["alive"] > before
    assert "the network is gone" in caplog.text
