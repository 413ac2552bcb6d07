"""What commands take from the option models, what help shows, and what is told before anything heavy is imported."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dino_st.backends.options import ChatOptions, ModelOptions, ServerOptions, SynCSEOptions
from dino_st.cli.arguments import PlainCommand, Spelling, takes
from dino_st.cli.main import app
from dino_st.cli.support import Overwrite
from dino_st.decoding.options import DecodingOptions
from dino_st.evaluation.options import EvaluationOptions
from dino_st.generation.options import GenerationOptions
from dino_st.inspection.options import AuditOptions, ReportOptions
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.files import LOCK
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from tests.cli.commands import run_light

HEAVY = ("torch", "transformers", "datasets", "sentence_transformers", "mteb", "pyarrow", "scipy", "sklearn")

COMMANDS: dict[str, list[Any]] = {
    "generate": [GenerationOptions, ChatOptions, ServerOptions],
    "syncse": [SynCSEOptions, ChatOptions, ServerOptions, ModelOptions],
    "score": [ModelOptions],
    "prepare": [PreparationOptions],
    "prepare-triplets": [TripletOptions],
    "train": [TrainingOptions],
    "train-contrastive": [ContrastiveOptions],
    "evaluate": [EvaluationOptions],
    "report": [ReportOptions],
}


def help_of(command: str, columns: int = 80) -> str:
    environment = {"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)}
    return CliRunner(env=environment).invoke(app, [command, "--help"]).output


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_of_the_models_whole_at_80_columns(command: str) -> None:
    shown = set(re.findall(r"--[a-z0-9-]+", help_of(command)))
    names = {name for model in COMMANDS[command] for name in model.model_fields}
    if command == "generate":
        names |= set(DecodingOptions.names())
    if command == "train-contrastive":
        names -= {"balanced_batches", "sorted_batches", "objective", "positive_score"}
    assert {flag(name) for name in names} <= shown
    assert "…-" not in help_of(command)
    assert max(map(len, help_of(command).splitlines())) <= 80


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_command_cuts_the_name_of_an_option_in_its_help(columns: int) -> None:
    program = (
        "import typer\nfrom dino_st.cli.main import app\n"
        "for name, command in typer.main.get_command(app).commands.items():\n"
        "    if name != 'mteb':\n"
        "        print('@@', *(option for one in command.params for option in one.opts if option[0] == '-'))\n"
        "        app([name, '--help'], standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": str(columns)},
    )
    parts = done.stdout.split("@@")[1:]
    assert len(parts) == 17
    for part in parts:
        names, _, shown = part.partition("\n")
        assert set(names.split()) <= set(re.findall(r"--?[a-z][a-z0-9-]*", shown))
        assert max(map(len, shown.splitlines())) <= columns
        assert not re.search(r"\w-$", shown, re.MULTILINE)  # no name of anything is broken at a hyphen


def test_values_of_options_are_written_as_they_are_typed() -> None:
    assert "cosine is the published one" in " ".join(help_of("train").split())
    assert "cls (published) or mean" in " ".join(help_of("train-contrastive").split())


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("choose a smaller batch_size", "choose a smaller --batch-size"),
        ("option 'seed' is -1; expected 0", "--seed is -1; expected 0"),
        ("seed was 1, now 2\n  loss was 'a', now 'b'", "--seed was 1, now 2\n  --loss was 'a', now 'b'"),
        ("choose pooling='mean', or overwrite=True", "choose --pooling mean, or --overwrite"),
        ("seed = 3: expected", "--seed = 3: expected"),
        ("there is no pair of score 1; the seed is fine", "there is no pair of score 1; the seed is fine"),
        ("/runs/batch_size/x: batch_size.txt has 'batch_size'", "/runs/batch_size/x: batch_size.txt has 'batch_size'"),
        (
            "as in “The batch_size was lost, seed=7”, batch_size",
            "as in “The batch_size was lost, seed=7”, --batch-size",
        ),
        ("f('a.csv', pooling='mean', g(seed=3)); seed=3", "f('a.csv', pooling='mean', g(seed=3)); --seed 3"),
        ("a larger validation_share of `prepare`", "a larger --validation-share of `prepare`"),
    ],
)
def test_messages_name_options_as_the_command_line_spells_them(message: str, typed: str) -> None:
    Spelling(takes(PreparationOptions)(lambda given: None))

    @takes(ContrastiveOptions)
    def command(given: dict[str, Any], overwrite: Overwrite = False) -> None: ...

    assert Spelling(command).as_typed(message) == typed


def test_what_recipes_call_options_stays() -> None:
    def run(recipe: str, overwrite: Overwrite = False) -> None: ...

    assert Spelling(run).as_typed("batch_size: overwrite=True") == "batch_size: --overwrite"


def test_help_has_defaults_bounds_and_groups_from_the_models() -> None:
    text = " ".join(help_of("prepare").split())
    assert "[default: 0.2; 0 to 1]" in text
    assert "--labels <float>" in text
    assert "[default: 0 0.5 1]" in text
    assert text.index("--validation-share") < text.index("Filters, off unless asked for:") < text.index("--min-words")
    assert text.index("--min-posterior") < text.index("Scores to train on") < text.index("--label-prior")
    assert "-n, --number <int>" in help_of("audit")
    assert set(AuditOptions.model_fields) == {"per_score", "seed"}


def test_a_command_gets_what_was_typed_and_nothing_else() -> None:
    seen: list[dict[str, Any]] = []
    small = typer.Typer()

    @takes(GenerationOptions, (DecodingOptions, ["top_p", "seed"]), more={"samples": {"names": ("--each",)}})
    def command(given: dict[str, Any], place: Path = Path()) -> None:
        seen.append(given | {"place": place})

    small.command(cls=PlainCommand)(command)
    run = CliRunner().invoke
    assert run(small, ["--each", "3", "--top-p", "0.5", "--score-labels", "--place", "here"]).exit_code == 0
    assert run(small, ["--no-trust-remote-code"]).exit_code == 0
    assert seen == [
        {"samples": 3, "top_p": 0.5, "score_labels": True, "place": Path("here")},
        {"trust_remote_code": False, "place": Path()},
    ]
    assert run(small, ["--each", "many"]).exit_code == 2
    assert run(small, ["--max-tries", "3"]).exit_code == 2


MISTAKES: list[tuple[list[str], str, int]] = [
    (["--help"], "Commands:", 0),
    (["generate", "--help"], "Sampling and debiasing:", 0),
    (["generate", "--model", "m", "--output", "o", "--topp", "1"], "No such option", 2),
    (["generate", "--model", "m", "--output", "o", "--top-p", "3"], "--top-p = 3.0: expected above 0", 2),
    (["generate", "--model", "m", "--output", "o", "--samples", "0"], "--samples is 0", 2),
    (["generate", "--model", "m", "--output", "o", "--dtype", "float3"], "dtype 'float3' is unknown; did you mean", 2),
    (["generate", "--model", "m", "--output", "o", "--device", "cuda9"], "device 'cuda9' cannot be used here", 2),
    (["score", "no", "--model", "m", "--output", "o", "--dtype", "float3"], "dtype 'float3' is unknown", 2),
    (["evaluate", "m", "--device", "gpu"], "device 'gpu' cannot be used here", 2),
    (["generate", "--model", "m", "--output", "o", "--input", "no.txt"], "there is no such file", 1),
    (["generate", "--model", "m", "--output", "o", "--task", "sts-x3"], "did you mean 'sts-x", 1),
    (["syncse", "--model", "m", "--output", "o", "--max-tries", "0", "--num", "1"], "--max-tries is 0", 2),
    (["generate", "--model", "m", "--output", "o", "--num", str(10**20)], "Invalid value for '--num'", 2),
    (["syncse", "--model", "m", "--output", "o", "--num", str(10**20)], "Invalid value for '--num'", 2),
    (["score", "no", "--model", "m", "--output", "o"], "there is no such file or directory", 1),
    (["prepare", "no", "--output", "o"], "there is no such file or directory", 1),
    (["prepare", "no", "--output", "o", "--label-smoothing", "2"], "--label-smoothing is 2.0", 2),
    (
        ["prepare", "no", "--output", "o", "--labels", "0,1"],
        "'0,1' is no number; give the option once for each number: --labels 0 --labels 1",
        2,
    ),
    (["prepare-triplets", "no", "--output", "o", "--negatives", "1"], "--negatives is '1'", 2),
    (["prepare-triplets", "no.csv", "--output", "o"], "no.csv", 1),
    (["train", "no", "--encoder", "e", "--output", "o", "--epochs", "0"], "--epochs is 0", 2),
    (["train", "no", "--encoder", "e", "--output", "o"], "there is no such directory", 1),
    (["train-contrastive", "no", "--encoder", "e", "--output", "o"], "there is no such directory", 1),
    (["evaluate", "m", "--protocol", "al"], "did you mean 'all'", 2),
    (["evaluate", "m", "--sts-dir", "no"], "there is no such directory", 1),
    (["evaluate", "m", "--pairs", "no.csv"], "there is no such file", 1),
    (["audit", "no", "-n", "0"], "--number is 0; expected greater", 2),
    (["run", "quikstart", "--output", "o"], "did you mean 'quickstart'", 1),
    (["run", "quickstart", "--output", "o", "--set", "train.lr=1"], "there is no option 'lr'", 2),
    (["run", "sts-dino-x2", "--output", "o", "--set", "input=no.csv"], "no.csv: there is no such file", 1),
]


def test_mistakes_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    told = run_light([arguments for arguments, _, _ in MISTAKES], tmp_path, HEAVY)
    for (arguments, message, code), (found, words) in zip(MISTAKES, told, strict=True):
        assert (found, message in words) == (code, True), f"{arguments}: {words}"
    assert not list(tmp_path.iterdir())


def test_triplets_are_written_under_the_old_spelling_as_under_the_new(tmp_path: Path, model_directory: Path) -> None:
    (tmp_path / "s.txt").write_text("A dog runs.\nTwo cats sleep.\n")
    common = ["--input", tmp_path / "s.txt", "--model", model_directory, "--max-tries", 1, "--device", "cpu"]
    outputs = []
    for name, command in (("new", ["syncse"]), ("old", ["generate", "--task", "syncse-partial"])):
        arguments = [*command, *common, "--output", tmp_path / name]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        outputs.append((result.exit_code, manifest["configuration"], manifest["shards"][0]["counts"]))
    assert outputs[0] == outputs[1]


def test_a_task_of_dino_is_no_task_of_syncse(tmp_path: Path) -> None:
    arguments = ["syncse", "--task", "sts-x2", "--input", "s.txt", "--model", "m", "--output", str(tmp_path / "o")]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "there is no SynCSE task 'sts-x2'" in result.output) == (1, True)


BEFORE = ("torch", "transformers", "sentence_transformers", "datasets", "mteb", "accelerate")
"""What takes seconds to import."""


def told_before_the_slow_part(commands: list[list[Any]], place: Path) -> list[str]:
    """What refused commands say, which import nothing slow, and leave everything as it was but for locks."""

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.name != LOCK}

    before = times()
    told = run_light(commands, place, BEFORE)
    assert times() == before
    assert {code for code, _ in told} <= {1, 2}, told
    return [words for _, words in told]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which every stage has run once."""
    place = tmp_path_factory.mktemp("finished")
    texts = [f"A dog runs over field {number}." for number in range(8)]
    (place / "s.txt").write_text("\n".join(texts))
    (place / "other.txt").write_text("\n".join(texts[1:]))
    rows = [
        {"sentence1": text, "sentence2": f"{text} {score}", "score": score} for text in texts for score in (0, 0.5, 1)
    ]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "half/STS").mkdir(parents=True)
    quick = ["--model", "dino-tiny", "--device", "cpu", "--dtype", "float32"]
    for arguments in (
        ["generate", *quick, "--input", "s.txt", "--output", "raw", "--samples", 1],
        ["syncse", *quick, "--input", "s.txt", "--output", "triplets", "--max-tries", 1],
        ["score", "pairs.jsonl", *quick, "--output", "scored"],
        ["prepare", "raw", "--output", "prepared"],
        ["prepare-triplets", "raw", "--output", "prepared-triplets"],
        ["train", "prepared", "--encoder", "dino-tiny-encoder", "--output", "model", "--batch-size", 8],
        [
            *("train-contrastive", "prepared-triplets", "--encoder", "dino-tiny-encoder", "--output", "model-2"),
            *("--batch-size", 4),
        ],
        *(
            ["generate", *quick, "--input", "s.txt", "--output", f"s{i}", "--shard", f"{i}/2", "--batch-size", 8]
            for i in (1, 2)
        ),
        ["merge", "s1", "s2", "--output", "merged"],
    ):
        with contextlib.chdir(place):
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code in (0, 1 if arguments[0] == "syncse" else 0), result.output
    return place


GENERATE = ["generate", "--model", "dino-tiny", "--input", "s.txt", "--samples", 1, "--dtype", "float32"]
TRAIN = ["train", "prepared", "--encoder", "dino-tiny-encoder", "--output", "model", "--batch-size", 8]
SCORE = ["score", "pairs.jsonl", "--model", "dino-tiny", "--output", "scored", "--dtype", "float32"]
CONTRASTIVE = ["train-contrastive", "prepared-triplets", "--encoder", "dino-tiny-encoder", "--output", "model-2"]


REFUSED: list[tuple[list[Any], str]] = [
    ([*GENERATE, "--output", "raw", "--seed", 7, "--top-k", 9], "--top-k was 5, now 9 --seed was 42, now 7"),
    ([*GENERATE, "--output", "raw", "--dtype", "bfloat16"], "--dtype was 'float32', now 'bfloat16'"),
    ([*GENERATE[:4], "other.txt", *GENERATE[5:], "--output", "raw"], "the sentences are others (were 8, now 7)"),
    ([*GENERATE, "--task", "sts-x1", "--output", "raw"], "--num N"),
    ([*GENERATE, "--output", "prepared"], "holds something else"),
    ([*GENERATE[:2], "dino-tniy", *GENERATE[3:], "--output", "new"], "did you mean 'dino-tiny'?"),
    ([*GENERATE[:4], "s.txr", *GENERATE[5:], "--output", "new"], "there is no such file; did you mean 's.txt'?"),
    (["syncse", *GENERATE[1:5], "--output", "triplets", "--seed", 7], "--seed was 42, now 7"),
    ([*SCORE, "--task", "sts-x2-missing"], "there is no built-in task"),
    ([*SCORE[:3], "./raw", *SCORE[4:]], "no model directory"),
    (["score", "raw", *SCORE[2:]], "the pairs are others (24 as before"),
    (["prepare", "raw", "--output", "prepared", "--seed", 7], "--seed was 42, now 7"),
    (["prepare", "merged", "--output", "prepared"], "samples was 1, now 2"),
    (["prepare", "raq", "--output", "new"], "there is no such file or directory; did you mean 'raw'?"),
    (["prepare-triplets", "raw", "--output", "prepared-triplets", "--seed", 7], "--seed was 42, now 7"),
    ([*TRAIN, "--learning-rate", 1e-3, "--seed", 7], "--learning-rate was 2e-05, now 0.001; --seed was 42, now 7"),
    ([*TRAIN[:3], "model", *TRAIN[4:]], "encoder was 'dino-tiny-encoder', now 'model'"),
    ([*TRAIN[:3], "dino-tiny-encodr", *TRAIN[4:]], "did you mean 'dino-tiny-encoder'?"),
    ([*TRAIN[:3], "./modle", *TRAIN[4:]], "did you mean"),
    (["train", "raw", *TRAIN[2:]], "has no preparation.json"),
    (["train", "prepraed", *TRAIN[2:]], "did you mean 'prepared'?"),
    ([*TRAIN[:-1], 4000], "choose a smaller --batch-size"),
    ([*CONTRASTIVE], "choose a smaller --batch-size"),
    ([*CONTRASTIVE, "--batch-size", 4, "--scale", 7], "--scale was 20.0, now 7.0"),
    (["train-contrastive", "prepared", *CONTRASTIVE[2:]], "holds pairs"),
    (["merge", "s1", "s2", "--output", "raw"], "samples was 1, now 2"),
    (["merge", "s1", "s1", "--output", "new"], "missing 2/2"),
    (["evaluate", "dino-tiny-encodr", "--pairs", "pairs.jsonl"], "did you mean 'dino-tiny-encoder'?"),
    (["evaluate", "mdel", "--pairs", "pairs.jsonl", "--output", "scores"], "did you mean 'model'?"),
    (["evaluate", "mean:mdel", "--pairs", "pairs.jsonl"], "did you mean"),
    (["evaluate", "model", "--pairs", "piars.jsonl"], "did you mean 'pairs.jsonl'?"),
    (["evaluate", "model", "--sts-dir", "half"], "STS.input.MSRpar.txt' is missing, so 'half' is not a complete"),
    (["evaluate", "model", "--tasks", "transfer", "--senteval-dir", "half"], "does not hold 'MR'"),
    (["quickstart", "--sts-dir", "half", "--output", "new"], "'half' is not a complete directory"),
    ([*CONTRASTIVE, "--checkpoint-choice", "sts-dev", "--sts-dir", "half"], "sts-dev.csv' is missing"),
]


def test_what_a_directory_or_a_manifest_tells_is_told_before_the_slow_part(finished: Path) -> None:
    told = told_before_the_slow_part([arguments for arguments, _ in REFUSED], finished)
    for (arguments, message), words in zip(REFUSED, told, strict=True):
        assert message in words, f"{arguments}: {words}"


def test_another_model_is_named_and_not_its_hash(finished: Path, model_directory: Path) -> None:
    generating = [*GENERATE[:2], model_directory, *GENERATE[3:], "--output", "raw"]
    scoring = [*SCORE[:3], model_directory, *SCORE[4:]]
    for said in told_before_the_slow_part([generating, scoring], finished):
        assert f"--model was 'dino-tiny', now '{str(model_directory)[:40]}" in said  # of a long path, its beginning
        assert "sha256" not in said
