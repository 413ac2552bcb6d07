"""Many requests at once by a provider's batch interface (OpenAI's Batch API): a file goes out, a file comes back.

What is in a batch is noted in a file before it is submitted, and that note stays until the replies are kept. So a run
that ends in between, however it ends, goes on with the same batch; one that ended before it knew the batch's id finds
it by the mark that the batch carries as metadata. Replies come in any order and are known by `custom_id`.

The protocol: `POST /files` (purpose `batch`, a request a line), `POST /batches`, `GET /batches/{id}` until its status
is a final one, `GET /files/{id}/content` for the replies and for the requests that failed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from dino_st.backends.chat import ChatReply, ChatRequest
from dino_st.backends.servers.replies import Answer, AttemptError, Attempts, Counts, json_object, part_of, shortened
from dino_st.errors import ConfigurationError, DinoError, ModelError, OutputError, PendingError
from dino_st.support.files import make_directory, write_text
from dino_st.support.options import explain
from dino_st.support.progress import logger

BATCHES = "batches"
"""The directory of notes, in a directory of shards."""

MOST_BYTES = 200 * 10**6
"""What OpenAI takes in a file of requests."""

MARK = "dino_st"
"""The name of the mark in a batch's metadata."""

_WINDOW = "24h"
_LARGEST_LINE = 2**16
"""Bytes of a file of replies for each request, on average, from which on it is no honest one."""

_MANY = 32
"""Requests of a batch, of which none was answered, from which on it is no use to submit them again at once."""

_DOWNLOADS = 3
_PAGES = 1000
_MOST_MISSED = 60
"""Looks in a row that may fail, each tried several times, while a run waits for hours."""

_FINAL = ("completed", "failed", "expired", "cancelled")
_NO_INTERFACE = (404, 405, 501)
_FULL = "token_limit_exceeded"
"""The provider's word for tokens of other batches that wait already."""

T = TypeVar("T")


class Form(NamedTuple):
    """In what form a server takes requests: its name of the limit of tokens, and whether it knows a system role."""

    limit: str
    has_system_role: bool = True


class BatchNote(BaseModel):
    """What is known of a batch; a file of its own until its replies are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mark: str
    base_url: str
    batch: str | None = None  # its id; None until the provider has said it
    form: Form
    requests: dict[str, Counts]  # by `custom_id`

    def path(self, directory: Path) -> Path:
        """Of the note."""
        return directory / f"{self.mark}.json"


def read_notes(directory: Path) -> list[BatchNote]:
    """The batches that are noted in a directory, which need not exist; an OutputError where a note is none."""
    notes = []
    for path in sorted(directory.glob("*.json")):
        try:
            notes.append(BatchNote.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise OutputError(
                f"{path}: not a note of a batch ({explain(error, BatchNote)[0]}); put it back, or remove it, and its "
                "requests are asked, and paid for, again"
            ) from None
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror or error}); check its rights") from None
    return notes


class BatchServer(Protocol):
    """What batches need of a server that they are submitted to."""

    host: str
    base_url: str  # without credentials
    endpoint: str  # that the requests go to, such as `/v1/chat/completions`
    waits: bool  # whether pending batches are waited for
    poll_seconds: float
    most_requests: int  # of one batch
    max_retries: int

    @property
    def form(self) -> Form:
        """In what form requests are sent at present."""

    def learn(self, form: Form) -> None:
        """Takes over in what form an earlier run found that the server takes requests."""

    def body(self, attempts: Attempts, form: Form) -> dict[str, Any]:
        """What is asked, as it would be sent alone."""

    def read(self, attempts: Attempts, form: Form, status: int, content: object) -> Answer | None:
        """Reads a reply to a request that was sent in some form; None where it must be sent in another.

        Raises AttemptError where this attempt failed, and another DinoError where every other one will as well.
        """

    def taken(self, attempts: Attempts, answer: Answer) -> ChatReply:
        """The reply to a request that was answered."""

    async def call(
        self, method: str, path: str, body: Any = None, *, upload: bytes | None = None, largest: int | None = None
    ) -> bytes:
        """Makes one request; AttemptError where it failed, another DinoError where every other one will as well."""

    async def pause(self, attempt: int, asked: float | None) -> None:
        """Waits before an attempt."""


class BatchRun:
    """Answers requests by batches: takes up those that are noted, submits what is in none, waits, collects."""

    def __init__(
        self,
        server: BatchServer,
        directory: Path,
        requests: Mapping[str, ChatRequest],
        on_reply: Callable[[ChatReply], None],
    ) -> None:
        self.server, self.directory, self.on_reply = server, directory, on_reply
        self.open = {name: Attempts.of(request) for name, request in requests.items()}
        self._notes: dict[str, BatchNote] = {}
        self._told: dict[str, str] = {}  # what was last said of a batch, by its mark
        self._is_full = False
        self._missed = 0  # looks in a row that failed

    async def to_end(self) -> None:
        """Asks until every request has a reply, which may be a failure.

        Raises PendingError where batches are pending and are not to be waited for. Whatever is raised, what was
        submitted is noted, and what came is kept.
        """
        make_directory(self.directory)
        await self._take_up()
        while self.open:
            await self._submit()
            looks = [(note, await self._look(note)) for note in list(self._notes.values())]
            final = [(note, batch) for note, batch in looks if batch["status"] in _FINAL]
            collected = [await self._collect(note, batch) for note, batch in final]
            if not final and not self.server.waits:
                told = "; ".join(self._told.values())
                raise PendingError(
                    f"{len(self.open):,} requests are in batches that are pending at {self.server.host} ({told}); run "
                    "the same later to collect them"
                )
            if not any(collected):
                await asyncio.sleep(self.server.poll_seconds)

    # Submitting

    async def _take_up(self) -> None:
        """Takes up the batches with requests of this run, which earlier ones submitted, or were about to."""
        for note in read_notes(self.directory):
            mine = self.open.keys() & note.requests.keys()
            if not mine:
                continue
            path = note.path(self.directory)
            if note.base_url != self.server.base_url:
                raise ConfigurationError(
                    f"base_url: given {self.server.base_url}, and batch {note.batch} with {len(mine):,} of these "
                    f"requests was submitted to {note.base_url}; give that one to collect it, or, to give it up, "
                    f"remove {path}"
                )
            self.server.learn(note.form)
            for name in mine:
                self.open[name].counts = note.requests[name]
            if note.batch is None and (found := await self._found(note)) is not None:
                note = self._noted(note.model_copy(update={"batch": found}))
            if note.batch is None:  # the last run ended before it was submitted
                path.unlink(missing_ok=True)
            else:
                logger.info("going on with batch %s of %d requests", note.batch, len(note.requests))
                self._notes[note.mark] = note

    async def _submit(self) -> None:
        """Submits the requests that are in no batch."""
        if self._is_full and self._notes:
            return
        sent = {name for note in self._notes.values() for name in note.requests}
        names = [name for name in self.open if name not in sent]
        form = self.server.form
        for part, data in self._files(names, form):
            file = await self._uploaded(data)
            note = BatchNote(
                mark=secrets.token_hex(16),
                base_url=self.server.base_url,
                form=form,
                requests={name: self.open[name].counts for name in part},
            )
            note = await self._created(self._noted(note), file)
            self._notes[note.mark] = note
            logger.info("batch %s of %d requests is submitted to %s", note.batch, len(part), self.server.host)

    def _files(self, names: Sequence[str], form: Form) -> Iterator[tuple[list[str], bytes]]:
        """Cuts requests into files that a provider takes: the names in each, and its content."""
        part, lines, size = list[str](), list[bytes](), 0
        for name in names:
            body = self.server.body(self.open[name], form)
            line = {"custom_id": name, "method": "POST", "url": self.server.endpoint, "body": body}
            data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            if part and (len(part) >= self.server.most_requests or size + len(data) > MOST_BYTES):
                yield part, b"".join(lines)
                part, lines, size = [], [], 0
            part.append(name)
            lines.append(data)
            size += len(data)
        if part:
            yield part, b"".join(lines)

    async def _uploaded(self, data: bytes) -> str:
        """Uploads a file of requests, of which nothing is done yet; its id."""
        try:
            content = await self._json("POST", "/files", upload=data)
        except AttemptError as error:
            raise self._worded(error, "/files") from None
        if not isinstance(name := content.get("id"), str):
            raise self._without_interface("/files", "the reply names no file")
        return name

    async def _created(self, note: BatchNote, file: str) -> BatchNote:
        """Begins a batch; where it is not known whether one began, looks for it before it begins another."""
        metadata = {MARK: note.mark}
        body = {
            "input_file_id": file,
            "endpoint": self.server.endpoint,
            "completion_window": _WINDOW,
            "metadata": metadata,
        }
        failed = AttemptError("not asked")
        for attempt in range(1, self.server.max_retries + 2):
            if attempt > 1:
                await self.server.pause(attempt, failed.wait)
                if (found := await self._found(note)) is not None:
                    return self._noted(note.model_copy(update={"batch": found}))
            try:
                content = json_object(await self.server.call("POST", "/batches", body))
                if isinstance(name := content.get("id"), str):
                    return self._noted(note.model_copy(update={"batch": name}))
                failed = AttemptError("the reply names no batch")
            except AttemptError as error:
                failed = error
                if not error.again:
                    note.path(self.directory).unlink(missing_ok=True)
                    raise self._worded(error, "/batches") from None
            except DinoError:
                note.path(self.directory).unlink(missing_ok=True)
                raise
        raise self._worded(failed, "/batches")

    async def _found(self, note: BatchNote) -> str | None:
        """The id of a batch of which only the mark is known, among all that the provider lists."""
        after = ""
        for _ in range(_PAGES):
            try:
                page = await self._json("GET", f"/batches?limit=100{after}")
            except AttemptError as error:
                raise ModelError(
                    f"whether the batch was begun that {note.path(self.directory)} tells of is not known "
                    f"({error.reason} at /batches); "
                    f"look on the provider's page for one with the metadata {MARK}: {note.mark}, and remove the file "
                    "if there is none"
                ) from None
            data = page.get("data")
            listed = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
            for one in listed:
                if part_of(one, "metadata").get(MARK) == note.mark and isinstance(one.get("id"), str):
                    return str(one["id"])
            last = f"&after={quote(str(listed[-1].get('id')), safe='')}" if listed else after
            if not page.get("has_more") or last == after:
                break
            after = last
        return None

    def _noted(self, note: BatchNote) -> BatchNote:
        write_text(note.path(self.directory), note.model_dump_json())
        return note

    # Waiting

    async def _look(self, note: BatchNote) -> dict[str, Any]:
        """The batch as the provider tells it now, its status in lower case; tells what has changed."""
        path = f"/batches/{quote(note.batch or '', safe='')}"
        try:
            batch = await self._json("GET", path)
        except AttemptError as error:
            if self._passes(error):
                return {"status": "unknown"}
            if error.status != 404:
                raise self._worded(error, path) from None
            raise ModelError(
                f"{self.server.host} knows no batch {note.batch} ({error.reason}); set the key of the account that "
                f"submitted it, or, to give its {len(note.requests):,} requests up and ask them again, remove "
                f"{note.path(self.directory)}"
            ) from None
        status = batch["status"] = str(batch.get("status", "unknown")).lower()
        self._missed = self._missed if status in _FINAL else 0
        counts = part_of(batch, "request_counts")
        done = f", {counts.get('completed')} of {len(note.requests)} done" if counts.get("completed") else ""
        if (told := f"{note.batch}: {shortened(status)}{done}") != self._told.get(note.mark):
            self._told[note.mark] = told
            logger.info("batch %s", told)
        return batch

    def _passes(self, error: AttemptError) -> bool:
        """Whether to look again after a look that failed, which is told once."""
        self._missed += 1
        passes = error.again and self.server.waits and self._missed <= _MOST_MISSED
        if passes and self._missed == 1:
            said = f"{self.server.host}: {error.reason}"
            logger.warning("%s; looking again every %g s", said, self.server.poll_seconds)
        return passes

    # Collecting

    async def _collect(self, note: BatchNote, batch: Mapping[str, Any]) -> bool:
        """Hands over what a batch brought, and removes its note; what was not answered stays open.

        Says whether it did, since the provider may be out for the moment.
        Raises DinoError where that is no use: the provider refused the batch, somebody cancelled it, or every request
        will fail for the same reason.
        """
        status = batch["status"]
        try:
            lines = await self._lines(note, batch)
        except AttemptError as error:
            if self._passes(error):
                return False
            raise ModelError(
                f"the replies of batch {note.batch} cannot be had ({error.reason}); run the same again, or, if they "
                f"are gone, and to ask, and pay for, all of it again, remove {note.path(self.directory)}"
            ) from None
        self._missed = 0
        replies = self._by_request(note, lines)
        if status == "completed" and not replies:
            raise ModelError(
                f"batch {note.batch} is completed, and none of its {len(lines):,} replies is to one of its "
                f"{len(note.requests):,} requests; look at it on the provider's page, and, to ask again, remove "
                f"{note.path(self.directory)}"
            )
        taken = _Taken()
        for name in sorted(note.requests, key=lambda name: not _is_answered(replies.get(name))):
            if name in self.open and (name in replies or status in ("completed", "expired")):
                self._take(name, note, replies.get(name), status, taken)
        note.path(self.directory).unlink(missing_ok=True)
        del self._notes[note.mark], self._told[note.mark]
        rest = sum(name in self.open for name in note.requests)
        if rest or status != "completed":
            is_repeated = rest and taken.fatal is None and status in ("completed", "expired")
            why = taken.failed.reason if taken.failed else "in another form"
            then = f"; the rest is submitted again ({why})" if is_repeated else ""
            done = len(note.requests) - rest
            logger.warning(
                "batch %s: %s, %d of %d requests are done%s", note.batch, status, done, len(note.requests), then
            )
        self._judge(note, batch, taken)
        return True

    def _judge(self, note: BatchNote, batch: Mapping[str, Any], taken: _Taken) -> None:
        """Ends the run where it is no use to submit what is left of a batch at once."""
        what, host, status = f"batch {note.batch}", self.server.host, batch["status"]
        if taken.fatal is not None:
            raise taken.fatal
        if status == "cancelled":
            raise ModelError(
                f"{what} was cancelled at {host}; what it had answered is kept, and the rest is submitted when the "
                "same is run again"
            )
        if status == "failed":
            faults = _faults(batch)
            if _FULL in faults and self._notes:
                self._is_full = True
                return
            advice = "ask for fewer at once (--batch-requests)" if _FULL in faults else "mend that"
            raise ModelError(
                f"{host} refused {what} of {len(note.requests):,} requests ({'; '.join(faults.values())}); {advice}, "
                "and run the same again"
            )
        self._is_full = False
        if len(note.requests) >= _MANY and taken.failed is not None and not taken.is_of_use and status == "completed":
            raise ModelError(
                f"not one of {len(note.requests):,} requests of {what} was answered, the last one with: "
                f"{taken.failed.reason}. Look whether {host} works, and run the same again"
            )

    def _take(self, name: str, note: BatchNote, line: Mapping[str, Any] | None, status: str, taken: _Taken) -> None:
        """Takes what came for a request: an answer, why there is none, or nothing."""
        attempts = self.open[name]
        try:
            if line is None:
                words = "has no reply to it" if status == "completed" else status
                raise AttemptError(f"batch {note.batch} {words}", server_trouble=True)
            answer = self._answer(attempts, note.form, line)
        except AttemptError as error:
            taken.failed, counts = error, attempts.counts
            if attempts.goes_on(error) and counts.number <= self.server.max_retries:
                return
            taken.is_of_use |= not error.again
            counts = attempts.counts._replace(number=counts.number)
            key, reason = attempts.request.key, error.reason
            reply = ChatReply(key, None, reason, counts.read, counts.written, counts.number)
        except DinoError as error:
            taken.fatal = taken.fatal or error
            return
        else:
            taken.is_of_use = True
            if answer is None:
                return
            reply = self.server.taken(attempts, answer)
        del self.open[name]
        self.on_reply(reply)

    def _answer(self, attempts: Attempts, form: Form, line: Mapping[str, Any]) -> Answer | None:
        response, error = part_of(dict(line), "response"), part_of(dict(line), "error")
        if error and not response:
            said = f"{error.get('code') or 'error'}: {error.get('message') or 'no reason given'}"
            raise AttemptError(shortened(said), server_trouble=True)
        status = response.get("status_code", 200)
        return self.server.read(attempts, form, status if isinstance(status, int) else 500, response.get("body"))

    def _by_request(self, note: BatchNote, lines: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """The reply to each request; of several the first answer. Tells of those that no request is known for."""
        replies: dict[str, Mapping[str, Any]] = {}
        unknown = repeated = 0
        for line in lines:
            name = str(line.get("custom_id"))
            if name not in note.requests:
                unknown += 1
                continue
            repeated += name in replies
            if name not in replies or (_is_answered(line) and not _is_answered(replies[name])):
                replies[name] = line
        if unknown or repeated:
            logger.warning(
                "batch %s: %d replies are to no request of it, and %d to one that has a reply; they are left out",
                *(note.batch, unknown, repeated),
            )
        return replies

    async def _lines(self, note: BatchNote, batch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The lines of a batch's replies and of its errors; a file that is cut short is fetched again."""
        found: list[Mapping[str, Any]] = []
        for name in (batch.get("output_file_id"), batch.get("error_file_id")):
            if not isinstance(name, str) or not name:
                continue
            path = f"/files/{quote(name, safe='')}/content"
            lines, broken = list[Mapping[str, Any]](), 0
            for _ in range(_DOWNLOADS):
                data = await self._called("GET", path, largest=2**22 + _LARGEST_LINE * len(note.requests))
                lines, broken = _read_lines(data)
                if not broken:
                    break
            if broken:
                logger.warning("batch %s: %d lines of %s are no JSON objects", note.batch, broken, path)
            found += lines
        return found

    # Talking

    async def _called(self, method: str, path: str, **more: Any) -> bytes:
        """Makes a request that may be repeated; AttemptError where it fails to the end."""
        return await self._persisting(lambda: self.server.call(method, path, **more))

    async def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The object that a request brings, which may be repeated; AttemptError where it fails to the end."""

        async def ask() -> dict[str, Any]:
            return json_object(await self.server.call(method, path, **more))

        return await self._persisting(ask)

    async def _persisting(self, ask: Callable[[], Awaitable[T]]) -> T:
        failed = AttemptError("not asked")
        for attempt in range(1, self.server.max_retries + 2):
            if attempt > 1:
                await self.server.pause(attempt, failed.wait)
            try:
                return await ask()
            except AttemptError as error:
                failed = error
                if not error.again:
                    break
        raise failed

    def _worded(self, error: AttemptError, path: str) -> DinoError:
        if error.status in _NO_INTERFACE and path in ("/files", "/batches"):
            return self._without_interface(path, error.reason)
        then = "run the same again; " if error.again else ""
        noted = f"what was submitted is noted in {self.directory}"
        return ModelError(f"{self.server.host} fails at {path} ({error.reason}); {then}{noted}")

    def _without_interface(self, path: str, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"option 'batch_api': {self.server.host} has no batch interface as OpenAI has ({reason} at {path}); leave "
            "it out, or give the base_url of a provider that has one"
        )


@dataclass
class _Taken:
    """What became of the requests of a batch."""

    is_of_use: bool = False  # a reply came that is final, or says what to change
    failed: AttemptError | None = None
    fatal: DinoError | None = None


def _is_answered(line: Mapping[str, Any] | None) -> bool:
    return line is not None and part_of(dict(line), "response").get("status_code") == 200


def _read_lines(data: bytes) -> tuple[list[Mapping[str, Any]], int]:
    """The objects of a file of JSON lines, and how many lines are none."""
    lines, broken = list[Mapping[str, Any]](), 0
    for line in data.split(b"\n"):
        try:
            found = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            lines += [found] if found else []
        else:
            broken += 1
    return lines, broken


def _faults(batch: Mapping[str, Any]) -> dict[str, str]:
    """Why a provider refused a batch, a few reasons by their codes."""
    data = part_of(dict(batch), "errors").get("data")
    faults: dict[str, str] = {}
    for one in data if isinstance(data, list) else []:
        if isinstance(one, dict) and len(faults) < 3:
            line = f" (line {one['line']})" if one.get("line") is not None else ""
            code = str(one.get("code") or "error")
            faults.setdefault(code, shortened(f"{code}: {one.get('message') or 'no reason given'}{line}"))
    return faults or {"": "no reason given"}
