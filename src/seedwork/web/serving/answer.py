"""Run a WSGI app (PEP 3333) for one request and write its answer in HTTP/1.1; in a thread of the server's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from pulsaga.web import conventions
from pulsaga.web.formats import Problem, problem_of_status
from pulsaga.web.http import ALWAYS, problem_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulsaga.running.runtime import Runtime
    from pulsaga.web.serving.connection import Connection
    from pulsaga.web.serving.request import Request

log = structlog.get_logger()
Headers = list[tuple[str, str]]
PIECE_BYTES = 64 * 1024
"""An answer whose length is known goes out in pieces of at least this."""
WITHOUT_BODY = ("1", "204", "304")
"""What the status of an answer begins with that has no body."""


def answer(app: Callable[..., Iterable[bytes]], request: Request, connection: Connection) -> None:
    """Answer a request, whatever happens."""
    made = _Answer(request, connection)
    with suppress(ConnectionAbortedError):  # nobody listens any more
        try:
            made.write(app)
        except ConnectionAbortedError:
            raise
        except Exception as error:
            log.exception("broken answer", path=request.wsgi["PATH_INFO"], error=str(error))
            made.give_up()


def problem_answer(problem: Problem, environ: Mapping[str, Any], runtime: Runtime, *, close: bool) -> bytes:
    """Return the answer to what never reaches the app, in the caller's format; pages of CORS_ORIGINS may read it."""
    added, origins = tuple(runtime.system.formats), runtime.settings.cors_origins
    chosen = problem_format(environ.get("HTTP_ACCEPT", ""), environ.get("CONTENT_TYPE", ""), added)
    body = chosen.write_problem(problem.document)
    headers = {
        "Content-Type": chosen.problem_type or chosen.media_type,
        "Content-Length": str(len(body)),
        conventions.REQUEST_ID: conventions.request_id(environ.get("HTTP_X_REQUEST_ID", "")),
        **ALWAYS,
        **conventions.for_origin(origins, environ.get("HTTP_ORIGIN", "")),
        **problem.headers,
    }
    status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
    return head(status, headers.items(), close=close) + (b"" if environ.get("REQUEST_METHOD") == "HEAD" else body)


def head(status: str, headers: Iterable[tuple[str, str]], *, close: bool) -> bytes:
    """Return status line and headers."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    ends = "Connection: close\r\n" if close else ""
    return f"HTTP/1.1 {status}\r\n{lines}Date: {_date(int(time.time()))}\r\n{ends}\r\n".encode("latin-1")


@lru_cache(maxsize=1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


class _Answer:
    """Hold what of one answer is not sent yet."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self._request, self._connection = request, connection
        self._status, self._headers = "", Headers()
        self._unsent = bytearray()
        self._left: int | None = None
        """Bytes still to come, when the app said how many."""
        self._has_begun = self._has_sent = self._has_body = self._is_chunked = False

    def write(self, app: Callable[..., Iterable[bytes]]) -> None:
        """Run the app and send what it says: as it comes, or in large pieces when it said how much."""
        pieces = app(self._request.wsgi, self._start)
        try:
            for piece in pieces:
                self._add(piece)
            self._end()
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def give_up(self) -> None:
        """Tell of an error of ours: in an answer, or by cutting the one that has begun."""
        if self._has_sent:
            self._connection.give_up()
            return
        self._request.keep_alive = False
        problem = problem_of_status(500, "this is our fault; it is logged")
        self._connection.send(
            problem_answer(problem, self._request.wsgi, self._connection.runtime, close=True), last=True
        )

    def _start(self, status: str, headers: Headers, _error: Any = None) -> Callable[[bytes], object]:
        self._status, self._headers = status, headers
        return self._add

    def _begin(self) -> None:
        request = self._request
        self._has_begun = True
        self._has_body = request.wsgi["REQUEST_METHOD"] != "HEAD" and not self._status.startswith(WITHOUT_BODY)
        lengths = [int(value) for name, value in self._headers if name.lower() == "content-length"]
        self._left = lengths[0] if lengths else None
        endless = self._has_body and not lengths
        self._is_chunked = endless and request.wsgi["SERVER_PROTOCOL"] == "HTTP/1.1"
        request.keep_alive &= self._is_chunked or not endless
        framing = [("Transfer-Encoding", "chunked")] if self._is_chunked else []
        close = not self._connection.stays(request)
        self._unsent += head(self._status, [*self._headers, *framing], close=close)

    def _add(self, piece: bytes) -> None:
        if not self._has_begun:
            self._begin()
        if not piece or not self._has_body:
            return
        self._unsent += b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece
        if self._left is not None:
            self._left -= len(piece)
        if self._left is None or (self._left and len(self._unsent) >= PIECE_BYTES):  # the last piece needs no thread
            self._send(last=False)

    def _end(self) -> None:
        if not self._has_begun:
            self._begin()
        if self._left and self._has_body:
            raise ValueError(f"{self._left} bytes of what Content-Length promises are missing")
        self._unsent += b"0\r\n\r\n" if self._is_chunked else b""
        self._send(last=True)

    def _send(self, *, last: bool) -> None:
        self._has_sent = True
        piece, self._unsent = bytes(self._unsent), bytearray()
        self._connection.send(piece, last=last)
