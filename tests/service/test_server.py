"""Hold the HTTP server to what it promises, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import urllib3
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, eventually, room
from tests.service.web import Serving, read_all

from pulsaga.errors import SettingError
from pulsaga.web.front_door.commands import waiting as waiters
from pulsaga.web.front_door.commands.waiting import ROOM
from pulsaga.web.front_door.tables import acceptance
from pulsaga.web.serving import server

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path)
    yield made
    made.close()


def test_a_wish_is_accepted_over_the_wire(web: Serving, client: urllib3.PoolManager) -> None:
    """The app is only as good as the server in front of it; which server that is, is nobody's business."""
    answer = client.request("POST", f"{web.url}/passwords", json={"username": "ada"})
    assert answer.status == 202
    assert "Server" not in answer.headers
    assert client.request("GET", web.url + answer.headers["Location"]).json() == answer.json()


def test_what_never_reaches_the_app_is_a_problem_too(web: Serving) -> None:
    """The server's own refusals must be as readable as ours."""
    with web.connect() as sock:
        sock.sendall(GET % b"/" + b"Accept: application/xml\r\nTransfer-Encoding: nonsense\r\n\r\n")
        answer = read_all(sock)
    assert b" 501 " in answer.partition(b"\r\n")[0]
    assert b"application/problem+xml" in answer
    assert b"\r\nServer:" not in answer


def test_a_body_far_over_the_limit_is_413_in_the_callers_format(web: Serving, client: urllib3.PoolManager) -> None:
    """The limit holds before the body is in memory."""
    headers = {"Content-Type": "application/json", "Content-Length": str(10**9)}
    with web.connect() as sock:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sock.sendall(f"POST /passwords HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        answer = read_all(sock)
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert b"application/problem+json" in answer


def test_two_replicas_share_a_port(bff: Room, web: Serving, client: urllib3.PoolManager) -> None:
    """`--replicas bff=2` needs no proxy."""
    second = threading.Event()
    sock = server.listen("bff", "127.0.0.1", web.port)
    thread = threading.Thread(target=server.run, args=(bff.app, sock, second))
    thread.start()
    try:
        statuses = {
            client.request("GET", f"{web.url}/livez", headers={"Connection": "close"}).status for _ in range(20)
        }
    finally:
        second.set()
        thread.join(PATIENCE_S)
    assert statuses == {200}


def test_a_port_in_use_is_named_by_its_variable() -> None:
    """Whoever starts it must read which setting to change."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingError, match=f"PROTOOLS_SAGA_PORT: port {port} of 127.0.0.1 is in use"):
            server.listen("protools_saga", "127.0.0.1", port)


def test_an_address_of_another_machine_is_named_by_its_variable() -> None:
    """Binding to what this machine does not have is a setting, not a crash."""
    with pytest.raises(SettingError, match="BIND_HOST"):
        server.listen("bff", "203.0.113.7", 0)


def test_two_hundred_wait_in_one_process_and_nobody_else_does(
    bff: Room, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a saga holds no place at work, no database connection and nobody up."""
    monkeypatch.setattr(waiters, "SHARE", ROOM)
    waiting = bff.app.extensions["waiting"]
    asking = b"POST /passwords HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=30\r\nContent-Type: application/json\r\n"
    with ExitStack() as stack:
        for number in range(ROOM):
            body = b'{"username":"u%d"}' % number
            sock = stack.enter_context(web.connect())
            sock.sendall(asking + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: len(waiting._waiters) == ROOM, within_s=20)
        engines: list[Any] = [bff.runtime.write, bff.app.extensions["read"]]
        eventually(lambda: [engine.pool.checkedout() for engine in engines] == [0, 0])
        one_more = {"Prefer": "wait=30"}
        answer = client.request("POST", f"{web.url}/passwords", json={"username": "ada"}, headers=one_more)
        assert (answer.status, answer.headers.get("Preference-Applied")) == (202, None)
        assert client.request("POST", f"{web.url}/passwords", json={"username": "bob"}).status == 202
        for path in ("/livez", "/readyz", answer.headers["Location"]):
            assert client.request("GET", web.url + path).status == 200
        assert len(waiting._waiters) == ROOM, "they all still wait"
        waiting._wake(set(waiting._waiters))  # nothing ended: each looks once and waits on
        assert client.request("GET", f"{web.url}/livez").status == 200


def test_streams_that_have_nothing_to_say_hold_nobody_up(
    bff: Room, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who watches is no load: as many as may wait may watch, and health needs none of their places."""
    monkeypatch.setattr(waiters, "SHARE", ROOM)
    waiting = bff.app.extensions["waiting"]
    accepted = client.request("POST", f"{web.url}/passwords", json={"username": "ada"}).headers["Location"]
    with ExitStack() as stack:
        for _ in range(ROOM):
            sock = stack.enter_context(web.connect())
            sock.sendall(GET % f"{accepted}/events".encode() + b"\r\n")
        eventually(lambda: not waiting.has_room(), within_s=20)
        for path in ("/livez", "/readyz", accepted):
            assert client.request("GET", web.url + path).status == 200
        assert client.request("POST", f"{web.url}/passwords", json={"username": "bob"}).status == 202


def test_a_request_in_hand_is_answered_before_the_server_leaves(bff: Room, client: urllib3.PoolManager) -> None:
    """A restart must not turn an accepted wish into a broken connection."""
    web = Serving(bff.app)
    began = time.monotonic()
    headers = {"Prefer": "wait=30"}
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(
            client.request, "POST", f"{web.url}/passwords", json={"username": "ada"}, headers=headers
        )
        eventually(lambda: bff.app.extensions["waiting"]._waiters)
        web.stop()
        assert asked.result(PATIENCE_S).status == 202
    assert len(bff.rows(acceptance)) == 1
    assert time.monotonic() - began < 30, "it waited as long as was asked"


def test_a_request_that_will_not_end_does_not_hold_the_server(bff: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor gives five seconds; three of them are for requests."""
    monkeypatch.setattr(server, "STOP_S", 0.3)
    entered, leave = threading.Event(), threading.Event()

    def stuck() -> bool:
        entered.set()
        return leave.wait(PATIENCE_S)

    monkeypatch.setattr("pulsaga.web.webapp.is_answering", lambda _engine: stuck())
    web = Serving(bff.app)
    with web.connect() as sock:
        sock.sendall(GET % b"/readyz" + b"\r\n")
        assert entered.wait(PATIENCE_S)
        began = time.monotonic()
        web.stop()
        assert time.monotonic() - began < PATIENCE_S / 2
        leave.set()
