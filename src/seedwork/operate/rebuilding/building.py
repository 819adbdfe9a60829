"""Build a read model anew from events while the system runs, say how the live one differs, and swap it in.

A live event is not lost: the swap begins with all that its speakers have committed, which is at least what the
projector has acknowledged; an older event that it still has in hand changes nothing later, for the newest row wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from pulsaga.delivery.blame import by_halves, verdict
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.projection import Projection, projected
from pulsaga.errors import DomainError, Unavailable
from pulsaga.operate.rebuilding.events import PAGE, Events, Mark
from pulsaga.operate.rebuilding.shadow import LATE, Difference, Shadow
from pulsaga.text import describe

LOCK_ATTEMPTS = 5
PASSES = 3
"""Times that what came meanwhile is read before the lock is taken: each reads every key there is."""
LAG_S, LOOK_S = 10.0, 0.2
"""Seconds that a projector has to show what it has in hand, before it counts as not shown; how often is looked."""
NAMED = 5
"""Events that are named when some cannot be projected."""


@dataclass(frozen=True)
class Outcome:
    """How the live tables differ, or differed, from what was built, and which are left as they are."""

    differences: Sequence[Difference]
    kept: Sequence[str]

    def __bool__(self) -> bool:
        """Tell whether any differs."""
        return any(self.differences)

    @property
    def counts(self) -> Mapping[str, Any]:
        """How many rows of each table differ."""
        return {one.table: dict(one.counts) for one in self.differences}


@dataclass
class Building:
    """A read model that is built from the events of its speakers."""

    projections: Mapping[type, Projection[Any]]
    shadow: Shadow
    speakers: Mapping[str, Events]
    tell: Callable[[int], object]
    """Told how many events have been read."""
    check: Callable[[], object]
    """Raises where what was read may be true no more."""
    kept: Sequence[str] = ()
    read: int = 0
    _marks: dict[str, Mark] = field(default_factory=dict)

    def build(self) -> None:
        """Read every event there is, then what came meanwhile, while that becomes less; the lock covers the rest."""
        self.shadow.create()
        came = self._catch_up()
        for _ in range(PASSES):
            before, came = came, self._catch_up()
            if came <= PAGE or came >= before:
                break
        self.shadow.analyze()
        self.kept = self.shadow.unfilled()
        self.shadow.leave_out(self.kept)
        if not self.shadow.tables:
            raise DomainError("no-events", f"no event tells anything of {', '.join(self.kept)}: the rows there stay")

    def compared(self, shown: int) -> Outcome:
        """Compare; what is only not shown yet is waited for."""
        with self._locked() as tx:
            found = [(table, table.difference(tx, shown)) for table in self.shadow.tables.values()]
        if any(difference.late for _, difference in found):
            self._wait_for_projector()
            with self.shadow.writing() as tx:
                found = [(table, table.looked_again(tx, difference, shown)) for table, difference in found]
        return Outcome([difference for _, difference in found], self.kept)

    def swapped(self, shown: int) -> Outcome:
        """Compare and swap, in one transaction, which is checked at its end once more: to compare takes a while."""
        with self._locked() as tx:
            differences = [table.difference(tx, shown) for table in self.shadow.tables.values()]
            self.shadow.swap()
            self.check()
        return Outcome(differences, self.kept)

    def _wait_for_projector(self) -> None:
        """Give it time to show what it had in hand; what was built does not change any more."""
        until = monotonic() + LAG_S
        while self._is_late() and monotonic() < until:
            sleep(LOOK_S)

    def _is_late(self) -> bool:
        with self.shadow.writing() as tx:
            return any(any(table.counts(tx, LATE).values()) for table in self.shadow.tables.values())

    # --- events

    def _catch_up(self) -> int:
        """Build from the events that are not read yet, each page in a transaction of its own; return how many."""
        before = self.read
        for page in self._pages():
            with self.shadow.writing() as tx:
                self._add(tx, page)
            self.tell(self.read)
        return self.read - before

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """Hold a transaction in which nothing is projected, once all is built that was told until then."""
        with self._lock() as tx:
            for page in self._pages():
                self._add(tx, page)
            self.check()
            yield tx

    @contextmanager
    def _lock(self) -> Iterator[Connection]:
        """Hold it, after a few attempts where a projector's transaction stands still."""
        with ExitStack() as stack:
            for last in reversed(range(LOCK_ATTEMPTS)):
                try:
                    tx = stack.enter_context(self.shadow.locked())
                    break
                except DBAPIError as error:
                    if not last or verdict(error) not in ("locked", "wait"):
                        raise Unavailable(f"the read model cannot be locked: {describe(error)}") from error
            yield tx

    def _pages(self) -> Iterator[list[Received]]:
        """Yield the events that are not read yet; the mark for the next time is taken before any is read."""
        for owner, events in self.speakers.items():
            since, self._marks[owner] = self._marks.get(owner), events.mark()
            yield from events.pages(since)

    def _add(self, tx: Connection, page: Sequence[Received]) -> None:
        """Write what events become; raise DomainError for those that become nothing that the tables take."""
        troubles: list[str] = []

        def note(received: Received, error: Exception) -> None:
            troubles.append(f"{received.delivery.wire.topic} {received.id}: {describe(error)}")

        by_halves(page, partial(self._write, tx, note), note)
        if troubles:
            raise DomainError("unprojectable", "; ".join(troubles[:NAMED]))
        self.read += len(page)

    def _write(self, tx: Connection, note: Callable[[Received, Exception], object], part: Sequence[Received]) -> None:
        rows, failed = projected(self.projections, part)
        with tx.begin_nested():
            self.shadow.add(rows)
        for received, error in failed:
            note(received, error)
