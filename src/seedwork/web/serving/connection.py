"""Keep one client's connection: answer its requests in their order, cut it when it is too slow.

Requests are read by `request` and run in threads by `answer`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from pulsaga.web.formats import Problem, problem_of_status
from pulsaga.web.http import CLIENT, PLACE
from pulsaga.web.serving.answer import answer, problem_answer
from pulsaga.web.serving.crew import Client, resting
from pulsaga.web.serving.request import Reader, Request

if TYPE_CHECKING:
    from pulsaga.running.runtime import Runtime
    from pulsaga.web.serving.server import Server

log = structlog.get_logger()
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


def _cutting(call: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method cut its own connection when it fails; the loop would write a page to the log, each time."""

    @wraps(call)
    def done(self: Connection, *given: Any, **named: Any) -> Any:
        try:
            return call(self, *given, **named)
        except Exception as error:
            log.error("broken connection", error=repr(error))
            self._transport.abort()

    return done


class Connection(asyncio.Protocol):
    """Hold one client's connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.runtime: Runtime = server.app.extensions["runtime"]
        self._requests: deque[Request] = deque()
        """Those that arrived whole; the first is at work."""
        self._room = threading.Event()
        """Set while another piece of the answer may be written."""
        self._room.set()
        self._is_deaf = self._is_at_end = self._is_full = self._is_lost = False
        self._is_held = False
        """Whether the first request begins as soon as what was written has left."""
        self._client = Client()
        self._due = float("inf")
        """When the client must have sent something."""
        self._unsent_at = float("inf")
        """When nothing was left to be sent."""
        self._transport: asyncio.Transport
        self._reader: Reader

    # --- called by the loop

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._reader = Reader(self, transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        self._due = monotonic() + IDLE_S
        self._server.opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go of whoever writes or waits."""
        self._server.connections.pop(self, None)
        self._is_lost = True
        self._client.leave()
        self._room.set()

    @_cutting
    def eof_received(self) -> bool:
        """Keep the connection for the answers of who has only stopped sending; nobody waits for what is to come.

        Who has left and who only sends nothing more look the same until something is written.
        """
        self._client.leave()
        self._is_deaf = self._is_at_end = True
        return bool(self._requests)

    def pause_writing(self) -> None:
        """Have the thread wait that writes."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Have it go on, or the next request begin."""
        self._is_full = False
        self._room.set()
        if self._is_held:
            self._is_held = False
            self._begin(self._requests[0])

    @_cutting
    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._is_deaf:
            return
        try:
            self._reader.feed(data)
        except Problem as problem:
            if not self._is_deaf:  # else it lies behind the last request
                self._refuse(problem)

    @_cutting
    def look(self, now: float) -> None:
        """Cut the client if it is too slow; called every LOOK_S seconds."""
        if self._transport.get_write_buffer_size() == 0:
            self._unsent_at = now
        if now - self._unsent_at > ANSWER_S:
            self.abort()
        elif now > self._due and self._reader.arriving and not self._is_deaf:
            self._refuse(problem_of_status(408, f"the request did not arrive within {REQUEST_S} s"))
        elif now > self._due:
            self.close()

    def is_busy(self) -> bool:
        """Tell whether a request is at work or its answer on the way."""
        return bool(self._requests) or self._transport.get_write_buffer_size() > 0

    def is_idle(self) -> bool:
        """Tell whether nothing is at work, on the way or arriving."""
        return not self.is_busy() and self._reader.arriving is None

    def is_uploading(self) -> bool:
        """Tell whether a body is arriving."""
        return self._reader.arriving is not None and self._reader.arriving.has_head

    def close(self) -> None:
        """Close as soon as what was written has left."""
        self._transport.close()

    def abort(self) -> None:
        """Cut, and drop what the kernel still holds for a client that does not read."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROP)
        self._transport.abort()

    # --- called by the reader

    def begins(self) -> None:
        """Give the request its time, unless too many wait already."""
        if len(self._requests) > AHEAD:
            raise problem_of_status(429, f"more than {AHEAD} requests were sent ahead")
        self._due = monotonic() + REQUEST_S

    def has_head(self, request: Request) -> None:
        """Ask whether it may come in, and answer `Expect: 100-continue` (RFC 9110 §10.1.1)."""
        said = request.wsgi
        said[CLIENT] = self._client
        request.rank, request.problem = self._server.rank(said)
        if "HTTP_EXPECT" in said and request.problem:
            raise request.problem
        if "HTTP_EXPECT" in said and not self._requests:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def is_whole(self, request: Request) -> None:
        """Have it answered when its turn comes."""
        self._is_deaf = not request.keep_alive
        self._requests.append(request)
        self._due = float("inf")
        if len(self._requests) == 1:
            self._begin(request)

    def _refuse(self, problem: Problem) -> None:
        """Answer what cannot be read, after what came before it; then nothing more is read here."""
        request, self._reader.arriving = self._reader.arriving or Request(), None
        request.problem, request.keep_alive = problem, False
        self.is_whole(request)

    # --- answering

    @_cutting
    def _begin(self, request: Request) -> None:
        self._is_held = self._is_full
        if self._is_held:  # who sends without reading would have us hold one answer more for each
            return
        if problem := request.problem or self._server.admit(request):
            close = not self.stays(request)
            self._write(problem_answer(problem, request.wsgi, self.runtime, close=close), last=True)
        else:
            self._server.crew.do(request.rank, partial(self._answer, request))

    def _answer(self, request: Request) -> None:
        """Run the app, in a thread; whatever comes of it, what was let in is settled."""
        try:
            answer(self._server.app, request, self)
        finally:
            if PLACE in request.wsgi:
                request.wsgi[PLACE].give_back()

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
        """Close in the middle of an answer that cannot be finished; called by the thread at work."""
        self._server.post(self.close)

    @_cutting
    def _write(self, piece: bytes, *, last: bool) -> None:
        if self._is_lost:
            self._room.set()  # it may have been lost between the thread's look and its next wait
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
        elif not self._reader.arriving:
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
