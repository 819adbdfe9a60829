"""Speak HTTP/1.1 (RFC 9112) on one connection: read requests whole, answer them in their order, cut who is too slow.

httptools parses and refuses whatever two servers could read in two ways. Requests run in threads (`answer`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from seedwork.answer import answer, problem_answer
from seedwork.crew import resting
from seedwork.formats import Problem, problem_of_status
from seedwork.http import BODY_LIMIT_BYTES

if TYPE_CHECKING:
    from seedwork.server import Server

TARGET_LIMIT_BYTES = 8 * 1024
HEAD_LIMIT_BYTES = 16 * 1024
HEADER_LIMIT = 100
WIRE_LIMIT_BYTES = 1024 * 1024
"""Largest request on the wire: its body may come in many small chunks, with trailers."""
AHEAD = 16
"""Requests of one connection that may wait behind the one at work; who sends more is answered these, then cut."""
IDLE_S = 10
"""Seconds after which a connection without a request is closed."""
REQUEST_S = 10
"""Seconds within which a request must have arrived whole, however it drips."""
ANSWER_S = 10
"""Seconds within which what was written must have left, however slowly it is read."""
LINGER_S = 2
"""Seconds for which a refused client may go on sending: a reset would take the answer from it."""
DROP = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time."""
ONCE = ("HTTP_HOST", "CONTENT_TYPE", "HTTP_AUTHORIZATION")
"""Headers of which a second one would leave open which counts."""


class Request:
    """Hold one request as its WSGI environment (PEP 3333), while it arrives and until it is answered."""

    def __init__(self) -> None:
        self.target, self.body = b"", bytearray()
        self.wsgi: dict[str, Any] = {}
        self.headers = self.head_bytes = self.wire_bytes = 0
        self.has_head = False
        self.rank = 0
        self.problem: Problem | None = None
        self.keep_alive = False


class Connection(asyncio.Protocol):
    """Hold one client's connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.origins = server.app.extensions["runtime"].settings.cors_origins
        self._requests: deque[Request] = deque()
        """Those that arrived whole; the first is at work."""
        self._request: Request | None = None
        """The one that arrives."""
        self._parser = HttpRequestParser(self)
        self._room = threading.Event()
        self._room.set()
        self._is_deaf = self._is_at_end = self._is_full = self._is_lost = False
        self._due = self._unsent_at = float("inf")
        self._transport: asyncio.Transport

    # --- called by the loop

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._ends = _ends(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        self._due = monotonic() + IDLE_S
        self._server.opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go of whoever writes."""
        self._is_lost = True
        self._room.set()
        self._server.connections.pop(self, None)

    def eof_received(self) -> bool:
        """Keep the connection for the answers of who has only stopped sending."""
        self._is_deaf = self._is_at_end = True
        return bool(self._requests)

    def pause_writing(self) -> None:
        """Have the thread wait that writes."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Have it go on."""
        self._is_full = False
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._is_deaf:
            return
        arriving = self._request
        try:
            self._parser.feed_data(data)
            if arriving and arriving is self._request:
                self._count(arriving, len(data))
        except HttpParserUpgrade as upgrade:
            self._stay_in_http1(data[upgrade.args[0] :])
        except HttpParserError as error:
            self._refuse(_problem_of(error))
        except Problem as problem:
            self._refuse(problem)

    def look(self, now: float) -> None:
        """Cut the client if it is too slow; called every LOOK_S seconds."""
        if self._transport.get_write_buffer_size() == 0:
            self._unsent_at = now
        if now - self._unsent_at > ANSWER_S:
            self.abort()
        elif now > self._due and self._request and not self._is_deaf:
            self._refuse(problem_of_status(408, f"the request did not arrive within {REQUEST_S} s"))
        elif now > self._due:
            self.close()

    def is_busy(self) -> bool:
        """Tell whether a request is at work or its answer on the way."""
        return bool(self._requests) or self._transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Close as soon as what was written has left."""
        self._transport.close()

    def abort(self) -> None:
        """Cut, and drop what the kernel still holds for a client that does not read."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROP)
        self._transport.abort()

    # --- called by the parser

    def on_message_begin(self) -> None:
        if len(self._requests) > AHEAD:
            raise problem_of_status(429, f"more than {AHEAD} requests were sent ahead")
        self._request = Request()
        self._due = monotonic() + REQUEST_S

    def on_url(self, part: bytes) -> None:
        request = self._arriving
        request.target += part
        if len(request.target) > TARGET_LIMIT_BYTES:
            raise problem_of_status(414, f"the request target is over {TARGET_LIMIT_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._arriving
        request.headers += 1
        request.head_bytes += len(name) + len(value)
        if request.headers > HEADER_LIMIT or request.head_bytes > HEAD_LIMIT_BYTES:
            raise _head_too_large()
        if not request.has_head:  # a trailer says nothing that we ask for
            _add(request.wsgi, name, value)

    def on_headers_complete(self) -> None:
        request, parser = self._arriving, self._parser
        environ = request.wsgi
        environ |= self._ends
        _begin(environ, parser.get_method().decode(), request.target, parser.get_http_version())
        _check_head(environ)
        request.has_head = True
        request.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        request.rank, request.problem = self._server.rank(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_COOKIE", "")
        )
        if "HTTP_EXPECT" in environ:
            self._tell_to_continue(request)

    def on_body(self, part: bytes) -> None:
        request = self._arriving
        request.body += part
        if len(request.body) > BODY_LIMIT_BYTES:
            raise _body_too_large()

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():  # its body is still to come
            return
        request, self._request = self._arriving, None
        environ = request.wsgi
        if environ.pop("HTTP_TRANSFER_ENCODING", None):
            environ["CONTENT_LENGTH"] = str(len(request.body))
        environ["wsgi.input"] = BytesIO(request.body)
        self._is_deaf = not request.keep_alive
        self._take(request)

    # --- reading

    @property
    def _arriving(self) -> Request:
        assert self._request
        return self._request

    def _count(self, request: Request, more: int) -> None:
        request.wire_bytes += more
        if not request.has_head and request.wire_bytes > HEAD_LIMIT_BYTES:
            raise _head_too_large()
        if request.wire_bytes > WIRE_LIMIT_BYTES:
            raise _body_too_large()

    def _tell_to_continue(self, request: Request) -> None:
        """Answer `Expect: 100-continue` (RFC 9110 §10.1.1): with the refusal, if there is one."""
        if request.problem:
            raise request.problem
        if not self._requests:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _stay_in_http1(self, rest: bytes) -> None:
        """Read the body of a request that asked for another protocol (RFC 9110 §7.8): a parser of its own knows how."""
        environ = self._arriving.wsgi
        framing = "Transfer-Encoding: chunked"
        if "HTTP_TRANSFER_ENCODING" not in environ:
            framing = f"Content-Length: {environ.get('CONTENT_LENGTH', 0)}"
        self._parser = HttpRequestParser(_BodyOnly(self))
        self.data_received(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode() + rest)

    def _refuse(self, problem: Problem) -> None:
        """Answer what cannot be read, after what came before it; then nothing more is read here."""
        request, self._request = self._request or Request(), None
        request.problem, request.keep_alive = problem, False
        self._is_deaf = True
        self._take(request)

    # --- answering

    def _take(self, request: Request) -> None:
        self._requests.append(request)
        self._due = float("inf")
        if len(self._requests) == 1:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        if request.problem:
            close = not self.stays(request)
            self._write(problem_answer(request.problem, request.wsgi, self.origins, close=close), last=True)
        else:
            self._server.crew.do(request.rank, partial(answer, self._server.app, request, self))

    def stays(self, request: Request) -> bool:
        """Tell whether the connection is kept after a request's answer."""
        return request.keep_alive and not self._server.stopping

    def send(self, piece: bytes, *, last: bool) -> None:
        """Write a piece of the answer; called by the thread at work, which rests until what came before has left.

        Raise ConnectionAbortedError when the client is gone.
        """
        if not self._room.is_set():
            with resting():
                self._room.wait()
        if self._is_lost:
            raise ConnectionAbortedError
        if not last:
            self._room.clear()
        self._server.post(partial(self._write, piece, last=last))

    def give_up(self) -> None:
        """Cut, for an answer cannot be finished; called by the thread at work."""
        self._server.post(self.abort)

    def _write(self, piece: bytes, *, last: bool) -> None:
        if self._is_lost:
            return
        if self._transport.get_write_buffer_size() == 0:
            self._unsent_at = monotonic()
        self._transport.write(piece)
        if last:
            self._next(self._requests.popleft())
        elif not self._is_full:
            self._room.set()

    def _next(self, answered: Request) -> None:
        if not self.stays(answered) or (self._is_deaf and not self._requests):
            self._leave()
        elif self._requests:
            self._begin(self._requests[0])
        elif not self._request:
            self._due = monotonic() + IDLE_S

    def _leave(self) -> None:
        self._requests.clear()
        self._is_deaf = True
        self._due = monotonic() + LINGER_S
        if self._is_at_end:
            self.close()
        else:
            with suppress(OSError):  # gone this moment
                self._transport.write_eof()


class _BodyOnly:
    """Hear of a request's body; what came before it is known."""

    def __init__(self, connection: Connection) -> None:
        self.on_body, self.on_message_complete = connection.on_body, connection.on_message_complete


# --- what a head says


def _ends(client: Sequence[Any], server: Sequence[Any]) -> dict[str, Any]:
    """Return what the environment of each request on a connection has in common."""
    return {
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _begin(environ: dict[str, Any], method: str, target: bytes, version: str) -> None:
    path, query = _split(target)
    environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"] = method, f"HTTP/{version}"
    environ["PATH_INFO"], environ["QUERY_STRING"] = unquote_to_bytes(path).decode("latin-1"), query.decode("latin-1")


@lru_cache(maxsize=256)
def _variable(name: bytes) -> str:
    variable = name.decode("latin-1").upper().replace("-", "_")
    return variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"


def _add(environ: dict[str, Any], name: bytes, value: bytes) -> None:
    if b"_" in name:  # it would read like another header's name
        return
    variable = _variable(name)
    if variable not in environ:
        environ[variable] = value.decode("latin-1")
    elif variable in ONCE:
        raise problem_of_status(400, f"there is more than one {name.decode()}")
    else:
        environ[variable] += ("; " if variable == "HTTP_COOKIE" else ", ") + value.decode("latin-1")


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request target (RFC 9112 §3.2)."""
    if not target.startswith(b"/"):
        try:
            parts = urlsplit(target)
        except ValueError:
            raise problem_of_status(400, "the request target is no URL") from None
        return parts.path or b"/", parts.query
    path, _, query = target.partition(b"?")
    return path, query


def _check_head(environ: dict[str, Any]) -> None:
    """Raise the Problem for what is not read here, or could be read in two ways."""
    version, coding = environ["SERVER_PROTOCOL"], environ.get("HTTP_TRANSFER_ENCODING")
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise problem_of_status(505, "HTTP/1.1 is spoken here")
    if version == "HTTP/1.1" and "HTTP_HOST" not in environ:
        raise problem_of_status(400, "there is no Host")
    if coding is not None and version == "HTTP/1.0":
        raise problem_of_status(400, "HTTP/1.0 has no Transfer-Encoding")
    if coding is not None and coding.lower() != "chunked":
        raise problem_of_status(501, "chunked is the one Transfer-Encoding that is read here")
    if environ["REQUEST_METHOD"] == "CONNECT":
        raise problem_of_status(501, "this is no proxy")
    if environ.get("HTTP_EXPECT", "100-continue").lower() != "100-continue":
        raise problem_of_status(417, "100-continue is the one expectation that is known here")
    if int(environ.get("CONTENT_LENGTH", 0)) > BODY_LIMIT_BYTES:
        raise _body_too_large()


# --- what is refused


def _problem_of(error: HttpParserError) -> Problem:
    if isinstance(error, HttpParserCallbackError) and isinstance(error.__context__, Problem):
        return error.__context__
    if isinstance(error, HttpParserInvalidMethodError):
        return problem_of_status(501, "there is no such method")
    return problem_of_status(400, f"this is not HTTP/1.1: {error}")


def _head_too_large() -> Problem:
    return problem_of_status(431, f"the head is over {HEAD_LIMIT_BYTES} bytes or {HEADER_LIMIT} headers")


def _body_too_large() -> Problem:
    return problem_of_status(413, f"the body is over {BODY_LIMIT_BYTES} bytes")
