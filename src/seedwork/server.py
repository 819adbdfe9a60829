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
from typing import Protocol

from flask import Flask

from seedwork.connection import Connection
from seedwork.crew import Crew
from seedwork.errors import SettingError
from seedwork.formats import Problem
from seedwork.webapp import HEALTH

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


class Gate(Protocol):
    """Decide over new work; an app has one as `extensions["gate"]` or none."""

    def is_command(self, method: str, path: str) -> bool:
        """Tell whether a request asks for new work."""

    def refusal(self, cookies: str, in_flight: int) -> Problem | None:
        """Return None to let one more in, `in_flight` being in this process already, else what is answered."""


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
        """Take a connection in; when there are too many, the first that came and has nothing at work must go."""
        self.connections[connection] = None
        self._look_later()
        if len(self.connections) > self._room:
            oldest = next(one for one in self.connections if not one.is_busy())  # at worst the new one
            del self.connections[oldest]
            oldest.abort()

    def rank(self, method: str, path: str, cookies: str) -> tuple[int, Problem | None]:
        """Return what a request goes before, and the gate's refusal if there is one."""
        if not self._gate or not self._gate.is_command(method, path):
            return HEALTH_RANK if path in HEALTH else USUAL_RANK, None
        return NEW_WORK_RANK, self._gate.refusal(cookies, self.crew.in_flight(NEW_WORK_RANK))

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
