"""Read what the broker delivers: each message on its own, by its writer's schema version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pulsaga.broker import Broker, Delivery
from pulsaga.delivery.avro import Codec
from pulsaga.delivery.messages import AnyMessage, contract_of, message_of
from pulsaga.delivery.tables import hash_of, identity
from pulsaga.errors import Undecodable


class Received(NamedTuple):
    """A delivery with what it says, or with the reason why that cannot be read."""

    delivery: Delivery
    hash: bytes
    message: AnyMessage | None = None
    error: Exception | None = None

    @property
    def id(self) -> str:
        """The message's id, or the hash of what came."""
        return self.message.id if self.message else identity(self.delivery)


def readable(batch: Iterable[Received]) -> list[AnyMessage]:
    """Return the messages of those that could be read."""
    return [received.message for received in batch if received.message]


class Reader:
    """Decode deliveries by their writer's schema version into the classes a service knows."""

    def __init__(self, classes: Iterable[type], codec: Codec, broker: Broker) -> None:
        self._classes = {contract_of(cls).name: cls for cls in classes}
        self._codec = codec
        self._broker = broker

    def read(self, deliveries: Sequence[Delivery]) -> list[Received]:
        """Decode each on its own; what cannot be read, or not now, is said of that one alone."""
        return [self._read(delivery) for delivery in deliveries]

    def _read(self, delivery: Delivery) -> Received:
        wire, digest = delivery.wire, hash_of(delivery.wire.body)
        try:
            cls = self._classes.get(wire.properties.get("ce_type", ""))
            if cls is None:
                raise Undecodable(f"ce_type {wire.properties.get('ce_type')!r} is unknown here")
            if not delivery.schema:
                raise Undecodable("the message names no schema version")
            writer = self._broker.schema(wire.topic, delivery.schema)
            message = message_of(wire.properties, self._codec.decode(cls, wire.body, writer))
        except Exception as error:  # these are bytes of others: whatever reading them raises is about this message
            return Received(delivery, digest, error=error)
        return Received(delivery, digest, message)
