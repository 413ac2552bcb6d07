"""The audit as a page: one question at a time for every annotator, and the results; on this machine unless asked.

No text becomes markup (the judging page sets `textContent`, the other pages are escaped by Jinja2), nothing is loaded
from elsewhere, and a Content-Security-Policy says so. Without a token only loopback names are answered, so that no
foreign page can reach it by a name of its own (DNS rebinding); answers are taken as JSON, from the page's own origin.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dino_st.errors import ConfigurationError, DinoError, InputError, OutputError
from dino_st.inspection.agreement import (
    AGREEMENT_HEAD,
    agreement,
    agreement_cells,
    disagreements,
    middle,
    shown_name,
)
from dino_st.inspection.audit import MIDDLE, agreement_words, count_answers, open_audit
from dino_st.inspection.exchange import as_csv, as_jsonl, as_questions
from dino_st.inspection.judgements import (
    CONFUSION_HEAD,
    KEYS_OF,
    QUESTION,
    SCALE,
    SCALE_IN_WORDS,
    UNNAMED,
    Answer,
    AnswerFile,
    check_annotators,
    confusion_cells,
    read_judgements,
)
from dino_st.inspection.options import AuditOptions, PageOptions
from dino_st.inspection.page import Section, Table, check_extras, environment, render, template
from dino_st.support.text import printable

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_BYTES = 1000
"""Of the body of a request: an answer has twenty."""

_SHORTEST_TOKEN = 16
_NAMELESS = "-"
"""In addresses, who gave no name."""

_LONGEST_LIST = 200
"""Disagreements shown; the exported files have all."""

_ASSETS = {"audit.js": "text/javascript", "audit.css": "text/css"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
_JUDGING = _POLICY + "script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_READING = _POLICY + "style-src 'unsafe-inline'"
"""Pages without a script, whose style is within them."""


def serve_audit(
    directory: Path,
    answers: Path,
    options: AuditOptions,
    page: PageOptions,
    annotators: Sequence[str],
    show: Callable[[str], None],
) -> None:
    """Serves the page until it is interrupted; every answer is on disk before the next question is shown."""
    check_extras(
        ("Starlette", "starlette"), ("uvicorn", "uvicorn"), ("Jinja2", "jinja2"), what="the page", extra="audit"
    )
    check_address(page)
    names = check_annotators(annotators) or [UNNAMED]
    import uvicorn

    with open_audit(directory, answers, options, names) as files, _listen(page) as listening:
        port = listening.getsockname()[1]
        host = f"[{page.host}]" if ":" in page.host else page.host
        keys = Keys(page.token)
        app = make_app(files, answers, keys)
        show(f"Judgements go to {answers.parent}. Ctrl-C ends the page; run the same command to go on.")
        for name in names:
            show(f"  {shown_name(name)}: http://{host}:{port}{keys.link(name)}")
        show(f"  everybody's progress, and the results: http://{host}:{port}{keys.link(None)}")
        configuration = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none"
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(configuration).run(sockets=[listening])
        for name, file in files.items():
            show(f"{shown_name(name)}: {len(file.answers)} of {len(file.questions)} done")


def check_address(page: PageOptions) -> None:
    """Refuses to listen beyond this machine without a token that nobody guesses."""
    if page.token is not None and len(page.token) < _SHORTEST_TOKEN:
        raise ConfigurationError(
            f"--token: given {len(page.token)} characters, expected at least {_SHORTEST_TOKEN}, such as those of "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`'
        )
    if page.token is None and not _is_loopback(page.host):
        raise ConfigurationError(
            f"--host {page.host}: whoever reaches that address could judge and read; give a --token as well, which the "
            "links then carry, or leave --host out to listen on this machine alone"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(page: PageOptions) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in page.host else socket.AF_INET
        return socket.create_server((page.host, page.port), family=family)
    except OSError as error:
        raise OutputError(
            f"{page.host}, port {page.port}: cannot be listened on ({error.strerror or error}); choose another --port, "
            "or 0 for any that is free, or another --host"
        ) from None


class Keys:
    """What a link carries so that its bearer may see that page and no other; nothing where there is no token."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def of(self, annotator: str | None) -> str:
        """The key of an annotator's page; of None, that of everything."""
        purpose = "results" if annotator is None else f"judge {annotator}"
        return hmac.new(
            (self.token or "").encode("utf-8", "surrogatepass"), purpose.encode(), hashlib.sha256
        ).hexdigest()

    def link(self, annotator: str | None) -> str:
        """The path of an annotator's page with its key; of None, that of the overview."""
        path = "/" if annotator is None else f"/judge/{annotator or _NAMELESS}"
        return path if self.token is None else f"{path}?key={self.of(annotator)}"

    def fits(self, presented: str, annotator: str | None) -> bool:
        """Whether a key opens an annotator's page, compared in constant time."""
        given = presented.encode("utf-8", "replace")
        return sum(hmac.compare_digest(given, self.of(owner).encode()) for owner in {annotator, None}) > 0


class _Guard:
    """Refuses requests that are not for this page or bear no key, and sets the headers of every response."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import MutableHeaders
        from starlette.requests import Request

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "Content-Security-Policy": _READING}.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refused or self.app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """What is answered instead, if something is wrong with a request."""
        host = request.headers.get("host", "")
        if self.keys.token is None and not _is_loopback(_hostname(host)):
            return _plain("This page answers under 127.0.0.1 and localhost alone.", 400)
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return _plain("Answers are taken from this page alone.", 403)
            if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return _plain("Expected JSON.", 415)
            length = request.headers.get("content-length", "")
            if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= _MOST_BYTES):
                return _plain("That is too long for an answer.", 413)
        return None if self.keys.token is None else self._key_refusal(request)

    def _key_refusal(self, request: Request) -> Response | None:
        from starlette.responses import RedirectResponse

        place = request.scope["path"]
        parts = place.split("/")
        if parts[1] == "static":
            return None
        owner = (UNNAMED if parts[2] == _NAMELESS else parts[2]) if parts[1] == "judge" and len(parts) > 2 else None
        presented = request.query_params.get("key")
        if presented is not None and self.keys.fits(presented, owner):
            response = RedirectResponse("/" + place.lstrip("/"), 303)
            is_main = self.keys.fits(presented, None)
            path = "/" if is_main else f"/judge/{parts[2]}"
            cookie = _cookie(None if is_main else owner)
            response.set_cookie(cookie, presented, path=path, httponly=True, samesite="lax")
            return response
        borne = [request.cookies.get(_cookie(each), "") for each in {owner, None}]
        if any(self.keys.fits(key, owner) for key in borne):
            return None
        return _plain("This page needs the link that the audit's program printed, with its key.", 403)


def _cookie(owner: str | None) -> str:
    return "dino-audit" if owner is None else f"dino-audit.{owner or _NAMELESS}"


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _plain(text: str, status: int) -> Response:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(text, status)


def make_app(files: Mapping[str, AnswerFile], answers: Path, keys: Keys) -> Starlette:
    """The application behind the page; requests are answered one after another, so no two answers meet in a file."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    pages = _Pages(files, answers, keys)
    routes = [
        Route("/", pages.overview),
        Route("/results", pages.results),
        Route("/results.csv", pages.csv),
        Route("/results.jsonl", pages.jsonl),
        Route("/pairs.json", pages.pairs),
        Route("/judge/{name}", pages.judging),
        Route("/judge/{name}/question", pages.question),
        Route("/judge/{name}/answer", pages.answer, methods=["POST"]),
        Route("/judge/{name}/undo", pages.undo, methods=["POST"]),
        Route("/static/{name}", pages.asset),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Guard, keys=keys)],
        exception_handlers={DinoError: pages.failed},
    )


class _Pages:
    """What is answered to each request."""

    def __init__(self, files: Mapping[str, AnswerFile], answers: Path, keys: Keys) -> None:
        self.files = files
        self.answers = answers
        self.keys = keys

    async def judging(self, request: Request) -> Response:
        """The page that asks; it fetches the questions itself."""
        from starlette.responses import HTMLResponse

        self._file(request)
        choices = [(key, f"{score:g}", SCALE[score]) for key, score in KEYS_OF.items()]
        page = environment().from_string(template("audit.html")).render(question=QUESTION, choices=choices)
        return HTMLResponse(page, headers={"Content-Security-Policy": _JUDGING})

    async def question(self, request: Request) -> Response:
        """The next question."""
        return _next(self._file(request))

    async def answer(self, request: Request) -> Response:
        """Takes a judgement of the question of that number, and gives the next one."""
        file = self._file(request)
        given = await _body(request)
        judged = given.get("judged", "")
        if judged is not None and (type(judged) not in (int, float) or judged not in SCALE):
            return _plain(f"Expected as judged one of {SCALE_IN_WORDS}, or null.", 400)
        number = len(file.answers)
        if given.get("number") != number or number == len(file.questions):
            return _next(file, status=409)
        file.add(Answer(file.questions[number], None if judged is None else float(judged) + 0.0))
        return _next(file)

    async def undo(self, request: Request) -> Response:
        """Takes the last answer back, and asks for it again."""
        file = self._file(request)
        if (await _body(request)).get("number") != len(file.answers):
            return _next(file, status=409)
        file.undo()
        return _next(file)

    async def overview(self, _: Request) -> Response:
        """A link for each annotator, and how far they are."""
        rows, links = [], []
        for name, file in self.files.items():
            rows.append([shown_name(name), str(len(file.answers)), str(len(file.questions))])
            links.append((f"judge as {shown_name(name)}", self.keys.link(name)))
        everybody = Section(
            "Annotators",
            ["Everybody judges the same pairs, in an order of their own, without seeing scores or other judgements."],
            tables=[Table(("annotator", "done", "of"), rows)],
            links=links,
        )
        more = [
            ("the table, agreement and disagreements", "/results"),
            ("the pairs without scores, to judge in another program (JSON)", "/pairs.json"),
        ]
        return _page(
            "Audit", [everybody, Section("Results", ["They show scores: look when you have judged."], links=more)]
        )

    async def results(self, _: Request) -> Response:
        """What was judged so far."""
        judgements = read_judgements(self.answers)
        given = middle(judgements)
        if not given:
            return _page("Results of the audit", [Section("Nothing yet", ["Nobody has judged a pair yet."])])
        names = list(judgements.by_annotator)
        together = agreement(judgements)
        notes = [MIDDLE] if len(names) > 1 else []
        tables = [_confusion(given, "Judgements by assigned score, shares with Wilson's 95 % intervals")]
        if len(names) > 1:
            tables += [_confusion(own, f"Of {shown_name(name)}") for name, own in judgements.by_annotator.items()]
        links = [("CSV, for a spreadsheet", "/results.csv"), ("JSONL", "/results.jsonl")]
        sections = [Section("Scores against judgements", notes, tables=tables, links=links)]
        if len(names) > 1:
            two = Table(AGREEMENT_HEAD, list(map(agreement_cells, together["each_two"])))
            sections.append(Section("Agreement", [agreement_words(together)], tables=[two]))
            apart = disagreements(judgements)
            rows = [
                [
                    pair.sentence1,
                    pair.sentence2,
                    f"{pair.generated:g}",
                    *(f"{by[n]:g}" if n in by else "–" for n in names),
                ]
                for pair, by in apart[:_LONGEST_LIST]
            ]
            head = ("sentence 1", "sentence 2", "assigned", *map(shown_name, names))
            note = f"{len(apart)} pairs were judged differently, those furthest apart first."
            note += (
                f" The first {_LONGEST_LIST} are shown; the exported files have all." if len(apart) > len(rows) else ""
            )
            tables = [Table(head, rows, texts=frozenset({0, 1}))] if rows else []
            sections.append(Section("Disagreements", [note], tables=tables))
        return _page(f"Results of the audit: {len(given)} pairs", sections)

    async def csv(self, _: Request) -> Response:
        """The judgements for a spreadsheet."""
        content = as_csv(read_judgements(self.answers)).encode("utf-8-sig", "replace")
        return _file_response(content, "text/csv; charset=utf-8", "audit.csv")

    async def jsonl(self, _: Request) -> Response:
        """The judgements, one a line."""
        return _file_response(
            as_jsonl(read_judgements(self.answers)).encode(), "application/jsonl", "audit-judgements.jsonl"
        )

    async def pairs(self, _: Request) -> Response:
        """The pairs without scores."""
        questions = next(iter(self.files.values())).questions
        return _file_response(as_questions(questions).encode(), "application/json", "audit-pairs.json")

    async def asset(self, request: Request) -> Response:
        """Script and style of the page."""
        from starlette.exceptions import HTTPException
        from starlette.responses import Response

        name = request.path_params["name"]
        if name not in _ASSETS:
            raise HTTPException(404)
        return Response(template(name), media_type=_ASSETS[name])

    async def failed(self, _: Request, error: Exception) -> Response:
        """Says what could not be read or written."""
        return _plain(printable(str(error)), 507 if isinstance(error, OutputError) else 400)

    def _file(self, request: Request) -> AnswerFile:
        from starlette.exceptions import HTTPException

        name = request.path_params["name"]
        file = self.files.get(UNNAMED if name == _NAMELESS else name)
        if file is None:
            raise HTTPException(404, "There is no annotator of this name.")
        return file


def _next(file: AnswerFile, *, status: int = 200) -> Response:
    """The question that is next, without its score; none where all are answered."""
    from starlette.responses import JSONResponse

    number, total = len(file.answers), len(file.questions)
    content: dict[str, Any] = {"number": number, "total": total}
    if number < total:
        pair = file.questions[number]
        content |= {"sentence1": printable(pair.sentence1), "sentence2": printable(pair.sentence2)}
    return JSONResponse(content, status)


async def _body(request: Request) -> dict[str, Any]:
    try:
        given = json.loads(await request.body())
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InputError("expected an answer as JSON")
    return given


def _confusion(answers: Sequence[Answer], caption: str) -> Table:
    return Table(CONFUSION_HEAD, list(map(confusion_cells, count_answers(answers))), caption)


def _page(title: str, sections: Sequence[Section]) -> Response:
    from starlette.responses import HTMLResponse

    return HTMLResponse(render(title, sections))


def _file_response(content: bytes, kind: str, name: str) -> Response:
    from starlette.responses import Response

    return Response(content, headers={"Content-Type": kind, "Content-Disposition": f'attachment; filename="{name}"'})
