"""Keep the broker port over the embedded broker: a process beside this one, at `unix:///path/broker.sock`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgpack

from pulsaga.broker import Action, Advice, Delivery, Owed, Wire, check_size, publish_error
from pulsaga.broker.embedded_link import Link, Mailbox, Pushed
from pulsaga.broker.embedded_wire import BROADCAST
from pulsaga.errors import ProtoolsError, SchemaIncompatible, Unavailable

PING_S = 1.0
CHUNK_BYTES = 8 * 1024 * 1024
"""Messages are sent in calls of about this size, so that no frame grows without bound."""

Entry = tuple[str, int, str, bytes]
"""`(topic, schema version, key, packed)`; the broker stores and pushes `packed` as it is."""


class EmbeddedBroker:
    """Hold this process's connection to the embedded broker."""

    def __init__(self, url: str, schemas: Mapping[str, str], namespace: str) -> None:
        self._link = Link(_path(url), namespace)
        self._schemas = schemas
        self._versions: dict[tuple[str, str], int] = {}
        self._texts: dict[tuple[str, str], str] = {}

    def publish(self, wires: Sequence[Wire]) -> None:
        """Return when all are committed; when a topic does not take its messages, the others' are committed."""
        for wire in wires:
            check_size(wire)
        if not wires:
            return
        try:
            self._publish(wires)
        except SchemaIncompatible:
            self._publish_apart(wires)

    def _publish(self, wires: Sequence[Wire]) -> None:
        """Commit all or none, but for what is too much for one call."""
        try:
            self._link.call_all([("publish", chunk) for chunk in _chunks([self._entry(wire) for wire in wires])])
        except SchemaIncompatible:
            self._versions.clear()  # what was resolved before does not hold any more
            raise

    def _publish_apart(self, wires: Sequence[Wire]) -> None:
        """Commit topic by topic."""
        topics, refused = list(dict.fromkeys(wire.topic for wire in wires)), dict[str, ProtoolsError]()
        for topic in topics:
            try:
                self._publish([wire for wire in wires if wire.topic == topic])
            except SchemaIncompatible as error:
                refused[topic] = error
        if refused:
            raise publish_error(refused, topics)

    def subscribe(self, name: str, topics: Sequence[str]) -> _Consumer:
        """Share a durable subscription, in order per key, from the earliest message on."""
        return _Consumer(self._link, Mailbox("subscribe", (name, list(topics))))

    def browse(self, topics: Sequence[str], *, earliest: bool) -> _Reader:
        """Read topics on one's own; the broker forgets it with the connection."""
        return _Reader(self._link, Mailbox("browse", (list(topics), earliest)))

    def broadcast(self, topic: str, body: bytes) -> None:
        """Tell whoever listens now; raise Unavailable when there is no connection."""
        self._link.tell(BROADCAST, topic, msgpack.packb(("", {}, body)))

    def listen(self, topic: str) -> _Reader:
        """Hear what is broadcast from now on."""
        return _Reader(self._link, Mailbox("listen", (topic,)))

    def schema(self, topic: str, version: str) -> str:
        """Ask for one version of a topic's schema, once."""
        if (topic, version) not in self._texts:
            self._texts[topic, version] = self._link.call("schema", topic, int(version))
        return self._texts[topic, version]

    def is_connected(self) -> bool:
        """Tell whether the broker answers within a second."""
        try:
            return self._link.is_up and self._link.call("ping", timeout_s=PING_S) is None
        except Unavailable:
            return False

    def close(self) -> None:
        """Wait for what is being published, close the consumers, hang up."""
        self._link.close()

    def _entry(self, wire: Wire) -> Entry:
        version = self._version(wire.topic, wire.properties.get("ce_dataschema", ""))
        return wire.topic, version, wire.key, msgpack.packb((wire.key, dict(wire.properties), wire.body))

    def _version(self, topic: str, dataschema: str) -> int:
        found = self._versions.get((topic, dataschema))
        if found is None:
            found = self._versions[topic, dataschema] = self._resolve(topic, dataschema)
        return found

    def _resolve(self, topic: str, dataschema: str) -> int:
        try:
            text = self._schemas[dataschema]
        except KeyError:
            raise SchemaIncompatible(f"{topic}: no schema is known for ce_dataschema {dataschema!r}") from None
        return int(self._link.call("version", topic, text))


class EmbeddedAdmin:
    """Prepare the embedded broker."""

    def __init__(self, url: str, namespace: str) -> None:
        self._link = Link(_path(url), namespace)

    def grant(self, role: str, topic: str, actions: Sequence[Action]) -> None:
        """Do nothing: who opens the socket's file may everything."""

    def grant_live(self, role: str, actions: Sequence[Action]) -> None:
        """Do nothing, likewise."""

    def prepare_namespace(self) -> None:
        """Make sure that the broker is there: a namespace begins with its first topic."""
        self._link.call("ping")

    def topics(self) -> list[str]:
        """List the topics, sorted."""
        return list(self._link.call("topics"))

    def create_topic(self, topic: str) -> None:
        """Create a topic."""
        self._link.call("create_topic", topic)

    def check_schema(self, topic: str, avsc: str) -> None:
        """Raise SchemaIncompatible when a registered version would break."""
        self._link.call("check_schema", topic, avsc)

    def register_schema(self, topic: str, avsc: str) -> None:
        """Register the next version, or find the equal one."""
        self._link.call("register_schema", topic, avsc)

    def schemas(self, topic: str) -> list[str]:
        """List the registered schemas of a topic, the oldest first."""
        return list(self._link.call("schemas", topic))

    def create_subscription(self, topic: str, name: str) -> None:
        """Create a durable subscription at the earliest stored message."""
        self._link.call("create_subscription", topic, name)

    def subscriptions(self, topic: str) -> list[str]:
        """List a topic's durable subscriptions, sorted."""
        return list(self._link.call("subscriptions", topic))

    def owed(self) -> list[Owed]:
        """List what every durable subscription has not acknowledged, sorted."""
        return [Owed(*row) for row in self._link.call("owed")]

    def examine(self) -> tuple[str, list[Advice]]:
        """Return what it is; there is nothing to set up."""
        self._link.call("ping")
        return "embedded broker", []

    def close(self) -> None:
        """Hang up."""
        self._link.close()


class _Consumer:
    """Receive from one durable subscription."""

    def __init__(self, link: Link, mailbox: Mailbox) -> None:
        self._link, self._mailbox = link, mailbox
        self._number = link.open(mailbox)

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        return [_delivery(pushed) for pushed in self._mailbox.take(limit, timeout_s)]

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        self._link.acknowledge(self._number, [delivery.handle for delivery in deliveries])

    def close(self) -> None:
        self._link.leave(self._number)


class _Reader(_Consumer):
    """Receive what nobody owes us: taking a message is acknowledging it."""

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        deliveries = super().receive(limit, timeout_s)
        if deliveries:
            super().ack(deliveries)  # makes room in the window
        return deliveries

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Do nothing: it was done in `receive`."""


def _delivery(pushed: Pushed) -> Delivery:
    number, topic, version, packed = pushed
    key, properties, body = msgpack.unpackb(packed)
    return Delivery(Wire(topic, key, properties, body), str(version) if version else "", number)


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry[3])
    if chunk:
        yield chunk


def _path(url: str) -> Path:
    return Path(url.removeprefix("unix://"))
