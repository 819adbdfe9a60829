"""Hold the reader of HTTP/1.1 to one of two ends for any bytes: requests, or the Problem that says what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsaga.web.formats import Problem
from pulsaga.web.serving.request import Reader, Request

LINES = [
    b"GET / HTTP/1.1\r\n", b"POST /passwords HTTP/1.1\r\n", b"GET http://x/ HTTP/1.0\r\n", b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / RTSP/1.0\r\n", b"Host: x\r\n",
    b"Host: \xff\r\n",
    b"Connection: Upgrade\r\n", b"Upgrade: h2c\r\n", b"Upgrade: websocket\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Content-Length: 5\r\n", b"Content-Length: 70000\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Cookie: a=\"\r\n",
    b"\r\n", b"\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"18000\r\n" + b" " * 0x18000 + b"\r\n",
    b"hello",
]  # fmt: skip
PIECES = st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=8)), max_size=14)


class Heard:
    """Keep the requests that were whole; break where a test says so."""

    def __init__(self, breaking: str = "") -> None:
        self.whole: list[Request] = []
        self._breaking = breaking

    def begins(self) -> None:
        self._maybe_break("begins")

    def has_head(self, _request: Request) -> None:
        self._maybe_break("has_head")

    def is_whole(self, request: Request) -> None:
        self._maybe_break("is_whole")
        self.whole.append(request)

    def _maybe_break(self, name: str) -> None:
        if self._breaking == name:
            raise RuntimeError("broken")


def read(pieces: list[bytes], heard: Heard) -> Problem | None:
    """Feed pieces until one is refused, as a connection does."""
    reader = Reader(heard, ("127.0.0.1", 1), ("127.0.0.1", 2))
    try:
        for piece in pieces:
            reader.feed(piece)
    except Problem as problem:
        return problem
    return None


@given(PIECES, st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_requests_or_a_problem(pieces: list[bytes], at_once: bool) -> None:
    """Any other exception leaves a client without an answer, and a page in the log."""
    heard = Heard()
    problem = read([b"".join(pieces)] if at_once else pieces, heard)
    assert problem is None or 400 <= problem.status < 600
    assert all(request.wsgi["wsgi.input"].read() == request.body for request in heard.whole)


@pytest.mark.parametrize("breaking", ["begins", "has_head", "is_whole"])
@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_whatever_the_listener_raises_is_a_problem_too(breaking: str, upgrade: bytes) -> None:
    """The loop around what strangers send blames the one request, whatever it was that broke."""
    problem = read([b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n"], Heard(breaking))
    assert problem is not None
    assert problem.status == 400


UPGRADE = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize(
    "behind", [b"", b"\x00", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", UPGRADE + b"\r\n", b"0\r\n\r\n"]
)
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_follows_a_wish_to_upgrade_is_one_request(framing: bytes, behind: bytes, size: int) -> None:
    """Its body is read as any other's, however it is cut; what lies behind it is nobody's."""
    heard, sent = Heard(), UPGRADE + framing + behind
    read([sent[at : at + size] for at in range(0, len(sent), size)], heard)
    assert [bytes(request.body) for request in heard.whole] == [b"hello"]
    assert not heard.whole[0].keep_alive


def test_too_large_a_body_behind_a_wish_to_upgrade_is_too_large() -> None:
    """The refusal that the body's reader raised was lost in another exception."""
    large = b"".join(b"8000\r\n" + b" " * 0x8000 + b"\r\n" for _ in range(3))
    problem = read([UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n" + large + b"0\r\n\r\nGET /"], Heard())
    assert problem is not None
    assert problem.status == 413


@pytest.mark.parametrize("line", [b"GET / RTSP/1.0\r\n", b"SOURCE / ICE/1.0\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_another_protocol_is_refused_however_it_drips(line: bytes, size: int) -> None:
    """A byte a packet hid it from who looks at the last packets alone."""
    sent = line + b"Host: x\r\n\r\n"
    problem = read([sent[at : at + size] for at in range(0, len(sent), size)], heard := Heard())
    assert problem
    assert (problem.status, heard.whole) == (505, [])


def test_spaces_behind_a_value_are_no_part_of_it() -> None:
    """RFC 9110 §5.5; a Host with one was refused as none, and a bearer as malformed."""
    head = b"POST / HTTP/1.1\r\nHost: x \r\nAuthorization: Bearer t\t \r\nTransfer-Encoding: chunked \r\n\r\n"
    assert read([head + b"1\r\nx\r\n0\r\n\r\n"], heard := Heard()) is None
    (request,) = heard.whole
    assert (request.wsgi["HTTP_HOST"], request.wsgi["HTTP_AUTHORIZATION"]) == ("x", "Bearer t")
    assert request.wsgi["wsgi.input"].read() == b"x"
