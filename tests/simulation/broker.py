"""Keep messages in memory as the broker does: in order per topic and key, else in any order, and more than once."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from pulsaga.broker import Delivery, Subscription, Wire, check_size
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import SCHEMA_PREFIX
from pulsaga.delivery.tables import pack, unpack
from pulsaga.errors import SchemaIncompatible, Unavailable

SCHEMAS = CommittedSchemas()


class Weather(Protocol):
    """Say what goes wrong, and when."""

    random: Random
    now: float

    def seam(self, name: str) -> None:
        """Pass a point at which a process may die or stall."""

    def strikes(self, kind: str) -> bool:
        """Tell whether this fault happens here and now."""

    def wrong(self, what: str) -> None:
        """Report what must never be."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """One message as it is kept."""

    number: int
    topic: str
    key: str
    packed: bytes


class Feed:
    """What one subscription still has to hear of its topics, in lanes of one key and topic each."""

    def __init__(self) -> None:
        self.lanes: dict[tuple[str, str], deque[Stored]] = defaultdict(deque)
        self.acked: list[Stored] = []

    def put_back(self, messages: Iterable[Stored]) -> None:
        """Have messages delivered again, each lane in its order."""
        for message in messages:
            lane = self.lanes[message.topic, message.key]
            self.lanes[message.topic, message.key] = deque(sorted({*lane, message}, key=lambda m: m.number))


class Memory:
    """The broker itself, which outlives every process."""

    def __init__(self, weather: Weather, subscriptions: Mapping[str, Sequence[str]]) -> None:
        self.weather, self.is_up = weather, True
        self.feeds = {name: Feed() for name in subscriptions}
        self.consumers: dict[str, list[Consumer]] = {name: [] for name in subscriptions}
        self._listening: dict[str, list[str]] = defaultdict(list)
        for name, topics in subscriptions.items():
            for topic in topics:
                self._listening[topic].append(name)
        self.bodies: dict[str, bytes] = {}
        """By ce_id: what was said under it first."""
        self._count = 0

    def store(self, wire: Wire) -> None:
        """Keep one message for every subscription of its topic."""
        check_size(wire)
        if wire.properties["ce_dataschema"].rpartition(":")[0] != f"{SCHEMA_PREFIX}{wire.topic}":
            raise SchemaIncompatible(f"{wire.topic}: {wire.properties['ce_dataschema']}")
        self._count += 1
        stored = Stored(self._count, wire.topic, wire.key, pack(wire))
        identifier = wire.properties["ce_id"]
        if self.bodies.setdefault(identifier, wire.body) != wire.body:
            self.weather.wrong(f"{wire.topic} {identifier} was said with two bodies")
        for name in self._listening[wire.topic]:
            self.feeds[name].lanes[wire.topic, wire.key].append(stored)


class Link:
    """The port, as one process holds it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def publish(self, wires: Sequence[Wire]) -> None:
        """Store all; or, when the connection is lost, some of them and say that it failed."""
        weather = self._memory.weather
        weather.seam("publish")
        if not self._memory.is_up:
            raise Unavailable("the broker is down")
        cut = weather.random.randint(0, len(wires)) if weather.strikes("cut") else None
        for wire in wires[:cut]:
            self._memory.store(wire)
        if cut is not None:
            raise Unavailable(f"the connection was lost after {cut} of {len(wires)}")
        weather.seam("published")

    def subscribe(self, name: str, topics: Sequence[str]) -> Consumer:
        """Share a subscription."""
        return Consumer(self._memory, name)

    def browse(self, topics: Sequence[str], *, earliest: bool) -> Subscription:
        """Nobody browses here."""
        raise NotImplementedError

    def listen(self, topic: str) -> Subscription:
        """Nobody listens here."""
        raise NotImplementedError

    def broadcast(self, topic: str, body: bytes) -> None:
        """Tell nobody, which is what a broadcast may do."""
        if not self._memory.is_up:
            raise Unavailable("the broker is down")

    def schema(self, topic: str, version: str) -> str:
        """Return the committed schema."""
        return SCHEMAS[f"{SCHEMA_PREFIX}{topic}:{version}"]

    def is_connected(self) -> bool:
        """Tell whether the broker answers."""
        return self._memory.is_up

    def close(self) -> None:
        """Leave."""


class Consumer:
    """One process's share of a subscription (Key_Shared): a lane belongs to whoever holds a message of it."""

    def __init__(self, memory: Memory, name: str) -> None:
        self._memory, self._name, self._feed = memory, name, memory.feeds[name]
        self.held: dict[Stored, None] = {}
        memory.consumers[name].append(self)

    def open_lanes(self) -> list[tuple[str, str]]:
        """Name the lanes of which it could be given something now."""
        if not self._memory.is_up:
            return []
        others = [consumer for consumer in self._memory.consumers[self._name] if consumer is not self]
        taken = {(m.topic, m.key) for other in others for m in other.held}
        return [lane for lane, waiting in self._feed.lanes.items() if waiting and lane not in taken]

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Take messages from any lanes, each lane in order."""
        given: list[Stored] = []
        while len(given) < limit and (lanes := self.open_lanes()):
            given.append(self._feed.lanes[self._memory.weather.random.choice(lanes)].popleft())
            self.held[given[-1]] = None
        return [self._delivery(stored) for stored in given]

    @staticmethod
    def _delivery(stored: Stored) -> Delivery:
        wire = unpack(stored.packed)
        return Delivery(wire, wire.properties["ce_dataschema"].rpartition(":")[2], stored)

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Forget messages, unless the acknowledgement is lost on its way."""
        self._memory.weather.seam("ack")
        for delivery in deliveries:
            if delivery.handle in self.held and not self._memory.weather.strikes("ack-lost"):
                del self.held[delivery.handle]
                self._feed.acked.append(delivery.handle)
        self._memory.weather.seam("acked")

    def reconnect(self) -> bool:
        """Have what is not acknowledged delivered again; tell whether there was anything."""
        held, self.held = list(self.held), {}
        self._feed.put_back(held)
        return bool(held)

    def close(self) -> None:
        """Hand everything back and leave."""
        self.reconnect()
        self._memory.consumers[self._name].remove(self)
