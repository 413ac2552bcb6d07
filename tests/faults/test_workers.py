from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dino_st import DinoDatasetBuilder, backends
from dino_st.backends.options import ClusterOptions, ModelOptions
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ClusterError, ConfigurationError, MissingExtraError, OutOfMemoryError, OutputError
from dino_st.generation import judging, scoring, workers
from dino_st.generation.merging import merge_shards
from dino_st.generation.workers import Crew, _Worker
from dino_st.pipeline.stages import judge_data, score_data
from dino_st.support import objects
from tests.faults.doomed_workers import (
    Blind,
    Cramped,
    DoomedAtStart,
    DoomedByAWave,
    DoomedInTheMiddle,
    DoomedOnceItIsPut,
    Held,
    Stranger,
)
from tests.generation.test_judging import cross_encoder

ROOT = Path(__file__).parents[2]
SENTENCES = [f"A man with {number} apples plays the flute in the park." for number in range(24)]
SETTINGS: dict[str, Any] = {"batch_size": 48, "device": "cpu", "dtype": "float32", "max_new_tokens": 16, "seed": 7}

thorough = pytest.mark.skipif(
    "RAY_FAULTS" not in os.environ, reason="takes minutes; `make ray-faults` sets RAY_FAULTS and runs it"
)


def builder(**changes: Any) -> DinoDatasetBuilder:
    return DinoDatasetBuilder("dino-tiny", **{"load": False, **SETTINGS, **changes})


def by_workers(address: str, directory: Path | str, **changes: Any) -> None:
    options = {"engine": "ray", "workers": 2, "cpus_per_worker": 1, "ray_address": address, **changes}
    builder().generate_shards(directory, SENTENCES, **options)


def assert_same(directory: Path, expected: Path) -> None:
    files = {str(file.relative_to(expected)): file for file in (*expected.glob("data/*"), expected / "manifest.json")}
    found = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    assert found - set(files) == {".lock", "README.md"}
    for name, file in files.items():
        assert (directory / name).read_bytes() == file.read_bytes(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes without Ray."""
    directory = tmp_path_factory.mktemp("undisturbed") / "raw"
    builder().generate_shards(directory, SENTENCES)
    assert len(ShardDirectory(directory).waves) == 6
    return directory


@pytest.fixture
def after_the_first_wave(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Crew], Any]], list[Any]]:
    """Lets something happen once, when the first wave is finished and others are being written."""

    def plan(action: Callable[[Crew], Any]) -> list[Any]:
        happened: list[Any] = []
        step = Crew._step

        def watched(crew: Crew, seconds: float) -> None:
            step(crew, seconds)
            if crew._finished and not happened:
                happened.append(action(crew))

        monkeypatch.setattr(Crew, "_step", watched)
        return happened

    return plan


# What one suite should always see


@pytest.fixture(params=[1, 3])
def waves_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get so many waves in one call, as they do where waves are short."""
    hand_out = Crew._hand_out

    def several(crew: Crew, streams: int) -> bool:
        crew._at_once = request.param
        return hand_out(crew, streams)

    monkeypatch.setattr(Crew, "_hand_out", several)


def test_a_worker_that_is_killed_in_the_middle_of_a_wave_changes_no_byte(
    cluster: Any,
    undisturbed: Path,
    tmp_path: Path,
    waves_at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(workers, "WaveWorker", DoomedInTheMiddle)
    with caplog.at_level(logging.WARNING, "dino_st"):
        by_workers(cluster.address, tmp_path / "raw")
    assert f"worker {(tmp_path / 'ended').read_text()} on" in caplog.text
    assert "another writes its waves" in caplog.text
    assert_same(tmp_path / "raw", undisturbed)


def test_a_run_of_workers_goes_on_without_them_and_back(cluster: Any, undisturbed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "raw"
    half = builder(load=True)
    calls = []

    def stop(*_: Any) -> None:
        calls.append(1)
        if len(list(directory.glob("data/*.parquet"))) >= 2:
            raise KeyboardInterrupt

    handle = half._writer.model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        half.generate_shards(directory, SENTENCES)
    handle.remove()
    assert ShardDirectory(directory).waves == [0, 1]
    by_workers(cluster.address, directory, workers=1)
    assert_same(directory, undisturbed)
    (directory / "data/train-00003.parquet").write_bytes(b"damaged")
    half.generate_shards(directory, SENTENCES)
    assert_same(directory, undisturbed)


def write_again(kind: str, raw: Path, output: Path, model: str = "dino-tiny", **cluster: Any) -> None:
    """Has pairs scored or judged, by this process or by workers."""
    how = {name: SETTINGS[name] for name in ("batch_size", "device", "dtype")}
    if kind == "score":
        of_cluster = ClusterOptions.of(**cluster)
        score_data(raw, model, output, options=ModelOptions.of(**how), cluster=of_cluster)
    else:
        judge_data(raw, model, output, given={**how, **cluster})


@pytest.mark.parametrize("kind", ["score", "judge", "judge by a cross-encoder"])
def test_scores_and_ratings_of_workers_are_those_of_one_process(
    kind: str,
    cluster: Any,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(workers, "WaveWorker", DoomedInTheMiddle)
    monkeypatch.setattr(scoring, "ROWS_IN_WAVE", 24)
    monkeypatch.setattr(judging, "_WAVE", {"local": 24, "cross-encoder": 24})
    model = "dino-tiny" if kind in ("score", "judge") else str(cross_encoder(tmp_path / "model"))
    expected, directory = tmp_path / "expected", tmp_path / "by-workers"
    write_again(kind, undisturbed, expected, model)
    assert len(ShardDirectory(expected).waves) == 6
    each = {"cpus_per_worker": 1, "ray_address": cluster.address}
    options = {"engine": "ray", "workers": 2 if kind == "score" else 1, **each}
    with caplog.at_level(logging.WARNING, "dino_st"):
        write_again(kind, undisturbed, directory, model, **options)
    assert f"worker {(tmp_path / 'ended').read_text()} on" in caplog.text
    assert_same(directory, expected)
    for number, engine in ((2, {}), (4, options | {"workers": 1}))[: 2 if kind == "score" else 1]:
        (directory / f"data/train-0000{number}.parquet").unlink()
        write_again(kind, undisturbed, directory, model, **engine)
        assert_same(directory, expected)


def test_on_an_object_store_a_worker_that_is_killed_and_then_the_driver_change_no_byte(
    cluster: Any,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(objects, "_DEAD_SECONDS", 5.0)
    address = f"shelf://{tmp_path}/raw"
    command = [sys.executable, "-m", "tests.faults.ray_driver", cluster.address, address]
    driver = subprocess.Popen(command, cwd=ROOT)
    while not (tmp_path / "raw" / "manifest.jsonl").exists():
        assert driver.poll() is None, "the driver was meant to be killed before its end"
        time.sleep(0.01)
    with pytest.raises(OutputError, match=rf"process {driver.pid} on .* is writing there; wait for it"):
        by_workers(cluster.address, address)
    driver.kill()
    driver.wait()
    finished = ShardDirectory(address).waves
    assert 0 < len(finished) < 6
    monkeypatch.setattr(workers, "WaveWorker", DoomedOnceItIsPut)
    with caplog.at_level(logging.WARNING, "dino_st"):
        by_workers(cluster.address, address)
    assert f"process {driver.pid} on" in caplog.text
    assert f"worker {(tmp_path / 'ended').read_text()} on" in caplog.text
    (tmp_path / "raw" / ".lock").touch()  # as a directory on disk has it
    assert_same(tmp_path / "raw", undisturbed)


def test_an_object_store_that_workers_cannot_use_is_told_of_before_the_model_is_loaded(cluster: Any) -> None:
    with pytest.raises(OutputError, match=r"memory://raw: worker \d+ on .* does not see what the driver wrote there"):
        by_workers(cluster.address, "memory://raw")


def test_another_version_of_dino_st_on_a_worker_is_refused(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.cluster, "version", lambda _: "0.0.1")
    with pytest.raises(ConfigurationError, match=r"has dino-st .*, and the driver has 0\.0\.1; install the same"):
        by_workers(cluster.address, tmp_path / "raw")
    assert not ShardDirectory(tmp_path / "raw").is_begun


def test_workers_that_do_not_see_the_directory_are_told_of_before_the_model_is_loaded(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WaveWorker", Blind)
    with pytest.raises(OutputError, match=r"does not see what the driver wrote there .* that all machines share"):
        by_workers(cluster.address, tmp_path / "raw")
    assert not (tmp_path / "raw-elsewhere").exists()


def test_a_worker_that_runs_out_of_memory_takes_smaller_batches_or_the_run_says_what_to_do(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precise = builder(dtype="float64")  # in which it does not matter how a batch is cut
    precise.generate_shards(tmp_path / "expected", SENTENCES)
    monkeypatch.setattr(workers, "WaveWorker", Cramped)
    options = {"engine": "ray", "workers": 2, "cpus_per_worker": 1, "ray_address": cluster.address}
    precise.generate_shards(tmp_path / "raw", SENTENCES, **options)
    assert (tmp_path / "cramped").exists()
    assert_same(tmp_path / "raw", tmp_path / "expected")
    (tmp_path / "raw/data/train-00003.parquet").unlink()
    (tmp_path / "always").touch()
    with pytest.raises(OutOfMemoryError, match="use a smaller model"):
        precise.generate_shards(tmp_path / "raw", SENTENCES, **options)
    precise.generate_shards(tmp_path / "raw", SENTENCES)
    assert_same(tmp_path / "raw", tmp_path / "expected")


def test_a_shard_of_three_workers_joins_one_of_a_process_to_what_that_alone_writes(
    cluster: Any, undisturbed: Path, tmp_path: Path
) -> None:
    of_workers = {"engine": "ray", "workers": 3, "cpus_per_worker": 0.5, "ray_address": cluster.address}
    parts = {"1/2": of_workers, "2/2": {}}
    for shard, options in parts.items():
        builder(shard=shard).generate_shards(tmp_path / shard[0], SENTENCES, **options)
    merge_shards([tmp_path / shard[0] for shard in parts], tmp_path / "raw")
    for file in undisturbed.glob("data/*"):
        assert (tmp_path / "raw/data" / file.name).read_bytes() == file.read_bytes(), file.name


# What needs no cluster


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "engine='ray' along with workers"),
        ({"engine": "ray", "workers": 0}, "'auto', or a number of processes, at least 1"),
        ({"engine": "spark"}, "'local' or 'ray'"),
        ({"engine": "ray", "ray_address": "ray://head:10001"}, "the driver writes the manifest"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        builder().generate_shards(tmp_path / "raw", SENTENCES, **options)
    assert not (tmp_path / "raw").exists()


def test_texts_that_must_differ_from_one_another_are_the_work_of_one_process(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"task 'sts-x1' writes texts that must differ .* leave out engine='ray'"
    ):
        builder(task="sts-x1").generate_shards(tmp_path / "raw", num=10, engine="ray")


def test_workers_load_a_model_by_its_name(tmp_path: Path, make_model: Any, tokenizer: Any) -> None:
    pair = DinoDatasetBuilder((make_model("gpt2"), tokenizer), batch_size=24)
    with pytest.raises(ConfigurationError, match="give its directory or name, not a pair"):
        pair.generate_shards(tmp_path / "raw", SENTENCES, engine="ray")


def test_a_device_with_a_number_is_left_to_ray(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="device 'cuda:1': with engine='ray' every worker has GPUs of its own"):
        builder(device="cuda:1").generate_shards(tmp_path / "raw", SENTENCES, engine="ray")


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.cluster, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "dino-st\[ray\]"'):
        builder().generate_shards(tmp_path / "raw", SENTENCES, engine="ray")


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere"])
def test_a_head_that_cannot_be_reached_is_told_at_once(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: the extra `ray`")
    start = time.monotonic()
    with pytest.raises(ConfigurationError, match=f"no Ray cluster at ray_address '{address}' .*; start one with"):
        by_workers(address, tmp_path / "raw")
    assert time.monotonic() - start < 15
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [".lock"]


def test_a_wave_that_is_given_out_again_is_alone_with_its_worker() -> None:
    """Whose answer is lost when a worker ends on the next wave would be taken for what ended it."""
    plan = SimpleNamespace(given=lambda number, _: number)
    actor = SimpleNamespace(write_all=SimpleNamespace(remote=lambda *_: object()))
    crew = Crew.__new__(Crew)
    worker = _Worker(actor, is_admitted=True)
    crew.places, crew._plan, crew._at_once = [worker], plan, 1  # type: ignore[assignment]
    crew._fresh, crew._again = iter([7]), deque([5, 2])
    assert crew._hand_out(1)
    assert [call.numbers for call in worker.calls] == [[7]]
    worker.calls.clear()
    for number in (5, 2):
        assert crew._hand_out(1)
        assert [call.numbers for call in worker.calls] == [[number]]
        worker.calls.clear()
    assert not crew._hand_out(1)


def test_waves_that_are_finished_are_entered_before_an_error_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(title="pairs", numbers=lambda _: [0, 1], warn_if_short=lambda _: None)
    crew = Crew.__new__(Crew)
    crew.places, crew._plan, crew._finished, crew._lost = [], plan, [], {}  # type: ignore[assignment]
    wave: Any = SimpleNamespace(shard={"rows": 3})

    def step(crew: Crew, _: float) -> None:
        crew._finished.append(wave)
        raise ClusterError("the second wave has too little memory")

    monkeypatch.setattr(Crew, "_hand_out", lambda *_: True)
    monkeypatch.setattr(Crew, "_step", step)
    store: Any = SimpleNamespace(waves=[], counts={}, __contains__=lambda _: False)
    waves = crew.waves(4, False, store)
    assert next(waves) == [wave]
    with pytest.raises(ClusterError, match="the second wave has too little memory"):
        next(waves)


# What takes longer


@thorough
def test_a_second_driver_is_refused_and_the_first_goes_on(
    cluster: Any, undisturbed: Path, tmp_path: Path, after_the_first_wave: Any
) -> None:
    def second(_: Crew) -> str:
        with pytest.raises(OutputError, match="another process is writing there") as refused:
            by_workers(cluster.address, tmp_path / "raw")
        return str(refused.value)

    assert after_the_first_wave(second) == []
    by_workers(cluster.address, tmp_path / "raw")
    assert_same(tmp_path / "raw", undisturbed)


@thorough
def test_a_node_that_goes_and_one_that_comes_change_no_byte(
    cluster: Any,
    undisturbed: Path,
    tmp_path: Path,
    after_the_first_wave: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def replace_the_node(_: Crew) -> None:
        cluster.remove_node(cluster.other, allow_graceful=False)
        cluster.other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        (tmp_path / "go").touch()

    hand_out = Crew._hand_out

    def when_both_are_there(crew: Crew, streams: int) -> bool:
        return True if crew._fresh and not all(one.is_admitted for one in crew.places) else hand_out(crew, streams)

    monkeypatch.setattr(workers, "WaveWorker", Held)
    monkeypatch.setattr(Crew, "_hand_out", when_both_are_there)
    after_the_first_wave(replace_the_node)
    with caplog.at_level(logging.WARNING, "dino_st"):
        by_workers(cluster.address, tmp_path / "raw")
    assert "ended" in caplog.text
    assert_same(tmp_path / "raw", undisturbed)


@thorough
def test_a_driver_that_is_killed_goes_on_where_it_was(cluster: Any, undisturbed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "raw"
    command = [sys.executable, "-m", "tests.faults.ray_driver", cluster.address, str(directory)]
    driver = subprocess.Popen(command, cwd=ROOT)
    while not (directory / "manifest.jsonl").exists():
        assert driver.poll() is None, "the driver was meant to be killed before its end"
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    finished = ShardDirectory(directory).waves
    assert 0 < len(finished) < 6
    by_workers(cluster.address, directory)
    assert_same(directory, undisturbed)


@pytest.fixture
def doomed_node(cluster: Any) -> Iterator[None]:
    """The second node, on which workers do badly."""
    cluster.remove_node(cluster.other, allow_graceful=False)
    cluster.other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000, env_vars={"DOOMED": "1"})
    yield
    cluster.remove_node(cluster.other, allow_graceful=False)
    cluster.other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)


@thorough
def test_a_place_where_workers_die_at_each_start_is_given_up_and_the_rest_goes_on(
    cluster: Any,
    doomed_node: None,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(workers, "WaveWorker", DoomedAtStart)
    monkeypatch.setattr(Crew, "_hand_out", _patient(Crew._hand_out))
    with caplog.at_level(logging.WARNING, "dino_st"):
        by_workers(cluster.address, tmp_path / "raw")
    assert "3 workers ended one behind another; no more are started in their place" in caplog.text
    assert "these are my last words" in caplog.text
    assert_same(tmp_path / "raw", undisturbed)


def _patient(hand_out: Any) -> Any:
    """Hands nothing out before one place is given up, so that the rest cannot be finished before."""

    def waits(crew: Crew, streams: int) -> bool:
        return True if len(crew.places) > 1 else hand_out(crew, streams)

    return waits


@thorough
def test_workers_of_another_kind_are_left_out(
    cluster: Any,
    doomed_node: None,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    builder().generate_shards(tmp_path / "raw", SENTENCES)
    (tmp_path / "raw/data/train-00001.parquet").unlink()
    (tmp_path / "raw/data/train-00004.parquet").unlink()
    monkeypatch.setattr(workers, "WaveWorker", Stranger)
    monkeypatch.setattr(Crew, "_hand_out", _patient(Crew._hand_out))
    with caplog.at_level(logging.WARNING, "dino_st"):
        by_workers(cluster.address, tmp_path / "raw")
    assert "is of another kind: dtype was 'float32', now 'float16'" in caplog.text
    assert_same(tmp_path / "raw", undisturbed)


@thorough
def test_a_wave_that_ends_every_worker_is_given_up_when_the_others_are_finished(
    cluster: Any, undisturbed: Path, tmp_path: Path, waves_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(workers, "WaveWorker", DoomedByAWave)
        with pytest.raises(ClusterError, match="1 waves ended 3 workers each, such as wave 2"):
            by_workers(cluster.address, tmp_path / "raw")
    assert ShardDirectory(tmp_path / "raw").waves == [0, 1, 3, 4, 5]
    builder().generate_shards(tmp_path / "raw", SENTENCES)
    assert_same(tmp_path / "raw", undisturbed)


@thorough
def test_on_this_machine_alone_a_run_whose_workers_die_at_each_start_ends_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WaveWorker", DoomedAtStart)
    monkeypatch.setenv("DOOMED", "1")
    with pytest.raises(ClusterError, match=r"(?s)no worker is left.*these are my last words"):
        builder().generate_shards(tmp_path / "raw", SENTENCES, engine="ray", workers=1, cpus_per_worker=1)
    assert not ShardDirectory(tmp_path / "raw").is_begun
