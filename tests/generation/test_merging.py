from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dino_st import DinoDatasetBuilder
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ConfigurationError, InputError, OutputError
from dino_st.generation.merging import merge_shards
from dino_st.pipeline.stages import Generation, generate_data, prepare_data
from dino_st.preparation.options import PreparationOptions
from dino_st.support.files import only_writer

SENTENCES = [f"Sentence number {i}." for i in range(11)]
OPTIONS: dict[str, Any] = {"max_new_tokens": 14, "max_tries": 3, "top_k": 60, "top_p": 0.98, "batch_size": 24}


@pytest.fixture
def generate(make_model: Any, tokenizer: Any) -> Any:
    model = make_model("gpt2")

    def run(directory: Path, **options: Any) -> None:
        builder = DinoDatasetBuilder((model, tokenizer), **(OPTIONS | options))
        builder.generate(SENTENCES, output_dir=directory)

    return run


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / "data").iterdir())}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_shards_merge_into_the_bytes_of_one_run(count: int, generate: Any, tmp_path: Path) -> None:
    generate(tmp_path / "whole")
    parts = [tmp_path / f"part{i}" for i in range(1, count + 1)]
    for i, part in enumerate(parts, start=1):
        generate(part, shard=f"{i}/{count}")
    merge_shards(parts[::-1], tmp_path / "merged")
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    whole = json.loads((tmp_path / "whole/manifest.json").read_text())
    assert json.loads((tmp_path / "merged/manifest.json").read_text()) == whole
    card = (tmp_path / "merged/README.md").read_text()
    assert card == (tmp_path / "whole/README.md").read_text().replace('load_dataset("whole"', 'load_dataset("merged"')
    generate(tmp_path / "merged")  # a run without shards takes the merged directory for its own, finished
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_an_interrupted_shard_continues_with_its_own_waves(
    make_model: Any, tokenizer: Any, generate: Any, tmp_path: Path
) -> None:
    generate(tmp_path / "undisturbed", shard="2/2")
    builder = DinoDatasetBuilder((make_model("gpt2"), tokenizer), **(OPTIONS | {"shard": "2/2"}))

    def stop(*_: Any) -> None:
        if (tmp_path / "broken/data/train-00001.parquet").exists():
            raise KeyboardInterrupt

    handle = builder._writer.model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        builder.generate(SENTENCES, output_dir=tmp_path / "broken")
    handle.remove()
    assert set(files(tmp_path / "broken")) < set(files(tmp_path / "undisturbed"))
    builder.generate(SENTENCES, output_dir=tmp_path / "broken")
    assert files(tmp_path / "broken") == files(tmp_path / "undisturbed")


def test_an_interrupted_merge_can_be_run_again_and_a_damaged_shard_is_found_before_anything_is_copied(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [tmp_path / "a", tmp_path / "b"]
    for i, part in enumerate(parts, start=1):
        generate(part, shard=f"{i}/2")
    shard = next((tmp_path / "b/data").iterdir())
    content = shard.read_bytes()
    shard.write_bytes(b"damaged")
    with pytest.raises(InputError, match="missing or damaged"):
        merge_shards(parts, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    shard.write_bytes(content)
    copy, copied = shutil.copyfileobj, []

    def stop(source: Any, target: Any) -> None:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(source)
        copy(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", stop)
        with pytest.raises(KeyboardInterrupt):
            merge_shards(parts, tmp_path / "merged")
    (tmp_path / "merged/data/.train-00002.parquet.4711.tmp").write_text("of a killed process")
    merged = merge_shards(parts, tmp_path / "merged")
    assert merge_shards(parts, tmp_path / "merged").shards == merged.shards  # complete already
    generate(tmp_path / "whole")
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_a_begun_data_set_is_not_merged_over(make_model: Any, tokenizer: Any, generate: Any, tmp_path: Path) -> None:
    generate(tmp_path / "a", shard="1/1")
    builder = DinoDatasetBuilder((make_model("gpt2"), tokenizer), **OPTIONS)

    def stop(*_: Any) -> None:
        if (tmp_path / "begun/data/train-00001.parquet").exists():
            raise KeyboardInterrupt

    builder._writer.model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        builder.generate(SENTENCES, output_dir=tmp_path / "begun")
    with pytest.raises(OutputError, match="begun with another configuration"):
        merge_shards([tmp_path / "a"], tmp_path / "begun")


def test_wrong_sets_of_shards_are_refused(generate: Any, tmp_path: Path) -> None:
    generate(tmp_path / "a", shard="1/2")
    generate(tmp_path / "b", shard="2/2")
    generate(tmp_path / "other", shard="2/2", seed=7)
    generate(tmp_path / "whole")
    with pytest.raises(InputError, match="missing 2/2; unexpected or double none"):
        merge_shards([tmp_path / "a"], tmp_path / "out")
    with pytest.raises(InputError, match="missing 2/2; unexpected or double 1/2"):
        merge_shards([tmp_path / "a", tmp_path / "a"], tmp_path / "out")
    with pytest.raises(ConfigurationError, match="seed was 42, now 7"):
        merge_shards([tmp_path / "a", tmp_path / "other"], tmp_path / "out")
    with pytest.raises(InputError, match="is a whole data set"):
        merge_shards([tmp_path / "whole"], tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no manifest.json"):
        merge_shards([tmp_path / "no"], tmp_path / "out")
    with pytest.raises(OutputError, match="begun with another configuration"):
        merge_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "other")
    next((tmp_path / "b/data").iterdir()).write_bytes(b"damaged")
    with pytest.raises(InputError, match="missing or damaged"):
        merge_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_shards_need_a_common_batch_size_and_given_sentences(make_model: Any, tokenizer: Any) -> None:
    model = (make_model("gpt2"), tokenizer)
    with pytest.raises(ConfigurationError, match="a batch_size in numbers along with shard"):
        DinoDatasetBuilder(model, shard="1/2")
    for wrong in ("2", "3/2", "0/2", "a/b"):
        with pytest.raises(ConfigurationError, match="i/n with 1 ≤ i ≤ n"):
            DinoDatasetBuilder(model, shard=wrong, batch_size=8)
    with pytest.raises(ConfigurationError, match="cannot be split into shards"):
        DinoDatasetBuilder(model, "sts-x1", shard="1/2", batch_size=8).generate(num=3)


def test_a_directory_that_another_process_writes_to_is_refused(generate: Any, tmp_path: Path) -> None:
    generate(tmp_path / "part", shard="1/1")
    with only_writer(tmp_path / "merged"), pytest.raises(OutputError, match="another process is writing there"):
        merge_shards([tmp_path / "part"], tmp_path / "merged")
    merge_shards([tmp_path / "part"], tmp_path / "merged")
    assert files(tmp_path / "merged") == files(tmp_path / "part")


def test_a_preparation_is_refused_before_it_computes_where_another_one_runs(
    generate: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generate(tmp_path / "raw")
    with only_writer(tmp_path / "prepared"), pytest.raises(OutputError, match="another process is writing there"):
        prepare_data(tmp_path / "raw", tmp_path / "prepared", PreparationOptions())
    with pytest.raises(ConfigurationError, match="near_copy_labels among the labels"):
        prepare_data(
            tmp_path / "raw", tmp_path / "wrong", PreparationOptions(near_copy_edit=0.9, near_copy_labels=(7,))
        )
    assert not (tmp_path / "wrong").exists()
    shutil.copy(tmp_path / "raw/data/train-00000.parquet", tmp_path / "raw/data/extra.parquet")
    prepare_data(tmp_path / "raw", tmp_path / "prepared", PreparationOptions())
    assert "data/extra.parquet is not of this run" in caplog.text


def test_one_command_reads_the_manifest_once_and_no_row_that_it_wrote_itself(
    make_model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model("gpt2").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "x1.txt").write_text("\n".join(SENTENCES))
    reads: list[str] = []
    read_text, read_rows = Path.read_text, ShardDirectory.rows_of

    def noted(self: Path, *arguments: Any, **named: Any) -> str:
        reads.append(self.name)
        return read_text(self, *arguments, **named)

    def noted_rows(self: ShardDirectory, number: int) -> Any:
        reads.append("rows")
        return read_rows(self, number)

    monkeypatch.setattr(Path, "read_text", noted)
    monkeypatch.setattr(ShardDirectory, "rows_of", noted_rows)
    work = Generation("sts-x2", input=str(tmp_path / "x1.txt"), options=OPTIONS | {"device": "cpu"})
    first = generate_data(work, str(tmp_path / "model"), tmp_path / "raw")
    assert not {"manifest.json", "rows"} & set(reads)
    reads.clear()
    again = generate_data(work, str(tmp_path / "model"), tmp_path / "raw")
    assert reads.count("manifest.json") == 1
    assert again.examples == first.examples != {}
    assert (again.new_rows, again.counts) == (0, first.counts)


def test_shards_of_several_kinds_of_gpu_fit_together_and_all_kinds_are_named(generate: Any, tmp_path: Path) -> None:
    parts = [tmp_path / "part1", tmp_path / "part2"]
    for number, (part, gpu) in enumerate(zip(parts, ("NVIDIA A10G", "NVIDIA H100"), strict=True), start=1):
        generate(part, shard=f"{number}/2")
        manifest = json.loads((part / "manifest.json").read_text())
        manifest["configuration"]["gpu"] = gpu
        (part / "manifest.json").write_text(json.dumps(manifest))
    for number, order in enumerate((parts, parts[::-1])):
        merged = merge_shards(order, tmp_path / f"merged{number}")
        assert merged.configuration["gpu"] == "NVIDIA A10G, NVIDIA H100"
    one, other = ((tmp_path / f"merged{number}" / "manifest.json").read_bytes() for number in range(2))
    assert one == other
