"""Hold the front door to what it promises its callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from lxml import etree
from sqlalchemy import update
from sqlalchemy.event import listen
from tests.service.rooms import Room, eventually
from tests.service.wishes import wish

from bff.tables import password
from protools_saga.messages import IssuePassword
from pulsaga.delivery.avro import versions_of
from pulsaga.delivery.messages import contract_of, message_of, new_id
from pulsaga.delivery.tables import outbox, unpack
from pulsaga.web.front_door import acceptance as front
from pulsaga.web.front_door.commands.waiting import Waiting, changed_ids_body, topic_of
from pulsaga.web.front_door.tables import acceptance, command
from pulsaga.web.serving.crew import Asker

ADA = {"username": "ada"}
XML = {"Content-Type": "application/xml", "Accept": "application/xml"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def ended(bff: Room, identifier: str, status: str, code: str = "", detail: str = "") -> None:
    row = {"id": identifier, "version": 9, "type": "issue-password", "subject": "ada", "status": status}
    times = {"created_at": 1_700_000_000.5, "updated_at": 1_700_000_001.25}
    bff.write_view(command, **row, reason_code=code, reason_detail=detail, cancellable=False, **times)


def issued(bff: Room, username: str) -> None:
    bff.write_view(password, username=username, version=1, status="issued", issued_at=1.0, changed_at=2.0)


# --- accepting


def test_a_202_is_durable_before_it_is_said(bff: Room) -> None:
    """Whoever heard 202 may forget the wish: acceptance and command stand in the database already."""
    answer = bff.http.post("/passwords", json=ADA, headers={"traceparent": TRACE})
    assert answer.status_code == 202
    identifier = answer.json["id"]
    assert [row["id"] for row in bff.rows(acceptance)] == [identifier]
    (row,) = bff.rows(outbox)
    wire = unpack(row["wire"])
    schema = bff.runtime.codec
    body = schema.decode(IssuePassword, wire.body, versions_of(contract_of(IssuePassword))[-1])
    message = message_of(wire.properties, body)
    assert body == IssuePassword("ada", "ada@example.test")
    assert (message.id, message.saga_id, message.subject) == (identifier, identifier, "ada")
    assert message.context.traceparent == TRACE
    assert bff.broker.published == []


def test_a_202_says_what_was_accepted_and_where_to_look(bff: Room) -> None:
    """The caller needs nothing but the answer to follow its command."""
    answer = bff.http.post("/passwords", json=ADA)
    identifier = answer.json["id"]
    assert answer.headers["Location"] == f"/commands/{identifier}"
    assert answer.headers["Retry-After"] == "1"
    assert list(answer.json) == ["id", "type", "username", "status", "createdAt", "updatedAt", "links"]
    assert answer.json["status"] == "accepted"
    assert answer.json["links"] == {"self": f"/commands/{identifier}", "password": "/passwords/ada"}


def test_with_the_broker_down_a_wish_is_accepted_as_ever(bff: Room) -> None:
    """The caller must not pay for our broker; the row stays until the sweep gets it out."""
    bff.broker.is_up = False
    assert bff.http.post("/passwords", json=ADA).status_code == 202
    bff.runtime.transactions.outbox.publish_waiting(0.1)
    assert len(bff.rows(outbox)) == 1
    bff.broker.is_up = True
    with bff.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    bff.runtime.transactions.outbox.sweep()
    bff.runtime.transactions.outbox.clear()
    assert (len(bff.broker.published), bff.rows(outbox)) == (1, [])


def test_the_background_thread_publishes_what_was_accepted(bff: Room) -> None:
    """Without it every saga would begin with the sweep's delay."""
    identifier = bff.http.post("/passwords", json=ADA).json["id"]
    bff.runtime.transactions.outbox.publish_waiting(1)
    assert [wire.key for wire in bff.broker.published] == [identifier]


def test_a_wish_in_xml_is_the_same_wish(bff: Room) -> None:
    """The original's callers speak XML, with a root of their own."""
    body = "<root><username>ada</username><email>ada@lovelace.test</email></root>"
    answer = bff.http.post("/passwords", data=body, headers=XML)
    assert (answer.status_code, answer.mimetype) == (202, "application/xml")
    root = etree.fromstring(answer.data)
    assert (root.tag, root.findtext("username"), root.findtext("status")) == ("command", "ada", "accepted")
    assert root.findtext("links/self") == answer.headers["Location"]


def test_many_wishes_are_accepted_in_one_commit(bff: Room) -> None:
    """A bulk caller pays one commit, and hears of all or none."""
    asked = [wish(f"u{n}") for n in range(100)]
    accepted = front.accept_many(bff.runtime.transactions, asked)
    assert [a.subject for a in accepted] == [r.subject for r in asked]
    assert len(bff.rows(acceptance)) == len(bff.rows(outbox)) == 100


def test_who_comes_while_one_commits_shares_the_next_commit(bff: Room) -> None:
    """A flush of the disk each would make callers queue for the disk; and one bad neighbour must not spoil the rest."""
    commits: list[int] = []
    listen(bff.runtime.write, "commit", lambda _connection: commits.append(1))
    group: front.GroupCommit = bff.app.extensions["acceptance"]
    asked = [wish(f"u{n}") for n in range(20)]
    first, twin = (wish("ada", "a@example.test", body_hash=h, idempotency_key="k") for h in "12")
    with ThreadPoolExecutor(22) as threads:
        with committing(group):
            futures = [threads.submit(group.accept, request) for request in asked]
            eventually(lambda: len(group._waiting) == 20)
        assert len({future.result(5).id for future in futures}) == 20
        assert len(commits) == 1
        with committing(group):
            futures = [threads.submit(group.accept, request) for request in (*asked, first)]
            eventually(lambda: len(group._waiting) == 21)
            futures.append(threads.submit(group.accept, twin))
            eventually(lambda: len(group._waiting) == 22)
        refused = [future for future in futures if future.exception(5)]
    assert len(refused) == 1
    assert getattr(refused[0].exception(), "code", "") == "idempotency-key-reused"
    assert len(bff.rows(acceptance)) == 41


@contextmanager
def committing(group: front.GroupCommit) -> Iterator[None]:
    """Let a commit last as long as the block."""
    over = threading.Event()
    group._committer.submit(over.wait, 10)
    try:
        yield
    finally:
        over.set()


def test_with_the_database_gone_nothing_is_promised(bff: Room) -> None:
    """503 before anything is stored: the caller knows to come back."""
    with bff.runtime.write.begin() as tx:
        acceptance.drop(tx)
    answer = bff.http.post("/passwords", json=ADA)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert bff.rows(outbox) == []


# --- the same request again


@pytest.mark.parametrize("header", [{"Idempotency-Key": '"k-1"'}, {"X-Request-Id": str(uuid4())}])
def test_the_same_request_again_gets_the_stored_202(bff: Room, header: dict[str, str]) -> None:
    """A caller that lost the answer repeats itself; one password must come of it, in whatever format it asks."""
    first = bff.http.post("/passwords", json=ADA, headers=header)
    again = bff.http.post("/passwords", json=ADA, headers=header)
    as_xml = bff.http.post("/passwords", data="<r><username>ada</username></r>", headers=XML | header)
    assert (again.status_code, again.data) == (202, first.data)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"] == as_xml.headers["Location"]
    assert len(bff.rows(acceptance)) == len(bff.rows(outbox)) == 1


def test_a_key_used_for_something_else_is_refused(bff: Room) -> None:
    """Answering the other request's 202 would lose this one silently."""
    header = {"Idempotency-Key": "k-1"}
    bff.http.post("/passwords", json=ADA, headers=header)
    answer = bff.http.post("/passwords", json={"username": "eve"}, headers=header)
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency-key-reused")


def test_twins_that_race_become_one_command(bff: Room) -> None:
    """Two sends of one click meet in two threads; the unique index makes one wait for the other."""

    def post(_number: int) -> tuple[int, str]:
        answer = bff.http.post("/passwords", json=ADA, headers={"Idempotency-Key": "k-1"})
        return answer.status_code, answer.json["id"]

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(post, range(16)))) == 1
    assert len(bff.rows(acceptance)) == 1


def test_a_request_id_that_is_no_guid_says_nothing_of_repetition(bff: Room) -> None:
    """Proxies put counters there; two callers must not share a command by that."""
    for _ in range(2):
        assert bff.http.post("/passwords", json=ADA, headers={"X-Request-Id": "7"}).status_code == 202
    assert len(bff.rows(acceptance)) == 2


def test_half_a_quotation_mark_belongs_to_the_key(bff: Room) -> None:
    """Two keys that differ must not meet; only a whole pair of quotation marks is notation."""
    ids = [
        bff.http.post("/passwords", json=ADA, headers={"Idempotency-Key": key}).json["id"]
        for key in ("k", '"k"', '"k', 'k"')
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_key_that_no_header_may_hold_is_refused(bff: Room) -> None:
    """An empty or endless key would be everybody's or nobody's."""
    for key in ("", "a" * 256, "a b"):
        answer = bff.http.post("/passwords", json=ADA, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json["code"]) == (400, "idempotency-key-invalid")


# --- following a command


def test_an_id_just_accepted_is_never_unknown(bff: Room) -> None:
    """The read side lags; 404 would tell the caller that its wish was lost."""
    accepted = bff.http.post("/passwords", json=ADA)
    shown = bff.http.get(accepted.headers["Location"])
    assert (shown.status_code, shown.json) == (200, accepted.json)
    assert bff.http.get(accepted.headers["Location"].upper().replace("COMMANDS", "commands")).status_code == 200


def test_a_command_shows_what_the_projection_says(bff: Room) -> None:
    """Status and reason come from the saga, times in UTC."""
    identifier = bff.http.post("/passwords", json=ADA).json["id"]
    ended(bff, identifier, "refused", "mailbox-refused", "550 no such user")
    shown = bff.http.get(f"/commands/{identifier}").json
    assert shown["status"] == "refused"
    assert shown["reason"] == {"code": "mailbox-refused", "detail": "550 no such user"}
    assert (shown["createdAt"], shown["updatedAt"]) == ("2023-11-14T22:13:20.500Z", "2023-11-14T22:13:21.250Z")


@pytest.mark.parametrize("code", ["dead-letter", "reply-failed"])
@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
def test_a_caller_is_told_nothing_of_our_classes_files_and_lines(bff: Room, code: str, accept: str) -> None:
    """They help nobody but an operator, who finds them in the dead letter, and whoever looks for a way in."""
    identifier = bff.http.post("/passwords", json=ADA).json["id"]
    ended(bff, identifier, "suspended", code, "InjectedFault: a rule raised this (faults.py:285)")
    told = bff.http.get(f"/commands/{identifier}", headers={"Accept": accept}).text
    assert code in told
    assert "Fault" not in told
    assert ".py" not in told


@pytest.mark.parametrize("identifier", ["nonsense", "a/b", "%00", "{0}", "00000000-0000-0000-0000-00000000000g"])
def test_an_id_that_nobody_was_given_is_unknown(bff: Room, identifier: str) -> None:
    """404, and not the database's opinion about what an id is."""
    answer = bff.http.get(f"/commands/{identifier.format(new_id())}")
    assert (answer.status_code, answer.json["code"]) == (404, "not-found")


# --- waiting


def test_a_waiter_is_woken_by_the_broadcast(bff: Room, waiting: Waiting) -> None:
    """The answer comes when the saga ends, not at the next poll: nobody looks between two broadcasts."""
    looks: list[float] = []
    identifier, found = new_id(), threading.Event()

    def look() -> str | None:
        looks.append(time.monotonic())
        return "done" if found.is_set() else None

    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(waiting.until, Asker("shop"), identifier, look, 10.0)
        eventually(lambda: looks)
        bff.broker.broadcast(topic_of("bff"), changed_ids_body([new_id()]))
        found.set()
        silent = bff.broker.silences
        eventually(lambda: bff.broker.silences > silent + 5)
        assert len(looks) == 1
        bff.broker.broadcast(topic_of("bff"), changed_ids_body([new_id(), identifier]))
        assert result.result(5) == "done"
    assert len(looks) == 2


def test_prefer_wait_answers_201_with_the_finished_command(bff: Room, waiting: Waiting) -> None:
    """One request instead of a loop, for callers that can wait."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(bff.http.post, "/passwords", json=ADA, headers={"Prefer": "respond-async, wait=20"})
        eventually(lambda: bff.rows(acceptance))
        (row,) = bff.rows(acceptance)
        ended(bff, row["id"], "completed")
        eventually(lambda: not waiting.has_room() or waiting._waiters)
        bff.broker.broadcast(topic_of("bff"), changed_ids_body([row["id"]]))
        answer = asked.result(5)
    assert (answer.status_code, answer.json["status"]) == (201, "completed")
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["Location"] == f"/commands/{row['id']}"


def test_a_repeated_request_joins_the_same_command(bff: Room, waiting: Waiting) -> None:
    """A caller whose connection broke while it waited goes on waiting for the same end; a refusal is a problem."""
    header = {"Idempotency-Key": "k-1"}
    identifier = bff.http.post("/passwords", json=ADA, headers=header).json["id"]
    ended(bff, identifier, "refused", "password-exists", "ada already has a password")
    answer = bff.http.post("/passwords", json=ADA, headers=header | {"Prefer": "wait=20"})
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert (answer.json["code"], answer.json["commandId"]) == ("password-exists", identifier)
    assert answer.json["instance"] == answer.headers["Location"] == f"/commands/{identifier}"
    assert answer.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("status", ["running", "suspended"])
def test_when_the_time_is_over_it_is_202_after_all(bff: Room, waiting: Waiting, status: str) -> None:
    """A suspended command is not finished: an operator may still complete it."""
    header = {"Idempotency-Key": "k-1"}
    identifier = bff.http.post("/passwords", json=ADA, headers=header).json["id"]
    ended(bff, identifier, status)
    answer = bff.http.post("/passwords", json=ADA, headers=header | {"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=0")


def test_a_wait_is_capped_and_says_so(bff: Room, waiting: Waiting) -> None:
    """Nobody holds a thread for an hour."""
    header = {"Idempotency-Key": "k-1"}
    identifier = bff.http.post("/passwords", json=ADA, headers=header).json["id"]
    ended(bff, identifier, "completed")
    answer = bff.http.post("/passwords", json=ADA, headers=header | {"Prefer": 'WAIT = "3600"'})
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_what_was_accepted_is_202_even_if_the_end_cannot_be_read(bff: Room) -> None:
    """Saying 503 for what is stored would make the caller ask twice."""
    command.drop(bff.projector)
    answer = bff.http.post("/passwords", json=ADA, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202


def test_stopping_lets_go_of_every_waiter(bff: Room, waiting: Waiting) -> None:
    """A restart must not hang on callers that wait for half a minute."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(bff.http.post, "/passwords", json=ADA, headers={"Prefer": "wait=30"})
        eventually(lambda: waiting._waiters)
        waiting.release()
        assert asked.result(5).status_code == 202
    assert bff.http.post("/passwords", json=ADA, headers={"Prefer": "wait=30"}).status_code == 202


def test_a_broadcast_missed_while_the_broker_was_away_is_made_up_for(bff: Room, waiting: Waiting) -> None:
    """Broadcasts are not stored: whoever waits looks again when the broker is back."""
    identifier, found = new_id(), threading.Event()
    looks: list[int] = []

    def look() -> bool | None:
        looks.append(1)
        return found.is_set() or None

    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(waiting.until, Asker("shop"), identifier, look, 20.0)
        eventually(lambda: looks)
        bff.broker.listening.clear()
        bff.broker.is_up = False
        found.set()
        eventually(lambda: not any(bff.broker._listeners.values()))
        bff.broker.is_up = True
        assert result.result(10) is True


# --- passwords


def test_passwords_are_listed_a_page_at_a_time(bff: Room) -> None:
    """A cursor by name neither skips nor repeats when rows come in between."""
    names = ["ada", "b&b", "c d", "é"]
    for name in names:
        issued(bff, name)
    seen, url, pages = [], "/passwords?limit=3", 0
    while url:
        page = bff.http.get(url).json
        seen += [row["username"] for row in page["passwords"]]
        url, pages = page.get("links", {}).get("next"), pages + 1
    assert (seen, pages) == (names, 2)


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1e2", "٣", "000000000201"])
def test_a_page_has_1_to_200_rows(bff: Room, limit: str) -> None:
    """No caller makes us read the whole table."""
    answer = bff.http.get("/passwords", query_string={"limit": limit})
    assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (422, "limit")


@pytest.mark.parametrize("username", ["ada", "a/b", "/a//b/", "josé", "50% off?", "a#b", "..a"])
def test_a_password_is_found_under_any_name(bff: Room, username: str) -> None:
    """A name may hold what a path may not; the link that we give must lead there."""
    issued(bff, username)
    (listed,) = bff.http.get("/passwords").json["passwords"]
    shown = bff.http.get(listed["links"]["self"])
    assert (shown.status_code, shown.json) == (200, listed)
    assert list(shown.json) == ["username", "status", "version", "issuedAt", "changedAt", "links"]


def test_a_password_is_found_however_its_name_is_spelled(bff: Room) -> None:
    """Who was given the decomposed form asks with it; the name was stored composed."""
    issued(bff, "jos\u00e9")
    assert bff.http.get("/passwords/jose%CC%81").json["username"] == "jos\u00e9"


def test_a_password_that_nobody_has_is_unknown(bff: Room) -> None:
    """404 also for what no database could look up."""
    for name in ("ada", "%00", "%ff"):
        assert bff.http.get(f"/passwords/{name}").status_code == 404
    assert bff.http.get("/passwords?after=%00").status_code == 422


def test_passwords_in_xml_are_repeated_elements(bff: Room) -> None:
    """The shape that an XSD can describe."""
    issued(bff, "ada")
    root = etree.fromstring(bff.http.get("/passwords", headers={"Accept": "text/xml"}).data)
    assert (root.tag, [child.tag for child in root]) == ("passwords", ["password"])


# --- every error, in both formats

ERRORS: list[tuple[int, str, str, str, dict[str, Any]]] = [
    (400, "unreadable", "POST", "/passwords", {"data": b"{"}),
    (404, "not-found", "GET", "/nowhere", {}),
    (404, "not-found", "GET", "/passwords/nobody", {}),
    (405, "method-not-allowed", "DELETE", "/passwords", {}),
    (413, "too-large", "POST", "/passwords", {"data": b"x" * (64 * 1024 + 1)}),
    (415, "unsupported-media-type", "POST", "/passwords", {"data": b"x", "content_type": "text/plain"}),
    (415, "unsupported-media-type", "POST", "/passwords", {"data": b"x", "headers": {"Content-Encoding": "gzip"}}),
    (422, "invalid", "GET", "/passwords?limit=0", {}),
    (503, "unavailable", "POST", "/reveals", {"data": {"token": "t"}}),
]


@pytest.mark.parametrize("format_name", ["json", "xml"])
@pytest.mark.parametrize(("status", "code", "method", "url", "more"), ERRORS)
def test_every_error_is_a_problem_in_the_callers_format(
    bff: Room, format_name: str, status: int, code: str, method: str, url: str, more: dict[str, Any]
) -> None:
    """A client that speaks XML only cannot read a JSON complaint, nor an HTML one."""
    more = {"content_type": f"application/{format_name}", **more}
    headers = {"Accept": f"application/{format_name}", **more.pop("headers", {})}
    if isinstance(more.get("data"), dict):
        more["data"] = '{"token":"t"}' if format_name == "json" else "<r><token>t</token></r>"
    answer = bff.http.open(url, method=method, headers=headers, **more)
    assert (answer.status_code, answer.mimetype) == (status, f"application/problem+{format_name}")
    assert problem_code(answer) == code


def problem_code(answer: Any) -> str | None:
    if answer.is_json:
        return str(answer.get_json()["code"])
    return etree.fromstring(answer.data).findtext("{urn:ietf:rfc:7807}code")


def test_a_format_that_is_not_spoken_stores_nothing(bff: Room) -> None:
    """406 after the wish was accepted would be an accepted wish that nobody knows of."""
    answer = bff.http.post("/passwords", json=ADA, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json["code"]) == (406, "not-acceptable")
    assert bff.rows(acceptance) == []


def test_a_method_that_is_not_allowed_is_told_which_are(bff: Room) -> None:
    """RFC 9110 §15.5.6: Allow is not optional."""
    assert {"GET", "POST"} <= set(bff.http.delete("/passwords").headers["Allow"].split(", "))


def test_a_fault_of_ours_shows_no_trace(bff: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack trace tells an attacker more than the caller."""

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("bff.queries.find_password", broken)
    answer = bff.http.get("/passwords/ada", headers={"Accept": "application/xml"})
    assert (answer.status_code, problem_code(answer)) == (500, "internal-error")
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data


# --- revealing


def test_the_reveal_page_consumes_nothing_and_tells_nobody(bff: Room) -> None:
    """Mail scanners fetch it first; no referrer, no cache, nothing from elsewhere, no script but ours."""
    page = bff.http.get("/reveal", headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "http" not in page.text.replace("http-equiv", "")
    assert "<script>" not in page.text
    for asset in ("/static/reveal.js", "/static/reveal.css"):
        assert asset in page.text
        with bff.http.get(asset) as file:
            assert file.status_code == 200


def test_with_generador_down_the_link_stays_good(bff: Room) -> None:
    """503 and come back: nothing was consumed."""
    answer = bff.http.post("/reveals", json={"token": "t"})
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


# --- health


def test_the_front_door_is_ready_without_the_broker_but_not_without_its_databases(bff: Room) -> None:
    """Taking the door off the load balancer because the broker is down would refuse what can be accepted."""
    bff.broker.is_up = False
    assert bff.http.get("/livez").status_code == 200
    assert bff.http.get("/readyz").json == {
        "status": "ready",
        "checks": {"write-database": "ok", "read-database": "ok"},
    }
    health = bff.http.get("/health")
    assert (health.status_code, health.json["status"], health.json["checks"]["broker"]) == (200, "degraded", "failed")


def test_readiness_names_the_check_that_failed(bff: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is woken at night must see which database it is."""
    read = bff.app.extensions["read"]
    monkeypatch.setattr("pulsaga.web.webapp.is_answering", lambda engine: engine is not read)
    answer = bff.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"status": "not-ready", "checks": {"write-database": "ok", "read-database": "failed"}}


def test_metrics_count_by_route_and_not_by_path(bff: Room) -> None:
    """A label per path would fill the memory of whoever scrapes."""
    for number in range(3):
        bff.http.get(f"/passwords/user-{number}")
        bff.http.open(f"/nowhere/{number}", method="BREW")
    text = bff.http.get("/metrics").text
    labels = 'http_request_method="GET",http_response_status_code="404",http_route="/passwords/<whole:username>"'
    line = f"http_server_request_duration_seconds_count{{{labels}}} 3.0"
    assert line in text
    assert "user-" not in text
    assert "BREW" not in text
