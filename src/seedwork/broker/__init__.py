"""Define the broker port: what Protools asks of a broker, and no more.

Two adapters keep it: `pulsar` and `embedded`. `tests/contract/test_broker.py` is the one suite that both pass.
Topics are named by wire name (`stock.reserve`); adapters add tenant and namespace themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pulsaga.errors import MessageTooLarge, NotConfirmed, ProtoolsError

Action = Literal["consume", "produce"]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest body in bytes; below Pulsar's default `maxMessageSize` of 5 MiB so that the properties fit beside it."""


class BrokerAccess(NamedTuple):
    """Hold what a broker asks for: a token, and the certificates by which it is known itself (TLS)."""

    token: str | None = None
    trust_certs: Path | None = None


OPEN = BrokerAccess()
"""What is shown to a broker that asks for nothing."""


class Wire(NamedTuple):
    """Carry one message as it travels: encoded body, CloudEvents attributes as properties.

    `key` is the saga id (order holds per key and topic); `properties["ce_dataschema"]` names the writer's schema.
    """

    topic: str
    key: str
    properties: Mapping[str, str]
    body: bytes


class Delivery(NamedTuple):
    """Carry one received message with the handle by which its subscription acknowledges it."""

    wire: Wire
    schema: str
    """Opaque version of the writer's schema within the topic, for `Broker.schema`; empty when it has none."""
    handle: Any


class Owed(NamedTuple):
    """What a durable subscription of a topic has not acknowledged, and how many consumers take from it now.

    A broker may count a batch of messages as one.
    """

    topic: str
    subscription: str
    messages: int
    consumers: int


class Advice(NamedTuple):
    """A setting of the broker that costs speed or safety, and what to do."""

    found: str
    do: str


class Subscription(Protocol):
    """Receive from a set of topics; unacknowledged messages come back."""

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Block for the first message, up to `timeout_s`, then take what is there, at most `limit` in all.

        Return an empty list when nothing came. Raise Unavailable when the connection is gone for good.
        """

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge; fire and forget, a lost acknowledgement is a redelivery."""

    def close(self) -> None:
        """Send pending acknowledgements and hand what was not acknowledged to the other consumers at once."""


class Broker(Protocol):
    """One connection of one process. Thread-safe."""

    def publish(self, wires: Sequence[Wire]) -> None:
        """Return when every message is durably stored, in order per key.

        Raise NotConfirmed, once the others are stored, when some topics did not take theirs; when none did, the reason
        itself: Unavailable when one was not confirmed (all may be sent again: readers fold twins), SchemaIncompatible
        when `ce_dataschema` is not registered for its topic. Raise MessageTooLarge before anything is sent.
        """

    def subscribe(self, name: str, topics: Sequence[str]) -> Subscription:
        """Share the durable subscription `name`, from the earliest message on, in order per key (Key_Shared)."""

    def browse(self, topics: Sequence[str], *, earliest: bool) -> Subscription:
        """Read topics on a temporary subscription of one's own that leaves no trace after `close`."""

    def broadcast(self, topic: str, body: bytes) -> None:
        """Tell whoever listens now; not stored, never confirmed. Raise Unavailable when it cannot be sent."""

    def listen(self, topic: str) -> Subscription:
        """Hear what is broadcast on an ephemeral topic from now on. Every listener hears everything."""

    def schema(self, topic: str, version: str) -> str:
        """Return the Avro schema (JSON text) under which a delivery of `topic` was written. Cached by the adapter."""

    def is_connected(self) -> bool:
        """Tell whether the broker answers now; used for readiness."""

    def close(self) -> None:
        """Flush what is being published, then leave."""


class BrokerAdmin(Protocol):
    """Prepare a broker: used by bootstrap and by tests, never by a worker. Every call is idempotent."""

    def prepare_namespace(self) -> None:
        """Create tenant and namespace with the policies Protools relies on."""

    def topics(self) -> list[str]:
        """List the persistent topics by wire name, sorted."""

    def create_topic(self, topic: str) -> None:
        """Create a persistent topic that is kept while idle."""

    def check_schema(self, topic: str, avsc: str) -> None:
        """Raise SchemaIncompatible, naming topic and field, when `avsc` breaks a registered version."""

    def register_schema(self, topic: str, avsc: str) -> None:
        """Register as the next version (or find the equal one); raise SchemaIncompatible as `check_schema` does."""

    def schemas(self, topic: str) -> list[str]:
        """List the registered Avro schemas of a topic (JSON text), the oldest first."""

    def create_subscription(self, topic: str, name: str) -> None:
        """Create a durable subscription at the earliest message."""

    def subscriptions(self, topic: str) -> list[str]:
        """List the durable subscriptions of a topic, sorted."""

    def owed(self) -> list[Owed]:
        """List what every durable subscription has not acknowledged, sorted."""

    def examine(self) -> tuple[str, list[Advice]]:
        """Return what it is, with its version, and what is wrong with how it is set up."""

    def grant(self, role: str, topic: str, actions: Sequence[Action]) -> None:
        """Let a role use one topic so, where the broker asks for roles."""

    def grant_live(self, role: str, actions: Sequence[Action]) -> None:
        """Let a role use the ephemeral topics so, where the broker asks for roles."""

    def close(self) -> None:
        """Leave."""


def check_size(wire: Wire) -> None:
    """Raise MessageTooLarge, with both sizes in bytes, when a body exceeds MAX_MESSAGE_BYTES."""
    if len(wire.body) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(f"{wire.topic}: body of {len(wire.body)} bytes, the limit is {MAX_MESSAGE_BYTES}")


def publish_error(refused: Mapping[str, ProtoolsError], topics: Collection[str]) -> ProtoolsError:
    """Return what `Broker.publish` raises: the reason itself when no topic took its messages."""
    return NotConfirmed(refused) if len(refused) < len(topics) else next(iter(refused.values()))


def connect(url: str, schemas: Mapping[str, str], namespace: str, access: BrokerAccess = OPEN) -> Broker:
    """Connect to the broker at `url` (`pulsar://…` or `unix://…`) for one namespace.

    `schemas` maps every `ce_dataschema` this process may write to its Avro schema (JSON text).
    """
    if url.startswith("unix://"):
        from pulsaga.broker.embedded import EmbeddedBroker

        return EmbeddedBroker(url, schemas, namespace)
    from pulsaga.broker.pulsar import PulsarBroker

    return PulsarBroker(url, schemas, namespace, access)


def connect_admin(
    url: str, admin_url: str, namespace: str, access: BrokerAccess = OPEN, *, partitions: int = 1
) -> BrokerAdmin:
    """Connect to the administrative side of the same broker; `admin_url` is Pulsar's HTTP address.

    Topics are created with so many `partitions` where the broker has such.
    """
    if url.startswith("unix://"):
        from pulsaga.broker.embedded import EmbeddedAdmin

        return EmbeddedAdmin(url, namespace)
    from pulsaga.broker.pulsar_admin import PulsarAdmin

    return PulsarAdmin(admin_url, namespace, access, partitions)
