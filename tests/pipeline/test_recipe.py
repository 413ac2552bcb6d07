from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from dino_st.errors import ConfigurationError, DinoError, InputError, ModelError
from dino_st.generation.options import WritingOptions
from dino_st.pipeline.recipe import _Steps, load_recipe, recipe_names, run_recipe
from dino_st.pipeline.stages import Evaluation
from dino_st.preparation.options import PreparationOptions
from dino_st.training.options import TrainingOptions

MINE = """\
model: some-model
input: sentences.txt
generate: {samples: 3}
train: {epochs: 2}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    (tmp_path / "sentences.txt").write_text("A cat.\n")
    return path


def test_the_shipped_recipes_load() -> None:
    assert {"quickstart", "sts-dino-x1x2", "sts-dino-x2"} <= set(recipe_names())
    for name in recipe_names():
        load_recipe(name)


def test_the_papers_recipes_hold_the_papers_values() -> None:
    for name in ("sts-dino-x2", "sts-dino-x1x2"):
        recipe = load_recipe(name)
        assert (recipe.model, recipe.encoder, recipe.task) == ("gpt2-xl", "roberta-base", "sts-x2")
        writing = recipe.generate
        assert isinstance(writing, WritingOptions)
        assert (writing.decoding.decay_constant, writing.decoding.top_k, writing.decoding.top_p) == (100, 5, 0.9)
        assert writing.generation.samples == 2
        assert recipe.prepare == PreparationOptions(label_smoothing=0.2, random_negatives=2)
        assert (recipe.train.batch_size, recipe.train.learning_rate, recipe.train.epochs) == (32, 2e-5, 1)
    assert load_recipe("sts-dino-x1x2").sentences is not None
    assert load_recipe("sts-dino-x1x2").sentences.num == 15_000  # type: ignore[union-attr]


def test_the_recipe_without_debiasing_differs_from_the_papers_in_nothing_else() -> None:
    without, published = load_recipe("dino-no-debiasing"), load_recipe("sts-dino-x2")
    assert isinstance(without.generate, WritingOptions)
    assert isinstance(published.generate, WritingOptions)
    assert without.generate.generation == published.generate.generation
    assert without.generate.decoding == replace(published.generate.decoding, decay_constant=0)
    assert (without.task, without.prepare) == (published.task, published.prepare)
    assert without.train == TrainingOptions.of(published.train, learning_rate=5e-4)


def test_the_recipe_with_more_negatives_differs_from_the_papers_in_nothing_else() -> None:
    more, published = load_recipe("dino-more-negatives"), load_recipe("sts-dino-x2")
    assert (more.task, more.generate) == (published.task, published.generate)
    assert isinstance(published.prepare, PreparationOptions)
    assert more.prepare == PreparationOptions.of(published.prepare, random_negatives=8)
    assert more.train == TrainingOptions.of(published.train, learning_rate=5e-4)


def test_the_joint_recipe_differs_from_the_papers_in_its_objective_its_batches_and_what_it_keeps_alone() -> None:
    joint, published = load_recipe("sts-dino-joint"), load_recipe("sts-dino-x2")
    same = {"model", "encoder", "task", "generate", "prepare", "evaluate"}
    assert all(getattr(joint, name) == getattr(published, name) for name in same)
    assert joint.train == TrainingOptions.of(published.train, objective="joint", batch_size=128, start_share="auto")


def test_fields_can_be_set_from_the_command_line(recipe_file: Path) -> None:
    recipe = load_recipe(
        recipe_file, ["model=gpt2", "train.learning_rate=1e-4", "sentences.num=9", "encoder=null", "seed=7"]
    )
    assert (recipe.model, recipe.seed) == ("gpt2", 7)
    assert recipe.train == TrainingOptions(epochs=2, learning_rate=1e-4, seed=7)
    assert recipe.sentences is not None
    assert recipe.sentences.num == 9


def test_every_stage_has_the_seed_of_the_recipe_unless_it_has_its_own(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["seed=7", "prepare.seed=8", "sentences.num=9"])
    assert isinstance(recipe.generate, WritingOptions)
    assert (recipe.generate.generation.seed, recipe.prepare.seed, recipe.train.seed) == (7, 8, 7)
    assert recipe.scratch_options().generation == recipe.generate.generation


def test_an_input_is_looked_for_beside_the_recipe(recipe_file: Path) -> None:
    assert load_recipe(recipe_file).input == str(recipe_file.parent / "sentences.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("modle=x", "modle: unknown field; did you mean 'model'"),
        ("generate.sample=1", "generate: there is no option 'sample': did you mean 'samples'"),
        ("train.lr=1", "train: there is no option 'lr'"),
        ("generate.limit=20", "generate: 'limit' stands beside 'generate', not in it"),
        ("evaluate.limit=20", "'limit' stands beside 'evaluate', not in it"),
        ("sentences.options.topp=1", "sentences → num: this field is missing"),
        ("evaluate.task=sts", "evaluate → task: unknown field; did you mean 'tasks'"),
        ("num=3", "are for recipes with 'method: contrastive'"),
        ("task=syncse-partial", "are for recipes with 'method: contrastive'"),
        ("prepare.label_smoothing=3", "label_smoothing"),
        ("generate.top_p=3", "top_p = 3"),
        ("model", "expected KEY=VALUE"),
        ("model.name=3", "'model' is a value, not a section"),
        ("seed=-1", "seed: "),
        ("seed=010", "--set seed=010: line 1: YAML reads 010 as 8"),
        ("seed=2020-99-99", "seed: Input should be a whole number; given: '2020-99-99'"),
        ("limit=yes", "limit: Input should be a whole number; given: 'true' .YAML reads yes"),
        ("generate.samples=yes", "generate: option 'samples' is 'true'; expected a whole number"),
        ("evaluate.pairs=judged.csv", "pairs: Input should be a list; given: 'judged.csv'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(change: str, message: str, recipe_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(recipe_file, [change])


def test_unknown_and_unreadable_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe 'quikstart'; did you mean 'quickstart'"):
        load_recipe("quikstart")
    with pytest.raises(InputError, match="there is no such recipe file"):
        load_recipe(tmp_path / "no.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"cannot be parsed as YAML, line 1: .a: \[.; a bracket"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("- a")
    with pytest.raises(InputError, match="expected a mapping"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("seed: 1\ntrain: {epochs: 1, epochs: 2}\n")
    with pytest.raises(InputError, match="the key 'epochs' stands twice"):
        load_recipe(tmp_path / "a.yaml")


def test_a_mistake_names_where_it_was_made(recipe_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^--set train.lr=1: train: there is no option 'lr'"):
        load_recipe("quickstart", ["seed=3", "train.lr=1"])
    recipe_file.write_text(MINE + "evaluate: {pair: [a.csv]}\n")
    with pytest.raises(ConfigurationError) as mistakes:
        load_recipe(recipe_file, ["train.lr=1"])
    [first, second] = str(mistakes.value).splitlines()
    assert first.startswith("--set train.lr=1: train: there is no option 'lr'")
    assert second.startswith(
        f"{recipe_file}: evaluate → pair: unknown field; did you mean 'pairs'? Legal values: 'batch"
    )
    with pytest.raises(ConfigurationError, match=r"^--set method=x: method is 'x'"):
        load_recipe("quickstart", ["method=x"])


def test_a_recipe_may_evaluate_on_pairs_of_its_own(recipe_file: Path) -> None:
    pairs = recipe_file.parent / "mine.csv"
    recipe_file.write_text(MINE + "evaluate: {tasks: validation, pairs: [mine.csv]}\n")
    with pytest.raises(InputError, match=r"mine.csv: there is no such file"):
        run_recipe(recipe_file, recipe_file.parent / "out")
    pairs.write_text("sentence1,sentence2\na,b\n")
    with pytest.raises(InputError, match=r"mine.csv.*score"):
        run_recipe(recipe_file, recipe_file.parent / "out")
    evaluation = _Steps(load_recipe(recipe_file), "m", recipe_file.parent / "out", print).evaluation
    assert evaluation.tasks is None
    assert evaluation.pairs == (recipe_file.parent / "out/prepared/data/validation.parquet", pairs)


def test_what_is_missing_on_this_machine_is_named_before_the_hub_is_asked(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("dino_st.pipeline.recipe.check_evaluation", asked)
    for change, message in (
        ("input=no.txt", "no.txt: there is no such file"),
        ("evaluate.pairs=[no.csv]", "no.csv: there is no such file"),
        ("model=./no", r"\./no: there is no such directory"),
        ("encoder=/no/encoder/here", "/no/encoder/here: there is no such directory"),
    ):
        with pytest.raises((InputError, ModelError), match=message):
            run_recipe(load_recipe(recipe_file, [change]), recipe_file.parent / "out")
    assert not (recipe_file.parent / "out").exists()


def test_the_untrained_row_of_a_student_is_what_training_started_from(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", ["encoder=dino-tiny", "train.layers=2", "train.pooling=last"])
    (tmp_path / "out").mkdir()
    student = SentenceTransformer(_Steps(recipe, "m", tmp_path / "out", print).untrained(), device="cpu")
    assert (student[0].model.config.num_hidden_layers, student[1].pooling_mode) == (2, "lasttoken")
    whole = load_recipe("quickstart", ["encoder=dino-tiny"])
    assert _Steps(whole, "m", tmp_path / "out", print).untrained() == "dino-tiny"


def test_a_mistake_in_the_last_stage_is_found_before_the_first(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", ["model=nowhere", "evaluate.tasks=DinoSTS21"])
    with pytest.raises(ConfigurationError, match="There is no task 'DinoSTS21'"):
        run_recipe(recipe, tmp_path)
    recipe = load_recipe("quickstart", ["model=nowhere", "evaluate.tasks=sts", "evaluate.sts_dir=nowhere"])
    with pytest.raises(InputError, match="nowhere: there is no such directory"):
        run_recipe(recipe, tmp_path)
    (tmp_path / "half/STS").mkdir(parents=True)
    recipe = load_recipe("quickstart", ["model=nowhere", "evaluate.tasks=sts", f"evaluate.sts_dir={tmp_path / 'half'}"])
    with pytest.raises(InputError, match="STS12"):
        run_recipe(recipe, tmp_path)


@pytest.mark.parametrize(
    ("changes", "left", "message"),
    [
        (
            ["prepare.target=posterior-mixed"],
            "",
            r"prepare: option 'target' needs .*'log_probs'.*generate.score_labels",
        ),
        (
            ["prepare.min_token_log_prob=-3"],
            "",
            "prepare: option 'min_token_log_prob' needs the column 'plain_log_prob'",
        ),
        (["task=words.yaml"], "", "task 'words.yaml' writes no pairs with numbers as labels"),
        (["encoder=no-such-encoder"], "", "model 'no-such-encoder': there is no such directory"),
        (["train.device=mps"], "", "device is 'mps', which this machine lacks"),
        (
            ["method=contrastive", "task=syncse-partial", "generate={}", "backend=openai", "encoder=null"],
            "",
            "--set enc",
        ),
        ([], "prepared", "prepared: holds something else than prepared pairs"),
        ([], "model", "model: holds something else than a training run"),
        ([], "scores", "scores: holds something else than scores"),
    ],
)
def test_what_a_later_step_would_refuse_is_refused_before_the_first_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], left: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.yaml").write_text(
        'task_name: words\nlabels:\n  same: {instruction: "Say \\"<X1>\\" otherwise: \\"", counter_labels: []}\n'
    )
    if left:
        (tmp_path / "out" / left).mkdir(parents=True)
        (tmp_path / "out" / left / "thesis.txt").write_text("mine")
    with pytest.raises(DinoError, match=message):
        run_recipe(load_recipe("quickstart", ["limit=8", *changes]), tmp_path / "out")
    assert not (tmp_path / "out" / "raw").exists()


def test_what_a_recipe_leaves_open_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--set model="):
        run_recipe(load_recipe("quickstart", ["model=null"]), tmp_path)
    with pytest.raises(ConfigurationError, match="--set input="):
        run_recipe("sts-dino-x2", tmp_path)


@pytest.mark.filterwarnings("default")
def test_a_recipe_runs_from_sentences_to_scores_with_the_bundled_models(tmp_path: Path) -> None:
    changes = ["limit=40"]
    lines: list[str] = []
    outcome = run_recipe(load_recipe("quickstart", changes), tmp_path / "out", report=lines.append)
    assert [line[:3] for line in lines if not line.startswith(" ")] == ["1/4", "2/4", "3/4", "4/4"]
    scores = json.loads((tmp_path / "out/scores/scores.json").read_text())
    assert list(scores) == ["untrained", "trained"]
    assert list(outcome.table.scores) == ["untrained", "trained"]
    assert scores["trained"]["average"] > 40  # of unrelated pairs and copies nearly every one is told apart
    assert set(outcome.examples) == {"0", "0.5", "1"}
    assert (tmp_path / "out/model/model.safetensors").is_file()
    again = run_recipe(load_recipe("quickstart", changes), tmp_path / "out", report=lines.append)
    assert again.table.to_dict() == outcome.table.to_dict()
    assert any("done before" in line for line in lines)


def test_auto_scores_on_the_validation_pairs_and_on_sts_where_its_data_is_given(tmp_path: Path) -> None:
    def evaluation(*changes: str) -> Evaluation:
        return _Steps(load_recipe("quickstart", changes), "dino-tiny", tmp_path, print).evaluation

    without = evaluation()
    assert (without.tasks, without.pairs) == (None, (tmp_path / "prepared/data/validation.parquet",))
    given = evaluation(f"evaluate.sts_dir={tmp_path}")
    assert (given.tasks, given.sts_dir, given.pairs) == ("sts", tmp_path, without.pairs)
