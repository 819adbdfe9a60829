"""Run what runs for ever: receive batches, do duties, and wait out whatever is down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from sqlalchemy import Column, Engine, text

from pulsaga.broker import Delivery, Subscription
from pulsaga.delivery import database, spans
from pulsaga.delivery.blame import verdict
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.errors import SettingError, Unavailable
from pulsaga.telemetry.metrics import BATCH
from pulsaga.telemetry.vitals import OURS
from pulsaga.text import describe, printable

log = structlog.get_logger()
T = TypeVar("T")
RECEIVE_S = 1.0
LOOK_S = 1.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
SLACK_S = 5.0
"""Seconds by which a wait may be longer than the longest one: clocks of replicas differ, transactions take time."""


class Pause:
    """Wait longer each time something is down."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping, self._seconds = stopping, FIRST_PAUSE_S

    def wait(self, down: Exception) -> bool:
        """Wait; return False when the loop is to stop instead."""
        first_line = str(down).partition("\n")[0]
        said = printable(f"{type(down).__name__}: {first_line}", 300)
        log.warning("waiting", seconds=self._seconds, error=said)
        OURS.waits(said)
        stopped = self._stopping.wait(self._seconds)
        self._seconds = min(LONGEST_PAUSE_S, self._seconds * 2)
        return not stopped


def receive_until(
    stopping: threading.Event, subscription: Subscription, limit: int, settle: Callable[[list[Delivery]], object]
) -> None:
    """Settle batch after batch until `stopping` is set; the batch in hand is finished first."""
    pause = Pause(stopping)
    while not stopping.is_set():
        try:
            batch = subscription.receive(limit, RECEIVE_S)
        except Unavailable as down:
            pause.wait(down)
            continue
        pause = Pause(stopping)
        OURS.goes_on()
        if batch:
            with OURS.at_work(), spans.receiving(batch):
                settle(batch)
            OURS.finished_batch()
            BATCH.labels(threading.current_thread().name).observe(len(batch))


def keep_trying(stopping: threading.Event, work: Callable[[], T]) -> T | None:
    """Return what `work` returns once nothing it needs is down; None when the loop is to stop instead.

    Raise what is nobody's being down: an error of the work itself.
    """
    pause = Pause(stopping)
    while True:
        try:
            done = work()
            OURS.goes_on()
            return done
        except Exception as error:
            if isinstance(error, SettingError) or verdict(error) == "item":
                raise
            if not pause.wait(error):
                return None


def _never(_batch: Sequence[Received]) -> bool:
    return False


def _unwanted() -> bool:
    return False


def _nothing() -> None: ...


@dataclass(frozen=True)
class Due:
    """A column of the write database that says when a row's time has come, and the longest wait there is in seconds.

    A row that would wait longer was written by a clock that has been put right since; its time has come, too.
    """

    column: Column[Any]
    longest_s: float


@dataclass(frozen=True)
class Duty:
    """Work beside the loop, and at once after a batch that `woken_by` says yes to.

    That is every `every_s` seconds, or, with `due`, when a row's time has come or it is `wanted`; a look that finds
    neither calls `calm`.
    """

    name: str
    work: Callable[[], object]
    every_s: float = 1.0
    woken_by: Callable[[Sequence[Received]], bool] = _never
    due: Sequence[Due] = ()
    wanted: Callable[[], bool] = _unwanted
    calm: Callable[[], object] = _nothing


Report = Callable[[str, Exception | None], object]
"""Tell operators that a duty broke, by name and error, or with None that it works again."""


def only_log(_name: str, _error: Exception | None) -> None:
    """Tell nobody but the log."""


class DutyThread(threading.Thread):
    """Run one duty until stopped; an outage is waited out. One that has `due` must be woken.

    Whatever its work raises, the duty is run again, after a pause that grows, and `report` hears of it.
    """

    def __init__(self, duty: Duty, report: Report = only_log) -> None:
        super().__init__(name=duty.name, daemon=True)
        self.due, self.wanted, self.calm = duty.due, duty.wanted, duty.calm
        self._duty, self._report = duty, report
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._pause: Pause | None = None
        """While the last turn broke."""
        self._is_told_of = True
        """Whether operators may think that it breaks: so the process before this one may have left it."""

    def run(self) -> None:
        """Loop until `stop`."""
        while not self._stopping.is_set():
            self._woken.wait(None if self.due else self._duty.every_s)
            self._woken.clear()
            if not self._stopping.is_set():
                self._turn()

    def _turn(self) -> None:
        try:
            with OURS.at_work():
                keep_trying(self._stopping, self._duty.work)
        except SettingError:
            raise
        except Exception as error:
            log.exception("duty broke", duty=self.name)
            OURS.failed(f"{self.name}: {describe(error)}")
            self._is_told_of = True
            self._tell(error)
            self._pause = self._pause or Pause(self._stopping)
            self._pause.wait(error)
            self._woken.set()
        else:
            self._pause = None
            if self._is_told_of:
                self._is_told_of = False
                self._tell(None)

    def _tell(self, error: Exception | None) -> None:
        """Report; what cannot be reported was logged, and is reported when the duty breaks again."""
        try:
            self._report(self.name, error)
        except Exception:
            log.exception("not reported", duty=self.name)

    def handled(self, batch: Sequence[Received]) -> None:
        """Run the duty at once when this batch gives it something to do."""
        if self._duty.woken_by(batch):
            self.wake()

    def wake(self) -> None:
        """Run the duty now."""
        self._woken.set()

    def stop(self) -> None:
        """End after the turn in hand."""
        self._stopping.set()
        self._woken.set()


Hear = Callable[[Any], object]
NOBODY: Mapping[str, Hear] = MappingProxyType({})


class Lookout:
    """Look every `every_s` seconds whether something is due, for all duties at once, and wake those that have it."""

    def __init__(
        self,
        engine: Engine,
        clock_offset: float,
        threads: Iterable[DutyThread],
        every_s: float = LOOK_S,
        asked: Mapping[str, Hear] = NOBODY,
    ) -> None:
        """`asked` are further queries for one value each, with who hears it at every look."""
        self._engine, self._every_s = engine, every_s
        self._threads = [thread for thread in threads if thread.due]
        self._watched = [(thread, due) for thread in self._threads for due in thread.due]
        self._clock = database.clock_sql(engine.dialect.name, clock_offset)
        looks = [self._exists(due, when) for when in (self._has_come, self._is_too_far) for _, due in self._watched]
        self._hearing = list(asked.values())
        self._query = f"SELECT {', '.join([*looks, *(f'({query})' for query in asked)])}"
        self._stopping = threading.Event()

    def _has_come(self, due: Due) -> str:
        return f"{due.column.name} <= {self._clock}"

    def _is_too_far(self, due: Due) -> str:
        return f"{due.column.name} > {self._clock} + {float(due.longest_s) + SLACK_S!r}"

    def _exists(self, due: Due, when: Callable[[Due], str]) -> str:
        return f"EXISTS (SELECT 1 FROM {due.column.table.name} WHERE {when(due)})"  # noqa: S608 - our names

    def run(self) -> None:
        """Loop until `stop`."""
        while not self._stopping.wait(self._every_s):
            with OURS.at_work():
                keep_trying(self._stopping, self.look)

    def look(self) -> None:
        """Look once."""
        found = database.glance(self._engine, self._query)
        count = len(self._watched)
        woken = set()
        looked, heard = found[: 2 * count], found[2 * count :]
        for (thread, due), is_due, is_too_far in zip(self._watched, looked[:count], looked[count:], strict=True):
            if is_too_far:
                self._bring_forward(due)
            if is_due or is_too_far:
                woken.add(thread)
        for thread in self._threads:
            (thread.wake if thread in woken or thread.wanted() else thread.calm)()
        for hear, value in zip(self._hearing, heard, strict=True):
            hear(value)

    def _bring_forward(self, due: Due) -> None:
        """Let what waits for a time that no wait reaches be due now, but for what another transaction holds."""
        table, column, which = due.column.table.name, due.column.name, self._is_too_far(due)
        if self._engine.dialect.name == "postgresql":
            which = f"ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {which} FOR UPDATE SKIP LOCKED))"  # noqa: S608
        with self._engine.begin() as tx:
            moved = tx.execute(text(f"UPDATE {table} SET {column} = {self._clock} WHERE {which}"))  # noqa: S608 - our names
        log.warning("brought forward what waited longer than anything may", table=table, rows=moved.rowcount)

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
