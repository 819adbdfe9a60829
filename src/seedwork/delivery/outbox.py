"""Publish what was committed: at once after the commit, and by the sweep when that did not happen.

An outbox row is removed only after the broker confirmed its message: by the next commit, or a second later.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import structlog
from sqlalchemy import Engine, select, update

from pulsaga import faults
from pulsaga.broker import Broker, Wire
from pulsaga.delivery import database, spans
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.tables import outbox, unpack
from pulsaga.delivery.transaction.rows import Delete, change
from pulsaga.delivery.transaction.unit_of_work import Speaker
from pulsaga.errors import NotConfirmed
from pulsaga.telemetry.metrics import PUBLISH, PUBLISHED, UNCONFIRMED
from pulsaga.telemetry.traces import Span
from pulsaga.text import DETAIL_CHARACTERS, printable

log = structlog.get_logger()
SWEEP_PAGE = 500
FIRST_REST_S, LONGEST_REST_S = 0.5, 4.0
LEFT = "left to the sweep"
QUEUE_LIMIT = 10_000
"""Wires that wait for the background publisher; beyond it they are left to the sweep."""


def _oldest(query: Any, count: int) -> Any:
    """Take the rows of the outbox that were due first, but those that a rival has in hand."""
    return query.order_by(outbox.c.due_at).limit(count).with_for_update(skip_locked=True)


def _readable(packed: Iterable[bytes]) -> list[Wire]:
    """Read rows of the outbox; one that is damaged is named, stays, and keeps no other from being published."""
    wires = []
    for one in packed:
        try:
            wires.append(unpack(one))
        except Exception as error:
            log.error(
                "a row of the outbox cannot be read",
                error=printable(str(error), DETAIL_CHARACTERS),
                begins=one[:100].hex(),
            )
    return wires


class RestingTopics:
    """Topics that take no messages while others do, and when each may be tried again. Thread-safe.

    Without it one topic that is full, terminated or has another schema would hold up all others, send by send. While no
    topic takes anything the broker is down, and none rests.
    """

    def __init__(self) -> None:
        self._rests: dict[str, tuple[float, float]] = {}
        """By topic, when its rest is over and how long the next one is."""
        self._successes = 0
        self._suspects: dict[str, int] = {}
        """By topic that was refused, how often another had taken its messages by then."""

    def topics(self) -> frozenset[str]:
        """Return the topics that rest, or are to be tried."""
        return frozenset(self._rests)

    def to_be_tried(self) -> list[str]:
        """Return the topics whose rest is over."""
        now = time.monotonic()
        return [topic for topic, (until, _) in list(self._rests.items()) if until <= now]

    def tried(self, took: AbstractSet[str], refused: AbstractSet[str]) -> None:
        """Note which topics took their messages and which did not; those are tried by the next sweep, then rest, ever
        longer."""
        self._successes += bool(took)
        self.forget(took)
        for topic in refused:
            if self._suspects.setdefault(topic, self._successes - bool(took)) < self._successes:
                _, rest_s = self._rests.get(topic, (0.0, 0.0))
                self._rests[topic] = (time.monotonic() + rest_s, min(LONGEST_REST_S, max(FIRST_REST_S, rest_s * 2)))

    def forget(self, topics: Iterable[str]) -> None:
        """Let topics be published to as usual."""
        for topic in topics if self._rests or self._suspects else ():
            self._rests.pop(topic, None)
            self._suspects.pop(topic, None)


class Outbox:
    """The messages that one process's transactions have committed, until the broker has confirmed them. Thread-safe."""

    def __init__(self, engine: Engine, broker: Broker, speaker: Speaker) -> None:
        self.speaker = speaker
        self._engine, self._broker = engine, broker
        self._confirmed: list[str] = []
        self._lock = threading.Lock()
        self._resting = RestingTopics()
        self._begun: dict[str, Span] = {}
        """By the id of a message that is to be published: the span that ends then."""
        self._later: queue.SimpleQueue[list[Wire]] = queue.SimpleQueue()

    def begin(self, sending: Mapping[str, Span]) -> None:
        """Note the spans, by the ids of messages, that end when these are published."""
        self._begun |= sending

    def publish(self, wires: Sequence[Wire]) -> None:
        """Publish; what is not confirmed, and what goes to a topic that took nothing lately, is left to the sweep."""
        if resting := self._resting.topics():
            self._end([wire for wire in wires if wire.topic in resting], resting)
            wires = [wire for wire in wires if wire.topic not in resting]
        self._publish(wires)

    def _publish(self, wires: Sequence[Wire]) -> None:
        if not wires or faults.reach("publishing", wires):
            return
        topics = {wire.topic for wire in wires}
        begun = time.perf_counter()
        refused = self._refused(wires, topics)
        PUBLISH.observe(time.perf_counter() - begun)
        self._end(wires, refused)
        self._resting.tried(topics - refused, refused)
        confirmed = [wire for wire in wires if wire.topic not in refused]
        PUBLISHED.inc(len(confirmed))
        UNCONFIRMED.inc(len(wires) - len(confirmed))
        if confirmed:
            faults.reach("published", confirmed)
            self.confirm([wire.properties["ce_id"] for wire in confirmed])

    def _refused(self, wires: Sequence[Wire], topics: set[str]) -> AbstractSet[str]:
        """Publish; return the topics that did not take their messages, whatever that was."""
        try:
            self._broker.publish(wires)
        except Exception as error:
            log.warning(
                "not published, left to the sweep", messages=len(wires), error=printable(str(error), DETAIL_CHARACTERS)
            )
            return error.topics if isinstance(error, NotConfirmed) else topics
        return frozenset()

    def _end(self, wires: Sequence[Wire], refused: AbstractSet[str]) -> None:
        """End the spans of messages that were published, or left to the sweep as their topics took nothing."""
        for wire in wires if self._begun else ():
            if span := self._begun.pop(wire.properties["ce_id"], None):
                span.end(LEFT if wire.topic in refused else "")

    def publish_later(self, wires: list[Wire]) -> None:
        """Leave publishing to the background thread; never waits."""
        if self._later.qsize() < QUEUE_LIMIT:
            self._later.put(wires)
        else:
            self._end(wires, {wire.topic for wire in wires})

    def publish_waiting(self, timeout_s: float = 1.0) -> None:
        """Publish what `publish_later` was given, all of it in one batch; the background thread's one turn."""
        try:
            wires = self._later.get(timeout=timeout_s)
            while not self._later.empty() and len(wires) < SWEEP_PAGE:
                wires = wires + self._later.get_nowait()
        except queue.Empty:
            return
        self.publish(wires)

    def clear(self) -> None:
        """Remove the outbox rows of confirmed messages; for times without a next commit."""
        cleared = self.take_confirmed()
        if not cleared:
            return
        faults.reach("clearing")
        try:
            with self._engine.begin() as tx:
                change(tx, [Delete(outbox, cleared)])
        except BaseException as error:
            if verdict(error) != "locked":
                self.confirm(cleared)
            raise

    def sweep(self) -> int:
        """Publish the outbox rows that are due; return how many there were.

        A topic that rests has no part in that: when its rest is over it is tried, after the others, with one message.
        """
        resting = self._resting.topics()
        with self._engine.begin() as tx:
            now = database.now(tx, self.speaker.clock_offset)
            query = select(outbox.c.id, outbox.c.wire).where(outbox.c.due_at <= now, outbox.c.topic.not_in(resting))
            rows = tx.execute(_oldest(query, SWEEP_PAGE)).all()
            if rows:
                taken = outbox.c.id.in_([row.id for row in rows])
                tx.execute(update(outbox).where(taken).values(due_at=now + self.speaker.sweep_after_s))
        if rows:
            log.info("sweep", messages=len(rows))
            wires = _readable([row.wire for row in rows])
            self.begin(spans.sending_again(wires))
            faults.reach("sweeping", wires)
            self._publish(wires)
        tried = self._resting.to_be_tried()
        return len(rows) + (self._try_again(tried) if tried else 0)

    def has_to_try(self) -> bool:
        """Tell whether the rest of a topic is over: its messages may be swept by others, and never be due here."""
        return bool(self._resting.to_be_tried())

    def _try_again(self, tried: Sequence[str]) -> int:
        """Publish one message of each of these topics, and all that is due if one takes it; return how many."""
        with self._engine.begin() as tx:
            queries = [select(outbox.c.wire).where(outbox.c.topic == topic) for topic in tried]
            found = [wire for query in queries for wire in tx.execute(_oldest(query, 1)).scalars()]
        wires = _readable(found)
        self._resting.forget(set(tried) - {wire.topic for wire in wires})  # nobody waits for it
        self._publish(wires)
        if self._resting.topics().issuperset(tried):
            return len(wires)
        self.clear()
        return len(wires) + self.sweep()

    def take_confirmed(self) -> list[str]:
        """Return the ids of confirmed messages whose rows may go; who takes them removes them, or gives them back."""
        with self._lock:
            taken, self._confirmed = self._confirmed, []
        return taken

    def confirm(self, identifiers: list[str]) -> None:
        """Note that the rows of these messages may go."""
        with self._lock:
            self._confirmed += identifiers
