"""Do what Protools does in straight-line code without a framework: what this machine can do is the floor.

The same messages (topics, registered schemas, CloudEvents properties, Avro, keys) and the same rows, in batches of two
round trips: begin, inbox and state; all writes and commit. Only the good way is walked: nothing is retried or refused.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _pulsar
import click
import fastavro
import msgpack
import orjson
import psycopg2
import pulsar
from sqlalchemy.engine import make_url

from bench.contest import Run, Tally
from bench.counters import read_tally
from bench.processes import cpu_seconds
from bench.rig import Rig, servers
from correo.handlers import unseal_token
from correo.mail import compose
from correo.smtp import Letter, open_postman
from generador.vault import new_password, new_token, seal_password, seal_token, token_hash
from seedwork.avro import CommittedSchemas
from seedwork.database import role_name
from seedwork.messages import new_id
from seedwork.settings import Role, Settings, Side

Wire = tuple[str, str, dict[str, str], bytes]
"""Topic, saga id, properties, Avro bytes."""

ISSUE, MOVED = "protools_saga.issue-password", "protools_saga.saga-moved"
GENERATE, GENERATED = "generador.generate-password", "generador.password-generated"
SEND, SENT = "correo.send-password-mail", "correo.password-mail-sent"
TOLD = "bff.commands-changed"
WORKFLOW = "issue-password@1"
LIFETIME_S, SWEEP_S, RETRY_S, GENERATE_S, SEND_S, CLAIM_S = 7 * 24 * 3600.0, 5.0, 5.0, 900.0, 3600.0, 30.0
THERE_S = 0.0003
"""A receive that took less had not to wait: more is there."""
CLOCK = "extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True)
class Options:
    """Say how the floor runs: with its read side or without, ordering buckets, messages a batch."""

    read_side: bool = True
    buckets: int = 64
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
    body: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(data), _schema(topic), None)
    return body


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
    }


def rfc3339(at: float) -> str:
    """Write Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- the databases


def connect(settings: Settings, service: str, side: Side, role: Role) -> Any:
    """Open a connection in which every statement or BEGIN stands for itself; return its cursor."""
    url = make_url(settings.database_url(service, side))
    connection = psycopg2.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        dbname=url.database,
        options=f"-c role={role_name(settings, service, role)}",
    )
    connection.autocommit = True
    return connection.cursor()


def insert(table: str, columns: str, types: str, twin: str = "") -> str:
    """Write the statement that inserts rows given as one array a column."""
    arrays = ", ".join(f"%s::{one}[]" for one in types.split())
    return f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) {twin};"  # noqa: S608 - our names


OUTBOX = insert("outbox", "id, topic, wire, due_at", "uuid text bytea float8")
CLEAR = "DELETE FROM outbox WHERE id = ANY(%s::uuid[]);"
EVENT = insert("event", "aggregate, version, id, type, answers, wire, at", "text int uuid text uuid bytea float8")


def inbox(consumer: str) -> str:
    """Write the common table expressions that read the clock and note which messages are new."""
    return (
        f"WITH clock AS MATERIALIZED (SELECT {CLOCK} AS now), fresh AS ("  # noqa: S608 - our names
        f"INSERT INTO inbox (consumer, id, hash, at) SELECT '{consumer}', m.id, m.hash, now "
        "FROM clock, unnest(%s::uuid[], %s::bytea[]) AS m (id, hash) ON CONFLICT DO NOTHING RETURNING id)"
    )


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows into columns."""
    return [list(column) for column in zip(*rows, strict=True)]


class Said:
    """Collect what a batch says: wires, and their rows in outbox and event."""

    def __init__(self, now: float) -> None:
        self.wires: list[Wire] = []
        self._due_at = now + SWEEP_S
        self._outbox: list[tuple[Any, ...]] = []

    def say(self, wire: Wire) -> bytes:
        """Note one wire; return it packed."""
        packed: bytes = msgpack.packb(wire)
        self.wires.append(wire)
        self._outbox.append((wire[2]["ce_id"], wire[0], packed, self._due_at))
        return packed

    @property
    def outbox(self) -> list[list[Any]]:
        """The outbox rows as columns."""
        return columns(self._outbox) or [[], [], [], []]

    @property
    def ids(self) -> list[str]:
        """The ids to clear once they are confirmed."""
        return [row[0] for row in self._outbox]


# --- the services: each takes a batch in two round trips, publishes, acknowledges


@dataclass
class Desk:
    """Hold what one loop of one service works with."""

    service: str
    settings: Settings
    options: Options
    channel: Channel
    cursor: Any
    confirmed: list[str]
    """Outbox rows whose messages are confirmed: the next batch clears them."""

    def take_confirmed(self) -> list[str]:
        """Return the outbox rows to clear now."""
        taken, self.confirmed = self.confirmed, []
        return taken

    def publish(self, said: Said) -> None:
        """Publish what was committed."""
        self.channel.publish(said.wires)
        self.confirmed += said.ids

    def clear(self) -> None:
        """Clear the outbox when nothing happens."""
        if self.confirmed:
            self.cursor.execute(CLEAR, (self.take_confirmed(),))


def digests(batch: Sequence[Any]) -> tuple[list[str], list[bytes]]:
    """Return ids and body hashes for the inbox."""
    ids = [message.properties()["ce_id"] for message in batch]
    return ids, [sha256(message.data()).digest() for message in batch]


ACCEPT = (
    insert("acceptance", "id, type, username, body_hash, created_at", "uuid text text text float8") + OUTBOX + CLEAR
)


def accept(desk: Desk, usernames: Sequence[str]) -> list[str]:
    """Accept commands in one commit and publish them; return their ids."""
    now = time.time()
    at, expires_at, said, rows = rfc3339(now), rfc3339(now + LIFETIME_S), Said(now), []
    for username in usernames:
        saga_id = new_id()
        body = encode(ISSUE, {"username": username, "email": f"{username}@example.test"})
        properties = envelope(ISSUE, saga_id, "/protools/bff", username, at, saga_id)
        properties["ce_expirytime"] = expires_at
        said.say((ISSUE, saga_id, properties, body))
        rows.append((saga_id, "issue-password", username, "", int(saga_id[:8] + saga_id[9:13], 16) / 1000))
    desk.cursor.execute(ACCEPT, (*columns(rows), *said.outbox, desk.take_confirmed()))
    desk.publish(said)
    return [row[0] for row in rows]


GENERADOR_READ = (
    f"BEGIN; {inbox('generador')}, held AS (SELECT username FROM password "
    "WHERE username = ANY(%s::text[]) ORDER BY username FOR UPDATE) "
    "SELECT now, id::text FROM clock, fresh UNION ALL SELECT now, username FROM clock, held"
)
GENERADOR_WRITE = (
    insert(
        "password",
        "username, revision, version, command_id, saga_id, status, token_hash, sealed_key, sealed_secret, "
        "issued_at, changed_at",
        "text int int uuid uuid text bytea bytea bytea float8 float8",
    )
    + EVENT
    + OUTBOX
    + CLEAR
    + "COMMIT"
)


def generate(desk: Desk, batch: Sequence[Any]) -> None:
    """Generate passwords as generador does."""
    vault_key, link_key = desk.settings.key("VAULT_KEY"), desk.settings.key("LINK_KEY")
    envelopes = [message.properties() for message in batch]
    desk.cursor.execute(GENERADOR_READ, (*digests(batch), [one["ce_subject"] for one in envelopes]))
    known = desk.cursor.fetchall()
    now, fresh = known[0][0], {row[1] for row in known}
    at, said, rows, events = rfc3339(now), Said(now), [], []
    for message, asked in zip(batch, envelopes, strict=True):
        command_id, saga_id = asked["ce_id"], asked["ce_correlationid"]
        username = decode(GENERATE, message.data())["username"]
        if command_id not in fresh or username in fresh:
            raise RuntimeError(f"{username} came twice")
        token = new_token()
        sealed = seal_password(new_password(), vault_key, username)
        state = {"username": username, "status": "issued", "issued_at": now, "changed_at": now}
        body = encode(GENERATED, {**state, "sealed_token": seal_token(token, link_key, username)})
        event_id = new_id()
        properties = envelope(GENERATED, event_id, "/protools/generador", username, at, saga_id)
        properties |= {"ce_causationid": command_id, "ce_commandid": command_id, "ce_version": "1"}
        wire = said.say((GENERATED, saga_id, properties, body))
        events.append((username, 1, event_id, GENERATED, command_id, wire, now))
        verifier = token_hash(token)
        rows.append((username, 1, 1, command_id, saga_id, "issued", verifier, sealed.key, sealed.secret, now, now))
    desk.cursor.execute(GENERADOR_WRITE, (*columns(rows), *columns(events), *said.outbox, desk.take_confirmed()))
    desk.publish(said)


CORREO_KEEP = (
    f"{inbox('correo')} INSERT INTO mail SELECT m.id, 1, username, recipient, sealed_token, context, 'waiting', 0, "
    f"%s::uuid, now + {CLAIM_S}, now, NULL, '' FROM clock, fresh JOIN "
    "unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[]) "
    "AS m (id, username, recipient, sealed_token, context) USING (id) RETURNING id, created_at"
)
CORREO_SENT = (
    "UPDATE mail SET revision = revision + 1, status = 'sent', attempts = 1, claim = NULL, due_at = NULL, "
    "ended_at = %s WHERE id = ANY(%s::uuid[]) AND claim = %s;" + EVENT + OUTBOX + CLEAR
)


def send(desk: Desk, batch: Sequence[Any]) -> None:
    """Keep mails as rows that are claimed already, send them outside any transaction, report."""
    link_key, claim, rows, asked = desk.settings.key("LINK_KEY"), new_id(), [], {}
    for message in batch:
        properties, body = message.properties(), decode(SEND, message.data())
        asked[properties["ce_id"]] = (properties, body)
        context = {
            "saga_id": properties["ce_correlationid"],
            "causation_id": properties["ce_id"],
            "actor": None,
            "traceparent": None,
        }
        words = (body["username"], body["email"], body["sealed_token"], orjson.dumps(context).decode())
        rows.append((properties["ce_id"], *words))
    desk.cursor.execute(CORREO_KEEP, (*digests(batch), claim, *columns(rows)))
    kept, began, letters = desk.cursor.fetchall(), time.monotonic(), []
    for mail_id, created_at in kept:
        body = asked[mail_id][1]
        username, recipient = body["username"], body["email"]
        token = unseal_token(body["sealed_token"], link_key, username)
        content = compose(
            mail_id,
            username,
            recipient,
            token,
            created_at,
            public_url=desk.settings.public_url,
            sender=desk.settings.mail_from,
        )
        letters.append(Letter(mail_id, recipient, content))
    if not os.environ.get("NOMAIL"):
        for _ in open_postman(desk.settings).deliver(letters):
            pass
    created_at = kept[0][1]
    _report(desk, asked, claim, created_at, created_at + time.monotonic() - began)


def _report(desk: Desk, asked: dict[str, Any], claim: str, created_at: float, now: float) -> None:
    at, said, events = rfc3339(now), Said(now), []
    for mail_id, (command, body) in asked.items():
        saga_id, username = command["ce_correlationid"], body["username"]
        sent = {
            "mail_id": mail_id,
            "username": username,
            "email": body["email"],
            "status": "sent",
            "attempts": 1,
            "created_at": created_at,
            "sent_at": now,
        }
        event_id = new_id()
        properties = envelope(SENT, event_id, "/protools/correo", username, at, saga_id)
        properties |= {"ce_causationid": mail_id, "ce_commandid": mail_id, "ce_version": "1"}
        wire = said.say((SENT, saga_id, properties, encode(SENT, sent)))
        events.append((mail_id, 1, event_id, SENT, mail_id, wire, now))
    written = (now, list(asked), claim, *columns(events), *said.outbox, desk.take_confirmed())
    desk.cursor.execute(CORREO_SENT, written)
    desk.publish(said)


SAGA_READ = (
    f"BEGIN; {inbox('protools_saga')}, held AS (SELECT id, revision, progress FROM saga "
    "WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE) "
    "SELECT now, id, NULL::int, NULL::text FROM clock, fresh "
    "UNION ALL SELECT now, id, revision, progress FROM clock, held"
)
SAGA_COLUMNS = "id, revision, workflow, status, seq, subject, progress, context, target, resend_at, wake_at, moved_at"
SAGA_WRITE = (
    insert(
        "saga",
        SAGA_COLUMNS,
        "uuid int text text int text text text text float8 float8 float8",
        "ON CONFLICT (id) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in SAGA_COLUMNS.split(", ")[1:])
        + " WHERE saga.revision = excluded.revision - 1",
    )
    + EVENT
    + OUTBOX
    + CLEAR
    + "COMMIT"
)
PENDING: dict[str, Any] = {
    "status": "pending",
    "command": "",
    "command_id": "",
    "attempts": 0,
    "undo": "",
    "undo_id": "",
    "undo_attempts": 0,
    "late": False,
    "undo_answer": "",
    "former": "",
}


def coordinate(desk: Desk, batch: Sequence[Any]) -> None:
    """Start sagas and move them on, as the coordinator does."""
    envelopes = [message.properties() for message in batch]
    moving = [one["ce_correlationid"] for one in envelopes if one["ce_type"] != ISSUE]
    desk.cursor.execute(SAGA_READ, (*digests(batch), moving))
    known = desk.cursor.fetchall()
    now, held = known[0][0], {row[1]: row for row in known if row[2] is not None}
    moves = Moves(now, desk.options.read_side)
    for message, asked in zip(batch, envelopes, strict=True):
        topic = asked["ce_type"]
        body = decode(topic, message.data())
        if topic == ISSUE:
            moves.start(asked, body)
        else:
            _, _, revision, progress = held[asked["ce_correlationid"]]
            moves.advance(asked, body, revision, orjson.loads(progress))
    said = moves.said
    desk.cursor.execute(
        SAGA_WRITE, (*columns(moves.sagas), *columns(moves.events), *said.outbox, desk.take_confirmed())
    )
    desk.publish(said)
    if not desk.options.read_side:
        desk.channel.tell([one["ce_correlationid"] for one in envelopes])


class Moves:
    """Collect the moves of a batch: saga rows, log, commands."""

    def __init__(self, now: float, read_side: bool) -> None:
        self.now, self.at, self.expires_at = now, rfc3339(now), rfc3339(now + LIFETIME_S)
        self.said = Said(now)
        self.sagas: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self._read_side = read_side

    def start(self, cause: dict[str, str], data: dict[str, Any]) -> None:
        """Begin a saga with its first command."""
        progress = {
            "saga_id": cause["ce_id"],
            "workflow": WORKFLOW,
            "status": "RUNNING",
            "seq": 1,
            "data": data,
            "steps": [PENDING, PENDING],
            "compensating": False,
            "cause": ("", ""),
            "reason": ("", ""),
            "wake_at": None,
            "sent_at": None,
            "started_at": self.now,
            "moved_at": self.now,
        }
        began = self._entry("started", data=data)
        issued = self._issue(progress, 0, GENERATE, GENERATE_S, {"username": data["username"]}, cause)
        self._move(progress, [began, issued], cause, 1)

    def advance(self, cause: dict[str, str], reply: dict[str, Any], revision: int, progress: dict[str, Any]) -> None:
        """Take the reply to the outstanding command."""
        step = 0 if cause["ce_type"] == GENERATED else 1
        learned = {"sealed_token": reply["sealed_token"]} if step == 0 else {}
        progress["steps"][step]["status"] = "done"
        progress["data"] |= learned
        progress |= {"seq": progress["seq"] + 1, "moved_at": self.now}
        replied = self._entry("replied", step, command_id=cause["ce_commandid"], data=learned)
        if step == 0:
            following = self._issue(progress, 1, SEND, SEND_S, progress["data"], cause)
        else:
            following = self._entry("ended", code="COMPLETED")
            progress |= {"status": "COMPLETED", "wake_at": None, "sent_at": None}
        self._move(progress, [replied, following], cause, revision + 1)

    def _entry(self, kind: str, step: int = -1, **values: Any) -> dict[str, Any]:
        empty = {"command": "", "command_id": "", "attempt": 0, "code": "", "detail": "", "wake_at": None, "data": {}}
        return {"kind": kind, "at": self.now, "step": step, **empty, **values}

    def _issue(
        self,
        progress: dict[str, Any],
        step: int,
        topic: str,
        deadline_s: float,
        body: dict[str, Any],
        cause: dict[str, str],
    ) -> dict[str, Any]:
        command_id, saga_id = new_id(), progress["saga_id"]
        issued = {"status": "issued", "command": topic, "command_id": command_id, "attempts": 1}
        progress["steps"][step] = {**PENDING, **issued}
        progress |= {"wake_at": self.now + deadline_s, "sent_at": self.now}
        properties = envelope(topic, command_id, "/protools/protools_saga", body["username"], self.at, saga_id)
        properties |= {"ce_causationid": cause["ce_id"], "ce_expirytime": self.expires_at}
        self.said.say((topic, saga_id, properties, encode(topic, body)))
        named = {"command": topic, "command_id": command_id, "attempt": 1, "wake_at": progress["wake_at"]}
        return self._entry("issued", step, **named)

    def _move(
        self, progress: dict[str, Any], entries: list[dict[str, Any]], cause: dict[str, str], revision: int
    ) -> None:
        saga_id, subject, status, seq = (
            progress["saga_id"],
            progress["data"]["username"],
            progress["status"],
            progress["seq"],
        )
        context = {"saga_id": saga_id, "causation_id": cause["ce_id"], "actor": None, "traceparent": None}
        waits = entries[-1]["command"].partition(".")[0] or None
        due = (waits, self.now + RETRY_S if waits else None, progress["wake_at"], self.now)
        texts = (orjson.dumps(progress).decode(), orjson.dumps(context).decode())
        self.sagas.append((saga_id, revision, WORKFLOW, status, seq, subject, *texts, *due))
        moved = {
            "saga_id": saga_id,
            "workflow": WORKFLOW,
            "subject": subject,
            "status": status,
            "reason_code": "",
            "reason_detail": "",
            "started_at": progress["started_at"],
            "moved_at": self.now,
            "steps": orjson.dumps(progress["steps"]).decode(),
            "entries": orjson.dumps(entries).decode(),
        }
        event_id = new_id()
        properties = envelope(MOVED, event_id, "/protools/protools_saga", subject, self.at, saga_id)
        properties |= {"ce_causationid": cause["ce_id"], "ce_version": str(seq)}
        wire: Wire = (MOVED, saga_id, properties, encode(MOVED, moved))
        packed = self.said.say(wire) if self._read_side else msgpack.packb(wire)
        self.events.append((saga_id, seq, event_id, MOVED, None, packed, self.now))


# --- the read side: each projector upserts a batch in one round trip


def upsert(table: str, names: str, types: str) -> str:
    """Write the upsert of which the newest version wins; the first column is the key."""
    key, *others = names.split(", ")
    values = ", ".join(f"{name} = excluded.{name}" for name in others)
    newer = f"ON CONFLICT ({key}) DO UPDATE SET {values} WHERE {table}.version < excluded.version"
    return insert(table, names, types, newer)


SAGA_VIEW = upsert(
    "saga_view",
    "id, version, workflow, subject, status, reason_code, reason_detail, steps, started_at, moved_at",
    "uuid int text text text text text text float8 float8",
) + insert("saga_move", "id, version, entries", "uuid int text", "ON CONFLICT DO NOTHING")


def project_sagas(desk: Desk, batch: Sequence[Any]) -> None:
    """Show the newest state of sagas, and every move."""
    views, rows = {}, []
    for message in batch:
        version, moved = int(message.properties()["ce_version"]), decode(MOVED, message.data())
        entries = orjson.loads(moved["entries"])
        for entry in entries:
            del entry["data"]
        saga_id, steps = moved["saga_id"], moved["steps"]
        rows.append((saga_id, version, orjson.dumps(entries).decode()))
        if saga_id not in views or views[saga_id][1] < version:
            told = (moved["workflow"], moved["subject"], moved["status"], "", "", steps)
            views[saga_id] = (saga_id, version, *told, moved["started_at"], moved["moved_at"])
    desk.cursor.execute(SAGA_VIEW, (*columns(list(views.values())), *columns(rows)))


PASSWORD = ("username, version, status, issued_at, changed_at", "text int text float8 float8")
PASSWORD_VIEW = upsert("password_view", *PASSWORD)


def project_passwords(desk: Desk, batch: Sequence[Any]) -> None:
    """Show passwords in generador's read database."""
    desk.cursor.execute(PASSWORD_VIEW, columns([_password_row(decode(GENERATED, m.data())) for m in batch]))


def _password_row(state: dict[str, Any]) -> tuple[Any, ...]:
    return (state["username"], 1, state["status"], state["issued_at"], state["changed_at"])


MAIL_VIEW = upsert(
    "mail_view",
    "id, version, username, recipient, status, attempts, created_at, sent_at",
    "uuid int text text text int float8 float8",
)


def project_mails(desk: Desk, batch: Sequence[Any]) -> None:
    """Show sent mails."""
    rows = []
    for message in batch:
        sent = decode(SENT, message.data())
        named = (sent["mail_id"], 1, sent["username"], sent["email"], sent["status"], sent["attempts"])
        rows.append((*named, sent["created_at"], sent["sent_at"]))
    desk.cursor.execute(MAIL_VIEW, columns(rows))


COMMAND = upsert(
    "command",
    "id, version, type, username, status, reason_code, reason_detail, created_at, updated_at",
    "uuid int text text text text text float8 float8",
)
BFF_PASSWORD = upsert("password", *PASSWORD)


def project_commands(desk: Desk, batch: Sequence[Any]) -> None:
    """Show commands and passwords at the front door, and tell who waits."""
    commands, passwords, told = {}, [], []
    for message in batch:
        envelope = message.properties()
        told.append(envelope["ce_correlationid"])
        if envelope["ce_type"] == GENERATED:
            passwords.append(_password_row(decode(GENERATED, message.data())))
            continue
        moved, version = decode(MOVED, message.data()), int(envelope["ce_version"])
        saga_id = moved["saga_id"]
        if saga_id not in commands or commands[saga_id][1] < version:
            created_at = int(saga_id[:8] + saga_id[9:13], 16) / 1000
            shown = ("issue-password", moved["subject"], moved["status"].lower(), "", "")
            commands[saga_id] = (saga_id, version, *shown, created_at, moved["moved_at"])
    statements = (COMMAND if commands else "") + (BFF_PASSWORD if passwords else "")
    desk.cursor.execute(statements, (*columns(list(commands.values())), *columns(passwords)))
    desk.channel.tell(told)


# --- the processes


Work = Callable[[Desk, Sequence[Any]], None]


@dataclass(frozen=True)
class Loop:
    """Describe one loop: whose it is, what it reads, what it does."""

    service: str
    subscription: str
    topics: tuple[str, ...]
    work: Work

    @property
    def reads(self) -> bool:
        """Whether it is part of the read side."""
        return self.subscription != self.service


LOOPS: dict[str, tuple[Loop, ...]] = {
    "protools_saga": (
        Loop("protools_saga", "protools_saga", (ISSUE, GENERATED, SENT), coordinate),
        Loop("protools_saga", "protools_saga-projector", (MOVED,), project_sagas),
    ),
    "generador": (
        Loop("generador", "generador", (GENERATE,), generate),
        Loop("generador", "generador-projector", (GENERATED,), project_passwords),
    ),
    "correo": (
        Loop("correo", "correo", (SEND,), send),
        Loop("correo", "correo-projector", (SENT,), project_mails),
    ),
    "bff": (Loop("bff", "bff-projector", (MOVED, GENERATED), project_commands),),
}
"""The loops of each process; each runs in a thread of its own."""


def serve(process: str, settings: Settings, options: Options, ready: Any) -> None:
    """Run the loops of one process until it is ended."""
    sys.setswitchinterval(0.0005)
    channel = Channel(settings, options)
    for loop in LOOPS[process]:
        if options.read_side or not loop.reads:
            cursor = connect(settings, loop.service, *(("read", "projector") if loop.reads else ("write", "owner")))
            desk = Desk(loop.service, settings, options, channel, cursor, [])
            consumer = channel.subscribe(loop.subscription, loop.topics)
            threading.Thread(target=_turn, args=(loop.work, desk, consumer)).start()
    ready.set()


def _turn(work: Work, desk: Desk, consumer: Any) -> None:
    try:
        while True:
            batch = receive(consumer, desk.options.batch)
            if not batch:
                desk.clear()
                continue
            work(desk, batch)
            for message in batch:
                consumer.acknowledge(message)
    except BaseException:
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGKILL)  # what is measured must not go on with a part missing


# --- the contestant

READY_S, GIVE_UP_S, ACCEPT_BATCH = 60.0, 120.0, 100
ENDED = {
    True: "SELECT count(*) FROM command WHERE id >= %s AND status IN ('completed', 'refused', 'suspended')",
    False: "SELECT count(*) FROM saga WHERE id >= %s AND status = 'COMPLETED'",
}
"""What says how many have ended: the front door's read model, without a read side the sagas themselves."""


class Floor:
    """Run the floor's processes and accept in this one."""

    name = "floor"

    def __init__(self, options: Options = Options()) -> None:
        self.options = options
        self.settings = {
            "batch": f"up to {options.batch} messages, two round trips",
            "ordering": f"{options.buckets} buckets",
            "read side": "yes" if options.read_side else "no",
        }

    def versions(self) -> dict[str, str]:
        """Return the versions of what it is made of."""
        return {name: version(name) for name in ("pulsar-client", "psycopg2-binary", "fastavro")}

    def start(self) -> None:
        """Start servers and processes."""
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="protools-bench-")))
        folder.chmod(0o711)
        self._rig: Rig = self._stack.enter_context(servers(folder))
        self._processes = self._spawn()
        settings, read_side = self._rig.settings, self.options.read_side
        self._channel = Channel(settings, self.options)
        cursor = connect(settings, "bff", "write", "owner")
        self._desk = Desk("bff", settings, self.options, self._channel, cursor, [])
        where = ("bff", "read", "reader") if read_side else ("protools_saga", "write", "owner")
        self._ends = connect(settings, *where)
        self._listener = self._channel.listen()

    def _spawn(self) -> dict[str, Any]:
        context = multiprocessing.get_context("spawn")
        names = [name for name, loops in LOOPS.items() if self.options.read_side or not all(one.reads for one in loops)]
        processes = {}
        for name in names:
            ready = context.Event()
            process = context.Process(target=serve, args=(name, self._rig.settings, self.options, ready), daemon=True)
            process.start()
            self._stack.callback(process.join, 5)
            self._stack.callback(process.kill)
            processes[name] = process
            if not ready.wait(READY_S):
                raise RuntimeError(f"{name} did not become ready")
        return processes

    def stop(self) -> None:
        """End processes and servers."""
        self._channel.close()
        self._stack.close()

    def pids(self) -> dict[str, int]:
        """Return process ids by name; this process accepts."""
        ours = {name: process.pid for name, process in self._processes.items()}
        return self._rig.pids() | ours | {"accept": os.getpid()}

    def tally(self) -> Tally:
        """Read the servers' counters."""
        return read_tally(self._rig)

    def depth(self) -> int:
        """Count the outbox rows of all services."""
        total = 0
        for service in LOOPS:
            cursor = connect(self._rig.settings, service, "write", "owner")
            cursor.execute("SELECT count(*) FROM outbox")
            total += cursor.fetchone()[0]
            cursor.connection.close()
        return total

    def sustained(self, sagas: int, in_flight: int) -> Run:
        """Keep up to `in_flight` sagas going."""
        return self._drive(sagas, in_flight, {})

    def preloaded(self, sagas: int) -> Run:
        """Accept while every process stands still, then let them run."""
        time.sleep(1.1)  # what waits in `receive` comes back
        accepted: dict[str, float] = {}
        self._signal(signal.SIGSTOP)
        try:
            first = _first_id()
            while len(accepted) < sagas:
                self._accept(min(self.options.batch, sagas - len(accepted)), accepted)
        finally:
            self._signal(signal.SIGCONT)
        return self._drive(sagas, 0, accepted, first)

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            os.kill(process.pid, number)

    def _accept(self, number: int, accepted: dict[str, float]) -> None:
        began = time.perf_counter()
        accepted.update(dict.fromkeys(accept(self._desk, [f"u{new_id()[9:]}" for _ in range(number)]), began))

    def _drive(self, sagas: int, in_flight: int, accepted: dict[str, float], first: str = "") -> Run:
        """Accept what there is room for, and hear the broadcasts, until the database says that all have ended."""
        first, heard, done, began = first or _first_id(), {}, 0, time.perf_counter()
        while done < sagas:
            room = min(in_flight - (len(accepted) - done), sagas - len(accepted))
            if room >= min(ACCEPT_BATCH, sagas - len(accepted)) > 0:
                self._accept(min(room, self.options.batch), accepted)
            if self._hear(heard, 20):
                self._ends.execute(ENDED[self.options.read_side], (first,))
                done = self._ends.fetchone()[0]
            if time.perf_counter() - began > GIVE_UP_S or not all(one.is_alive() for one in self._processes.values()):
                raise TimeoutError(f"{done} of {sagas} sagas ended within {GIVE_UP_S} s")
        seconds = time.perf_counter() - began
        self._hear(heard, 20)
        self._desk.clear()
        return Run(sagas, seconds, [heard[one] - at for one, at in accepted.items()] if in_flight else [])

    def _hear(self, heard: dict[str, float], wait_ms: int) -> bool:
        news = False
        with suppress(pulsar.Timeout):
            while True:
                message = self._listener.receive(0 if news else wait_ms)
                self._listener.acknowledge(message)
                heard |= dict.fromkeys(message.data().decode().split("\n"), time.perf_counter())
                news = True
        return news

    def one_at_a_time(self, sagas: int) -> list[float]:
        """Run sagas alone."""
        times = []
        for _ in range(sagas):
            run = self._drive(1, 1, {})
            times += [run.seconds]
        return sorted(times)

    def over_http(self, sagas: int) -> None:
        """Do nothing: it has no HTTP."""


def _first_id() -> str:
    """Return the lowest id that can be made from now on."""
    return f"{new_id()[:14]}7000-8000-000000000000"


# --- the table


@click.command()
@click.option("--sagas", default=5000, show_default=True, help="Sagas of each sustained run.")
@click.option("--alone", default=300, show_default=True, help="Sagas that run one at a time.")
@click.option("--rounds", default=3, show_default=True, help="Rounds of each; the median is shown with its spread.")
@click.option("--buckets", default=Options.buckets, show_default=True, help="Ordering keys.")
@click.option("--batch", default=Options.batch, show_default=True, help="Messages a batch at most.")
@click.option("--side", "sides", multiple=True, type=click.Choice(["write", "both"]), default=["write", "both"])
def main(sagas: int, alone: int, rounds: int, buckets: int, batch: int, sides: Sequence[str]) -> None:
    """Print what this machine can do: the write side alone, then with the read side."""
    for side in sides:
        floor = Floor(Options(side == "both", buckets, batch))
        try:
            floor.start()
            click.echo(f"--- {'write and read side' if side == 'both' else 'write side alone'}: {floor.settings}")
            _measure(floor, sagas, alone, rounds)
        finally:
            floor.stop()


def _measure(floor: Floor, sagas: int, alone: int, rounds: int) -> None:
    floor.sustained(1000, 1000)
    times = floor.one_at_a_time(alone)
    click.echo(
        f"one at a time: p50 {times[len(times) // 2] * 1000:.1f} ms  p99 {times[len(times) * 99 // 100] * 1000:.1f} ms"
    )
    for name, run in (
        ("preloaded", lambda: floor.preloaded(sagas)),
        ("1,000 in flight", lambda: floor.sustained(sagas, 1000)),
    ):
        cpu, before = _cpu(floor), floor.tally()
        rates = sorted(run().per_second for _ in range(rounds))
        after, spent = floor.tally(), _cpu(floor)
        per_saga = 1 / (sagas * rounds)
        click.echo(
            f"{name}: {statistics.median(rates):,.0f} sagas/s ({', '.join(f'{rate:,.0f}' for rate in rates)}); a saga: "
            f"{(after.statements - before.statements) * per_saga:.3f} statements, "
            f"{(after.commits - before.commits) * per_saga:.3f} commits, "
            f"{(after.messages - before.messages) * per_saga:.2f} messages"
        )
        for process, seconds in spent.items():
            click.echo(f"  CPU s per 1,000: {process:<14} {(seconds - cpu[process]) * 1000 * per_saga:.3f}")


def _cpu(floor: Floor) -> dict[str, float]:
    spent = cpu_seconds(floor.pids())
    return spent | {"in all": sum(spent.values())}


if __name__ == "__main__":
    main()
