"""Run the embedded broker: one process, one Unix socket, one SQLite file. For one machine.

What arrives in one turn of the event loop is committed once (group commit); only then is anything confirmed or pushed.
A consumer whose socket closes gives everything it held back to the others in the same turn.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from pulsaga.broker.embedded_feed import Consumer, Feed, Given
from pulsaga.broker.embedded_registry import METHODS, known_topic, writable_topic
from pulsaga.broker.embedded_store import Message, Store
from pulsaga.broker.embedded_wire import ACK, BROADCAST, CALL, DONE, HELLO, PUSH, REFUSED, Frames, frame
from pulsaga.errors import ProtoolsError, Unavailable
from pulsaga.text import DETAIL_CHARACTERS, printable

log = structlog.get_logger()
ACK_DELAY_S = 0.01
"""Acknowledgements wait this long for a message to share its commit; losing them means a redelivery."""
RETRY_S = 1.0
"""Pause before acknowledgements are written again that could not be written."""
LISTENER_BYTES = 16 * 1024 * 1024
"""What may wait for a listener that does not read; beyond it broadcasts pass it by."""

Call = tuple["Connection", int, str, list[Any]]


class Connection(asyncio.Protocol):
    """Hold what the broker knows of one client process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self.namespace = ""
        self.consumers: dict[int, Consumer] = {}
        self.listening: dict[int, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take frames; send away whoever speaks something else."""
        try:
            for kind, *parts in self._frames.feed(data):
                SAID[kind](self._server, self, *parts)
        except Exception as error:  # whatever a client says, it is sent away alone
            log.warning("sent a client away", error=printable(f"{type(error).__name__}: {error}", DETAIL_CHARACTERS))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio fixes the signature
        """Give back what this client held."""
        self._transport = None
        self._server.connections.discard(self)
        for number in [*self.consumers, *self.listening]:
            self._server.leave(self, number)

    def send(self, data: bytes) -> None:
        """Send a frame, without waiting until it is read."""
        if self._transport is not None:
            self._transport.write(data)

    def push(self, number: int, given: Sequence[Given]) -> None:
        """Push messages to one consumer of this client."""
        self.send(frame(PUSH, number, [(m.id, feed.topic, m.version, m.packed) for feed, m in given]))

    def whisper(self, topic: str, packed: bytes) -> None:
        """Pass a broadcast on to this client's listeners, unless it has stopped reading."""
        if self._transport is not None and self._transport.get_write_buffer_size() < LISTENER_BYTES:
            for number in [number for number, heard in self.listening.items() if heard == topic]:
                self.send(frame(PUSH, number, [(0, topic, 0, packed)]))

    def close(self) -> None:
        """Hang up after what was sent."""
        if self._transport is not None:
            self._transport.close()


class Server:
    """Collect what clients say and settle it turn by turn."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.connections: set[Connection] = set()
        self._calls: list[Call] = []
        self._acks: list[tuple[int, int]] = []
        self._feeds: defaultdict[int, dict[object, Feed]] = defaultdict(dict)
        self._dirty: dict[Feed, None] = {}
        self._committed: list[Callable[[], None]] = []
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    def greet(self, connection: Connection, namespace: str) -> None:
        """Note in which namespace a client works."""
        connection.namespace = namespace

    def call(self, connection: Connection, number: int, method: str, *arguments: Any) -> None:
        """Answer at the end of this turn."""
        self._calls.append((connection, number, method, list(arguments)))
        self._settle_within(0)

    def acknowledge(self, connection: Connection, number: int, ids: Sequence[int]) -> None:
        """Let a consumer's messages go; what it does not hold any more will come to somebody again."""
        consumer = connection.consumers.get(number)
        if consumer is None:
            return
        let_go = [found for identifier in ids if (found := consumer.acknowledge(identifier))]
        self._acks += [(feed.subscription, m.id) for feed, m in let_go if feed.subscription is not None]
        consumer.resume()
        self._dirty.update(dict.fromkeys(consumer.feeds))
        self._settle_within(0 if any(feed.has_work for feed in consumer.feeds) else ACK_DELAY_S)

    def broadcast(self, speaker: Connection, topic: str, packed: bytes) -> None:
        """Pass on to whoever listens now."""
        for connection in self.connections:
            if connection.namespace == speaker.namespace:
                connection.whisper(topic, packed)

    def leave(self, connection: Connection, number: int) -> None:
        """Take a consumer out; the others get what it held, in this turn."""
        connection.listening.pop(number, None)
        consumer = connection.consumers.pop(number, None)
        if consumer is not None:
            consumer.leave()
            self._dirty.update(dict.fromkeys(consumer.feeds))
            for feeds in self._feeds.values():
                for key in [key for key, feed in feeds.items() if not feed.consumers]:
                    del feeds[key]
            self._settle_within(0)

    def settle(self) -> None:
        """End a turn: commit what has arrived, answer it, hand out what is new."""
        self._timer = None
        self._turn += 1
        calls, self._calls = self._calls, []
        answers = self._commit(calls)
        committed, self._committed = self._committed, []
        for effect in committed:
            effect()
        for connection, answer in answers:
            connection.send(answer)
        self._hand_out()

    def _settle_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() > loop.time() + seconds:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_later(seconds, self.settle)

    def _commit(self, calls: Sequence[Call]) -> list[tuple[Connection, bytes]]:
        try:
            self._store.begin()
            answers = [(call[0], self._answer(*call)) for call in calls]
            self._store.acknowledge(self._acks)
            self._store.commit()
        except Exception as error:  # whatever it is: nobody may be told that anything was stored
            if len(calls) > 1:  # one of them may be to blame
                self._store.rollback()
                self._committed.clear()
                return [answer for call in calls for answer in self._commit([call])]
            return self._undo(calls, error)
        self._acks.clear()
        return answers

    def _undo(self, calls: Sequence[Call], error: Exception) -> list[tuple[Connection, bytes]]:
        self._store.rollback()
        self._committed.clear()
        self._settle_within(RETRY_S)
        note = partial(log.error, "nothing was stored", calls=len(calls), error=f"{type(error).__name__}: {error}")
        asyncio.get_running_loop().call_soon(note)  # afterwards: on a full disk the log may fail as well
        refusal = Unavailable.__name__, f"the broker cannot store anything: {error}"
        return [(connection, frame(REFUSED, number, *refusal)) for connection, number, *_ in calls]

    def _answer(self, connection: Connection, number: int, method: str, arguments: Sequence[Any]) -> bytes:
        try:
            if live := LIVE.get(method):
                return frame(DONE, number, live(self, connection, *arguments))
            return frame(DONE, number, METHODS[method](self._store, connection.namespace, *arguments))
        except ProtoolsError as error:
            return frame(REFUSED, number, type(error).__name__, str(error))

    def _publish(self, connection: Connection, entries: Sequence[tuple[str, int, str, bytes]]) -> None:
        contents: defaultdict[tuple[str, int], list[tuple[str, int, bytes]]] = defaultdict(list)
        for topic, version, key, packed in entries:
            contents[topic, version].append((key, version, packed))
        topics = {pair: writable_topic(self._store, connection.namespace, *pair) for pair in contents}
        for pair, rows in contents.items():
            messages = self._store.add(topics[pair], rows)
            self._committed.append(partial(self._arrived, topics[pair], messages))

    def _arrived(self, topic: int, messages: Sequence[Message]) -> None:
        for feed in self._feeds[topic].values():
            feed.arrived(messages)
            self._dirty[feed] = None

    def _subscribe(self, connection: Connection, number: int, name: str, topics: Sequence[str]) -> None:
        parts = []
        for topic in topics:
            found = known_topic(self._store, connection.namespace, topic)
            subscription = self._store.subscription(found, name)
            load = partial(self._store.owed, subscription)
            parts.append((found, subscription, partial(Feed, topic, load, subscription=subscription)))
        self._committed.append(partial(self._join, connection, number, parts))

    def _browse(self, connection: Connection, number: int, topics: Sequence[str], earliest: bool) -> None:
        after = 0 if earliest else self._store.last_id
        parts = []
        for topic in topics:
            found = known_topic(self._store, connection.namespace, topic)
            load = partial(self._store.stored, found)
            parts.append((found, (connection, number), partial(Feed, topic, load, subscription=None, after=after)))
        self._committed.append(partial(self._join, connection, number, parts))

    def _join(
        self, connection: Connection, number: int, parts: Sequence[tuple[int, object, Callable[[], Feed]]]
    ) -> None:
        if number in connection.consumers or connection not in self.connections:
            return
        consumer = connection.consumers[number] = Consumer(partial(connection.push, number))
        for topic, key, make in parts:
            feed = self._feeds[topic].get(key) or self._feeds[topic].setdefault(key, make())
            feed.join(consumer)
            self._dirty[feed] = None

    def _listen(self, connection: Connection, number: int, topic: str) -> None:
        connection.listening[number] = topic

    def _owed(self, connection: Connection) -> list[tuple[str, str, int, int]]:
        counted = self._store.counted(connection.namespace)
        return [(topic, name, count, self._consumers(*ids)) for topic, name, count, *ids in counted]

    def _consumers(self, topic: int, subscription: int) -> int:
        feed = self._feeds[topic].get(subscription) if topic in self._feeds else None
        return len(feed.consumers) if feed else 0

    def _hand_out(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for feed in sorted(dirty, key=lambda feed: feed.served):
            if feed.consumers and feed.hand_out():
                feed.served = self._turn
        for consumer in {consumer for feed in dirty for consumer in feed.consumers}:
            consumer.flush()


SAID: dict[int, Callable[..., None]] = {
    HELLO: Server.greet,
    CALL: Server.call,
    ACK: Server.acknowledge,
    BROADCAST: Server.broadcast,
}
"""What a client may say, by kind of frame."""
LIVE: dict[str, Callable[..., Any]] = {
    "publish": Server._publish,
    "subscribe": Server._subscribe,
    "browse": Server._browse,
    "listen": Server._listen,
    "leave": Server.leave,
    "owed": Server._owed,
}
"""Calls that concern connected consumers; all others are in the registry."""


def serve(socket_path: Path, database_path: Path) -> None:
    """Serve until SIGTERM or SIGINT; raise ProtoolsError when another broker has this socket or file."""
    os.umask(0o077)
    with _alone(socket_path), _alone(database_path), closing(Store(database_path)) as store:
        asyncio.run(_listen(store, socket_path))


async def _listen(store: Store, socket_path: Path) -> None:
    server, stopping, loop = Server(store), asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # asyncio replaces a socket file that is there; the lock says that its broker is dead
    door = await loop.create_unix_server(partial(Connection, server), str(socket_path))
    log.info("embedded broker ready", socket=str(socket_path))
    await stopping.wait()
    door.close()
    server.settle()
    for connection in list(server.connections):
        connection.close()
    await asyncio.sleep(0)  # connections end in the loop's next turn
    socket_path.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProtoolsError(f"another embedded broker is running on {path}") from None
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; exit 1 with the reason when that is impossible."""
    parser = argparse.ArgumentParser(prog="python -m pulsaga.broker.embedded_server", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file to keep everything in")
    given = parser.parse_args(arguments)
    try:
        serve(given.socket, given.database)
    except (ProtoolsError, OSError, sqlite3.Error) as error:
        sys.exit(f"embedded broker: {error}")


if __name__ == "__main__":
    main()
