"""Serve an app over HTTP/1.1: a shared port, slow clients cut, errors as problems, a clean stop.

One loop reads and writes (`connection`), threads run the app (`crew`). Health goes before everything else, everything
else before new work; a gate may refuse new work before it costs much.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from flask import Flask

from pulsaga.errors import SettingError
from pulsaga.web.formats import Problem
from pulsaga.web.http import PLACE
from pulsaga.web.serving.connection import Connection
from pulsaga.web.serving.crew import Crew
from pulsaga.web.serving.request import Request
from pulsaga.web.webapp import HEALTH

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

THREADS = 64
HEALTH_RANK, USUAL_RANK, NEW_WORK_RANK = range(3)
THREADS_OF_RANK = (THREADS, THREADS - 2, THREADS - 8)
"""Requests that may be at work when one of each rank begins; who waits for something to happen rests (`crew`)."""
CONNECTION_LIMIT, OTHER_FILES = 3000, 124
"""Connections of a process, and what else it has open; a login may usually open 1,024 files, and is let open more."""
BACKLOG = 1024
SEND_BUFFER_BYTES = 64 * 1024
"""Kernel's share of an answer: what a slow reader leaves there is seen by nobody (it would grow to megabytes)."""
LOOK_S = 1.0
"""Seconds between two looks at who is too slow, while anybody is connected."""
STOP_S = 3
"""Seconds that running requests get to finish."""


class Place(Protocol):
    """What new work that was let in takes up until it is settled."""

    def give_back(self) -> None:
        """Hear that the request has ended; where its work was taken, that was said before, and this says nothing."""


class Gate(Protocol):
    """Decide over new work; an app has one as `extensions["gate"]` or none. `in_flight` is in this process already."""

    def is_command(self, endpoint: str) -> bool:
        """Tell whether requests to an endpoint of the app ask for new work."""

    def refusal(self, cookies: str, in_flight: int) -> Problem | None:
        """Return what one more would be answered, None if it would be let in. A head is no work: nothing is counted."""

    def admit(self, cookies: str, in_flight: int) -> Place | Problem:
        """Let one more in that is whole, or return what is answered."""


def serve(app: Flask, host: str, port: int, stopping: threading.Event) -> None:
    """Answer requests until `stopping` is set, then let running ones finish, at most STOP_S seconds.

    Several processes may serve one port. Raise SettingError when the address cannot be had.
    """
    run(app, listen(app.name, host, port), stopping)


def listen(service: str, host: str, port: int) -> socket.socket:
    """Return a listening socket that other processes of ours may share; raise SettingError naming the variable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise SettingError("BIND_HOST", f"{host!r} is no address of this machine: {error.strerror}") from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # handed down to each connection
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _not_to_be_had(service, host, port, error) from None
    return sock


def _not_to_be_had(service: str, host: str, port: int, error: OSError) -> SettingError:
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingError("BIND_HOST", f"{host!r} is no address of this machine")
    reason = "is in use by another program" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
    return SettingError(f"{service.upper()}_PORT", f"port {port} of {host} {reason}")


def run(app: Flask, sock: socket.socket, stopping: threading.Event) -> None:
    """Do what `serve` does, on a socket of `listen`."""
    asyncio.run(Server(app).run(sock, stopping))


def room_for_connections() -> int:
    """Let this process open as many files as that takes and the machine grants; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTION_LIMIT + OTHER_FILES
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < granted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return min(CONNECTION_LIMIT, granted - OTHER_FILES)


def _endpoint(app: Flask, environ: WSGIEnvironment) -> str:
    """Return what the app routes a request to, as the app finds it: a path has many spellings.

    OPTIONS is routed like what it asks about, and asks for nothing else.
    """
    if environ["REQUEST_METHOD"] == "OPTIONS":
        return ""
    try:
        adapter = app.create_url_adapter(app.request_class(environ))
        return adapter.match()[0] if adapter else ""
    except Exception:  # whatever it is, the app answers it without doing anything
        return ""


class Server:
    """Hold the connections of one process; what is said to be called by threads may be, all else is the loop's."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.connections: dict[Connection, None] = {}
        """In the order in which they came."""
        self.stopping = self._is_looking = False
        self._room = room_for_connections()
        self.crew = Crew(THREADS_OF_RANK)
        self._gate: Gate | None = app.extensions.get("gate")
        self._calls: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop

    async def run(self, sock: socket.socket, stopping: threading.Event) -> None:
        """Answer until `stopping` is set, and what is in hand then."""
        self._loop, ended = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._wake_at, args=(stopping, ended), name="http-stop", daemon=True).start()
        listening = await self._loop.create_server(lambda: Connection(self), sock=sock, backlog=BACKLOG)
        await ended.wait()
        self.stopping = True
        for action in self.app.extensions["stopping"]:
            action()
        await asyncio.sleep(0)  # who is connected already is still let in
        listening.close()
        await self._finish()

    def _wake_at(self, stopping: threading.Event, ended: asyncio.Event) -> None:
        stopping.wait()
        self.post(ended.set)

    async def _finish(self) -> None:
        deadline = monotonic() + STOP_S
        while any(one.is_busy() for one in self.connections) and monotonic() < deadline:
            await asyncio.sleep(0.01)
        for one in list(self.connections):
            one.abort() if one.is_busy() else one.close()
        await asyncio.sleep(0)

    def _look_later(self) -> None:
        if self.connections and not self._is_looking:
            self._is_looking = True
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._is_looking, now = False, monotonic()
        for one in list(self.connections):
            one.look(now)
        self._look_later()

    def opened(self, connection: Connection) -> None:
        """Take a connection in; when there are too many, one must go."""
        leaving = (self._least_missed() or connection) if len(self.connections) >= self._room else None
        self.connections[connection] = None
        self._look_later()
        if leaving:
            del self.connections[leaving]
            leaving.abort()

    def _least_missed(self) -> Connection | None:
        """Find who makes room: the oldest that is idle, else that sends a head, else that sends a body."""
        idle = next((one for one in self.connections if one.is_idle()), None)
        sending = [one for one in self.connections if not one.is_busy()] if idle is None else []
        return idle or next((one for one in sending if not one.is_uploading()), None) or next(iter(sending), None)

    def rank(self, environ: WSGIEnvironment) -> tuple[int, Problem | None]:
        """Return what a request goes before, by its head, and the gate's refusal if there is one."""
        if not self._gate or not self._gate.is_command(_endpoint(self.app, environ)):
            return HEALTH_RANK if environ["PATH_INFO"] in HEALTH else USUAL_RANK, None
        return NEW_WORK_RANK, self._gate.refusal(*self._asked(environ))

    def admit(self, request: Request) -> Problem | None:
        """Let a whole request in, to its place (`http.PLACE`) if it is new work; else return the gate's refusal."""
        if not self._gate or request.rank != NEW_WORK_RANK:
            return None
        admitted = self._gate.admit(*self._asked(request.wsgi))
        if isinstance(admitted, Problem):
            return admitted
        request.wsgi[PLACE] = admitted
        return None

    def _asked(self, environ: WSGIEnvironment) -> tuple[str, int]:
        return environ.get("HTTP_COOKIE", ""), self.crew.in_flight(NEW_WORK_RANK)

    def post(self, call: Callable[[], object]) -> None:
        """Have the loop call something; called by threads. Many calls wake the loop once."""
        with self._lock:
            self._calls.append(call)
            is_first = len(self._calls) == 1
        if is_first:
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, []
        for call in calls:
            self._loop.call_soon(call)  # one that fails keeps no other from being done
