"""Hold the front door to what it promises when more is asked for than can be done, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import urllib3
from lxml import etree
from sqlalchemy.event import listen
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, eventually
from tests.service.web import Serving, read_all
from tests.service.wishes import wish

from pulsaga.delivery.messages import Context, Message, new_id
from pulsaga.errors import SettingError
from pulsaga.settings import Settings
from pulsaga.web.front_door import acceptance as front
from pulsaga.web.front_door.commands.projections import tell_waiters
from pulsaga.web.front_door.overload import admission
from pulsaga.web.front_door.overload.admission import Admission, Place
from pulsaga.web.front_door.overload.load import DEPTH, FEW
from pulsaga.web.front_door.tables import acceptance, command
from pulsaga.web.serving import server
from system import SYSTEM

ADA = {"username": "ada"}


@pytest.fixture
def gate(bff: Room) -> Admission:
    made: Admission = bff.app.extensions["gate"]
    return made


def accepted(bff: Room, number: int) -> list[str]:
    asked = [wish(f"u{n}", "a@example.test") for n in range(number)]
    return [one.id for one in front.accept_many(bff.runtime.transactions, asked)]


def look(gate: Admission) -> None:
    """Look as the duty does, with traffic."""
    gate._asked_at = time.monotonic()
    gate.look()


def overload(bff: Room, gate: Admission, *, ended: int = FEW) -> list[str]:
    """Let far more wait than is ended; return the ids of who waits."""
    identifiers = accepted(bff, 40 * FEW)
    look(gate)
    gate.ended(identifiers[:ended])
    gate._load._measured_at = time.monotonic() - 1  # a second in which this much was done
    look(gate)
    assert gate._load.rate == pytest.approx(ended, rel=0.1)
    return identifiers


# --- refusing


@pytest.mark.parametrize("format_name", ["json", "xml"])
def test_overload_is_a_problem_in_the_callers_format(
    bff: Room, gate: Admission, web: Serving, client: urllib3.PoolManager, format_name: str
) -> None:
    """503 `overloaded` with a time to come back, nothing stored, and the connection stays."""
    before = len(bff.rows(acceptance)) + len(overload(bff, gate))
    headers = {"Content-Type": f"application/{format_name}", "Accept": f"application/{format_name}"}
    answer = client.request("POST", f"{web.url}/passwords", body=b'{"username":"ada"}', headers=headers)
    assert (answer.status, code_of(answer)) == (503, "overloaded")
    assert answer.headers["Content-Type"].startswith(f"application/problem+{format_name}")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Connection" not in answer.headers
    assert len(bff.rows(acceptance)) == before
    assert (
        'protools_commands_refused_total{reason="backlog"} 1.0'
        in client.request("GET", f"{web.url}/metrics").data.decode()
    )


def code_of(answer: Any) -> str | None:
    if "json" in answer.headers["Content-Type"]:
        return str(answer.json()["code"])
    return etree.fromstring(answer.data).findtext("{urn:ietf:rfc:7807}code")


def test_a_command_is_refused_before_its_body_is_read(
    bff: Room, gate: Admission, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing what will be refused is the work that there is too much of; a body that nobody could read shows it."""
    overload(bff, gate)
    reads: list[object] = []
    monkeypatch.setattr("pulsaga.web.formats.read", lambda *given: reads.append(given))
    headers = {"Content-Type": "application/json"}
    answer = client.request("POST", f"{web.url}/passwords", body=b"{{{", headers=headers)
    assert (answer.status, reads) == (503, [])


def test_reads_reveals_and_health_are_served_all_the_same(
    bff: Room, gate: Admission, web: Serving, client: urllib3.PoolManager
) -> None:
    """Who asks for nothing new must not pay for those who do."""
    identifier = overload(bff, gate)[0]
    assert client.request("POST", f"{web.url}/passwords", json=ADA).status == 503
    for path in ("/livez", "/readyz", "/health", "/metrics", f"/commands/{identifier}", "/passwords"):
        assert client.request("GET", web.url + path).status == 200, path
    reveal = client.request("POST", f"{web.url}/reveals", json={"token": "t"})
    assert reveal.json()["code"] == "unavailable", "it was asked for; generador is not there"


SPELLINGS = (
    "//passwords", "/%70asswords", "/pass%77ords", "///%2Fpasswords", "//%70%61sswords?x=y", "/passwords?a",
    "/passwords?", "http://localhost/passwords", "HTTP://LOCALHOST:80//passwords", "/passwords/",
    "/./passwords", "/x/../passwords",
    "/passwords;a=b", "/PASSWORDS", "/passwords%00", "/passwords%2F", "/%2e/passwords", "//localhost/passwords",
)  # fmt: skip


@pytest.mark.parametrize("target", SPELLINGS)
def test_no_spelling_of_the_path_gets_past_the_gate(bff: Room, gate: Admission, web: Serving, target: str) -> None:
    """What the app would route to the same view is refused as that is, and what it would not is not found."""
    before = len(bff.rows(acceptance)) + len(overload(bff, gate))
    body = b'{"username":"ada"}'
    lines = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with web.connect() as sock:
        sock.sendall(lines.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        status = int(read_all(sock).split(b" ", 2)[1])
    assert status in (503, 404, 405)
    assert len(bff.rows(acceptance)) == before


# --- what was let in and is no command


HEAD = b"POST /passwords HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = b'Content-Length: 18\r\n\r\n{"username":"ada"}'
NO_COMMANDS = {
    "a body that never comes": b"Content-Length: 18\r\n\r\n",
    "half a body": b'Content-Length: 18\r\n\r\n{"user',
    "a chunk that never comes": b"Transfer-Encoding: chunked\r\n\r\n12\r\n",
    "a malformed chunk": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "too large a body in chunks": b"Transfer-Encoding: chunked\r\n\r\n20000\r\n" + b" " * 0x20000,
    "too large a length": b"Content-Length: 1000000\r\n\r\n",
    "no body": b"\r\n",
    "no JSON": b"Content-Length: 3\r\n\r\n{{{",
    "no name": b"Content-Length: 2\r\n\r\n{}",
    "an expectation and no body": b"Expect: 100-continue\r\nContent-Length: 18\r\n\r\n",
    "another expectation": b"Expect: miracles\r\n" + WHOLE,
    "another protocol": b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + WHOLE,
    "another host": HEAD.partition(b"\r\n")[2].replace(b"localhost", b"evil.example") + WHOLE,
    "a coding of its own": b"Content-Encoding: gzip\r\n" + WHOLE,
    "no format that is spoken here": b"Accept: text/html\r\n" + WHOLE,
    "a key that is none": b"Idempotency-Key: \xe9\r\n" + WHOLE,
}


@pytest.mark.parametrize("rest", NO_COMMANDS.values(), ids=NO_COMMANDS)
def test_what_becomes_no_command_takes_up_no_place(bff: Room, gate: Admission, web: Serving, rest: bytes) -> None:
    """However a request ends, what it was counted for is given back: nobody may shut the door by asking for nothing."""
    for _ in range(3):
        with web.connect() as sock:
            sock.sendall(HEAD + rest)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ")[:1] in (b"", b"1", b"4")
    eventually(lambda: (gate._load._admitted, gate._load._open) == (0, 0))
    assert bff.rows(acceptance) == []


def test_heads_without_bodies_shut_the_door_to_nobody(
    bff: Room, gate: Admission, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow system takes 50 at once; 100 heads that stay what they are leave room for each."""
    gate._load.rate = 0.0
    asked: list[None] = []
    refusal = gate.refusal
    monkeypatch.setattr(gate, "refusal", lambda *given: asked.append(None) or refusal(*given))  # type: ignore[func-returns-value]
    with ExitStack() as stack:
        for _ in range(2 * FEW):
            stack.enter_context(web.connect()).sendall(HEAD + b"Content-Length: 18\r\n\r\n")
        eventually(lambda: len(asked) == 2 * FEW)
        assert client.request("POST", f"{web.url}/passwords", json=ADA).status == 202
        assert gate._load._admitted == 1


def test_bodies_that_come_at_once_are_counted_one_by_one(bff: Room, gate: Admission, web: Serving) -> None:
    """What was not refused at its head may be too much when it is whole: nobody saves up heads for a rush."""
    gate._load.rate = 0.0
    with ExitStack() as stack:
        socks = [stack.enter_context(web.connect()) for _ in range(2 * FEW)]
        for part in (HEAD, WHOLE):
            for sock in socks:
                sock.sendall(part)
        answers = [sock.recv(65536).split(b" ", 2)[1] for sock in socks]
    assert sorted(answers) == [b"202"] * FEW + [b"503"] * FEW
    assert len(bff.rows(acceptance)) == FEW
    assert (gate._load._admitted, gate._load._open) == (FEW, 0)


def test_what_was_accepted_before_is_not_one_more(
    gate: Admission, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that repeats itself adds nothing to what waits, not even while it waits for the end."""
    headers = {"Idempotency-Key": "k", "Prefer": "wait=0"}
    statuses = [client.request("POST", f"{web.url}/passwords", json=ADA, headers=headers).status for _ in range(5)]
    assert statuses == [202] * 5
    eventually(lambda: (gate._load._admitted, gate._load._open) == (1, 0))


def test_more_at_once_than_a_process_may_hold_are_refused(
    web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the process waits in vain when the process itself is what is too slow."""
    monkeypatch.setattr(admission, "IN_FLIGHT", 0)
    answer = client.request("POST", f"{web.url}/passwords", json=ADA)
    assert (answer.status, code_of(answer)) == (503, "overloaded")


def test_without_the_broker_the_depth_of_the_outbox_decides(bff: Room, gate: Admission) -> None:
    """Accepting goes on while the broker is away, but not for ever."""
    bff.broker.is_up = False
    accepted(bff, DEPTH - 5)
    look(gate)
    admitted = [isinstance(gate.admit("", 0), Place) for _ in range(10)]
    assert (admitted[0], admitted[9]) == (True, False)


# --- not refusing


def test_an_idle_system_refuses_nobody_and_asks_nothing(
    bff: Room, gate: Admission, client: urllib3.PoolManager
) -> None:
    """A rate of 0 is no overload while nothing waits, and a door that nobody knocks at costs nothing."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    for engine in (bff.runtime.write, bff.app.extensions["read"]):
        listen(engine, "before_cursor_execute", note)
    gate.look()
    assert statements == []
    assert gate.refusal("", 0) is None
    gate.look()
    assert 0 < len(statements) <= 2
    assert gate.refusal("", 0) is None


def test_deciding_costs_no_query(bff: Room, gate: Admission) -> None:
    """A query for each refusal would be load made of overload."""
    overload(bff, gate)
    bff.runtime.write.dispose()
    bff.app.extensions["read"].dispose()
    assert {gate.refusal("", 0) is None for _ in range(1000)} == {False}
    assert bff.runtime.write.pool.checkedin() == 0  # type: ignore[attr-defined]


def test_what_was_overtaken_is_not_ahead_of_anybody(bff: Room, gate: Admission) -> None:
    """A hundred thousand sagas that wait for an hour to pass are no queue."""
    identifiers = overload(bff, gate)
    assert gate.refusal("", 0) is not None
    gate.ended([new_id()])
    look(gate)
    assert gate._load.counted == 0
    assert gate.refusal("", 0) is None
    assert len(identifiers) == 40 * FEW


def test_an_id_of_next_year_does_not_open_the_door(bff: Room, gate: Admission) -> None:
    """Anybody who may publish may invent ids."""
    gate.ended(["fff1fdcd-88f9-7684-baaf-ebd77ef20179", "02a1fdcd-88f9-7684-baaf-ebd77ef20179", "00-nonsense", ""])
    look(gate)
    accepted(bff, FEW)
    eventually(lambda: look(gate) or gate._load.counted == FEW)


# --- knowing


def test_after_a_restart_what_waits_is_known_at_the_first_look(bff: Room, gate: Admission) -> None:
    """Nothing is remembered in the process: the acceptances and the read model tell."""
    identifiers = accepted(bff, 300)
    row = {"version": 9, "type": "issue-password", "subject": "ada", "reason_code": "", "reason_detail": ""}
    middle = sorted(identifiers)[99]
    bff.write_view(command, id=middle, status="completed", cancellable=False, created_at=1.0, updated_at=2.0, **row)
    look(gate)
    assert gate._load.counted == 200


def test_ends_are_told_by_the_projector_to_every_door(bff: Room, gate: Admission) -> None:
    """Completed, refused or suspended: nobody works on it any more. What only moved has not ended."""
    ids = [new_id() for _ in range(4)]
    refused = SYSTEM.coordinator.refused(command="protools_saga.issue-password", code="c", detail="d")
    bodies = [*map(moved, ids, ("RUNNING", "COMPLETED", "SUSPENDED")), refused]
    messages = [
        Message(body, new_id(), "/x", "ada", "2026-01-01T00:00:00Z", Context(identifier), command_id=identifier)
        for body, identifier in zip(bodies, ids, strict=True)
    ]
    waiting = bff.app.extensions["waiting"]
    waiting.start()
    try:
        assert bff.broker.listening.wait(PATIENCE_S)
        tell_waiters(bff.runtime)(messages)
        eventually(lambda: len(gate._ended) == 3)
        assert set(gate._ended) == set(ids[1:])
    finally:
        waiting.stop()


def moved(identifier: str, status: str) -> SYSTEM.sagas.moved:
    return SYSTEM.sagas.moved(identifier, "issue-password@1", "ada", status, "", "", 0.0, 1.0, False, "[]", "[]")


# --- coming back


def test_who_comes_back_in_turn_goes_before_who_is_new(
    bff: Room, gate: Admission, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a Retry-After would be one more ticket in a lottery as long as the rush lasts."""
    overload(bff, gate, ended=200)  # 2,000 wait, 200 a second are done: a limit of 1,500
    refused = client.request("POST", f"{web.url}/passwords", json=ADA)
    assert refused.status == 503
    turn = refused.headers["Set-Cookie"].partition(";")[0]
    clock = time.time() + int(refused.headers["Retry-After"])
    assert client.request("POST", f"{web.url}/passwords", json=ADA, headers={"Cookie": turn}).status == 503
    monkeypatch.setattr("pulsaga.web.front_door.overload.admission.time.time", lambda: clock)
    assert client.request("POST", f"{web.url}/passwords", json=ADA).status == 503
    assert client.request("POST", f"{web.url}/passwords", json=ADA, headers={"Cookie": turn}).status == 202


TURNS = (
    "turn=", "turn=1.2", "turn=soon.x", 'turn="', "turn={now}." + 32 * "0", "return=1", "turn={now}.\xe9",
    'turn="{now}.\\351"', "turn=" + "9" * 5000 + ".x",
)  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
def test_a_turn_that_was_not_given_is_none(bff: Room, gate: Admission, turn: str) -> None:
    """Whoever could write one would always be first."""
    overload(bff, gate, ended=200)
    assert gate.refusal(turn.format(now=int(time.time())), 0) is not None


def test_to_ask_what_may_be_asked_is_no_command(
    bff: Room, gate: Admission, web: Serving, client: urllib3.PoolManager
) -> None:
    """A browser that hears no to its preflight never hears when to come back; and it is counted as nobody's refusal."""
    overload(bff, gate)
    asked = client.request("OPTIONS", f"{web.url}/passwords", headers={"Access-Control-Request-Method": "POST"})
    assert (asked.status, gate._load._admitted) == (204, 0)
    assert "protools_commands_refused_total{" not in client.request("GET", f"{web.url}/metrics").data.decode()


# --- classes


def test_health_and_reads_find_a_thread_while_every_command_is_stuck(
    bff: Room, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write database that hangs must not take health down with it: whoever restarts us would make it worse."""
    leave = threading.Event()
    monkeypatch.setattr("pulsaga.web.contract.load", lambda *_: leave.wait(PATIENCE_S) and ADA)
    stuck = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(server.THREADS + 10)]
    try:
        for sock in stuck:
            sock.sendall(HEAD + WHOLE)
        with ThreadPoolExecutor(2) as threads:
            asked = [
                threads.submit(client.request, "GET", web.url + path, timeout=PATIENCE_S / 2)
                for path in ("/livez", "/passwords")
            ]
            assert [one.result().status for one in asked] == [200, 200]
    finally:
        leave.set()
        for sock in stuck:
            sock.close()


# --- housekeeping


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_promise_of_no_time_is_no_setting(seconds: str) -> None:
    """Dividing by it in the middle of a rush would be the wrong moment to notice."""
    with pytest.raises(SettingError, match="ACCEPT_WITHIN"):
        Settings.read({"ACCEPT_WITHIN": seconds})


def test_a_door_that_nobody_knocks_at_remembers_nothing(gate: Admission) -> None:
    """Every process hears of every end; only one that decides has use for it."""
    gate.ended([new_id()])
    gate.look()
    assert gate._ended == []
