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
import stat
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from seedwork.broker.compatibility import check_compatible, same_schema
from seedwork.broker.embedded_feed import Consumer, Feed
from seedwork.broker.embedded_store import Message, Store
from seedwork.broker.embedded_wire import ACK, BROADCAST, CALL, DONE, HELLO, PUSH, REFUSED, Frames, frame
from seedwork.errors import ProtoolsError, SchemaIncompatible, Unavailable

log = structlog.get_logger()
ACK_DELAY_S = 0.01
"""Acknowledgements alone wait this long for a message to share its commit; losing them means a redelivery."""
LISTENER_BYTES = 16 * 1024 * 1024
"""What may wait for a listener that does not read; beyond it broadcasts pass it by."""


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
        """Take frames; close on whoever speaks something else."""
        try:
            for kind, *parts in self._frames.feed(data):
                HANDLERS[kind](self._server, self, *parts)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("a client was sent away", error=f"{type(error).__name__}: {error}")
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Give back what this client held."""
        self._transport = None
        self._server.connections.discard(self)
        for number in [*self.consumers, *self.listening]:
            self._server.leave(self, number)

    def send(self, data: bytes) -> None:
        """Send a frame, without waiting for it to be read."""
        if self._transport is not None:
            self._transport.write(data)

    def is_behind(self) -> bool:
        """Tell whether much of what was sent has not been read."""
        return self._transport is not None and self._transport.get_write_buffer_size() > LISTENER_BYTES

    def close(self) -> None:
        """Hang up after what was sent."""
        if self._transport is not None:
            self._transport.close()


Call = tuple[Connection, int, str, list[Any]]


class Server:
    """Collect what arrives and settle it turn by turn."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.connections: set[Connection] = set()
        self._calls: list[Call] = []
        self._acks: list[tuple[int, int]] = []
        self._published: defaultdict[int, list[Message]] = defaultdict(list)
        self._joining: list[tuple[Connection, int, Consumer, int, Feed]] = []
        self._feeds: defaultdict[int, dict[object, Feed]] = defaultdict(dict)
        self._busy: dict[Consumer, tuple[Connection, int]] = {}
        self._turn = 0
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None

    # What arrives between two turns.

    def greet(self, connection: Connection, namespace: str) -> None:
        """Note in which namespace a client works."""
        connection.namespace = namespace

    def call(self, connection: Connection, number: int, method: str, *arguments: Any) -> None:
        """Answer in the next turn."""
        self._calls.append((connection, number, method, list(arguments)))
        self._settle_soon()

    def acknowledge(self, connection: Connection, number: int, ids: Sequence[int]) -> None:
        """Let a consumer's messages go; what it does not hold any more will come to somebody again."""
        consumer = connection.consumers.get(number)
        if consumer is None:
            return
        let_go = [found for identifier in ids if (found := consumer.acknowledge(identifier))]
        self._acks += [(feed.subscription, m.id) for feed, m in let_go if feed.subscription is not None]
        self._busy[consumer] = connection, number
        if consumer.parked or any(feed.has_work for feed in consumer.feeds):
            self._settle_soon()
        else:
            self._settle_later()

    def broadcast(self, speaker: Connection, topic: str, packed: bytes) -> None:
        """Pass on to whoever listens now."""
        for connection in self.connections:
            if connection.namespace == speaker.namespace and not connection.is_behind():
                for number, heard in connection.listening.items():
                    if heard == topic:
                        connection.send(frame(PUSH, number, [(0, topic, 0, packed)]))

    def leave(self, connection: Connection, number: int) -> None:
        """Take a consumer out; the others get what it held."""
        connection.listening.pop(number, None)
        consumer = connection.consumers.pop(number, None)
        if consumer is None:
            return
        self._busy.pop(consumer, None)
        for feed in consumer.feeds:
            feed.leave(consumer)
        self._settle_soon()

    # One turn.

    def settle(self) -> None:
        """Commit what has arrived, answer it, hand out what is new."""
        self._soon = self._cancel(self._soon)
        self._later = self._cancel(self._later)
        calls, self._calls = self._calls, []
        for connection, answer in self._commit(calls):
            connection.send(answer)
        self._join()
        self._hand_out()

    def _commit(self, calls: Sequence[Call]) -> list[tuple[Connection, bytes]]:
        try:
            self._store.begin()
            answers = [(connection, self._answer(connection, *call)) for connection, *call in calls]
            self._store.acknowledge(self._acks)
            self._store.commit()
        except Exception as error:  # whatever it is: nobody may be told that anything was stored
            return self._undo(calls, error)
        self._acks.clear()
        return answers
