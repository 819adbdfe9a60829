"""Hold what sagas and mails look like to whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from lxml import etree
from tests.service.rooms import Room, room

from correo.tables import mail_view
from pulsaga.delivery.messages import Context, Message, new_id
from pulsaga.saga.branches import StepState
from pulsaga.saga.log import Entry
from pulsaga.saga.snapshots import write_entries, write_steps
from pulsaga.saga.views import project_saga
from system import SYSTEM


@pytest.fixture
def sagas(tmp_path: Path) -> Iterator[Room]:
    made = room("protools_saga", tmp_path)
    yield made
    made.close()


@pytest.fixture
def correo(tmp_path: Path) -> Iterator[Room]:
    made = room("correo", tmp_path)
    yield made
    made.close()


def moved(sagas: Room, identifier: str, status: str, version: int = 1) -> None:
    step = StepState("issued", "generador.generate-password", new_id(), 2)
    started = Entry("started", 1.5)
    issued = Entry("issued", 2.5, "0", step.command, step.command_id, 1, wake_at=900.0)
    entries = (started, issued) if version == 1 else (issued,)
    reason = ("password-exists", "there is one") if status == "COMPENSATED" else ("", "")
    body = SYSTEM.sagas.moved(
        identifier,
        "issue-password@1",
        "ada",
        status,
        *reason,
        1.5,
        2.5,
        True,
        write_steps({"0": step}),
        write_entries(entries),
    )
    message = Message(body, new_id(), "/test", identifier, "", Context(identifier), version=version)
    for table, row in project_saga(message):
        if version == 1 or table.name == "saga_move":
            sagas.write_view(table, **row)


def test_a_saga_shows_its_steps_and_its_whole_log(sagas: Room) -> None:
    """An operator must see what happened, in order, without asking a database."""
    identifier = new_id()
    moved(sagas, identifier, "RUNNING")
    moved(sagas, identifier, "RUNNING", version=2)
    shown = sagas.http.get(f"/sagas/{identifier}").json
    assert (shown["status"], shown["startedAt"]) == ("RUNNING", "1970-01-01T00:00:01.500Z")
    assert [(step["command"], step["attempts"]) for step in shown["steps"]] == [("generador.generate-password", 2)]
    assert [entry["kind"] for entry in shown["log"]] == ["started", "issued", "issued"]
    assert shown["log"][1]["wakeAt"] == "1970-01-01T00:15:00.000Z"
    assert "reason" not in shown


def test_a_saga_in_xml_says_the_same(sagas: Room) -> None:
    """Both faces, on every service."""
    identifier = new_id()
    moved(sagas, identifier, "COMPENSATED")
    root = etree.fromstring(sagas.http.get(f"/sagas/{identifier}", headers={"Accept": "application/xml"}).data)
    assert root.tag == "saga"
    assert root.findtext("reason/code") == "password-exists"
    assert [entry.findtext("kind") for entry in root.findall("log/entry")] == ["started", "issued"]
    assert len(root.findall("steps/step")) == 1


def test_sagas_are_listed_newest_first_and_by_status(sagas: Room) -> None:
    """What is suspended must be found among thousands that are done."""
    ids = [new_id() for _ in range(5)]
    for number, identifier in enumerate(sorted(ids)):
        moved(sagas, identifier, "SUSPENDED" if number % 2 else "COMPLETED")
    newest = sorted(ids, reverse=True)
    seen, url = [], "/sagas?limit=2"
    while url:
        page = sagas.http.get(url).json
        seen += [row["id"] for row in page["sagas"]]
        url = page.get("links", {}).get("next")
    assert seen == newest
    suspended = sagas.http.get("/sagas?status=suspended").json["sagas"]
    assert [row["id"] for row in suspended] == newest[1::2]


@pytest.mark.parametrize("query", ["status=DONE", "before=x", "limit=0", "status=%00"])
def test_a_question_that_makes_no_sense_is_refused(sagas: Room, query: str) -> None:
    """An empty list would be taken for an answer."""
    answer = sagas.http.get(f"/sagas?{query}")
    assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (422, query.partition("=")[0])


@pytest.mark.parametrize("path", ["nonsense", new_id()])
def test_a_saga_that_there_is_not_is_unknown(sagas: Room, path: str) -> None:
    """404 in the caller's format."""
    answer = sagas.http.get(f"/sagas/{path}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


MAIL = ["username", "recipient", "status", "attempts", "createdAt", "sentAt", "links"]


def test_mails_show_to_whom_and_when_and_never_what(correo: Room) -> None:
    """The link is the password; it must not leak by a list."""
    ids = sorted(new_id() for _ in range(2))
    for identifier, sent_at in zip(ids, (2.0, 0.0), strict=True):
        row = {"id": identifier, "version": 1, "username": "ada", "recipient": "ada@example.test", "attempts": 1}
        correo.write_view(mail_view, **row, status="sent" if sent_at else "waiting", created_at=1.0, sent_at=sent_at)
    mails = correo.http.get("/mails").json["mails"]
    assert [mail["id"] for mail in mails] == ids[::-1]
    assert "sentAt" not in mails[0]
    shown = correo.http.get(mails[1]["links"]["self"])
    assert shown.json == mails[1]
    assert list(shown.json) == ["id", "kind", *MAIL]
    assert b"token" not in orjson.dumps(mails)
    assert correo.http.get(f"/mails/{new_id()}").status_code == 404
