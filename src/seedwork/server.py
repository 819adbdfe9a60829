"""Serve an app over HTTP/1.1 with waitress: a shared port, slow clients cut, errors as problems, a clean stop.

Health goes before everything else, everything else before new work; a gate may refuse new work before it costs much.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections import deque
from http import HTTPStatus
from typing import Any, Protocol

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask

from seedwork import formats
from seedwork.errors import SettingError
from seedwork.formats import Problem
from seedwork.http import ALWAYS
from seedwork.webapp import HEALTH

THREADS = 64
HEALTH_RANK, USUAL_RANK, NEW_WORK_RANK = range(3)
THREADS_OF_RANK = (THREADS, THREADS - 2, THREADS - 8)
"""Threads that may be at work when a request of each rank begins: what goes before always finds one."""
CONNECTION_LIMIT = 1000
BACKLOG = 1024
CROWD, CROWD_PAUSE_S = 200, 0.002
"""Connections from which on the loop pauses at each turn: a turn asks every one of them, so it must serve many."""
IDLE_S = 10
"""Seconds after which a connection on which nothing moves is closed."""
REQUEST_S = 10
"""Seconds within which a request must have arrived whole, however it drips."""
STOP_S = 3
"""Seconds that running requests get to finish."""
BUFFER_BYTES = 1024 * 1024
"""Largest body that is taken off the wire; the app refuses from BODY_LIMIT_BYTES on."""


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
    server = _server(app, sock)
    server.thread = threading.current_thread()
    threading.Thread(target=_awake, args=(server, stopping), name="http-stop", daemon=True).start()
    try:
        while not stopping.is_set():
            _turn(server, 1.0)
            if len(server._map) > CROWD:
                time.sleep(CROWD_PAUSE_S)
        for action in app.extensions["stopping"]:
            action()
        _drain(server)
    finally:
        wasyncore.close_all(server._map)


def _server(app: Flask, sock: socket.socket) -> Any:
    adjustments = Adjustments(
        sockets=[sock],
        threads=THREADS,
        connection_limit=CONNECTION_LIMIT,
        backlog=BACKLOG,
        channel_timeout=IDLE_S,
        cleanup_interval=1,
        max_request_body_size=BUFFER_BYTES,
        max_request_header_size=16 * 1024,
        asyncore_use_poll=True,
        ident=None,
    )
    info = (sock.family, sock.type, sock.proto, sock.getsockname())
    dispatcher = _Dispatcher()
    dispatcher.set_thread_count(THREADS)
    made = _Server(app, {}, _sock=sock, adj=adjustments, sockinfo=info, bind_socket=False, dispatcher=dispatcher)
    made.gate = app.extensions.get("gate")
    return made


def _awake(server: Any, stopping: threading.Event) -> None:
    stopping.wait()
    server.pull_trigger()


def _turn(server: Any, timeout_s: float) -> None:
    wasyncore.loop(timeout=timeout_s, use_poll=True, map=server._map, count=1)


def _drain(server: Any) -> None:
    deadline = time.monotonic() + STOP_S
    _turn(server, 0)  # who is connected already is still let in
    server.stop_accepting()
    while server.is_busy() and time.monotonic() < deadline:
        _turn(server, 0.05)
    server.task_dispatcher.shutdown(timeout=max(0.0, deadline - time.monotonic()))


class _Parser(HTTPRequestParser):
    """Remember when a request began to arrive."""

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = time.time()


class _Task(WSGITask):
    """Tell the client that the connection ends when the server is about to."""

    channel: Any

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping:
            self.set_close_on_finish()
        return super().build_response_header()


class _ProblemTask(ErrorTask):
    """Answer what never reaches the app (refused by the gate, not HTTP, too large) with a problem too."""

    request: Any
    response_headers: Any

    def execute(self) -> None:
        headers, error = self.request.headers, self.request.error
        face = formats.problem_face(headers.get("ACCEPT", ""), headers.get("CONTENT_TYPE", ""))
        refused = isinstance(error, Problem)
        problem = error if refused else formats.problem_of_status(error.code, str(error.body))
        body = face.write_problem(problem.document)
        self.status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
        headers = {"Content-Type": face.problem_type, **ALWAYS, **problem.headers}
        self.response_headers.extend(headers.items())
        if not refused:
            self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    parser_class = _Parser
    task_class = _Task
    error_task_class = _ProblemTask
    rank = USUAL_RANK
    refused = False
    server: Any

    def handle_read(self) -> None:
        super().handle_read()
        while self.refused:  # answered here and now: a thread would cost more than the answer
            self.refused = False
            self.service()

    def service(self) -> None:
        rank = self.rank  # the next request of this connection may have another
        try:
            super().service()
        finally:
            self.server.task_dispatcher.ended(rank)


class _Dispatcher(ThreadedTaskDispatcher):
    """Hand requests to threads by rank, and keep some threads free for what goes before."""

    lock: Any
    queue_cv: Any

    def __init__(self) -> None:
        super().__init__()
        self.queue: Any = _Ranks()

    def add_task(self, task: Any) -> None:
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()

    def begun(self, rank: int) -> None:
        with self.lock:
            self.queue.running[rank] += 1

    def ended(self, rank: int) -> None:
        with self.lock:
            self.queue.running[rank] -= 1

    def in_flight(self, rank: int) -> int:
        return len(self.queue.waiting[rank]) + int(self.queue.running[rank])


class _Ranks:
    """Queue connections by the rank of their request; used under the dispatcher's lock."""

    def __init__(self) -> None:
        self.waiting: tuple[deque[_Channel], ...] = tuple(deque() for _ in THREADS_OF_RANK)
        self.running = [0 for _ in THREADS_OF_RANK]

    def __len__(self) -> int:
        """Count those that may begin now."""
        free = (limit - sum(self.running) for limit in THREADS_OF_RANK)
        return sum(min(len(queue), max(0, room)) for queue, room in zip(self.waiting, free, strict=True))

    def append(self, channel: _Channel) -> None:
        self.waiting[channel.rank].append(channel)

    def popleft(self) -> _Channel:
        rank = next(rank for rank, queue in enumerate(self.waiting) if queue)
        self.running[rank] += 1
        return self.waiting[rank].popleft()


class _Server(TcpWSGIServer):
    """Cut requests that drip, and stop in two moves: accept no more, then finish."""

    channel_class = _Channel
    active_channels: Any
    task_dispatcher: Any
    gate: Gate | None = None
    thread: threading.Thread
    """Of the loop that reads and writes."""
    stopping = False

    def add_task(self, task: Any) -> None:
        request = task.requests[0]
        task.rank = self._rank(request)
        if isinstance(request.error, Problem) and threading.current_thread() is self.thread:
            self.task_dispatcher.begun(task.rank)
            task.refused = True
        else:
            super().add_task(task)

    def _rank(self, request: Any) -> int:
        if request.error or not self.gate or not self.gate.is_command(request.command, request.path):
            return USUAL_RANK if request.error or request.path not in HEALTH else HEALTH_RANK
        in_flight = self.task_dispatcher.in_flight(NEW_WORK_RANK)
        request.error = self.gate.refusal(request.headers.get("COOKIE", ""), in_flight)
        return USUAL_RANK if request.error else NEW_WORK_RANK

    def maintenance(self, now: Any) -> None:
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            if channel.request is not None and channel.request.began < now - REQUEST_S:
                channel.will_close = True

    def stop_accepting(self) -> None:
        self.stopping = True
        wasyncore.dispatcher.close(self)
        for channel in list(self.active_channels.values()):
            channel.will_close |= not (channel.requests or channel.request or channel.total_outbufs_len)

    def is_busy(self) -> bool:
        return any(c.requests or c.total_outbufs_len for c in list(self.active_channels.values()))
