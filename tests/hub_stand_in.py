"""A small hub on this machine, in front of which the real `huggingface_hub` client does not notice that it is none."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from huggingface_hub import constants

TOKEN = "hf_stand_in_token"
LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "other")
TASKS = ("sentence-similarity", "text-classification", "feature-extraction")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0


@dataclass
class Hub:
    """What it holds, and what it was asked.

    Attributes:
        refuse: Says which status a request gets instead of an answer, by method and path; None for an answer.
    """

    role: str = "write"
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse: Any = None
    address: str = ""

    def header(self, repo: str) -> dict[str, Any]:
        text = self.repositories[repo].files["README.md"].decode()
        header: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
        return header


def problems(card: str, kind: str) -> list[str]:
    """What the hub would refuse of a card's header, as far as it is known."""
    header = yaml.safe_load(card.split("---\n")[1]) or {}
    found = []
    language = header.get("language") or []
    for code in [language] if isinstance(language, str) else language:
        if not (isinstance(code, str) and re.fullmatch(r"[a-z]{2,3}|multilingual", code)):
            found.append(f'"language[0]" must only contain lowercase characters: {code}')
    if "license" in header and header["license"] not in LICENSES:
        found.append(f'"license" must be one of {LICENSES}')
    if kind == "dataset":
        sizes = header.get("size_categories") or []
        found += [f"size_categories: {size}" for size in sizes if not re.fullmatch(r"n<1K|(\d+[KM]<)n<\d+[KMB]", size)]
        found += [f"task_categories: {task}" for task in header.get("task_categories") or [] if task not in TASKS]
    for entry in header.get("model-index") or []:
        for result in entry["results"]:
            well_formed = result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]
            numbers = all(isinstance(metric["value"], int | float) for metric in result["metrics"])
            found += [] if well_formed and numbers and entry["name"] else ['"model-index" is not valid']
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        status = self.hub.refuse and self.hub.refuse(self.command, path)
        if status:
            return self._answer(status, {"error": "refused"})
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if path.startswith("/api/") and "validate-yaml" not in path and not known:
            return self._answer(401, {"error": "Invalid credentials"})
        status, content = self._route(path, body)
        return self._answer(status, content, **({"X_Error_Code": "RepoNotFound"} if status == 404 else {}))

    do_GET = do_POST = do_PUT = do_HEAD = _any  # noqa: N815

    def _answer(self, status: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _route(self, path: str, body: bytes) -> tuple[int, Any]:
        hub = self.hub
        if path == "/":
            return 200, {}
        if path == "/api/whoami-v2":
            orgs = [{"name": "our-lab", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}]
            return 200, {"name": "me", "orgs": orgs, "auth": {"accessToken": {"role": hub.role}}}
        if path == "/api/validate-yaml":
            asked = json.loads(body)
            found = [{"message": message} for message in problems(asked["content"], asked["repoType"])]
            return (400 if found else 200), {"errors": found, "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            prefix = "datasets/" if asked.get("type") == "dataset" else ""
            found = name in hub.repositories
            hub.repositories.setdefault(name, Repository(asked.get("visibility") == "private"))
            return (409 if found else 200), {"url": f"{hub.address}/{prefix}{name}"}
        if match := re.fullmatch(r"/(?:datasets/)?(.+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": [self._lfs(one) for one in json.loads(body)["objects"]]}
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == match[1]
            hub.blobs[match[1]] = body
            return 200, {}
        match = re.fullmatch(
            r"/api/(model|dataset)s/((?:[^/]+/)?[^/]+?)(?:/(tree|preupload|commit|revision)/main)?", path
        )
        if match and match[1] == "model" and match[3] is None and match[2] in hub.models:
            return 200, {"id": match[2], "cardData": hub.models[match[2]], "siblings": [], "tags": []}
        if not match or match[2] not in hub.repositories:
            return 404, {"error": "Repository not found"}
        repository = hub.repositories[match[2]]
        if match[3] == "tree":
            return 200, [
                {"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in repository.files.items()
            ]
        if match[3] == "preupload":
            return 200, {"files": [self._mode(one, repository) for one in json.loads(body)["files"]]}
        if match[3] == "commit":
            self._commit(repository, body)
            return 200, {"commitUrl": f"{hub.address}/{match[2]}/commit/{'a' * 40}", "commitOid": "a" * 40}
        siblings = [{"rfilename": name} for name in repository.files]
        return 200, {"id": match[2], "private": repository.private, "sha": "a" * 40, "siblings": siblings, "tags": []}

    def _lfs(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.hub.blobs:
            return asked
        return asked | {"actions": {"upload": {"href": f"{self.hub.address}/lfs/{asked['oid']}"}}}

    def _mode(self, asked: dict[str, Any], repository: Repository) -> dict[str, Any]:
        path = asked["path"]
        known = {"oid": _oid(repository.files[path])} if path in repository.files else {}
        large = path.endswith((".parquet", ".safetensors"))
        known = {"oid": hashlib.sha256(repository.files[path]).hexdigest()} if known and large else known
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known}

    def _commit(self, repository: Repository, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits += 1


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The hub at an address of its own, until the block is left."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def as_the_hub(monkeypatch: Any) -> Iterator[Hub]:
    """The hub as the one that this process knows, with a token for it."""
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its server is none that fits into a test
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
