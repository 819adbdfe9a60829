"""Share the messages of one topic among the consumers of one subscription, in order per key (Key_Shared).

Nothing here knows sockets or SQLite. A key belongs to the consumer that holds unacknowledged messages of it; a free key
goes to the consumer that its hash prefers, or to the idlest one when that is full.
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pulsaga.broker.embedded_store import Message

WINDOW = 2000
"""Messages that one consumer may hold unacknowledged."""
WINDOW_BYTES = 64 * 1024 * 1024
LOADED = 10_000
"""Messages that one feed keeps in memory beside those that consumers hold; the rest waits on disk."""
LOADED_BYTES = 64 * 1024 * 1024

Load = Callable[[int, int], Iterable[Message]]
"""Read stored messages: `(after this id, at most so many)`."""


class Consumer:
    """Hold what one consumer was given and has not acknowledged; `push` sends it what it is given anew."""

    def __init__(self, push: Callable[[list[Given]], None]) -> None:
        self.feeds: list[Feed] = []
        self.held: dict[int, Given] = {}
        self.parked: dict[tuple[Feed, str], None] = {}
        self._push = push
        self._outgoing: list[Given] = []
        self._bytes = 0

    @property
    def free(self) -> int:
        """How many more messages it may hold."""
        return WINDOW - len(self.held) if self._bytes < WINDOW_BYTES else 0

    def take(self, feed: Feed, message: Message) -> None:
        """Hold a message and have it pushed."""
        self.held[message.id] = feed, message
        self._bytes += len(message.packed)
        self._outgoing.append((feed, message))

    def flush(self) -> None:
        """Push what it was given since the last time."""
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            self._push(outgoing)

    def resume(self) -> None:
        """Take what waited for room in its window."""
        for feed, key in list(self.parked):
            if not self.free:
                return
            feed.unpark(self, key)

    def leave(self) -> None:
        """Give everything back."""
        for feed in self.feeds:
            feed.leave(self)

    def acknowledge(self, number: int) -> Given | None:
        """Let go of a message; None when it is not held here (any more)."""
        found = self.held.pop(number, None)
        if found is not None:
            feed, message = found
            self._bytes -= len(message.packed)
            feed.acknowledged(message)
        return found


Given = tuple["Feed", Message]


@dataclass(slots=True)
class _Lane:
    """Keep one key together: who has it, how much is unacknowledged, what waits for the holder's window."""

    holder: Consumer
    unacknowledged: int = 0
    parked: deque[Message] = field(default_factory=deque)


class Feed:
    """Hand out one topic to one subscription. `subscription` is None for a browser, which nobody owes anything."""

    def __init__(self, topic: str, load: Load, *, subscription: int | None, after: int = 0) -> None:
        self.topic, self.subscription = topic, subscription
        self.consumers: list[Consumer] = []
        self.served = 0
        """The turn in which it last handed something out; the one that waited longest goes first."""
        self._load, self._after, self._behind = load, after, True
        self._waiting: list[Message] = []
        self._lanes: dict[str, _Lane] = {}
        self._loaded = self._loaded_bytes = 0  # of what waits, for whomever

    @property
    def has_work(self) -> bool:
        """Whether there is anything to hand out as soon as a consumer has room."""
        return bool(self._waiting) or self._behind

    def join(self, consumer: Consumer) -> None:
        """Let one more consumer take part."""
        self.consumers.append(consumer)
        consumer.feeds.append(self)

    def leave(self, consumer: Consumer) -> None:
        """Take back, in order, what a consumer held of this topic and what waited for it."""
        self.consumers.remove(consumer)
        held = [message for feed, message in consumer.held.values() if feed is self]
        for message in held:
            self._keep(message)
        for key in {message.key for message in held} | {key for feed, key in consumer.parked if feed is self}:
            for message in self._lanes.pop(key).parked:
                heapq.heappush(self._waiting, message)

    def arrived(self, messages: Iterable[Message]) -> None:
        """Take what was just stored, unless older messages still wait on disk or memory is full."""
        if not self._behind and not self._full():
            for message in messages:
                self._read(message)
        else:
            self._behind = True

    def acknowledged(self, message: Message) -> None:
        """Forget a message; its key is free when nothing else of it is held or parked."""
        lane = self._lanes[message.key]
        lane.unacknowledged -= 1
        if not lane.unacknowledged and not lane.parked:
            del self._lanes[message.key]

    def hand_out(self) -> bool:
        """Give out all that there is room for; tell whether that was anything."""
        self._refill()
        given = False
        while self._waiting and any(consumer.free for consumer in self.consumers):
            given |= self._place(heapq.heappop(self._waiting))
            if not self._waiting:
                self._refill()
        return given

    def unpark(self, consumer: Consumer, key: str) -> None:
        """Give a consumer that has room again what waited for it."""
        lane = self._lanes[key]
        while lane.parked and consumer.free:
            self._give(lane, lane.parked.popleft())
        if not lane.parked:
            consumer.parked.pop((self, key))

    def _place(self, message: Message) -> bool:
        lane = self._lanes.get(message.key)
        if lane is None:
            lane = self._lanes[message.key] = _Lane(self._choose(message.key))
        if lane.parked or not lane.holder.free:
            lane.parked.append(message)
            lane.holder.parked[self, message.key] = None
            return False
        self._give(lane, message)
        return True

    def _give(self, lane: _Lane, message: Message) -> None:
        self._loaded -= 1
        self._loaded_bytes -= len(message.packed)
        lane.unacknowledged += 1
        lane.holder.take(self, message)

    def _choose(self, key: str) -> Consumer:
        preferred = self.consumers[zlib.crc32(key.encode()) % len(self.consumers)]
        return preferred if preferred.free else max(self.consumers, key=lambda consumer: consumer.free)

    def _full(self) -> bool:
        return self._loaded >= LOADED or self._loaded_bytes >= LOADED_BYTES

    def _refill(self) -> None:
        if self._behind and self._loaded < LOADED // 2 and self._loaded_bytes < LOADED_BYTES // 2:
            there_may_be_more = False
            for message in self._load(self._after, LOADED):
                self._read(message)
                if there_may_be_more := self._full():
                    break
            self._behind = there_may_be_more

    def _read(self, message: Message) -> None:
        self._after = message.id
        self._keep(message)

    def _keep(self, message: Message) -> None:
        self._loaded += 1
        self._loaded_bytes += len(message.packed)
        heapq.heappush(self._waiting, message)
