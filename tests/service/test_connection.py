"""Hold the HTTP server to RFC 9112 on the wire: what is read, what is refused, and that nothing has two readings."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from tests.service.rooms import Room, room
from tests.service.web import Serving, read_all
from tests.unit.test_reader import PIECES

from pulsaga.web.front_door.tables import acceptance
from pulsaga.web.serving import connection, request

HOST = b"Host: localhost\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
JSON_TYPE = b"Content-Type: application/json\r\n"
POST = b"POST /passwords HTTP/1.1\r\n" + HOST + JSON_TYPE
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = b"Connection: close\r\n"
ADA = b'{"username":"ada"}'
SMUGGLED = b"POST /passwords HTTP/1.1\r\n" + HOST + JSON_TYPE + b"Content-Length: 18\r\n\r\n" + ADA


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path)
    yield made
    made.close()


def ask(web: Serving, request: bytes) -> bytes:
    """Send bytes as they are, stop sending, and return all that is answered."""
    with web.connect() as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answer)]


# --- refused


TWO_WAYS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 18\r\n\r\n" + SMUGGLED,
    "the same length twice": POST + b"Content-Length: 18\r\nContent-Length: 18\r\n\r\n" + ADA,
    "a list of lengths": POST + b"Content-Length: 18, 18\r\n\r\n" + ADA,
    "a signed length": POST + b"Content-Length: +18\r\n\r\n" + ADA,
    "an empty length": POST + b"Content-Length: \r\n\r\n" + SMUGGLED,
    "a length too long for a number": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
    "a folded header": GET + b"A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "one bare line feed": GET + b"A: b\nC: d\r\n\r\n",
    "a bare carriage return": GET + b"A: b\rC: d\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 18\r\n\r\n" + ADA,
    "a space before the first header": b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a NUL": GET + b"A: b\0c\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "two content types": POST + JSON_TYPE + b"Content-Length: 18\r\n\r\n" + ADA,
    "a chunk size that is no number": CHUNKED + b"zz\r\n" + SMUGGLED,
    "a chunk size with a prefix": CHUNKED + b"0x12\r\n" + ADA + b"\r\n0\r\n\r\n",
    "a signed chunk size": CHUNKED + b"-1\r\n" + SMUGGLED,
    "a chunk size too long for a number": CHUNKED + b"fffffffffffffffffffff\r\n" + SMUGGLED,
    "a chunk that ends with a line feed": CHUNKED + b"12\n" + ADA + b"\n0\n\n",
    "a chunk longer than its size": CHUNKED + b"11\r\n" + ADA + b"\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "a method in lower case": b"get /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the target": b"GET /li vez HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes beyond ASCII in the target": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a version that is none": b"GET /livez HTTP/1.9\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "RTSP": b"GET /livez RTSP/1.0\r\n" + HOST + b"\r\n",
    "RTSP that says no host": b"GET /livez RTSP/1.0\r\n\r\n",
    "ICE": b"SOURCE /livez ICE/1.0\r\n\r\n",
    "an empty host": b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
    "a host with a space": b"GET /livez HTTP/1.1\r\nHost: local host\r\n\r\n",
    "a host with a path": b"GET /livez HTTP/1.1\r\nHost: localhost/livez\r\n\r\n",
    "a host with a user": b"GET /livez HTTP/1.1\r\nHost: ada@localhost\r\n\r\n",
    "a list of hosts": b"GET /livez HTTP/1.1\r\nHost: localhost, y\r\n\r\n",
    "a host with a scheme": b"GET /livez HTTP/1.1\r\nHost: http://localhost\r\n\r\n",
    "a host beyond ASCII": b"GET /livez HTTP/1.1\r\nHost: l\xf6calhost\r\n\r\n",
    "a port that is no number": b"GET /livez HTTP/1.1\r\nHost: localhost:http\r\n\r\n",
    "a port too large": b"GET /livez HTTP/1.1\r\nHost: localhost:65536\r\n\r\n",
    "brackets around no address": b"GET /livez HTTP/1.1\r\nHost: [::::]\r\n\r\n",
    "a target that contradicts the host": b"GET http://y/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with another port": b"GET http://localhost:81/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target of another scheme": b"GET ftp://localhost/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with a user": b"GET http://ada@localhost/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target and no host": b"GET http://localhost/livez HTTP/1.1\r\n\r\n",
    "a target with a fragment": b"GET /livez#x HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("request_bytes", TWO_WAYS.values(), ids=TWO_WAYS)
def test_what_two_servers_may_read_in_two_ways_is_refused(bff: Room, web: Serving, request_bytes: bytes) -> None:
    """A request that a proxy and we see differently lets one caller speak for another (RFC 9112 §11.2)."""
    answer = ask(web, request_bytes)
    (status,) = statuses(answer)
    assert status in (400, 501, 505)
    assert b"Connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == status
    assert bff.rows(acceptance) == []


@pytest.mark.parametrize("coding", [b"identity", b"gzip, chunked", b"xchunked", b"chunked, chunked", b"\x0bchunked"])
def test_chunked_is_the_one_coding(bff: Room, web: Serving, coding: bytes) -> None:
    """A coding that is ignored is a body that begins somewhere else."""
    answer = ask(web, POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n" + SMUGGLED)
    assert len(statuses(answer)) == 1
    assert statuses(answer)[0] in (400, 501)
    assert bff.rows(acceptance) == []


TOO_MUCH = {
    "target": (414, b"GET /" + b"a" * (request.TARGET_LIMIT_BYTES + 1) + b" HTTP/1.1\r\n"),
    "header": (431, GET + b"A: " + b"b" * (request.HEAD_LIMIT_BYTES + 1) + b"\r\n\r\n"),
    "headers": (431, GET + b"A: b\r\n" * (request.HEADER_LIMIT + 1) + b"\r\n"),
    "header without end": (431, GET + b"A: " + b"b" * 1_000_000),
    "name without end": (431, GET + b"A" * 1_000_000),
    "length": (413, POST + b"Content-Length: 1000000000\r\n\r\n"),
    "body": (413, POST + b"Content-Length: 65537\r\n\r\n" + b" " * 65537),
    "chunks": (
        413,
        CHUNKED + b"8000\r\n" + b" " * 0x8000 + b"\r\n8000\r\n" + b" " * 0x8000 + b"\r\n1\r\n \r\n0\r\n\r\n",
    ),
    "trailers": (431, CHUNKED + b"0\r\n" + b"A: b\r\n" * (request.HEADER_LIMIT + 1) + b"\r\n"),
    "chunk extensions": (413, CHUNKED + b"1;" + b"a" * 2_000_000),
    "requests ahead": (429, (GET + b"\r\n") * 200),
    "expectation": (417, POST + b"Expect: miracles\r\nContent-Length: 18\r\n\r\n" + ADA),
    "tunnel": (501, b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/2": (505, b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n"),
}


@pytest.mark.parametrize(("status", "request_bytes"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_too_much_is_refused_with_its_status(web: Serving, status: int, request_bytes: bytes) -> None:
    """A limit that cuts without a word sends its user searching; memory is bounded all the same."""
    with web.connect() as sock:
        sock.sendall(request_bytes)
        assert statuses(read_all(sock))[-1] == status


def test_a_refusal_below_the_app_speaks_the_callers_format(web: Serving) -> None:
    """Whoever speaks XML must be able to read that its header was too long."""
    answer = ask(web, GET + b"Accept: application/xml\r\nA: " + b"b" * 17_000 + b"\r\n\r\n")
    assert b"application/problem+xml" in answer
    assert b"<status>431</status>" in answer
    assert b"Server:" not in answer


BEHIND_A_REQUEST = (b"RTSP", b"GET /livez RTSP/1.0\r\n"), (b"ICE", b"SOURCE /livez ICE/1.0\r\n")


@pytest.mark.parametrize(("protocol", "line"), BEHIND_A_REQUEST)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_another_protocol_is_none_wherever_it_begins(web: Serving, protocol: bytes, line: bytes, size: int) -> None:
    """The parser reads them as HTTP and does not tell; neither a pipeline nor a cut in the middle may hide them."""
    sent = GET + b"\r\n" + line + HOST + CLOSE + b"\r\n"
    with web.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), size):
            sock.sendall(sent[at : at + size])
        assert statuses(read_all(sock))[-1] == 505, protocol


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 18\r\n\r\n" + ADA,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"20000\r\n" + b" " * 0x20000 + b"\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("behind", [b"", SMUGGLED, b"\x00\x01", b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_a_wish_to_upgrade_has_one_answer_and_no_page_in_the_log(
    bff: Room, web: Serving, protocol: bytes, behind: bytes, framing: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sends it is answered like anybody, whatever lies behind it; what does is never read."""
    answer = ask(web, POST + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n" + framing + behind)
    assert len(statuses(answer)) == 1
    assert len(bff.rows(acceptance)) == statuses(answer).count(202)
    assert caplog.records == []


@given(PIECES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered_or_the_connection_is_closed(
    web: Serving, caplog: pytest.LogCaptureFixture, pieces: list[bytes]
) -> None:
    """Nobody is left waiting, the loop stays whole, and the log is nobody's to fill."""
    caplog.clear()
    with web.connect() as sock, suppress(ConnectionError):  # cut while we send is closed, too
        sock.sendall(b"".join(pieces))
        sock.shutdown(socket.SHUT_WR)
        read_all(sock)
    assert caplog.records == []
    assert statuses(ask(web, GET + b"\r\n")) == [200]


BREAKING = {
    "connection.Connection._refuse": b"nonsense\r\n\r\n",
    "connection.problem_answer": b"nonsense\r\n\r\n",
    "connection.Connection.close": b"",
    "connection.Connection._next": GET + b"\r\n",
    "server.Server.admit": GET + b"\r\n",
}
"""What is called while data comes, by the look at who is slow, and while an answer is written."""


@pytest.mark.parametrize(("method", "sent"), BREAKING.items(), ids=BREAKING)
def test_a_connection_that_breaks_is_cut_and_named_in_one_line(
    web: Serving, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str, sent: bytes
) -> None:
    """A fault of ours costs the one client its connection: no other, and no page in the log."""
    monkeypatch.setattr(f"pulsaga.web.serving.{method}", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(connection, "IDLE_S", 0.1)
    with structlog.testing.capture_logs() as logged, web.connect() as sock, suppress(ConnectionError):
        sock.sendall(sent)
        read_all(sock)
    monkeypatch.undo()
    assert len(logged) == 1
    assert caplog.records == []
    assert statuses(ask(web, GET + b"\r\n")) == [200]


# --- read


def test_chunks_are_joined_and_trailers_left_alone(bff: Room, web: Serving) -> None:
    """Clients that stream a body do not know its length; a trailer must not become a header."""
    body = b"1;x=y\r\n{\r\n11\r\n" + ADA[1:] + b"\r\n0\r\nIdempotency-Key: late\r\n\r\n"
    assert statuses(ask(web, CHUNKED + body)) == [202]
    assert [row["idempotency_key"] for row in bff.rows(acceptance)] == [None]


def test_requests_sent_ahead_are_answered_in_their_order(web: Serving) -> None:
    """A fast answer must not overtake a slow one: the client matches them by their order."""
    paths = (b"/readyz", b"/nothing", b"/livez", b"/commands/x", b"/health")
    answer = ask(web, b"".join(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" for path in paths))
    assert statuses(answer) == [200, 404, 200, 404, 200]


def test_after_a_refusal_nothing_more_is_read(bff: Room, web: Serving) -> None:
    """What follows something unreadable is somebody's guess."""
    answer = ask(web, GET + b"\r\n" + b"nonsense\r\n\r\n" + SMUGGLED)
    assert statuses(answer) == [200, 501]
    assert bff.rows(acceptance) == []


def test_nothing_is_read_after_the_last_request(bff: Room, web: Serving) -> None:
    """`Connection: close` says that no other request comes."""
    assert statuses(ask(web, GET + CLOSE + b"\r\n" + SMUGGLED)) == [200]
    assert bff.rows(acceptance) == []


def test_a_client_that_expects_100_is_told_to_go_on(web: Serving) -> None:
    """curl waits a second for it before it sends a larger body."""
    with web.connect() as sock:
        sock.sendall(POST + CLOSE + b"Expect: 100-continue\r\nContent-Length: 18\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(ADA)
        assert statuses(read_all(sock)) == [202]


def test_a_client_of_http_1_0_is_told_nothing_before_its_answer(web: Serving) -> None:
    """It would take `100` for the answer (RFC 9110 §10.1.1)."""
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\nContent-Length: 18\r\n\r\n"
    assert ask(web, old + ADA).startswith(b"HTTP/1.1 202 ")


def test_a_client_that_expects_100_hears_the_refusal_instead(web: Serving) -> None:
    """That is what it asks for: not to send in vain."""
    with web.connect() as sock:
        sock.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n")
        assert statuses(read_all(sock)) == [413]


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 18\r\n\r\n" + ADA, b"Transfer-Encoding: chunked\r\n\r\n12\r\n" + ADA + b"\r\n0\r\n\r\n"],
)
def test_a_client_that_would_rather_speak_http2_is_served(web: Serving, framing: bytes) -> None:
    """Java's own client asks to upgrade with its first request, body and all."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    assert statuses(ask(web, POST + upgrade + framing)) == [202]
    assert statuses(ask(web, GET + upgrade + b"\r\n")) == [200]


def test_http_1_0_is_answered_and_closed(web: Serving) -> None:
    """Old probes speak it."""
    answer = ask(web, b"GET /livez HTTP/1.0\r\n\r\n" + SMUGGLED)
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer


def test_head_has_the_headers_and_no_body(web: Serving) -> None:
    """A body after HEAD would be read as the next answer."""
    answer = ask(web, GET.replace(b"GET", b"HEAD") + b"\r\n" + GET + b"\r\n")
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: 15" in first
    assert rest.startswith(b"HTTP/1.1 200")


def test_a_target_with_scheme_and_host_is_understood(web: Serving) -> None:
    """RFC 9112 §3.2.2: a server must take it, as proxies send it."""
    for target in (b"http://localhost/livez?a=b", b"HTTP://LOCALHOST:80/livez"):
        assert statuses(ask(web, b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")) == [200]


@pytest.mark.parametrize(
    "host", [b"localhost:3000", b"LOCALHOST", b"localhost:", b"127.0.0.1", b"127.8.9.1:80", b"[::1]:1"]
)
def test_this_machine_has_many_names(web: Serving, host: bytes) -> None:
    """With AUTH=none each of them is answered."""
    assert statuses(ask(web, b"GET /livez HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")) == [200]


def test_a_header_with_an_underscore_is_not_taken_for_another(bff: Room, web: Serving) -> None:
    """WSGI writes both alike, so a proxy that strips the one would let the other pass."""
    headers = b"Idempotency_Key: k\r\nContent-Length: 18\r\n\r\n"
    assert statuses(ask(web, POST + headers + ADA)) == [202]
    assert bff.rows(acceptance)[0]["idempotency_key"] is None


# --- answered


def test_an_app_that_breaks_is_answered_or_cut(bff: Room, web: Serving) -> None:
    """Half an answer must not look like a whole one, and the thread must live on."""
    wsgi = bff.app.wsgi_app
    bff.app.wsgi_app = breaking  # type: ignore[method-assign]
    try:
        assert statuses(ask(web, GET + b"\r\n")) == [500]
        half = ask(web, b"GET /half HTTP/1.1\r\n" + HOST + b"\r\n")
        assert half.endswith(b"\r\n\r\n4\r\nhalf\r\n"), "without the chunk that ends it"
        assert statuses(ask(web, b"GET /short HTTP/1.1\r\n" + HOST + b"\r\n")) == [500]
    finally:
        bff.app.wsgi_app = wsgi  # type: ignore[method-assign]
    assert statuses(ask(web, GET + b"\r\n")) == [200]


def breaking(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    """Break before the answer, in the middle of it, or promise more bytes than come."""
    if environ["PATH_INFO"] == "/livez":
        raise RuntimeError("broken")
    start("200 OK", [("Content-Length", "9")] if environ["PATH_INFO"] == "/short" else [])
    yield b"half"
    if environ["PATH_INFO"] == "/half":
        raise RuntimeError("broken")
