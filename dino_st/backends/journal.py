"""Replies kept on disk as they come, so that no answered request is asked, and paid for, again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from threading import Condition, RLock
from typing import Any, Self

from dino_st.backends.chat import ChatBackend, ChatReply, ChatRequest, is_batching
from dino_st.backends.servers.batches import BATCHES, BatchNote, read_notes
from dino_st.data.shards import ADDED_LATER
from dino_st.errors import InputError, OutputError
from dino_st.support.hashes import short_hash
from dino_st.support.progress import logger

JOURNAL = "replies.sqlite"
"""The file of replies in a directory of shards."""

Ask = Callable[[Sequence[ChatRequest]], list[ChatReply]]
"""Answers requests, in their order."""

_APPLICATION, _VERSION = 0x64696E6F, 1
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    text TEXT,
    failure TEXT,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    finished INTEGER NOT NULL
) WITHOUT ROWID
"""
_NAMES = "CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY) WITHOUT ROWID"
"""What servers called the model that replies came from, where that was another name than was asked for."""

_FIELDS = tuple(field.name for field in fields(ChatReply))


class ReplyJournal:
    """A file of replies by the key of their request; close it, or use it in a `with` statement.

    Each reply is committed when it comes, so a killed process loses only what was in flight. A reply counts for a
    request of the same key, prompt and limit to a backend that answers the same way (wherever it stands: the server's
    address does not matter). Failures are kept for `failures`, and asked again. SQLite puts two more files beside it
    while it is open. An OutputError says that the file is damaged, is something else, or cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = RLock()
        self._free, self._being_asked = Condition(self._lock), set[str]()
        self._names: list[str] = []
        with self._explained():
            # Several threads ask, one at a time, and in a notebook another than this one closes.
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            try:
                self._begin()
            except BaseException:
                self._database.close()
                raise

    def complete(self, backend: ChatBackend, requests: Sequence[ChatRequest], *, again: bool = True) -> list[ChatReply]:
        """Answers requests, in their order, asking a backend only for what was not answered before, and once a key.

        Unless `again` is set, what failed before has failed. Two different requests with the same key are an
        InputError. Requests that are in a batch are an OutputError where the backend is not asked in batches.
        """
        context = _context(backend)
        hashes: dict[str, str] = {}
        for request in requests:
            if hashes.setdefault(request.key, _hash(request, context)) != _hash(request, context):
                raise InputError(f"two different requests have the key {request.key!r}; expected a key for each")
        with self._free:  # what another thread is asking is not asked twice
            self._free.wait_for(lambda: self._being_asked.isdisjoint(hashes))
            known = {key: reply for key in hashes if (reply := self._stored(key, hashes[key], again)) is not None}
            missing = {request.key: request for request in requests if request.key not in known}
            self._being_asked |= missing.keys()
        try:
            self._ask(backend, missing, hashes, known)
        finally:
            with self._free:
                self._being_asked -= missing.keys()
                self._free.notify_all()
        return [known[request.key] for request in requests]

    def _ask(
        self,
        backend: ChatBackend,
        missing: Mapping[str, ChatRequest],
        hashes: Mapping[str, str],
        known: dict[str, ChatReply],
    ) -> None:
        """Asks a backend for the replies that are not known, and keeps them."""
        self._restore_names(backend)
        if missing:

            def keep(reply: ChatReply) -> None:
                self._store_names(backend)
                self._store(reply, hashes[reply.key])
                known[reply.key] = reply

            named = {_name_in_batches(key, hashes[key]): request for key, request in missing.items()}
            if is_batching(backend):
                backend.complete_in_batches(named, self.path.parent / BATCHES, keep)
            else:
                self._refuse_batches(named)
                known |= {reply.key: reply for reply in backend.complete(list(missing.values()), on_reply=keep)}

    def _refuse_batches(self, names: Mapping[str, ChatRequest]) -> None:
        """Refuses to ask once more what is in a batch already."""
        for note in read_notes(self.path.parent / BATCHES):
            if mine := names.keys() & note.requests.keys():
                raise OutputError(
                    f"{self.path.parent}: {len(mine):,} of the requests are in {_described(note)}; go on with "
                    f"batch_api=True to collect it, or, to give it up and ask again, remove "
                    f"{note.path(self.path.parent / BATCHES)}"
                )

    def settle_batches(self) -> None:
        """Removes the notes of batches whose replies are all here, and warns of batches that nobody asks for."""
        if notes := read_notes(self.path.parent / BATCHES):
            with self._explained():
                rows = self._database.execute("SELECT key, request FROM replies")
                known = {_name_in_batches(key, request) for key, request in rows}
            for note in notes:
                path = note.path(self.path.parent / BATCHES)
                if note.requests.keys() <= known:
                    path.unlink(missing_ok=True)
                    continue
                logger.warning(
                    "%s has requests that this run does not make, as of other settings, and is not collected; to give "
                    "it up, remove %s",
                    *(_described(note), path),
                )

    def failures(self) -> dict[str, str]:
        """The reason for each request whose last outcome is a failure, by its key, in the order of keys."""
        with self._explained():
            rows = self._database.execute("SELECT key, failure FROM replies WHERE text IS NULL ORDER BY key")
            return {key: reason or "no reason given" for key, reason in rows}

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        application, version = (self._pragma("application_id"), self._pragma("user_version"))
        tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and (application, version) != (_APPLICATION, _VERSION):
            raise OutputError(f"{self.path}: not a journal of replies (version {_VERSION}); choose another file")
        verdict = self._pragma("quick_check(1)")
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        # A commit survives the end of the process; a power cut may take the last ones, but never damages the file.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(_TABLE)
        self._database.execute(_NAMES)
        self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._database.execute(f"PRAGMA user_version = {_VERSION}")
        self._database.execute("COMMIT")
        self._names = [name for (name,) in self._database.execute("SELECT name FROM names ORDER BY name")]

    def _pragma(self, name: str) -> Any:
        return self._database.execute(f"PRAGMA {name}").fetchone()[0]

    def _stored(self, key: str, request: str, again: bool) -> ChatReply | None:
        """The reply to a request, if it was answered, or, unless it is to be asked again, failed."""
        query = f"SELECT {', '.join(_FIELDS)} FROM replies WHERE key = ? AND request = ?"
        query += " AND text IS NOT NULL" if again else ""
        with self._explained():
            row = self._database.execute(query, (key, request)).fetchone()
        if row is None:
            return None
        values = dict(zip(_FIELDS, row, strict=True))
        return ChatReply(**values | {"finished": bool(values["finished"])})

    def _store(self, reply: ChatReply, request: str) -> None:
        values = asdict(reply) | {"request": request}
        places = ", ".join(f":{name}" for name in values)
        with self._explained():
            self._database.execute(f"INSERT OR REPLACE INTO replies ({', '.join(values)}) VALUES ({places})", values)

    def _restore_names(self, backend: ChatBackend) -> None:
        """Adds the names that replies came under before to those that a backend has met, and says so once."""
        known: list[str] | None = getattr(backend, "answered_as", None)
        if known is None:
            return
        if earlier := [name for name in self._names if name not in known]:
            known += earlier
            logger.warning(
                "%s: replies that are kept here came from a model that its server called %s; where another one "
                "answers now, its replies stand beside them",
                self.path.parent,
                ", ".join(map(repr, earlier)),
            )

    def _store_names(self, backend: ChatBackend) -> None:
        with self._explained():
            for name in getattr(backend, "answered_as", None) or ():
                if name not in self._names:
                    self._database.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,))
                    self._names.append(name)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Keeps other threads out, and words SQLite's errors for people."""
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            advice = "another run may be using it" if "locked" in str(error) else "check the path, rights and space"
            raise OutputError(f"{self.path}: the journal of replies cannot be used ({error}); {advice}") from None
        except sqlite3.DatabaseError as error:
            reason = " ".join(str(error).split())
            raise OutputError(
                f"{self.path}: the journal of replies is damaged ({reason}); move it away to go on without it, and its "
                "requests are asked again"
            ) from None


class Asking:
    """Makes backends keep their replies in a journal and ask nothing twice; without one they are as they were."""

    def __init__(self, journal: ReplyJournal | None) -> None:
        self._journal = journal
        self._asks_again = True

    def __call__(self, backend: ChatBackend) -> Ask:
        """What asks a backend."""
        if self._journal is None:
            return backend.complete
        return partial(self._journal.complete, backend, again=self._asks_again)

    def ahead(self, backend: ChatBackend, work: Callable[[Ask], object]) -> None:
        """Where a backend is asked in batches, has the work for all waves done once, so that its rounds are few.

        The waves then find every reply in the journal. What failed is not asked again between the two.
        """
        if is_batching(backend):
            work(self(backend))
            self._asks_again = False


@contextmanager
def journalled(directory: Path | None) -> Iterator[Asking]:
    """Lets backends be asked with a journal in a directory, if there is one."""
    if directory is None:
        yield Asking(None)
    else:
        with ReplyJournal(directory / JOURNAL) as journal:
            yield Asking(journal)
            journal.settle_batches()


def _name_in_batches(key: str, request: str) -> str:
    """What a request, of which the hash is given, is called in a batch."""
    return short_hash(f"{key}\0{request}")


def _described(note: BatchNote) -> str:
    return f"batch {note.batch or 'unknown'} of {len(note.requests):,} requests at {note.base_url}"


def _context(backend: ChatBackend) -> str:
    """What decides a backend's answers beside the request; not where it stands, nor what older journals lack."""
    left_out = ("base_url", *ADDED_LATER)
    configuration = {name: value for name, value in backend.configuration().items() if name not in left_out}
    return json.dumps([backend.name, configuration], sort_keys=True, default=str)


def _hash(request: ChatRequest, context: str) -> str:
    content = [request.prompt, request.system, request.opening, request.max_new_tokens, context]
    content += [] if request.answer is None else [request.answer]
    content += [] if request.closing == ('"',) else [list(request.closing)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
