"""Ask for passwords as a user does, of one running system in each of its modes, and look at all that comes of it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from tests.system.canary import leaks, places
from tests.system.conftest import Mode
from tests.system.harness import ENDED, System, at_once

from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import failure, identity, pack_delivery

XML = {"Content_Type": "application/xml", "Accept": "application/xml"}
SECRET_LENGTH = 25


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system for all these tests; none of them disturbs another's users."""
    with mode.running(tmp_path_factory.mktemp(mode.name)) as running:
        yield running


# --- the whole way


def test_a_wish_in_json_becomes_a_password_and_a_mail_with_its_link(system: System) -> None:
    """The product in one test: if this fails, nothing else matters."""
    accepted = system.post("/passwords", {"username": "ada", "email": "ada@example.test"})
    assert accepted.status == 202
    assert accepted.headers["Location"] == f"/commands/{accepted.json['id']}"
    assert int(accepted.headers["Retry-After"]) >= 1
    assert (accepted.json["type"], accepted.json["username"], accepted.json["status"]) == (
        *("issue-password", "ada"),
        "accepted",
    )
    assert system.outcome(accepted.json["id"])["status"] == "completed"
    shown = system.eventually(lambda: system.password("ada"))
    assert (shown["username"], shown["status"], shown["version"]) == ("ada", "issued", 1)
    assert system.mail_to("ada@example.test").link.startswith(f"{system.url()}/reveal#")


def test_a_wish_in_xml_is_answered_in_xml_all_the_way(system: System) -> None:
    """Half of the callers speak XML and name the root as they like; they must see the same in their own format."""
    accepted = system.post("/passwords", b"<root><username>grace</username></root>", **XML)
    assert accepted.status == 202
    assert accepted.headers["Content-Type"].startswith("application/xml")
    assert accepted.xml["status"] == "accepted"
    assert accepted.headers["Location"] == f"/commands/{accepted.xml['id']}"

    def command() -> dict[str, str] | None:
        shown = system.get(accepted.headers["Location"], **XML)
        return shown.xml if shown.xml["status"] == "completed" else None

    assert system.eventually(command)["username"] == "grace"
    assert system.get("/passwords/grace", **XML).xml["status"] == "issued"
    assert system.mail_to("grace@example.test").link.startswith(f"{system.url()}/reveal#")


def test_who_prefers_to_wait_gets_the_finished_command(system: System) -> None:
    """A caller with one request to spend must not have to poll; and it must be woken, not served by its time-out."""
    answer = system.post("/passwords", {"username": "hedy"}, Prefer="wait=30")
    assert answer.status == 201
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.json["status"] == "completed"
    took = _seconds(answer.json["createdAt"], answer.json["updatedAt"])
    assert took < 15, "it was not the broadcast that woke the waiter"


def test_the_same_request_twice_is_one_command_and_one_mail(system: System) -> None:
    """A caller whose connection broke sends again; its user must not get two mails."""
    first, second = (
        system.post("/passwords", {"username": "twin"}, Idempotency_Key="order-66", Prefer=prefer)
        for prefer in ("wait=0", "wait=30")
    )
    assert first.json["id"] == second.json["id"]
    assert second.json["status"] == "completed"
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(system.mails_to("twin@example.test")) == 1


# --- a business no


@pytest.mark.parametrize("wait", ["wait=0", "wait=30"])
def test_a_second_password_for_a_name_is_refused_and_the_first_stays_as_it_is(system: System, wait: str) -> None:
    """Whoever could have a second one issued would take the account over."""
    username = f"only-{wait[-1]}{len(wait)}"
    system.issue(username)
    mail, before = system.mail_to(f"{username}@example.test"), system.password(username)
    answer = system.post("/passwords", {"username": username, "email": "mallory@example.test"}, Prefer=wait)
    if wait == "wait=0":
        refused = system.outcome(answer.json["id"])
        assert (refused["status"], refused["reason"]["code"]) == ("refused", "password-exists")
    else:
        assert (answer.status, answer.json["code"]) == (409, "password-exists")
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert username in answer.json["detail"]
    assert system.password(username) == before
    assert system.mails_to("mallory@example.test") == []
    assert system.reveal(mail.token).json["username"] == username


def test_a_refused_mailbox_undoes_the_password_and_frees_the_name(system: System) -> None:
    """A password that nobody was told of must not block its user for ever."""
    identifier = system.accept("bounced", email=f"bounced@{system.mailbox.refused}")
    refused = system.outcome(identifier)
    assert (refused["status"], refused["reason"]["code"]) == ("refused", "mailbox-refused")
    saga = system.eventually(lambda: _saga_in(system, identifier, "COMPENSATED"))
    generate, mail = saga["steps"]
    assert generate["command"] == "generador.generate-password"
    assert generate["undo"] == "generador.revoke-password"
    assert generate["undoAttempts"] >= 1
    assert mail["command"] == "correo.send-password-mail"
    kinds = [entry["kind"] for entry in saga["log"]]
    assert kinds.index("refused") < kinds.index("compensating") < len(kinds) - 1
    assert system.eventually(lambda: _password_in(system, "bounced", "revoked"))["version"] == 2

    assert system.issue("bounced")["status"] == "completed"
    assert system.eventually(lambda: _password_in(system, "bounced", "issued"))["version"] == 3
    assert system.reveal(system.mail_to("bounced@example.test").token).json["username"] == "bounced"


@pytest.mark.parametrize("body", [{"email": "x@example.test"}, b"<password><email>x@example.test</email></password>"])
def test_a_wish_without_a_username_is_refused_and_nothing_is_stored(system: System, body: Any) -> None:
    """What was refused at the door must not run an hour later."""
    before = _stored(system)
    answer = system.post("/passwords", body)
    assert answer.status == 422
    assert b"/username" in answer.body
    assert b"problem" in answer.headers["Content-Type"].encode()
    assert _stored(system) == before


# --- what callers may rely on


def test_a_command_just_accepted_is_never_unknown_and_never_goes_backwards(system: System) -> None:
    """A client that follows Location at once and reads 404 gives up on a password that is on its way."""
    order = ["accepted", "running", "completed"]

    def follow(number: int) -> list[str]:
        identifier = system.accept(f"eager-{number}")
        seen: list[str] = []
        while not seen or seen[-1] not in ENDED:
            seen.append(system.command(identifier)["status"])  # asserts that it is 200
        return [status for status, _ in itertools.groupby(seen)]

    for seen in at_once(follow, range(40), threads=8):
        assert seen == sorted(set(seen), key=order.index)


def test_two_hundred_wishes_at_once_are_two_hundred_mails(system: System) -> None:
    """Load is where messages get lost and sent twice; every user gets exactly one mail, with a link of its own."""
    before = {mail.id for mail in system.mailbox.mails()}
    names = [f"crowd-{number}" for number in range(200)]
    identifiers = at_once(system.accept, names, threads=32)
    assert {command["status"] for command in system.outcomes(identifiers, 60)} == {"completed"}
    mails = [mail for mail in system.mailbox.mails() if mail.id not in before]
    assert len({mail.id for mail in mails}) == 200
    assert len({mail.raw for mail in mails}) == 200, "a repeated mail differs from the first"
    assert len({mail.token for mail in mails}) == 200
    assert {mail.recipient for mail in mails} == {f"{name}@example.test" for name in names}


def test_passwords_can_be_listed_page_by_page(system: System) -> None:
    """An operator looks for a user without knowing how many there are."""
    system.issue("listed")
    names: list[str] = []
    path = "/passwords?limit=7"
    while path:
        page = system.get(path).json
        names += [password["username"] for password in page["passwords"]]
        path = page.get("links", {}).get("next", "")
    assert "listed" in names
    assert names == sorted(set(names))


# --- revealing


def test_a_password_is_revealed_once(system: System) -> None:
    """Whoever intercepts the link later finds nothing, and its owner sees when somebody was faster."""
    system.issue("once")
    token = system.mail_to("once@example.test").token
    first = system.reveal(token)
    assert first.status == 200
    assert first.json["username"] == "once"
    assert len(first.json["password"]) == SECRET_LENGTH
    assert first.headers["Cache-Control"] == "no-store"
    second = system.reveal(token)
    assert (second.status, second.json["code"]) == (410, "already-revealed")
    assert system.eventually(lambda: _password_in(system, "once", "revealed"))["version"] == 2


def test_two_who_reveal_at_once_do_not_both_see_it(system: System) -> None:
    """`Once` is a promise under a race, too."""
    system.issue("raced")
    token = system.mail_to("raced@example.test").token
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(answer.status for answer in pool.map(system.reveal, [token] * 8))
    assert statuses == [200] + [410] * 7


def test_an_unknown_link_reveals_nothing(system: System) -> None:
    """A guess must not tell whether it was close."""
    answer = system.reveal("A" * 43)
    assert (answer.status, answer.json["code"]) == (404, "unknown-token")


def test_opening_the_page_consumes_nothing(system: System) -> None:
    """Mail scanners fetch every link before people do."""
    system.issue("scanned")
    link = system.mail_to("scanned@example.test").link
    for _ in range(3):
        page = system.get(link.removeprefix(system.url()).partition("#")[0], Accept="text/html")
        assert page.status == 200
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert b"//" not in page.body.replace(b"<!doctype html>", b""), "a third party hears of the visit"
    assert system.reveal(link.partition("#")[2]).status == 200


# --- poison


@pytest.mark.parametrize("named", [True, False], ids=["with-an-id", "without-an-id"])
def test_bytes_that_nobody_can_read_are_put_aside_and_the_rest_flows(system: System, named: bool) -> None:
    """One broken message must neither stop the others nor vanish: it ends in front of an operator."""
    poison = _poison(named)
    with system.broker() as broker:
        broker.publish([poison, poison])
    names = [f"beside-{named}-{number}" for number in range(10)]
    commands = system.outcomes(at_once(system.accept, names))
    assert {command["status"] for command in commands} == {"completed"}
    identifier = system.eventually(lambda: _buried(system, poison))
    ((topic, error),) = system.rows("generador", "SELECT topic, error FROM dead_letter WHERE id = :id", id=identifier)
    assert topic == poison.topic
    assert "Undecodable" in error
    assert _incidents(system, identifier) == ["dead-letter"]
    assert system.rows("generador", "SELECT 1 FROM failure WHERE id = :id", id=identifier) == []


@pytest.mark.parametrize("named", [True, False], ids=["with-an-id", "without-an-id"])
def test_a_dead_letter_that_comes_again_is_no_news(system: System, named: bool) -> None:
    """Redelivery is normal: an operator must not be called twice for one message."""
    poison, marker = _poison(named), _poison(named)
    with system.broker() as broker:
        broker.publish([poison])
        identifier = system.eventually(lambda: _buried(system, poison))
        broker.publish([poison, marker])
    system.eventually(lambda: _buried(system, marker))
    assert _incidents(system, identifier) == ["dead-letter"]


# --- secrets: after all the rest


def test_no_secret_is_anywhere_but_in_its_mail_and_in_its_one_answer(system: System) -> None:
    """Whoever reads an answer, a log, a database or a topic must not find a password or a link."""
    with system.overhearing() as said:
        system.issue("discreet")
        token = system.mail_to("discreet@example.test").token
        password = system.reveal(token).json["password"]
        system.eventually(lambda: _password_in(system, "discreet", "revealed"))
        topics = system.eventually(lambda: said() if b"password-revealed" in said() else b"")
    where = places(system, topics)
    for place in ("an answer", "a database", "a topic"):
        assert b"discreet" in where[place], f"looked for nothing in {place}"
    assert leaks(where, [password, *(mail.token for mail in system.mailbox.mails())]) == []


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _saga_in(system: System, identifier: str, status: str) -> Any:
    shown = system.saga(identifier)
    return shown if shown and shown["status"] == status else None


def _password_in(system: System, username: str, status: str) -> Any:
    shown = system.password(username)
    return shown if shown and shown["status"] == status else None


def _stored(system: System) -> list[tuple[Any, ...]]:
    return system.rows("bff", "SELECT count(*) FROM acceptance")


def _poison(named: bool) -> Wire:
    saga_id = new_id()
    properties = {
        **({"ce_id": new_id()} if named else {}),
        "ce_source": "tests",
        "ce_type": "generador.generate-password",
        "ce_specversion": "1.0",
        "ce_time": "2026-01-01T00:00:00Z",
        "ce_dataschema": "urn:protools:schema:generador.generate-password:1",
        "ce_correlationid": saga_id,
    }
    return Wire(properties["ce_type"], saga_id, properties, b"\xff" * 8 + saga_id.encode())


def _buried(system: System, poison: Wire) -> Any:
    """Return the id under which a message became a dead letter, or None."""
    found = system.rows("generador", "SELECT id, delivery FROM dead_letter")
    return next((row[0] for row in found if poison.body in bytes(row[1])), None)


def _incidents(system: System, subject: str) -> list[Any]:
    rows = system.rows("generador", "SELECT kind FROM incident WHERE subject = :subject", subject=subject)
    return [kind for (kind,) in rows]


def test_what_could_not_be_projected_is_tried_again(system: System) -> None:
    """A read model must not stay behind for good because its database stumbled once."""
    unreadable = Delivery(Wire("generador.password-generated", new_id(), {}, b""), "", None)
    row = {"id": identity(unreadable), "topic": unreadable.wire.topic, "delivery": pack_delivery(unreadable)}
    engine = open_database(system.settings, "generador", "read", "projector")
    with engine.begin() as tx:
        tx.execute(failure.insert().values(**row, error="stumbled", attempts=1, due_at=0.0, at=0.0))
    assert system.eventually(lambda: system.rows("generador", "SELECT attempts FROM failure", "read") == [(2,)])
    with engine.begin() as tx:
        tx.execute(failure.delete())


# --- operators


def test_read_models_are_rebuilt_while_wishes_go_on_and_were_right(system: System) -> None:
    """All that these tests have done is shown as the events tell it; what is asked meanwhile is not lost."""
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(lambda: [system.issue(f"meanwhile-{number}") for number in range(10)])
        for name in ("protools_saga", "bff"):
            compared = system.run("projections", "rebuild", name, "--dry-run")
            assert compared.returncode == 0, compared.stdout
        rebuilt = system.run("projections", "rebuild", "bff", "--why", "to be sure", "--json")
        asked.result()
    assert rebuilt.returncode == 0
    counts = [(table["changed"], table["foreign"]) for table in json.loads(rebuilt.stdout)["tables"]]
    assert set(counts) == {(0, 0)}
    assert all(system.password(f"meanwhile-{number}") for number in range(10))


def test_a_service_that_is_paused_lets_its_commands_wait_and_goes_on_once_resumed(system: System) -> None:
    """The front door accepts as ever; what was asked meanwhile is done afterwards, once."""
    assert system.run("pause", "correo", "--why", "its server moves").returncode == 0
    system.eventually(lambda: PAUSED.search(system.log.read_text()))
    handled = system.rows("correo", "SELECT COUNT(*) FROM inbox")
    waiting = system.accept("patient")
    target = "SELECT target FROM saga WHERE id = :id"
    system.eventually(lambda: system.rows("protools_saga", target, id=waiting) == [("correo",)])
    assert "correo  *" in system.run("pauses").stdout
    assert system.rows("correo", "SELECT COUNT(*) FROM inbox") == handled
    assert system.run("resume", "correo", "--why", "moved").returncode == 0
    assert system.outcome(waiting)["status"] == "completed"
    assert len(system.mails_to("patient@example.test")) == 1


PAUSED = re.compile(r"paused .*\*")
"""What the worker says once it has heard it."""
