"""Give the floor its parts: a Pulsar client, Avro and CloudEvents, rows as arrays."""

from __future__ import annotations

import io
import json
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import _pulsar
import fastavro
import msgpack
import pulsar

from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.settings import Role, Settings, Side
from pulsaga.web.access.callers import NOBODY

Wire = tuple[str, str, dict[str, str], bytes]
"""Topic, saga id, properties, Avro bytes."""

ISSUE, MOVED = "protools_saga.issue-password", "protools_saga.saga-moved"
GENERATE, GENERATED = "generador.generate-password", "generador.password-generated"
SEND, SENT = "correo.send-password-mail", "correo.password-mail-sent"
TOLD = "bff.commands-changed"
SWEEP_S = 5.0
THERE_S = 0.0003
"""A receive that took less had not to wait: more is there."""
CLOCK = "extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True)
class Options:
    """Say how the floor runs: with its read side or without, ordering buckets, messages a batch."""

    read_side: bool = True
    buckets: int = 8
    batch: int = 1000


# --- the broker


class Channel:
    """Hold the one Pulsar client of a process and its producers."""

    def __init__(self, settings: Settings, options: Options) -> None:
        quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
        self._client = pulsar.Client(settings.broker_url, stats_interval_in_seconds=0, logger=quiet)
        self._prefix = f"persistent://protools/{settings.namespace}/"
        self._live = f"non-persistent://protools/{settings.namespace}-live/{TOLD}"
        self._buckets = [str(bucket) for bucket in range(options.buckets)]
        self._producers: dict[str, Any] = {}
        self._teller = self._client.create_producer(self._live)

    def _producer(self, topic: str) -> Any:
        if topic not in self._producers:
            producer = self._client.create_producer(
                self._prefix + topic,
                schema=pulsar.schema.AvroSchema(None, schema_definition=json.loads(SCHEMA_TEXTS[_dataschema(topic)])),
                batching_enabled=True,
                batching_type=pulsar.BatchingType.KeyBased,
                batching_max_messages=1000,
                batching_max_allowed_size_in_bytes=1024 * 1024,
                batching_max_publish_delay_ms=1,
                block_if_queue_full=True,
                max_pending_messages=5000,
            )
            self._producers[topic] = producer._producer
        return self._producers[topic]

    def publish(self, wires: Iterable[Wire]) -> None:
        """Send all, wait once for each topic; anything but Ok is an error."""
        outcomes: dict[Any, Any] = {}
        used = {}
        buckets, note = self._buckets, outcomes.setdefault
        for topic, saga_id, properties, body in wires:
            producer = used[topic] = self._producer(topic)
            message = _pulsar.MessageBuilder()
            message.content(body)
            for name, value in properties.items():
                message.property(name, value)
            message.partition_key(saga_id)
            message.ordering_key(buckets[zlib.crc32(saga_id.encode()) % len(buckets)])
            producer.send_async(message.build(), note)
        for producer in used.values():
            producer.flush()
        if outcomes.keys() - {pulsar.Result.Ok}:
            raise RuntimeError(f"the broker did not confirm: {outcomes}")

    def tell(self, ids: Iterable[str]) -> None:
        """Broadcast the ids of a committed batch."""
        self._teller.send_async("\n".join(ids).encode(), {}.setdefault)

    def subscribe(self, name: str, topics: Sequence[str]) -> Any:
        """Share a durable subscription; return the raw consumer."""
        return self._client.subscribe(
            [self._prefix + topic for topic in topics],
            name,
            consumer_type=pulsar.ConsumerType.KeyShared,
            schema=pulsar.schema.BytesSchema(),
            initial_position=pulsar.InitialPosition.Earliest,
            receiver_queue_size=2000,
            batch_index_ack_enabled=True,
        )._consumer

    def close(self) -> None:
        """Leave the broker."""
        self._client.close()

    def listen(self) -> Any:
        """Hear the broadcasts."""
        return self._client.subscribe(self._live, f"floor-{new_id()}")._consumer


def receive(consumer: Any, limit: int) -> list[Any]:
    """Wait a second for the first message; take what else is there when that one was there already."""
    began = time.perf_counter()
    try:
        taken = [consumer.receive(1000)]
    except pulsar.Timeout:
        return []
    if time.perf_counter() - began < THERE_S:
        with suppress(pulsar.Timeout):
            while len(taken) < limit:
                taken.append(consumer.receive(0))
    return taken


# --- messages

ACTOR = NOBODY.subject
SCHEMA_TEXTS = CommittedSchemas()
SCHEMAS: dict[str, Any] = {}


def _dataschema(topic: str) -> str:
    return f"urn:protools:schema:{topic}:1"


def _schema(topic: str) -> Any:
    if topic not in SCHEMAS:
        SCHEMAS[topic] = fastavro.parse_schema(json.loads(SCHEMA_TEXTS[_dataschema(topic)]))
    return SCHEMAS[topic]


def encode(topic: str, body: dict[str, Any]) -> bytes:
    """Write a body in Avro."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, _schema(topic), body)
    return buffer.getvalue()


def decode(topic: str, data: bytes) -> dict[str, Any]:
    """Read a body."""
    return cast(dict[str, Any], fastavro.schemaless_reader(io.BytesIO(data), _schema(topic), None))


def envelope(topic: str, identifier: str, source: str, subject: str, at: str, saga_id: str) -> dict[str, str]:
    """Write the CloudEvents properties that every message has."""
    return {
        "ce_id": identifier,
        "ce_source": source,
        "ce_type": topic,
        "ce_specversion": "1.0",
        "ce_time": at,
        "ce_subject": subject,
        "ce_dataschema": _dataschema(topic),
        "content-type": "application/avro",
        "ce_correlationid": saga_id,
        "ce_actor": ACTOR,
    }


def rfc3339(at: float) -> str:
    """Write Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- the databases


def connect(settings: Settings, service: str, side: Side, role: Role) -> Any:
    """Open a connection as Protools does, on which BEGIN and COMMIT are said by us."""
    lent = open_database(settings, service, side, role).raw_connection()
    connection: Any = lent.driver_connection
    lent.detach()
    connection.autocommit = True
    return connection


def run(connection: Any, *statements: tuple[str, Sequence[Any]]) -> Any:
    """Run statements in one round trip; return the last one's cursor."""
    with connection.pipeline():
        cursors = [connection.execute(sql, values) for sql, values in statements]
    return cursors[-1]


BEGIN: tuple[str, Sequence[Any]] = ("BEGIN", ())
COMMIT: tuple[str, Sequence[Any]] = ("COMMIT", ())


class Table:
    """Write rows of one table as one array a column; `columns` is like SQL's, name and type."""

    def __init__(self, name: str, columns: str, twin: str = "") -> None:
        pairs = [column.split() for column in columns.split(", ")]
        self.names = [column for column, _ in pairs]
        names, arrays = ", ".join(self.names), ", ".join(f"%s::{one}[]" for _, one in pairs)
        self.source = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - our names
        self.insert = f"INSERT INTO {name} ({names}) {self.source} {twin}"

    def columns(self, rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
        """Return rows as columns."""
        return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self.names]

    def write(self, rows: Sequence[tuple[Any, ...]]) -> tuple[str, Sequence[Any]]:
        """Return the statement that inserts rows."""
        return self.insert, self.columns(rows)


OUTBOX = Table("outbox", "id uuid, topic text, wire bytea, due_at float8")
EVENT = Table("event", "aggregate text, version int, id uuid, type text, answers uuid, wire bytea, at float8")
TELL = (
    f"WITH told AS ({EVENT.insert} RETURNING id, type, wire, at) "  # noqa: S608 - our names
    f"INSERT INTO outbox SELECT id, type, wire, at + {SWEEP_S} FROM told"
)
"""Write events, and what goes out of them, without passing their bytes twice."""
CLEAR = "DELETE FROM outbox WHERE id = ANY(%s::uuid[])"


def inbox(consumer: str) -> str:
    """Write the common table expressions that read the clock and note which messages are new."""
    return (
        f"WITH clock AS MATERIALIZED (SELECT {CLOCK} AS now), fresh AS ("  # noqa: S608 - our names
        f"INSERT INTO inbox (consumer, id, hash, at) SELECT '{consumer}', m.id, m.hash, now "
        "FROM clock, unnest(%s::uuid[], %s::bytea[]) AS m (id, hash) ON CONFLICT DO NOTHING RETURNING id)"
    )


class Said:
    """Collect what a batch says: commands and events, as wires and as rows."""

    def __init__(self, now: float) -> None:
        self.wires: list[Wire] = []
        self.commands: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self._now = now

    def command(self, wire: Wire) -> None:
        """Note a command."""
        self.wires.append(wire)
        self.commands.append((wire[2]["ce_id"], wire[0], msgpack.packb(wire), self._now + SWEEP_S))

    def event(self, wire: Wire, aggregate: str, version: int, answers: str | None, *, published: bool = True) -> None:
        """Note an event."""
        if published:
            self.wires.append(wire)
        self.events.append((aggregate, version, wire[2]["ce_id"], wire[0], answers, msgpack.packb(wire), self._now))


@dataclass
class Desk:
    """Hold what one loop of one service works with."""

    service: str
    settings: Settings
    options: Options
    channel: Channel
    connection: Any
    confirmed: list[str]
    """Outbox rows whose messages are confirmed: the next batch clears them."""

    def cleared(self) -> tuple[str, Sequence[Any]]:
        """Return the statement that removes what is confirmed."""
        taken, self.confirmed = self.confirmed, []
        return CLEAR, (taken,)

    def publish(self, said: Said) -> None:
        """Publish what was committed."""
        self.channel.publish(said.wires)
        self.confirmed += [wire[2]["ce_id"] for wire in said.wires]

    def clear(self) -> None:
        """Clear the outbox when nothing happens."""
        if self.confirmed:
            run(self.connection, self.cleared())
