"""The chat backend against a real server: `transformers serve` with a model made on the spot."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dino_st.backends.chat import ChatRequest
from dino_st.backends.openai import OpenAIChat
from dino_st.errors import ModelError

MISSING = [name for name in ("openai", "fastapi", "uvicorn") if find_spec(name) is None]
PROGRAM = Path(sys.executable).parent / "transformers"

pytestmark = [
    pytest.mark.usefixtures("asking_this_machine"),
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f'{", ".join(MISSING)} not installed; run: pip install "transformers[serving]"'
    ),
]

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="module")
def served(
    tokenizer: Any, make_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The base URL of a server and the model directory that it serves."""
    directory = tmp_path_factory.mktemp("served")
    model = directory / "tiny-chat"
    templated = copy.deepcopy(tokenizer)
    templated.chat_template = TEMPLATE
    templated.save_pretrained(model)
    made = make_model("llama")
    made.generation_config.do_sample = True
    made.save_pretrained(model)
    port, log = free_port(), directory / "log"
    program = shutil.which("transformers", path=str(PROGRAM.parent)) or str(PROGRAM)
    command = [program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(directory / "home"), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | quiet)
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1", model
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_a_real_server_answers_every_request(served: tuple[str, Path]) -> None:
    url, model = served
    backend = OpenAIChat(str(model), base_url=url, concurrency=4, backoff_seconds=0.1)
    asked = [
        ChatRequest(f"key-{i}", f"Say something about {i}.", system="Be brief.", max_new_tokens=12) for i in range(8)
    ]
    replies = backend.complete(asked)
    assert [reply.key for reply in replies] == [request.key for request in asked]
    assert [reply.failure for reply in replies] == [None] * 8
    assert all(reply.text for reply in replies)
    assert backend.usage["requests"] == 8
    assert 8 <= backend.usage["completion_tokens"] <= 12 * (8 + backend.usage["retries"])
    assert backend.usage["prompt_tokens"] >= 8 * 10


def test_a_real_servers_answer_follows_from_the_seed_and_the_key(served: tuple[str, Path]) -> None:
    url, model = served
    asked = [ChatRequest(f"key-{i}", "Say something.", max_new_tokens=12) for i in range(3)]

    def ask(seed: int) -> list[str | None]:
        backend = OpenAIChat(str(model), base_url=url, concurrency=1, seed=seed, backoff_seconds=0.1)
        return [reply.text for reply in backend.complete(asked)]

    first = ask(1)
    assert len(set(first)) == 3
    assert ask(1) == first
    assert ask(2) != first


def test_a_wrong_path_on_a_real_server_is_explained(served: tuple[str, Path]) -> None:
    url, model = served
    with pytest.raises(ModelError, match=r"or the address is wrong .*http://localhost:8000/v1"):
        OpenAIChat(str(model), base_url=url.removesuffix("/v1")).complete([ChatRequest("k", "Hello.")])
