"""Hold a process's one connection to the embedded broker and bring it back when it breaks.

A thread of its own reads; whoever calls writes. After a reconnect every subscription is opened again, so that a
consumer only notices that messages which it had not acknowledged come once more.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from pulsaga.broker.embedded_wire import ACK, CALL, DONE, HELLO, PUSH, READ_BYTES, Frames, frame
from pulsaga.errors import MessageRejected, ProtoolsError, SchemaIncompatible, Unavailable

CONNECT_S = 1.0
"""How long a call waits for a broker that is away."""
ANSWER_S = 5.0
"""How long a call waits for the answer of a broker that is there."""
RETRY_S = 0.1
REOPEN_S = 1.0
"""Pause before a consumer is opened again that the broker refused after a reconnect."""
LIVE_LIMIT = 10_000
"""Broadcasts kept for a listener that does not receive; the oldest go first."""
ERRORS = {error.__name__: error for error in (MessageRejected, SchemaIncompatible, Unavailable)}

Pushed = tuple[int, str, int, bytes]
"""`(id, topic, schema version, packed)`, as the broker pushes it."""


class Mailbox:
    """Keep what was pushed to one consumer until it is received."""

    def __init__(self, method: str, arguments: Sequence[Any]) -> None:
        self.opening = method, *arguments
        """The call that opens this consumer, but for its number."""
        self._pushed: deque[Pushed] = deque(maxlen=LIVE_LIMIT if method == "listen" else None)
        self._changed = threading.Condition()
        self._trouble: ProtoolsError | None = None

    def put(self, pushed: Iterable[Pushed]) -> None:
        """Add messages and wake whoever waits."""
        with self._changed:
            self._pushed.extend(pushed)
            self._changed.notify()

    def take(self, limit: int, timeout_s: float) -> list[Pushed]:
        """Wait for a first message, then return what is there; raise Unavailable when this consumer is not open."""
        with self._changed:
            self._changed.wait_for(lambda: self._pushed or self._trouble, timeout_s)
            if self._trouble and not self._pushed:
                raise Unavailable(f"this subscription is not open: {self._trouble}")
            return [self._pushed.popleft() for _ in range(min(limit, len(self._pushed)))]

    def clear(self) -> None:
        """Forget what was not received: the connection broke, it will come again."""
        with self._changed:
            self._pushed.clear()

    def tell(self, trouble: ProtoolsError | None) -> None:
        """Tell receivers why nothing will come, or that all is well again."""
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()


class Link:
    """Connect to one broker; thread-safe."""

    def __init__(self, path: Path, namespace: str) -> None:
        self._path, self._namespace = path, namespace
        self._up = threading.Condition(threading.RLock())
        self._socket: socket.socket | None = None
        self._tried, self._closing = threading.Event(), threading.Event()
        self._numbers = itertools.count(1)
        self._calls: dict[int, Future[Any]] = {}
        self._mailboxes: dict[int, Mailbox] = {}
        self._thread = threading.Thread(target=self._run, name="embedded-broker-link", daemon=True)
        self._thread.start()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection at this moment; the very first attempt is waited for."""
        self._tried.wait(CONNECT_S)
        return self._socket is not None

    def call(self, method: str, *arguments: Any, timeout_s: float = ANSWER_S) -> Any:
        """Return the broker's answer; raise what it refuses with, or Unavailable."""
        return self.call_all([(method, *arguments)], timeout_s)[0]

    def call_all(self, calls: Sequence[Sequence[Any]], timeout_s: float = ANSWER_S) -> list[Any]:
        """Send all calls over the same connection, in order, and return all answers."""
        futures = {next(self._numbers): Future[Any]() for _ in calls}
        try:
            with self._up:
                connection = self._wait_up()
                self._calls.update(futures)
                for number, call in zip(futures, calls, strict=True):
                    self._send(connection, frame(CALL, number, *call))
            return [future.result(timeout_s) for future in futures.values()]
        except TimeoutError:
            raise Unavailable(f"the broker at {self._path} did not answer within {timeout_s} s") from None
        finally:
            for number in futures:
                self._calls.pop(number, None)

    def tell(self, *parts: Any) -> None:
        """Send a frame that has no answer; raise Unavailable when it cannot be sent."""
        self._tried.wait(CONNECT_S)
        with self._up:
            if self._socket is None:
                raise self._nobody()
            self._send(self._socket, frame(*parts))

    def open(self, mailbox: Mailbox) -> int:
        """Open a consumer, now and after every reconnect; return its number."""
        number, (method, *arguments) = next(self._numbers), mailbox.opening
        self._mailboxes[number] = mailbox
        try:
            self.call(method, number, *arguments)
        except BaseException:
            self.leave(number)
            raise
        return number

    def acknowledge(self, number: int, ids: Sequence[int]) -> None:
        """Acknowledge, as far as the broker can be reached: what is lost comes again."""
        self._try_to_tell(ACK, number, ids)

    def leave(self, number: int) -> None:
        """Close a consumer; the broker has seen its acknowledgements when this returns, if it is there."""
        mailbox = self._mailboxes.pop(number, None)
        if mailbox is None:
            return
        mailbox.clear()
        mailbox.tell(Unavailable("it was closed"))
        if self.is_up:
            try:
                self.call("leave", number)
            except Unavailable:
                return  # the broker takes everything back when it misses us

    def close(self) -> None:
        """Wait for the calls under way, close the consumers, hang up."""
        wait(list(self._calls.values()), ANSWER_S)
        for number in list(self._mailboxes):
            self.leave(number)
        self._closing.set()
        with self._up:
            self._drop(self._socket)
            self._up.notify_all()
        self._thread.join(ANSWER_S)

    def _try_to_tell(self, *parts: Any) -> None:
        try:
            self.tell(*parts)
        except Unavailable:
            return

    def _wait_up(self) -> socket.socket:
        self._up.wait_for(lambda: self._socket is not None or self._closing.is_set(), CONNECT_S)
        if self._socket is None:
            raise self._nobody()
        return self._socket

    def _nobody(self) -> Unavailable:
        return Unavailable("this connection is closed" if self._closing.is_set() else f"no broker at {self._path}")

    def _send(self, connection: socket.socket, data: bytes) -> None:
        try:
            connection.sendall(data)
        except OSError as error:
            self._drop(connection)
            raise Unavailable(f"the broker at {self._path} does not listen: {error}") from error

    def _drop(self, connection: socket.socket | None) -> None:
        """Give a connection up; the reading thread notices, and cleans up."""
        if connection is not None:
            self._socket = None
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is broken already

    # The reading thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connected = self._connect(connection)
                self._tried.set()
                if connected:
                    self._read(connection)
                    self._lost(connection)
            self._closing.wait(RETRY_S)

    def _connect(self, connection: socket.socket) -> bool:
        # A send to a broker that hangs must end; receiving may take for ever.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(ANSWER_S), 0))
        try:
            connection.connect(str(self._path))
            with self._up:
                self._greet(connection)
                self._socket = connection
                self._up.notify_all()
        except OSError:
            return False
        return True

    def _greet(self, connection: socket.socket) -> None:
        connection.sendall(frame(HELLO, self._namespace))
        for number, mailbox in list(self._mailboxes.items()):
            connection.sendall(_opening(number, mailbox))

    def _read(self, connection: socket.socket) -> None:
        frames = Frames()
        try:
            while data := connection.recv(READ_BYTES):
                for kind, number, *rest in frames.feed(data):
                    self._heard(kind, number, *rest)
        except Exception:
            return  # the connection is of no use any more, whatever the reason

    def _heard(self, kind: int, number: int, *rest: Any) -> None:
        if kind == PUSH:
            self._pushed(number, rest[0])
        elif kind == DONE:
            self._answered(number, rest[0], None)
        else:
            error, text = rest
            self._answered(number, None, ERRORS.get(error, Unavailable)(text))

    def _pushed(self, number: int, messages: list[Pushed]) -> None:
        mailbox = self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.put(messages)
        else:
            self._try_to_tell(CALL, next(self._numbers), "leave", number)  # it was closed while a reconnect reopened it

    def _answered(self, number: int, result: Any, error: ProtoolsError | None) -> None:
        future = self._calls.pop(number, None)
        if future is None:
            self._reopened(number, error)
        elif error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _reopened(self, number: int, error: ProtoolsError | None) -> None:
        mailbox = self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.tell(error)
            if error is not None:
                retry = threading.Timer(REOPEN_S, self._reopen, (number, mailbox))
                retry.daemon = True
                retry.start()

    def _reopen(self, number: int, mailbox: Mailbox) -> None:
        with self._up:
            if self._socket is not None and number in self._mailboxes:
                self._socket.sendall(_opening(number, mailbox))

    def _lost(self, connection: socket.socket) -> None:
        with self._up:
            self._drop(connection)
            for mailbox in self._mailboxes.values():
                mailbox.clear()
            for number in list(self._calls):
                self._answered(number, None, Unavailable(f"the broker at {self._path} has gone"))


def _opening(number: int, mailbox: Mailbox) -> bytes:
    # The answer comes under the consumer's own number, by which it is told from other answers.
    method, *arguments = mailbox.opening
    return frame(CALL, number, method, number, *arguments)
