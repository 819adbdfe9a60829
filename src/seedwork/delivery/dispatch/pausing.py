"""Leave messages of paused types at the broker: a worker does not subscribe to their topics until they are resumed.

So they wait in order, are no attempts and hold up no other type; what was received and not acknowledged is handed out
again. The table `pause` is the truth; every replica looks there each second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence

import structlog
from sqlalchemy import ColumnElement, Engine, or_, select

from pulsaga.broker import Delivery, Subscription
from pulsaga.delivery.tables import failure, pause

log = structlog.get_logger()
EVERYTHING = "*"
"""Stands among the topics for all of a service's."""
PAUSED = {
    "postgresql": "SELECT string_agg(topic, ' ') FROM pause",
    "sqlite": "SELECT group_concat(topic, ' ') FROM pause",
}
"""What is paused, as one value for a `Lookout`: topics have no spaces."""


def topics_of(found: str | None) -> frozenset[str]:
    """Read what `PAUSED` selects."""
    return frozenset((found or "").split())


def paused_topics(engine: Engine) -> frozenset[str]:
    """Ask a write database what is paused."""
    with engine.connect() as connection:
        return frozenset(connection.execute(select(pause.c.topic)).scalars())


def is_paused() -> ColumnElement[bool]:
    """Select the failures that wait for their type to be resumed."""
    return select(pause.c.topic).where(or_(pause.c.topic == EVERYTHING, pause.c.topic == failure.c.topic)).exists()


class PausableSubscription:
    """A subscription to those of its topics that are not paused; `subscribe` opens one for some of them.

    One thread receives and acknowledges, any thread may `pause`. Between two receives nothing is in hand, so there the
    one subscription is closed and the next is opened. What comes while `pause` is called is handed back.
    """

    def __init__(
        self, subscribe: Callable[[Sequence[str]], Subscription], topics: Sequence[str], paused: Collection[str]
    ) -> None:
        self._subscribe, self._topics, self._paused = subscribe, topics, frozenset(paused)
        self._open: Subscription | None = None
        self.opened: list[str] = []
        """Topics that it is subscribed to now."""
        self._changed = threading.Event()
        self._follow()

    def pause(self, topics: Collection[str]) -> None:
        """Say which topics are paused from now on, all of them where EVERYTHING is among them."""
        if frozenset(topics) != self._paused:
            log.info("paused", topics=" ".join(sorted(topics)) or "none")
            self._paused = frozenset(topics)
            self._changed.set()

    def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Receive what is not paused, as a Subscription does."""
        self._changed.clear()
        self._follow()
        if self._open is None:
            self._changed.wait(timeout_s)
            return []
        came = self._open.receive(limit, timeout_s)
        if self._wanted() == self.opened:
            return came
        self.close()
        return []

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge what the last `receive` gave."""
        if self._open is not None:
            self._open.ack(deliveries)

    def close(self) -> None:
        """Hand what was not acknowledged to the other consumers."""
        if self._open is not None:
            self._open.close()
        self._open, self.opened = None, []

    def _wanted(self) -> list[str]:
        paused = self._paused
        return [] if EVERYTHING in paused else [topic for topic in self._topics if topic not in paused]

    def _follow(self) -> None:
        wanted = self._wanted()
        if wanted != self.opened:
            self.close()
            self._open = self._subscribe(wanted) if wanted else None
            self.opened = wanted
