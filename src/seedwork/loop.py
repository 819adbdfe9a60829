"""Run what runs for ever: receive batches, do duties, and wait out whatever is down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Column, Engine
from sqlalchemy.exc import SQLAlchemyError

from seedwork import database
from seedwork.broker import Delivery, Subscription
from seedwork.errors import Stale, Unavailable
from seedwork.inbox import Received

log = structlog.get_logger()
T = TypeVar("T")
RECEIVE_S = 1.0
LOOK_S = 1.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
DOWN = (Unavailable, Stale, SQLAlchemyError)
"""What blames nobody: the same work is tried again after a pause."""


class Pause:
    """Wait longer each time something is down."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping, self._seconds = stopping, FIRST_PAUSE_S

    def wait(self, down: Exception) -> bool:
        """Wait; return False when the loop is to stop instead."""
        said = str(down).partition("\n")[0][:300]
        log.warning("waiting", seconds=self._seconds, error=f"{type(down).__name__}: {said}")
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
        if batch:
            settle(batch)


def keep_trying(stopping: threading.Event, work: Callable[[], T]) -> T | None:
    """Return what `work` returns once nothing it needs is down; None when the loop is to stop instead."""
    pause = Pause(stopping)
    while True:
        try:
            return work()
        except DOWN as down:
            if not pause.wait(down):
                return None


def _never(_batch: Sequence[Received]) -> bool:
    return False


def _nothing() -> None: ...


@dataclass(frozen=True)
class Duty:
    """Do something beside the loop, and at once after a batch that `woken_by` says yes to.

    That is every `every_s` seconds, or, with `due`, when a row's time in this column of the write database has come;
    a look that finds none calls `calm`.
    """

    name: str
    work: Callable[[], object]
    every_s: float = 1.0
    woken_by: Callable[[Sequence[Received]], bool] = _never
    due: Column[Any] | None = None
    calm: Callable[[], object] = _nothing


class DutyThread(threading.Thread):
    """Run one duty until stopped; an outage is waited out. One that has `due` must be woken."""

    def __init__(self, duty: Duty) -> None:
        super().__init__(name=duty.name, daemon=True)
        self.due, self.calm = duty.due, duty.calm
        self._duty = duty
        self._woken = threading.Event()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Loop until `stop`."""
        while not self._stopping.is_set():
            self._woken.wait(self._duty.every_s if self.due is None else None)
            self._woken.clear()
            if not self._stopping.is_set():
                keep_trying(self._stopping, self._duty.work)

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


class Lookout:
    """Look every `every_s` seconds whether something is due, for all duties at once, and wake those that have it."""

    def __init__(
        self, engine: Engine, clock_offset: float, threads: Iterable[DutyThread], every_s: float = LOOK_S
    ) -> None:
        self._engine, self._every_s = engine, every_s
        self._watched = [(thread, thread.due) for thread in threads if thread.due is not None]
        clock = database.clock_sql(engine.dialect.name, clock_offset)
        looks = [
            f"EXISTS (SELECT 1 FROM {due.table.name} WHERE {due.name} <= {clock})"  # noqa: S608 - our names
            for _, due in self._watched
        ]
        self._query = f"SELECT {', '.join(looks)}"
        self._stopping = threading.Event()

    def run(self) -> None:
        """Loop until `stop`."""
        while not self._stopping.wait(self._every_s):
            keep_trying(self._stopping, self.look)

    def look(self) -> None:
        """Look once."""
        found = database.glance(self._engine, self._query)
        for (thread, _), is_due in zip(self._watched, found, strict=True):
            (thread.wake if is_due else thread.calm)()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
