"""The page of an audit: what its program answers, and how it is to use in a browser."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dino_st.cli.main import app as command_line
from dino_st.errors import ConfigurationError, InputError, MissingExtraError, OutputError
from dino_st.inspection.agreement import cohen_kappa, disagreements, judged_rows, krippendorff_alpha, middle
from dino_st.inspection.audit import import_judgements, open_audit, summarise
from dino_st.inspection.exchange import read_export
from dino_st.inspection.judgements import (
    Answer,
    AuditPair,
    Judgements,
    check_annotators,
    read_answers,
    read_judgements,
)
from dino_st.inspection.options import AuditOptions, PageOptions
from dino_st.inspection.web import Keys, check_address, make_app, serve_audit
from dino_st.preparation.splits import load_prepared
from tests.inspection.test_audit import write_raw

OPTIONS = AuditOptions(per_score=2)
TOKEN = "a token that is long enough"
LOCAL = "http://127.0.0.1:8765"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw", [0.0, 0.5, 1.0] * 5)


@contextmanager
def client_of(directory: Path, *names: str, token: str | None = None, address: str = LOCAL) -> Iterator[Any]:
    from starlette.testclient import TestClient

    answers = directory / "audit.jsonl"
    with open_audit(directory, answers, OPTIONS, names) as files:
        yield TestClient(make_app(files, answers, Keys(token)), base_url=address, follow_redirects=False)


def judge_all(client: Any, name: str, judged: Callable[[dict[str, Any]], float | None]) -> list[tuple[str, str]]:
    """Answers every question of an annotator; the pairs in the order in which they were asked."""
    asked = []
    question = client.get(f"/judge/{name}/question").json()
    while question["number"] < question["total"]:
        asked.append((question["sentence1"], question["sentence2"]))
        answer = {"number": question["number"], "judged": judged(question)}
        question = client.post(f"/judge/{name}/answer", json=answer).json()
    return asked


# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section E: four observers, twelve units.
PUBLISHED = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]


def test_krippendorffs_alpha_is_the_published_one() -> None:
    assert krippendorff_alpha(PUBLISHED) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha([[0.9, 0.9], [0.9, 0.9]]) is None
    assert krippendorff_alpha([[0.9], [0.1]]) is None


def test_krippendorffs_alpha_is_that_of_the_package() -> None:
    krippendorff = pytest.importorskip("krippendorff", reason="needs the package krippendorff to compare with")
    import numpy as np

    random = np.random.default_rng(0)
    for _ in range(20):
        judged = random.choice([0.0, 0.1, 0.5, 0.9, np.nan], size=(4, 15))
        units = [[float(value) for value in unit if not np.isnan(value)] for unit in judged.T]
        expected = krippendorff.alpha(reliability_data=judged, level_of_measurement="interval")
        assert krippendorff_alpha(units) == pytest.approx(expected)


def test_kappa_is_that_computed_by_hand() -> None:
    first, second = [0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1]
    # agreement 3/4; by chance 1/2 · 1/4 + 1/2 · 3/4 = 1/2
    assert cohen_kappa(first, second) == pytest.approx(0.5)
    assert cohen_kappa([0.9], [0.9]) is None


def test_several_judgements_of_a_pair_become_one() -> None:
    one, two, three = (AuditPair("a", str(i), 0.9) for i in range(3))
    judged = {
        "ann": [Answer(one, 0.9), Answer(two, 0.5), Answer(three, None)],
        "ben": [Answer(one, 0.5), Answer(two, 0.5)],
    }
    judgements = Judgements({}, judged)
    assert middle(judgements) == [Answer(one, 0.5), Answer(two, 0.5), Answer(three, None)]
    assert judged_rows(judgements) == [
        {"sentence1": "a", "sentence2": "0", "score": 0.7},
        {"sentence1": "a", "sentence2": "1", "score": 0.5},
    ]
    assert disagreements(judgements) == [(one, {"ann": 0.9, "ben": 0.5})]


def test_everybody_judges_the_same_pairs_blind_and_in_an_order_of_their_own(raw: Path) -> None:
    with client_of(raw, "ann", "ben") as client:
        assert client.get("/judge/ann/question").json().keys() == {"number", "total", "sentence1", "sentence2"}
        ann = judge_all(client, "ann", lambda _: 0.9)
        ben = judge_all(client, "ben", lambda _: 0.1)
    assert sorted(ann) == sorted(ben)
    assert ann != ben
    assert len(ann) == 6
    with client_of(raw, "ann") as client:
        assert client.get("/judge/ann/question").json() == {"number": 6, "total": 6}


def test_an_answer_is_on_disk_before_the_next_question_and_can_be_taken_back(raw: Path) -> None:
    file = raw / "audit.ann.jsonl"
    with client_of(raw, "ann") as client:
        first = client.get("/judge/ann/question").json()
        following = client.post("/judge/ann/answer", json={"number": 0, "judged": 0.5}).json()
        assert following["number"] == 1
        assert [answer.judged for answer in read_answers(file)[1]] == [0.5]
        client.post("/judge/ann/answer", json={"number": 1, "judged": None})
        assert [answer.judged for answer in read_answers(file)[1]] == [0.5, None]
        assert client.post("/judge/ann/undo", json={"number": 2}).json() == following
        assert client.post("/judge/ann/undo", json={"number": 1}).json() == first
        assert client.post("/judge/ann/undo", json={"number": 0}).json() == first
        assert not read_answers(file)[1]


def test_what_was_asked_in_another_window_is_not_answered_twice(raw: Path) -> None:
    with client_of(raw, "ann") as client:
        client.post("/judge/ann/answer", json={"number": 0, "judged": 0.5})
        for path in ("answer", "undo"):
            late = client.post(f"/judge/ann/{path}", json={"number": 0, "judged": 0.9})
            assert late.status_code == 409
            assert late.json()["number"] == 1
        assert [answer.judged for answer in read_answers(raw / "audit.ann.jsonl")[1]] == [0.5]


@pytest.mark.parametrize("judged", [0.7, "0.5", True, [0.5], {}, "", 1e400])
def test_only_the_scale_is_taken(judged: Any, raw: Path) -> None:
    with client_of(raw, "ann") as client:
        text = json.dumps({"number": 0, "judged": judged})
        refused = client.post("/judge/ann/answer", content=text, headers={"Content-Type": "application/json"})
        assert (refused.status_code, client.get("/judge/ann/question").json()["number"]) == (400, 0)
        assert "0.9, 0.5, 0.1, 0, or null" in refused.text
        assert client.post("/judge/ann/answer", json={"number": 0}).status_code == 400
        assert client.post("/judge/ann/answer", json=[1]).status_code == 400


def test_a_full_disk_is_told_and_the_question_stays(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with client_of(raw, "ann") as client:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            failed = client.post("/judge/ann/answer", json={"number": 0, "judged": 0.5})
        assert failed.status_code == 507
        assert "No space left on device" in failed.text
        assert client.post("/judge/ann/answer", json={"number": 0, "judged": 0.9}).status_code == 200
    assert [answer.judged for answer in read_answers(raw / "audit.ann.jsonl")[1]] == [0.9]


def test_the_terminal_and_the_page_go_on_with_one_another(raw: Path) -> None:
    def terminal(keys: str, *arguments: str) -> str:
        command = ["audit", str(raw), "-n", "2", *arguments]
        return CliRunner().invoke(command_line, command, input=keys).output

    assert "2 of 6 done" in terminal("9\n5\nq\n", "--annotators", "ann")
    terminal("0\nq\n")
    with client_of(raw, "ann", "") as client:
        question = client.get("/judge/ann/question").json()
        assert question["number"] == 2
        client.post("/judge/ann/answer", json={"number": 2, "judged": 0.1})
        assert client.get("/judge/-/question").json()["number"] == 1
    assert "Going on at 4 of 6" in terminal("q\n", "--annotators", "ann")
    judgements = read_judgements(raw / "audit.jsonl")
    assert {name: len(answers) for name, answers in judgements.by_annotator.items()} == {"": 1, "ann": 3}
    assert "one person judges on a terminal" in " ".join(terminal("", "--annotators", "a", "--annotators", "b").split())


def test_the_table_counts_a_pair_once_and_says_how_far_people_agree(raw: Path) -> None:
    with client_of(raw, "ann", "ben") as client:
        judge_all(client, "ann", lambda _: 0.9)
        judge_all(client, "ben", lambda question: 0.9 if question["number"] else 0.5)
    table = summarise(raw, raw / "audit.jsonl")
    assert table.startswith("# Audit of 6 pairs\n")
    assert "| ann and ben | 6 | 5 | 0.00 |" in table
    assert "## ann" in table
    content = json.loads((raw / "audit.json").read_text())
    assert sum(row["judged"] for row in content["rows"]) == 6
    assert content["annotators"]["ben"]["answered"] == 6
    assert content["agreement"]["each_two"][0]["same"] == 5


def test_judgements_of_another_sample_are_not_mixed_in(raw: Path, tmp_path: Path) -> None:
    with client_of(raw, "ann") as client:
        judge_all(client, "ann", lambda _: 0.9)
    other = write_raw(tmp_path / "other", [0.0, 0.5, 1.0] * 5, text="Other {}.")
    with client_of(other, "ben") as client:
        judge_all(client, "ben", lambda _: 0.9)
    shutil.copy(other / "audit.ben.jsonl", raw)
    with pytest.raises(InputError, match=r"audit\.ben\.jsonl: holds judgements of another sample than .*ann"):
        read_judgements(raw / "audit.jsonl")


def test_results_are_shown_and_exported(tmp_path: Path) -> None:
    text = "=HYPERLINK(1) <script>alert(1)</script> \u202eעברית\ud83d {}"
    raw = write_raw(tmp_path / "raw", [0.0, 1.0] * 3, text=text.replace("\ud83d", ""))
    with client_of(raw, "ann", "ben") as client:
        assert "Nobody has judged a pair yet" in client.get("/results").text
        judge_all(client, "ann", lambda _: 0.9)
        judge_all(client, "ben", lambda question: 0.9 if question["number"] else 0.1)
        page = client.get("/results").text
        assert "<script" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "\u202e" not in page
        for words in ("100 % (34 to 100)", "Krippendorff", "1 pairs were judged differently", "judged 0.5"):
            assert words in page
        table = list(csv.DictReader(io.StringIO(client.get("/results.csv").content.decode("utf-8-sig"))))
        assert len(table) == 8
        assert table[0]["sentence2"].startswith("'=HYPERLINK")
        lines = [json.loads(line) for line in client.get("/results.jsonl").text.splitlines()]
        assert [line["judged"] for line in lines if line["annotator"] == "ben"] == [0.1, 0.9, 0.9, 0.9]
        assert lines[0]["sentence2"].startswith("=HYPERLINK(1) <script>alert(1)</script> \u202e")
        pairs = client.get("/pairs.json").json()
        assert [set(pair) for pair in pairs] == [{"sentence1", "sentence2"}] * 4


def test_every_page_forbids_what_it_does_not_need(raw: Path) -> None:
    with client_of(raw, "ann") as client:
        for path in ("/", "/results", "/judge/ann", "/judge/ann/question", "/static/audit.js", "/nothing"):
            answer = client.get(path)
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
            assert "script-src 'unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
        page = client.get("/judge/ann")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert "the same meaning or nearly so" in page.text
        assert "style=" not in page.text
        assert client.get("/judge/no-one").status_code == 404
        assert client.get("/static/..%2faudit.html").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "[::1"])
def test_a_foreign_name_for_this_machine_is_refused(host: str, raw: Path) -> None:
    with client_of(raw, "ann") as client:
        assert client.get("/judge/ann/question", headers={"Host": host}).status_code == 400
        for own in ("localhost:8765", "127.0.0.1", "[::1]:8765"):
            assert client.get("/judge/ann/question", headers={"Host": own}).status_code == 200


def test_other_pages_cannot_answer(raw: Path) -> None:
    with client_of(raw, "ann") as client:
        body = json.dumps({"number": 0, "judged": 0.5})
        kinds = {"Content-Type": "application/json"}
        for headers, status in (
            ({"Content-Type": "text/plain"}, 415),
            ({}, 415),
            (kinds | {"Origin": "http://evil.example"}, 403),
            (kinds | {"Origin": "null"}, 403),
            (kinds | {"Origin": "http://127.0.0.1:9999"}, 403),
            (kinds | {"Content-Length": "99999999"}, 413),
        ):
            assert client.post("/judge/ann/answer", content=body, headers=headers).status_code == status
        assert client.get("/judge/ann/answer").status_code == 405
        assert client.get("/judge/ann/question").json()["number"] == 0
        own = client.post("/judge/ann/answer", content=body, headers=kinds | {"Origin": LOCAL})
        assert own.json()["number"] == 1


def test_a_link_opens_its_own_page_alone(raw: Path) -> None:
    keys = Keys(TOKEN)
    with client_of(raw, "ann", "ben", token=TOKEN, address="http://lab.example:8765") as client:
        for path in ("/", "/results", "/results.csv", "/pairs.json", "/judge/ann", "/judge/ann/question", "/judge/"):
            assert client.get(path).status_code == 403, path
        assert client.get("/judge/ann?key=wrong").status_code == 403
        assert client.get(f"/judge/ann?key={keys.of('ben')}").status_code == 403
        opened = client.get(keys.link("ann"))
        assert (opened.status_code, opened.headers["Location"]) == (303, "/judge/ann")
        cookie = opened.headers["Set-Cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=lax", "path=/judge/ann"))
        assert TOKEN not in cookie
        assert client.get("/judge/ann").status_code == 200
        assert client.post("/judge/ann/answer", json={"number": 0, "judged": 0.5}).status_code == 200
        for path in ("/", "/results", "/judge/ben", "/judge/ben/question"):
            assert client.get(path).status_code == 403, path
        assert client.get(keys.link(None)).status_code == 303
        for path in ("/", "/results", "/results.jsonl", "/judge/ben/question"):
            assert client.get(path).status_code == 200, path
        assert f"key={keys.of('ben')}" in client.get("/").text
        assert client.get(f"//evil.example?key={keys.of(None)}").headers.get("Location") in (None, "/", "/evil.example")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "lab.example", "127.0.0.1.example"])
def test_nothing_listens_beyond_this_machine_without_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--host .*give a --token as well"):
        check_address(PageOptions(host=host))
    with pytest.raises(ConfigurationError, match="given 5 characters, expected at least 16"):
        check_address(PageOptions(host=host, token="short"))
    check_address(PageOptions(host=host, token=TOKEN))
    for own in ("127.0.0.1", "localhost", "::1"):
        check_address(PageOptions(host=own))


@pytest.mark.parametrize("name", ["", ".", "../ann", "a/b", "a b", "-a", "ä", "a.b", "a\n", "x" * 41])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--annotators .*expected up to 40 of the letters"):
        check_annotators([name])
    with pytest.raises(ConfigurationError, match="is the same file as that of 'ann'"):
        check_annotators(["ann", "Ann"])
    assert check_annotators(["ann", "B-2_c"]) == ["ann", "B-2_c"]


def test_what_cannot_be_served_is_explained(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        page = PageOptions(port=taken.getsockname()[1])
        with pytest.raises(OutputError, match=r"cannot be listened on \(.*choose another --port"):
            serve_audit(raw, raw / "audit.jsonl", OPTIONS, page, [], print)
    command = ["audit", str(raw), "--web", "--host", "0.0.0.0"]
    monkeypatch.delenv("DINO_ST_AUDIT_TOKEN", raising=False)
    refused = CliRunner().invoke(command_line, command)
    assert refused.exit_code == 2
    assert "give a --token as well" in " ".join(refused.output.split())
    monkeypatch.setattr("dino_st.inspection.page._is_installed", lambda module: module != "starlette")
    with pytest.raises(MissingExtraError, match=r'needs Starlette; run: pip install "dino-st\[audit\]"'):
        serve_audit(raw, raw / "audit.jsonl", OPTIONS, PageOptions(), [], print)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--web", "--summary"], "--web and --summary: each is a run of its own"),
        (["--port", "80"], "--port: is of the page; give --web as well"),
        (["--summary", "--annotators", "ann"], "--annotators: --summary takes everybody who judged"),
        (["--web", "--port", "70000"], "--port is 70000; expected less than or equal to 65535"),
    ],
)
def test_options_that_say_nothing_together_are_refused(arguments: list[str], message: str, raw: Path) -> None:
    refused = CliRunner().invoke(command_line, ["audit", str(raw), *arguments])
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())


def exported(program: str, pairs: list[tuple[str, str]]) -> Any:
    """Two annotators' judgements of pairs as a program exports them: 0.9 by one, 0.5 by the other, who skips the last.

    The forms are those that argilla 2.8.0 (`records.to_json`, `to_list(flatten=True)`) and label-studio-sdk 2.1.2
    write.
    """
    records: list[Any] = []
    for place, (first, second) in enumerate(pairs):
        texts = {"sentence1": first, "sentence2": second}
        is_last = place == len(pairs) - 1
        if program == "argilla":
            answers = [{"value": "0.9", "user_id": "u-1"}, {"value": "0.5", "user_id": "u-2"}][: 1 if is_last else 2]
            about = {"metadata": {}, "suggestions": {}, "vectors": {}, "status": "completed", "_server_id": "x"}
            records.append({"id": str(place), "fields": texts, "responses": {"alike": answers}, **about})
        elif program == "argilla flat":
            states = ["submitted", "discarded" if is_last else "submitted", "draft"]
            answers = {"alike.responses": [0.9, 0.5, 0.1], "alike.responses.users": ["u-1", "u-2", "u-3"]}
            records.append({"id": str(place), **texts, **answers, "alike.responses.status": states})
        elif program == "label studio":
            chosen = [{"choices": ["0.9"]}, {"number": 0.5}]
            annotations = [
                {
                    "completed_by": number + 1 if number else {"id": 1, "email": "u@1"},
                    "was_cancelled": bool(number) and is_last,
                    "result": [{"from_name": "alike", "to_name": "text", "type": "choices", "value": value}],
                }
                for number, value in enumerate(chosen)
            ]
            records.append({"id": place, "data": texts, "annotations": annotations, "predictions": []})
        else:
            about = {"id": place, "annotation_id": place, "created_at": "", "updated_at": "", "lead_time": 1.5}
            records += [{**texts, "alike": value, "annotator": who, **about} for who, value in ((1, "0.9"), (2, "0.5"))]
    return records


def test_argillas_drafts_are_no_judgements_and_where_it_does_not_say_so_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [record] = exported("argilla", [("x", "y")])
    path = tmp_path / "export.json"
    path.write_text(json.dumps([record, record]))
    assert read_export(path) == {"u-1": {("x", "y"): 0.9}}
    assert "the answers of 2 records do not say whether they were submitted; drafts" in caplog.text
    caplog.clear()
    states = ["submitted", "draft", "discarded"]
    answers = [{"value": 0.5, "user_id": f"u-{number}", "status": state} for number, state in enumerate(states)]
    path.write_text(json.dumps([record | {"responses": {"alike": answers}}]))
    assert read_export(path) == {"u-0": {("x", "y"): 0.5}, "u-2": {("x", "y"): None}}
    assert not caplog.records


@pytest.mark.parametrize("program", ["argilla", "argilla flat", "label studio", "label studio min"])
@pytest.mark.parametrize("lines", [False, True])
def test_judgements_made_elsewhere_join_the_others(program: str, lines: bool, raw: Path, tmp_path: Path) -> None:
    with client_of(raw, "ann") as client:
        pairs = [(pair["sentence1"], pair["sentence2"]) for pair in client.get("/pairs.json").json()]
        judge_all(client, "ann", lambda _: 0.1)
    records = exported(program, pairs[:4])
    export = tmp_path / "export.json"
    export.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    command = ["audit", str(raw), "-n", "2", "--import", str(export)]
    first = CliRunner().invoke(command_line, command)
    assert first.exit_code == 0, first.output
    judgements = read_judgements(raw / "audit.jsonl").by_annotator
    assert len(judgements) == 3
    one, other = sorted((judgements[name] for name in set(judgements) - {"ann"}), key=lambda own: -own[0].judged)
    assert [answer.judged for answer in one] == [0.9] * 4
    last = {"argilla": [], "argilla flat": [None], "label studio": [None], "label studio min": [0.5]}[program]
    assert [answer.judged for answer in other] == [0.5] * 3 + last
    assert [(answer.pair.sentence1, answer.pair.sentence2) for answer in one] == pairs[:4]
    assert "were added" in first.output
    assert "of pairs that were judged already were left out" in CliRunner().invoke(command_line, command).output
    name = next(name for name, own in judgements.items() if own == one)
    with client_of(raw, name) as client:
        assert client.get(f"/judge/{name}/question").json()["number"] == 4
        assert sorted(pairs[:4] + judge_all(client, name, lambda _: 0.0)) == sorted(pairs)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("no json", "is no JSON; expected an export"),
        ("[1]", "record 1: is no record"),
        ('[{"text": "a"}]', r"record 1: has the fields \['text'\]; expected an export of Argilla or Label Studio"),
        ('[{"fields": {"text": "a"}}]', r"record 1: has the fields \['text'\]; expected the texts sentence1"),
        ('[{"fields": {"sentence1": "a", "sentence2": "b"}}]', "holds no finished judgement"),
        (
            '[{"fields": {"sentence1": "a", "sentence2": "b"}, "responses": {"x": [{"value": 4, "user_id": "u"}]}}]',
            "record 1: the answer 4 is not on the scale; expected 0.9, 0.5, 0.1, 0",
        ),
        (
            '[{"data": {"sentence1": "a", "sentence2": "b"}, "annotations": [{"completed_by": 1, "result": '
            '[{"from_name": "x", "value": {}}, {"from_name": "y", "value": {}}]}]}]',
            r"record 1: answers 2 questions \(x, y\); expected one",
        ),
        (
            '[{"fields": {"sentence1": "a", "sentence2": "b"}, "responses": {"x": [{"value": 0.5}]}}]',
            r"record 1: is no record of Argilla or Label Studio as they export it \(KeyError: 'user_id'\)",
        ),
        (
            '[{"sentence1": "a", "sentence2": "b", "x.responses": [0.5, 1], "x.responses.users": ["u"]}]',
            "record 1: is no record of .*ValueError: zip",
        ),
        (
            '[{"data": {"sentence1": "a", "sentence2": "b"}, "annotations": [7]}]',
            "record 1: is no record of .*AttributeError: 'int' object",
        ),
    ],
)
def test_exports_that_cannot_be_used_are_explained(records: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(records)
    with pytest.raises(InputError, match=message):
        read_export(tmp_path / "export.json")


def test_of_two_answers_of_an_annotator_to_a_pair_the_first_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [("ann", 0.9), ("ben", 0.1), ("ann", 0.1)]
    records = [
        {"sentence1": "a", "sentence2": "b", "q.responses": [str(judged)], "q.responses.users": [name]}
        for name, judged in answers
    ]
    (tmp_path / "export.json").write_text(json.dumps(records))
    assert read_export(tmp_path / "export.json") == {"ann": {("a", "b"): 0.9}, "ben": {("a", "b"): 0.1}}
    assert "1 answers are about pairs that the same annotator answered in an earlier record; the first" in caplog.text


def test_an_export_about_other_pairs_is_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps(exported("argilla", [("x", "y"), ("z", "z")])))
    with pytest.raises(InputError, match=r"none of its 3 judgements is of a pair of this sample; give the same -n"):
        import_judgements(raw, raw / "audit.jsonl", OPTIONS, tmp_path / "export.json")


def test_judged_pairs_choose_the_checkpoint_and_are_not_trained_on(tmp_path: Path, bert: Path) -> None:
    prepared, encoder = tmp_path / "prepared", tmp_path / "encoder"
    raw = tmp_path / "pairs.jsonl"
    rows = [{"sentence1": f"First {i}.", "sentence2": f"Here is {i}.", "score": i % 3 / 2} for i in range(60)]
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = CliRunner().invoke
    made = run(command_line, ["prepare", str(raw), "--output", str(prepared)])
    assert made.exit_code == 0, made.output
    with client_of(prepared, "ann", "ben") as client:
        judge_all(client, "ann", lambda question: 0.9 if question["number"] % 2 else 0.1)
        judge_all(client, "ben", lambda question: None if question["number"] else 0.5)
    command = ["train", str(prepared), "--encoder", str(bert), "--output", str(encoder), "--batch-size", "8"]
    wrong = run(command_line, [*command, "--validation", "nowhere"])
    assert wrong.exit_code == 2
    assert "expected audit:DIR" in wrong.output
    done = run(command_line, [*command, "--validation", f"audit:{prepared}"])
    assert done.exit_code == 0, done.output
    assert "on the judged validation pairs" in " ".join(done.output.split())
    record = json.loads((encoder / "training.json").read_text())
    facts = record["provenance"]["validation pairs that people judged"]
    judgements = read_judgements(prepared / "audit.jsonl")
    assert record["data"]["validation pairs"] == facts["pairs"] == len(judgements.by_pair()) == 8
    splits = load_prepared(prepared)
    judged = {(pair.sentence1, pair.sentence2) for pair in judgements.by_pair()}
    among = sum((row["sentence1"], row["sentence2"]) in judged for row in splits["train"])
    assert among > 0
    assert facts["left out of training"] == among
    assert record["data"]["train pairs"] == splits["train"].num_rows - among
    card = (encoder / "README.md").read_text()
    assert "the checkpoint was chosen by pairs that people judged" in card
    assert "No human label was used, neither" not in card


# --- In a browser -----------------------------------------------------------------------------------------------------

HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script> &amp; {}",
    "שלום עולם \u202eabc (1) {}",
    "مرحبا بالعالم، هذا نص طويل {}",
    "A" * 5000 + " {}",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start here: {str(error)[:200]}")
        yield started
        started.close()


@contextmanager
def served(directory: Path, *names: str) -> Iterator[str]:
    """The page, as `serve_audit` serves it, in a thread."""
    import uvicorn

    answers = directory / "audit.jsonl"
    with open_audit(directory, answers, OPTIONS, names) as files, socket.create_server(("127.0.0.1", 0)) as listening:
        configuration = uvicorn.Config(
            make_app(files, answers, Keys(None)), log_level="warning", lifespan="off", ws="none"
        )
        server = uvicorn.Server(configuration)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def opened(browser: Any, address: str, *, width: int = 1000, height: int = 800) -> Any:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: page.problems.append(request.url) if address_of(request.url) else None)
    page.goto(address)
    return page


def address_of(url: str) -> bool:
    """Whether something is loaded from elsewhere."""
    return not url.startswith(("http://127.0.0.1:", "data:"))


def wait_for(page: Any, progress: str) -> None:
    page.wait_for_function("words => document.getElementById('progress').textContent === words", arg=progress)


def test_two_people_judge_with_the_keyboard_alone_and_reload_in_the_middle(browser: Any, raw: Path) -> None:
    with served(raw, "ann", "ben") as address:
        ann, ben = (opened(browser, f"{address}/judge/{name}") for name in ("ann", "ben"))
        wait_for(ann, "1 of 6")
        for key, following in (("9", "2"), ("5", "3"), ("x", "3"), ("u", "2"), ("1", "3")):
            ann.keyboard.press(key)
            wait_for(ann, f"{following} of 6")
        asked = ann.inner_text("#sentence2")
        ann.reload()
        wait_for(ann, "3 of 6")
        assert ann.inner_text("#sentence2") == asked
        wait_for(ben, "1 of 6")
        for place, key in enumerate("001559"):
            wait_for(ben, f"{place + 1} of 6")
            ben.keyboard.press(key)
        wait_for(ben, "6 of 6 done")
        assert ben.is_visible("#end")
        ann.keyboard.press("s")
        wait_for(ann, "4 of 6")
        ann.keyboard.press("Tab")  # a button can be reached and pressed, too
        ann.keyboard.press("Enter")
        wait_for(ann, "5 of 6")
        ann.keyboard.press("Control+0")
        assert ann.problems == ben.problems == []
        overview = opened(browser, address)
        assert overview.locator("td", has_text="ann").count() == 1
        overview.click("text=the table, agreement and disagreements")
        assert "Krippendorff" in overview.inner_text("body")
        assert overview.problems == []
        for page in (ann, ben, overview):
            page.close()
    judged = {name: [a.judged for a in read_answers(raw / f"audit.{name}.jsonl")[1]] for name in ("ann", "ben")}
    assert judged == {"ann": [0.9, 0.1, None, 0.9], "ben": [0.0, 0.0, 0.1, 0.5, 0.5, 0.9]}


def test_a_page_whose_program_has_ended_says_so_and_loses_nothing(browser: Any, raw: Path) -> None:
    with served(raw, "ann") as address:
        page = opened(browser, f"{address}/judge/ann")
        wait_for(page, "1 of 6")
    page.keyboard.press("9")
    page.wait_for_selector("#message:not(:empty)")
    assert "Not stored: the program behind this page does not answer" in page.inner_text("#message")
    assert page.inner_text("#progress") == "1 of 6"
    page.close()


@pytest.mark.parametrize("text", HOSTILE, ids=["html", "hebrew", "arabic", "long"])
@pytest.mark.parametrize(("width", "height"), [(360, 640), (1000, 800)], ids=["phone", "desk"])
def test_hostile_sentences_are_text_and_fit(text: str, width: int, height: int, browser: Any, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", [0.0, 0.5, 1.0] * 2, text=text)
    with served(raw, "ann") as address:
        page = opened(browser, f"{address}/judge/ann", width=width, height=height)
        wait_for(page, "1 of 6")
        assert page.inner_text("#sentence2").startswith(text[:9])
        assert page.title() == "Audit"
        assert page.locator("#sentence2 *").count() == 0
        direction = page.evaluate("getComputedStyle(document.getElementById('sentence2')).direction")
        assert direction == ("rtl" if text[0] in "שم" else "ltr")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("9", "5", "1", "0", "u", "s"):  # the keys stay in sight, however long the text
            box = page.locator(f"button[data-key='{name}']").bounding_box()
            assert box["height"] >= 40
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
        shown = page.locator("#sentence1").bounding_box()
        assert shown["y"] + shown["height"] < page.locator("#choices").bounding_box()["y"]
        page.click("button[data-key='5']")
        wait_for(page, "2 of 6")
        assert page.problems == []
        page.goto(f"{address}/results")
        assert page.title().startswith("Results")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.problems == []
        page.close()
    assert [answer.judged for answer in read_answers(raw / "audit.ann.jsonl")[1]] == [0.5]
