"""Scoring encoders: what is stored and when it counts, what is encoded, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from mteb.abstasks.sts import AbsTaskSTS
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

import mteb_tasks
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError, DinoWarning, EvaluationError, InputError, ModelError, OutputError
from dino_st.evaluation import evaluate
from dino_st.evaluation.evaluate import evaluate_encoder, find_model
from dino_st.evaluation.floors import floor_score
from dino_st.evaluation.model_meta import loaded_meta
from dino_st.evaluation.table import MTEBS_OWN
from dino_st.pipeline.stages import Evaluation, evaluate_models
from dino_st.support.files import only_writer
from mteb_tasks.pairs import DinoPairs
from tests.mteb_tasks.fixtures import make_bag_of_words, make_transformer, write_sts_directory

SMALL = ["DinoSTS13", "DinoSTS16"]


@pytest.fixture(scope="module")
def sts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sts_directory(tmp_path_factory.mktemp("sts"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "my-encoder"
    make_bag_of_words(path)
    return path


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every sentence that any model encodes."""
    sentences: list[str] = []
    original = SentenceTransformer.encode

    def encode(self: SentenceTransformer, inputs: Any, *args: Any, **options: Any) -> Any:
        sentences.extend(inputs)
        return original(self, inputs, *args, **options)

    monkeypatch.setattr(SentenceTransformer, "encode", encode)
    return sentences


def tasks(sts_dir: Path) -> list[Any]:
    return mteb_tasks.select_tasks(SMALL, sts_dir=sts_dir)


def results(output: Path) -> dict[str, Any]:
    files = sorted(output.glob("results/**/Dino*.json"))
    return {str(file.relative_to(output / "results")): json.loads(file.read_text("utf-8")) for file in files}


def test_scores_are_written_under_the_name_that_was_given(encoder: Path, sts_dir: Path, tmp_path: Path) -> None:
    table = evaluate_encoder([str(encoder), "token-jaccard"], tasks=tasks(sts_dir), output_dir=tmp_path)
    written = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert list(written) == [str(encoder), "token-jaccard"]
    assert list(written[str(encoder)]) == [*SMALL, "average"]
    assert written == table.to_dict()
    assert written[str(encoder)]["average"] == pytest.approx(
        (written[str(encoder)]["DinoSTS13"] + written[str(encoder)]["DinoSTS16"]) / 2, abs=1e-4
    )
    assert "DinoSTS13" not in (tmp_path / "scores.md").read_text("utf-8")
    assert (tmp_path / "scores.tex").read_text("utf-8").startswith(r"\begin{tabular}")


def test_results_of_a_directory_are_named_after_it_and_its_content(
    encoder: Path, sts_dir: Path, tmp_path: Path
) -> None:
    evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path)
    stored = results(tmp_path)
    assert {Path(name).parts[0] for name in stored} == {"local__my-encoder"}
    assert {result["task_name"] for result in stored.values()} == set(SMALL)
    assert {result["dataset_revision"] for result in stored.values()} == {t.data_revision() for t in tasks(sts_dir)}


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/../my-encoder"])
def test_an_unchanged_model_is_answered_from_storage_however_it_is_spelled(
    encoder: Path, sts_dir: Path, tmp_path: Path, encoded: list[str], spelling: str
) -> None:
    first = evaluate_encoder({"a": str(encoder)}, tasks=tasks(sts_dir), output_dir=tmp_path)
    encoded.clear()
    second = evaluate_encoder({"a": spelling.format(encoder)}, tasks=tasks(sts_dir), output_dir=tmp_path)
    assert encoded == []
    assert second.to_dict() == first.to_dict()


def test_a_retrained_model_is_never_answered_from_storage(sts_dir: Path, tmp_path: Path, encoded: list[str]) -> None:
    model = tmp_path / "model"
    make_bag_of_words(model, seed=0)
    first = evaluate_encoder({"a": model}, tasks=tasks(sts_dir), output_dir=tmp_path / "out")
    shutil.rmtree(model)
    make_bag_of_words(model, seed=1)
    encoded.clear()
    second = evaluate_encoder({"a": model}, tasks=tasks(sts_dir), output_dir=tmp_path / "out")
    assert encoded
    assert second.scores["a"]["DinoSTS13"] != first.scores["a"]["DinoSTS13"]
    assert len(results(tmp_path / "out")) == 4


def test_what_changes_no_embedding_changes_no_revision(encoder: Path, tmp_path: Path) -> None:
    from dino_st.encoders.directory import directory_revision

    copy = shutil.copytree(encoder, tmp_path / "my-encoder")
    (copy / "README.md").write_text("# card")
    (copy / "checkpoint-100").mkdir()
    (copy / "checkpoint-100" / "model.safetensors").write_bytes(b"weights")
    (copy / "training_args.bin").write_bytes(b"arguments")
    assert directory_revision(copy) == directory_revision(encoder)
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text("{}")
    assert directory_revision(copy) != directory_revision(encoder)


def test_what_a_folder_behind_a_link_holds_is_part_of_the_revision(tmp_path: Path) -> None:
    from dino_st.encoders.directory import directory_revision

    directory = make_transformer(tmp_path / "encoder")
    pooling = tmp_path / "pooling"
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling").rename(pooling)
    (directory / "1_Pooling").symlink_to(pooling)
    (directory / "itself").symlink_to(directory)
    (pooling / "config.json").write_text('{"pooling_mode": "cls"}')
    before = directory_revision(directory)
    (pooling / "config.json").write_text('{"pooling_mode": "mean"}')
    assert directory_revision(directory) != before


def test_the_words_of_word_vectors_are_part_of_a_revision() -> None:
    vectors = np.eye(3, dtype=np.float32)
    found = set()
    for words, stop_words in ((["a", "b", "c"], []), (["c", "b", "a"], []), (["a", "b", "c"], ["a"])):
        tokenizer = WhitespaceTokenizer(words, stop_words=stop_words)
        embeddings = WordEmbeddings(tokenizer=tokenizer, embedding_weights=vectors)
        model = SentenceTransformer(modules=[embeddings, Pooling(3)], device="cpu")
        found.add(find_model(model).revision)
    assert len(found) == 3


def test_a_floor_does_not_answer_with_another_protocol(sts_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Dataset.from_dict({"sentence1": ["a b", "c d"], "sentence2": ["a", "e"], "score": [1.0, 0.0]})
    task = mteb_tasks.DinoSTS12(sts_dir=sts_dir)
    task.dataset, task.data_loaded = DatasetDict(dict.fromkeys(task.eval_splits, split)), True
    with pytest.raises(EvaluationError, match="DinoSTS12 has no sources here, of which the protocol 'mean'"):
        floor_score("token-jaccard", task, "mean")
    assert floor_score("token-jaccard", task, "all") == pytest.approx(1.0)


def test_changed_data_are_evaluated_again(encoder: Path, tmp_path: Path, encoded: list[str]) -> None:
    for seed in (1, 2):
        write_sts_directory(tmp_path / str(seed), seed=seed)
    first = evaluate_encoder({"a": encoder}, tasks=tasks(tmp_path / "1"), output_dir=tmp_path / "out")
    encoded.clear()
    second = evaluate_encoder({"a": encoder}, tasks=tasks(tmp_path / "2"), output_dir=tmp_path / "out")
    assert encoded
    assert second.scores["a"] != first.scores["a"]


def test_a_task_more_is_the_only_one_computed(encoder: Path, sts_dir: Path, tmp_path: Path, encoded: list[str]) -> None:
    evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path)
    encoded.clear()
    more = mteb_tasks.select_tasks([*SMALL, "DinoSTS12"], sts_dir=sts_dir)
    evaluate_encoder(encoder, tasks=more, output_dir=tmp_path)
    more[-1].load_data()
    data = more[-1].dataset["test"]
    assert set(encoded) == {*data["sentence1"], *data["sentence2"]}


def test_an_unreadable_stored_result_is_computed_again(encoder: Path, sts_dir: Path, tmp_path: Path) -> None:
    first = evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path)
    half = next(tmp_path.glob("results/**/DinoSTS13.json"))
    half.write_text(half.read_text("utf-8")[:200], encoding="utf-8")
    assert evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path).to_dict() == first.to_dict()
    assert json.loads(half.read_text("utf-8"))["task_name"] == "DinoSTS13"


def test_every_distinct_sentence_is_encoded_once(encoder: Path, sts_dir: Path, encoded: list[str]) -> None:
    chosen = tasks(sts_dir)
    evaluate_encoder(encoder, tasks=chosen)
    wanted: set[str] = set()
    for task in chosen:
        task.load_data()
        wanted |= {*task.dataset["test"]["sentence1"], *task.dataset["test"]["sentence2"]}
    assert len(encoded) == len(wanted)
    assert set(encoded) == wanted


@pytest.mark.filterwarnings("ignore:The fill_missing parameter:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension`:FutureWarning")
def test_scores_equal_those_of_plain_mteb(sts_dir: Path, tmp_path: Path) -> None:
    """With a transformer, whose embeddings depend a little on the batch that a sentence is encoded in."""
    model = load_trainable_encoder(make_transformer(tmp_path / "bert"), device="cpu").eval()
    table = evaluate_encoder({"a": model}, tasks=tasks(sts_dir))
    plain = mteb.evaluate(model, tasks(sts_dir), cache=None, show_progress_bar=False)
    for result in plain.task_results:
        assert table.scores["a"][result.task_name] == pytest.approx(100 * result.get_score(), abs=1e-2)


def test_a_prompt_for_the_task_type_is_used(sts_dir: Path, encoded: list[str]) -> None:
    plain, prompted = make_bag_of_words(), make_bag_of_words()
    prompted.prompts = {"STS": "man "}
    table = evaluate_encoder({"plain": plain, "prompted": prompted}, tasks=tasks(sts_dir))
    assert table.scores["plain"] != table.scores["prompted"]


def test_protocols_give_the_mean_over_the_sources(encoder: Path, sts_dir: Path, tmp_path: Path) -> None:
    tables = {p: evaluate_encoder({"a": encoder}, tasks=tasks(sts_dir), protocol=p) for p in ("all", "mean", "wmean")}  # type: ignore[arg-type]
    evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path)
    stored = json.loads(next(tmp_path.glob("results/**/DinoSTS13.json")).read_text("utf-8"))["scores"]["test"][0]
    assert tables["mean"].scores["a"]["DinoSTS13"] == pytest.approx(
        100 * np.mean(list(stored["sources"].values())), abs=1e-4
    )
    assert len({table.scores["a"]["DinoSTS13"] for table in tables.values()}) == 3


def test_a_model_in_memory_is_stored_under_the_hash_of_its_weights(
    sts_dir: Path, tmp_path: Path, encoded: list[str]
) -> None:
    evaluate_encoder(make_bag_of_words(seed=0), tasks=tasks(sts_dir), output_dir=tmp_path)
    encoded.clear()
    evaluate_encoder(make_bag_of_words(seed=0), tasks=tasks(sts_dir), output_dir=tmp_path)
    assert encoded == []
    evaluate_encoder(make_bag_of_words(seed=1), tasks=tasks(sts_dir), output_dir=tmp_path)
    assert encoded


def test_the_callers_tasks_are_left_as_they_were(encoder: Path, sts_dir: Path) -> None:
    chosen = tasks(sts_dir)
    chosen[0].load_data()
    evaluate_encoder(encoder, tasks=chosen)
    assert [task.data_loaded for task in chosen] == [True, False]


def _with_weight(model: SentenceTransformer, value: float) -> SentenceTransformer:
    module = model[0]
    assert isinstance(module, StaticEmbedding)
    with torch.no_grad():
        module.embedding.weight.fill_(value)
    return model


def test_nan_embeddings_are_an_error_and_nothing_is_stored(sts_dir: Path, tmp_path: Path) -> None:
    model = make_bag_of_words()
    module: Any = model[0]
    with torch.no_grad():
        module.embedding.weight[10:] = float("nan")
    with pytest.raises(
        EvaluationError, match=r"DinoSTS13: the model '.*' gave NaN or infinite embeddings for \d+ of 1500"
    ):
        evaluate_encoder(model, tasks=tasks(sts_dir), output_dir=tmp_path)
    assert results(tmp_path) == {}
    assert not (tmp_path / "scores.json").exists()


def test_constant_embeddings_are_an_error_and_nothing_is_stored(sts_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"DinoSTS13: .* of every pair is 1\.000000, .*correlation is undefined"):
        evaluate_encoder(_with_weight(make_bag_of_words(), 0.5), tasks=tasks(sts_dir), output_dir=tmp_path)
    assert results(tmp_path) == {}


def test_a_directory_that_is_no_model_is_refused(sts_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model: it holds neither 'modules\.json'"):
        evaluate_encoder(tmp_path, tasks=tasks(sts_dir))
    with pytest.raises(ModelError, match=r"nowhere' does not exist"):
        evaluate_encoder("./nowhere", tasks=tasks(sts_dir))


def test_a_wrong_model_is_noticed_before_the_first_one_is_scored(
    encoder: Path, sts_dir: Path, encoded: list[str]
) -> None:
    with pytest.raises(ModelError, match=r"nowhere' does not exist"):
        evaluate_encoder([encoder, "./nowhere"], tasks=tasks(sts_dir))
    assert encoded == []


def test_a_name_that_is_neither_here_nor_on_the_hub_may_be_a_mistyped_floor(sts_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"tfidf.* Or did you mean the floor 'tf-idf'\?"):
        evaluate_encoder("tfidf", tasks=tasks(sts_dir))


def test_truncated_weights_are_refused(sts_dir: Path, tmp_path: Path) -> None:
    path = make_transformer(tmp_path / "model")
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"truncated or damaged"):
        evaluate_encoder(path, tasks=tasks(sts_dir), output_dir=tmp_path / "out")
    assert results(tmp_path / "out") == {}


def test_an_unwritable_output_is_refused_before_a_model_is_looked_at(sts_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written to '.*file/out'"):
        evaluate_encoder("./nowhere", tasks=tasks(sts_dir), output_dir=tmp_path / "file" / "out")


def test_a_read_only_output_is_refused(sts_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")  # chmod would not stop a test run by root

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OutputError, match=r"cannot be written .*\(Permission denied\)"):
        evaluate_encoder("./nowhere", tasks=tasks(sts_dir), output_dir=tmp_path)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ([], {}, r"No model was given"),
        (["a", "a"], {}, r"The model 'a' was given twice"),
        ("a", {"protocol": "average"}, "option 'protocol' is 'average'; expected 'all', 'mean' or 'wmean'"),
        ("median:dir", {}, r"There is no baseline of the kind 'median': did you mean 'mean'\?"),
    ],
)
def test_impossible_requests_are_refused(sts_dir: Path, models: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        evaluate_encoder(models, tasks=tasks(sts_dir), **options)


def test_tasks_must_be_given_and_only_once(sts_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No task was given"):
        evaluate_encoder("a", tasks=[])
    with pytest.raises(ConfigurationError, match=r"The task 'DinoSTS13' was given twice"):
        evaluate_encoder("a", tasks=[*tasks(sts_dir), *tasks(sts_dir)])


@pytest.mark.parametrize("place", ["out", "new/out"])
def test_an_evaluation_that_fails_leaves_no_directory_behind(sts_dir: Path, tmp_path: Path, place: str) -> None:
    with pytest.raises(ModelError, match=r"nowhere' does not exist"):
        evaluate_encoder("./nowhere", tasks=tasks(sts_dir), output_dir=tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_there_stays(sts_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"nowhere' does not exist"):
        evaluate_encoder("./nowhere", tasks=tasks(sts_dir), output_dir=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["STS22.v2", "AskUbuntuDupQuestions"])
def test_a_task_of_mteb_without_network_is_named(encoder: Path, name: str) -> None:
    message = rf"^the data of {name} cannot be fetched: .*hub is out of reach .* tasks whose data is at hand$"
    with pytest.raises(InputError, match=message):
        evaluate_encoder(encoder, tasks=mteb_tasks.select_tasks(name))


def test_without_network_the_official_tasks_are_named_before_anything_is_scored(
    encoder: Path, sts_dir: Path, encoded: list[str]
) -> None:
    work = Evaluation(tasks=",".join(SMALL), sts_dir=sts_dir, official=True)
    with pytest.raises(InputError, match=r"the data of STS12, STS13, STS14, STS15, STS16, STSBenchmark, SICK-R cannot"):
        evaluate_models([str(encoder)], work, None)
    assert not encoded


def test_an_encoder_out_of_reach_is_told_before_mteb_is_imported(sts_dir: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from dino_st.cli.main import main\n"
        "try: main()\n"
        "finally: print([name for name in ('mteb', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, "evaluate", "someone/nothing", "--sts-dir", str(sts_dir)]
    done = subprocess.run(
        command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "'someone/nothing': there is no such directory, and as a name on the hub it is not in the" in done.stderr


@pytest.mark.filterwarnings("ignore:The task 'STSBenchmark' is superseded")
def test_official_tasks_stand_beside_ours(encoder: Path, sts_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(task: AbsTaskSTS, *_: Any, **__: Any) -> None:
        rows = {"sentence1": ["a b", "c d", "a c"], "sentence2": ["a b", "e f", "c b"], "score": [5.0, 0.0, 3.0]}
        task.dataset = DatasetDict({split: Dataset.from_dict(rows) for split in task.eval_splits})
        task.data_loaded = True

    monkeypatch.setattr(AbsTaskSTS, "load_data", load)
    monkeypatch.setattr("dino_st.evaluation.evaluate.asking_hub", lambda *_: contextlib.nullcontext())
    table = evaluate_models([str(encoder)], Evaluation(tasks=",".join(SMALL), sts_dir=sts_dir, official=True), None)
    lines = table.to_markdown().splitlines()
    assert lines[0].startswith("| Model | STS13 | STS16 | STS12 |")
    assert "(MTEB's own tasks) |" in lines[3]
    assert set(table.scores[str(encoder)]) == {*SMALL, *MTEBS_OWN.values()}


def test_what_is_on_this_machine_is_looked_for_before_the_hub_is_asked(
    encoder: Path, sts_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("dino_st.support.hub.hub_out_of_reach", asked)
    with pytest.raises(ModelError, match=r"nowhere' does not exist"):
        evaluate_encoder(["someone/encoder", "./nowhere"], tasks=mteb_tasks.select_tasks(["STS22.v2"]))
    evaluate_encoder(encoder, tasks=tasks(sts_dir))


def test_every_model_is_looked_for_before_the_first_is_scored(encoder: Path, sts_dir: Path, encoded: list[str]) -> None:
    with pytest.raises(ModelError, match=r"'someone/encoder': there is no such directory, and .* out of reach"):
        evaluate_encoder([encoder, "someone/encoder"], tasks=tasks(sts_dir))
    assert encoded == []


@pytest.mark.parametrize("static", [True, False])
def test_progress_counts_the_sentences_of_an_encoder(
    sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str], static: bool
) -> None:
    counted: dict[str, Any] = {"done": 0}

    @contextlib.contextmanager
    def progress(description: str, total: int, unit: str, *, shown: bool) -> Any:
        counted.update(description=description, total=total, shown=shown)
        yield lambda amount: counted.update(done=counted["done"] + amount)

    monkeypatch.setattr("dino_st.evaluation.evaluate.progress", progress)
    model = make_bag_of_words() if static else SentenceTransformer(str(make_transformer(tmp_path / "m")), device="cpu")
    evaluate_encoder(model, tasks=tasks(sts_dir)[1:])
    assert counted["done"] == counted["total"] == len(encoded)
    assert counted["shown"]


@pytest.mark.parametrize(("own", "is_told"), [("cosine", False), ("euclidean", True)])
def test_the_similarity_that_is_scored_is_told_where_it_is_not_the_encoders_own(
    own: str, is_told: bool, sts_dir: Path, encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = SentenceTransformer(str(encoder), device="cpu")
    model.similarity_fn_name = own
    evaluate_encoder(model, tasks=tasks(sts_dir))
    assert caplog.text.count("what is compared here is the cosine") == is_told


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
def test_settings_and_quantised_weights_of_a_model_handed_in_are_part_of_its_revision(tmp_path: Path) -> None:
    model = SentenceTransformer(str(make_transformer(tmp_path)), device="cpu")
    found = {find_model(model).revision}
    model.encode(["a dog"])
    assert find_model(model).revision in found
    for name, value in {"truncate_dim": 4, "similarity_fn_name": "dot"}.items():
        setattr(model, name, value)
        found.add(find_model(model).revision)
    found.add(find_model(torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)).revision)
    assert len(found) == 4


@pytest.mark.filterwarnings("ignore")  # peft's, of FutureWarnings and of two adapters
def test_which_adapters_of_a_model_handed_in_are_active_is_part_of_its_revision(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    model = SentenceTransformer(str(make_transformer(tmp_path)), device="cpu")
    found = set()
    for name in ("one", "two"):
        model.add_adapter(peft.LoraConfig(target_modules=["query"], init_lora_weights=False), name)
    layer = next(module for module in model.modules() if isinstance(getattr(module, "scaling", None), dict))
    for change in (
        lambda: model.set_adapter("one"),
        lambda: layer.set_scale("one", 3.0),
        lambda: model.set_adapter("two"),
        model.disable_adapters,
    ):
        change()
        found.add(find_model(model).revision)
    assert len(found) == 4


def test_a_model_in_a_directory_named_like_a_floor_is_not_passed_over_in_silence(
    sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tf-idf").mkdir()
    (tmp_path / "tf-idf/modules.json").write_text("[]")
    with pytest.warns(DinoWarning, match=r"'tf-idf' means what comes with dino-st, and the model in .* \./tf-idf"):
        evaluate_encoder("tf-idf", tasks=tasks(sts_dir)[:1])


def test_a_floor_for_which_nothing_is_shared_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sentence1,sentence2,score\na b,c d,1\ne f,g h,0\n", encoding="utf-8")
    with pytest.raises(
        EvaluationError, match=r"the floor 'token-jaccard' of every pair is 0\.0.*share a word"
    ) as caught:
        evaluate_encoder("token-jaccard", tasks=[DinoPairs(tmp_path / "a.csv")])
    assert "embedding" not in str(caught.value)


def test_tokens_are_looked_at_once_for_a_model(sts_dir: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(evaluate, "warn_of_tokens", lambda _, texts, __, **___: asked.append(len(texts)))
    model = SentenceTransformer(str(encoder), device="cpu")
    once = evaluate.EncodeOnce(model, loaded_meta("a/b", "c", model))
    for texts in (["One."], ["Two."]):
        once.encode([{"text": texts}], task_metadata=tasks(sts_dir)[0].metadata, hf_split="test", hf_subset="default")
    assert asked == [1]


@pytest.mark.parametrize(("split", "level"), [("train", "WARNING"), ("validation", "INFO")])
def test_pairs_that_an_encoder_was_trained_with_are_told(
    split: str, level: str, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        ["A man plays.", "A man sings.", 0.5],
        ["It rains.", "It is raining.", 0.9],
        ["It snows.", "Dogs bark.", 0.1],
    ]
    facts = {f"{split} sha256": hashlib.sha256("".join(map(json.dumps, rows)).encode()).hexdigest()[:16]}
    model = shutil.copytree(encoder, tmp_path / "model")
    (model / "training.json").write_text(json.dumps({"data": facts}))

    def told(*rows: list[Any]) -> list[str]:
        caplog.clear()
        file = tmp_path / "pairs.csv"
        file.write_text("sentence1,sentence2,score\n" + "".join("{},{},{}\n".format(*row) for row in rows))
        with caplog.at_level("INFO"):
            evaluate_encoder(model, tasks=[DinoPairs(file)])
        return [record.levelname for record in caplog.records if f"the {split} pairs of" in record.message]

    assert told(*rows) == [level]
    assert told(*rows[:2]) == [], "a part of them has another hash"


@pytest.mark.parametrize(("chosen", "level"), [(3, "INFO"), (None, "WARNING")])
def test_texts_that_are_cut_are_information_where_the_length_was_chosen_in_training(
    sts_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, chosen: int | None, level: str
) -> None:
    caplog.set_level("INFO", logger="dino_st")
    load_trainable_encoder(make_transformer(tmp_path / "start"), max_seq_length=3).save_pretrained(str(tmp_path / "it"))
    (tmp_path / "it" / "training.json").write_text(json.dumps({"options": {"max_seq_length": chosen}}), "utf-8")
    evaluate_encoder(tmp_path / "it", tasks=tasks(sts_dir))
    assert [one.levelname for one in caplog.records if "longer than the 3 tokens" in one.message] == [level]


def test_a_task_that_takes_long_tells_that_it_is_done(
    encoder: Path, sts_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dino_st")
    evaluate_encoder(encoder, tasks=tasks(sts_dir))
    assert not [message for message in caplog.messages if "took" in message]  # not among the quick
    monkeypatch.setattr(evaluate, "_LONG", 0.0)
    evaluate_encoder(encoder, tasks=tasks(sts_dir))
    done = [message.split(" took")[0] for message in caplog.messages if "took" in message]
    assert done == ["scored 1 of 2 tasks: DinoSTS13", "scored 2 of 2 tasks: DinoSTS16"]


def test_two_processes_do_not_write_scores_to_one_place(
    encoder: Path, sts_dir: Path, tmp_path: Path, encoded: list[str]
) -> None:
    with only_writer(tmp_path), pytest.raises(OutputError, match="another process is writing there"):
        evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path)
    assert encoded == []
    evaluate_encoder(encoder, tasks=tasks(sts_dir), output_dir=tmp_path)
    assert not list(tmp_path.glob(".lock"))
