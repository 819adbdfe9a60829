"""Hold the HTTP server to serving everybody while hundreds are slow, and to cutting those, however they drip."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import urllib3
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, eventually, room
from tests.service.web import Serving, read_all, serving

from bff.tables import password
from pulsaga.web.front_door.tables import acceptance
from pulsaga.web.serving import connection, server

SLOW = 200
HIGH_WATER_BYTES = 64 * 1024
"""What asyncio holds of an answer before it asks for no more."""
JSON_TYPE = b"Content-Type: application/json\r\n"
HEADERS = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = b"POST /passwords HTTP/1.1\r\nHost: localhost\r\n" + JSON_TYPE + b"Content-Length: 1000\r\n\r\n{"
ANSWER = b"GET /passwords?limit=100 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def send_a_byte(sock: socket.socket) -> None:
    sock.send(b" ")


def read_a_byte(sock: socket.socket) -> None:
    sock.recv(1)


KINDS: dict[str, tuple[bytes, Callable[[socket.socket], None]]] = {
    "headers": (HEADERS, send_a_byte),
    "bodies": (BODY, send_a_byte),
    "answers": (ANSWER, read_a_byte),
}


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path)
    for number in range(100):  # a page of some 200 KB, more than lies in the kernel's buffers
        name = f"{number:03}" + "é" * 250
        made.write_view(password, username=name, actor="", version=1, status="issued", issued_at=1.0, changed_at=1.0)
    yield made
    made.close()


@contextmanager
def slow_clients(web: Serving, kinds: Sequence[str]) -> Iterator[dict[socket.socket, Callable[[socket.socket], None]]]:
    """Connect SLOW clients of each kind that have begun; give what each does next."""
    with ExitStack() as stack:
        clients = {}
        for begun, drip in (KINDS[kind] for kind in kinds):
            for _ in range(SLOW):
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", web.port))
                sock.sendall(begun)
                sock.setblocking(False)
                clients[sock] = drip
        yield clients


def cut_after_a_drip(clients: dict[socket.socket, Callable[[socket.socket], None]]) -> int:
    """Let each client move by a byte; return how many find themselves cut."""
    return sum(is_cut(sock, drip) for sock, drip in clients.items())


def is_cut(sock: socket.socket, drip: Callable[[socket.socket], None]) -> bool:
    try:
        drip(sock)
    except BlockingIOError:  # nothing to read yet
        return False
    except OSError:
        return True
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))  # hung up or reset


def test_hundreds_of_slow_clients_stop_nobody(
    bff: Room, web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slowloris costs its sender nothing; 200 of each kind are held, and who asks meanwhile is served."""
    for limit in ("REQUEST_S", "ANSWER_S", "IDLE_S"):
        monkeypatch.setattr(connection, limit, 60)
    with slow_clients(web, tuple(KINDS)) as clients:
        for turn in range(10):
            assert cut_after_a_drip(clients) == 0
            asked = client.request("POST", f"{web.url}/passwords", json={"username": f"u{turn}"})
            assert asked.status == 202
            for path in ("/livez", "/readyz", asked.headers["Location"]):
                assert client.request("GET", web.url + path).status == 200
    assert len(bff.rows(acceptance)) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_slow_clients_are_cut_however_they_drip(
    web: Serving, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A byte now and then keeps a connection for ever on a server that looks for silence alone."""
    for limit in ("REQUEST_S", "ANSWER_S", "IDLE_S", "LINGER_S"):
        monkeypatch.setattr(connection, limit, 0.5)
    with slow_clients(web, [kind]) as clients:
        eventually(lambda: cut_after_a_drip(clients) == SLOW, within_s=30)
    assert client.request("GET", f"{web.url}/livez").status == 200


def test_who_asks_ahead_and_reads_nothing_is_held_no_more_than_one_answer(
    bff: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection that only sent had the process hold as much memory as it liked; all are answered all the same."""
    held: list[int] = []

    class Watched(connection.Connection):
        def _write(self, piece: bytes, *, last: bool) -> None:
            super()._write(piece, last=last)
            held.append(self._transport.get_write_buffer_size())

    monkeypatch.setattr(server, "Connection", Watched)
    ahead = connection.AHEAD
    with serving(bff.app) as web, web.connect() as sock:
        sock.sendall(b"GET /asyncapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * ahead)
        eventually(lambda: max(held, default=0) > HIGH_WATER_BYTES)
        sock.shutdown(socket.SHUT_WR)
        answers = read_all(sock)
    assert answers.count(b"HTTP/1.1 200 OK") == ahead
    assert max(held) < HIGH_WATER_BYTES + len(answers) / ahead


def test_an_answer_that_is_not_read_holds_no_thread(bff: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of threads that hold a page each are a gigabyte, for who only connects and asks."""
    ended: list[None] = []
    whole = connection.answer
    monkeypatch.setattr(connection, "ANSWER_S", 60)
    monkeypatch.setattr(connection, "answer", lambda *given: (whole(*given), ended.append(None)))
    with serving(bff.app) as web, slow_clients(web, ["answers"]):
        eventually(lambda: len(ended) == SLOW, within_s=20)


def test_a_crowd_of_idle_connections_keeps_nobody_out(
    bff: Room, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the limit is reached, the oldest connection that does nothing makes room."""
    monkeypatch.setattr(server, "CONNECTION_LIMIT", 20)
    with serving(bff.app) as web, slow_clients(web, ["headers"]) as clients:
        assert client.request("GET", f"{web.url}/livez").status == 200
        eventually(lambda: cut_after_a_drip(clients) > SLOW - server.CONNECTION_LIMIT)


def test_a_flood_of_connections_cuts_no_upload(
    bff: Room, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that takes two seconds was reset by whoever came meanwhile, though it did nothing wrong."""
    monkeypatch.setattr(server, "CONNECTION_LIMIT", 20)
    head = b"POST /passwords HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 18\r\n"
    with serving(bff.app) as web, ExitStack() as stack:
        uploads = [stack.enter_context(web.connect()) for _ in range(15)]
        for sock in uploads:
            sock.sendall(head + JSON_TYPE + b'\r\n{"user')
        assert client.request("GET", f"{web.url}/livez").status == 200  # these bytes have been read
        flood = [stack.enter_context(web.connect()) for _ in range(100)]
        eventually(lambda: sum(is_cut(sock, lambda _sock: None) for sock in flood) >= 95)
        assert client.request("GET", f"{web.url}/livez").status == 200
        for sock in uploads:
            sock.sendall(b'name":"ada"}')
        assert [read_all(sock)[9:12] for sock in uploads] == [b"202"] * 15


def test_heads_whose_bodies_do_not_come_shut_the_door_to_nobody(
    bff: Room, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all are sending bodies the oldest has had its time; else heads alone kept everybody out, health too."""
    monkeypatch.setattr(server, "CONNECTION_LIMIT", 5)
    with serving(bff.app) as web, ExitStack() as stack:
        uploads = []
        for _ in range(5):
            uploads.append(stack.enter_context(web.connect()))
            uploads[-1].sendall(BODY + b" " * 998 + b"}")
            assert uploads[-1].recv(9) == b"HTTP/1.1 "
            uploads[-1].sendall(BODY)
        assert client.request("GET", f"{web.url}/livez").status == 200
        assert [is_cut(sock, lambda _sock: None) for sock in uploads] == [True, False, False, False, False]


@pytest.mark.parametrize(("granted", "fit"), [(4096, 3000), (1024, 900)])
def test_a_process_takes_as_many_connections_as_it_may_have_files(granted: int, fit: int) -> None:
    """A login's 1,024 files are too few for a rush, in which a connection that is cut is a wish that failed."""
    ask = "from pulsaga.web.serving.server import room_for_connections; print(room_for_connections())"
    shell = f"ulimit -Sn 256 && ulimit -Hn {granted} && exec {sys.executable} -c '{ask}'"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert int(done.stdout) == fit
