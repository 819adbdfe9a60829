"""See that a service is silent long before a deadline passes: the oldest unanswered command, against what is usual."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, Select, Table, func, select, union_all

from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.incidents import settle_incidents
from pulsaga.delivery.loop import Duty
from pulsaga.delivery.messages import UUID7, made_at
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.tables import saga, saga_branch, target
from pulsaga.telemetry.metrics import ANSWERED

if TYPE_CHECKING:
    from pulsaga.running.runtime import Runtime

LOOK_S, SELDOM = 5.0, 20.0
"""Seconds between two looks; a look that takes long is followed by a rest of so many times that."""
SHORTEST_S = 10.0
"""Seconds of silence that are nothing to speak of, however fast a service usually is."""
DEVIATIONS = 4.0
"""Mean deviations beyond the mean: RFC 6298 waits as long before it takes a segment for lost."""
MEAN_SHARE, DEVIATION_SHARE = 1 / 8, 1 / 4
"""Weight of one answer in the mean and in its deviation (RFC 6298, 2.3)."""
KIND = "silent"


@dataclass
class Usual:
    """How long a service usually takes to answer, in seconds: mean and mean deviation, smoothed as in RFC 6298."""

    mean_s: float | None = None
    spread_s: float = 0.0

    def learn(self, seconds: float) -> None:
        """Take one answer into account. One that came late, as after an outage, counts for what is barely unusual."""
        if self.mean_s is None:
            self.mean_s, self.spread_s = seconds, seconds / 2
            return
        seconds = min(seconds, self.patience_s)
        self.spread_s += DEVIATION_SHARE * (abs(self.mean_s - seconds) - self.spread_s)
        self.mean_s += MEAN_SHARE * (seconds - self.mean_s)

    @property
    def patience_s(self) -> float:
        """Seconds of silence after which something is wrong."""
        return max(SHORTEST_S, (self.mean_s or 0.0) + DEVIATIONS * self.spread_s)


class Silence(NamedTuple):
    """What a service owes: how many answers, the oldest for how long, and how long that usually takes; in seconds."""

    target: str
    unanswered: int
    oldest_s: float
    usual: Usual

    @property
    def is_unusual(self) -> bool:
        """Whether an operator should look."""
        return self.oldest_s > self.usual.patience_s

    @property
    def said(self) -> str:
        """What is the matter, in words."""
        mean_s = self.usual.mean_s
        usually = "it has never answered yet" if mean_s is None else f"usually {mean_s:.1f} s"
        return f"{self.unanswered} commands are unanswered, the oldest for {self.oldest_s:.0f} s ({usually})"


def silences(tx: Connection, coordinator: str) -> list[Silence]:
    """Return what each service owes, by the clock of machines, which ids of commands have.

    Children of sagas take what time they take, and are left out.
    """
    asked = union_all(*(_asked(table) for table in (saga, saga_branch))).subquery()
    owed = select(asked.c.target, func.count(), func.min(asked.c.at)).group_by(asked.c.target)
    known = usual_of(tx)
    return [
        Silence(name, count, max(0.0, time.time() - at), known.get(name, Usual()))
        for name, count, at in tx.execute(owed.where(asked.c.target != coordinator).order_by(asked.c.target))
    ]


def _asked(table: Table) -> Select[tuple[str, float]]:
    at = func.coalesce(table.c.asked_at, table.c.resend_at).label("at")  # rows of before 0005 do not say
    return select(table.c.target, at).where(table.c.resend_at.is_not(None))


def usual_of(tx: Connection) -> Mapping[str, Usual]:
    """Return how long each service usually takes."""
    rows = tx.execute(select(target.c.name, target.c.usual_s, target.c.spread_s))
    return {name: Usual(mean_s, spread_s or 0.0) for name, mean_s, spread_s in rows}


class Answers:
    """How long services took to answer since it was last written down; one worker's share."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}

    def note(self, batch: Sequence[Received]) -> bool:
        """Take the answers of a batch into account; nothing has to be done at once."""
        now = time.time()
        for reply in (r.message for r in batch if r.message):
            if reply.command_id is None or not UUID7.fullmatch(reply.command_id):
                continue
            seconds = max(0.0, now - made_at(reply.command_id))
            self._taken.setdefault(reply.contract.owner, []).append(seconds)
            ANSWERED.labels(reply.contract.owner).observe(seconds)
        return False

    def write(self, uow: UnitOfWork) -> None:
        """Write down what is usual now."""
        taken, self._taken = self._taken, {}
        uow.load((target, name) for name in taken)
        for name, seconds in sorted(taken.items()):
            row = uow.get(target, name) or {"name": name, "probe_at": 0.0, "usual_s": None, "spread_s": None}
            usual = Usual(row["usual_s"], row["spread_s"] or 0.0)
            for one in seconds:
                usual.learn(one)
            uow.put(target, {**row, "usual_s": usual.mean_s, "spread_s": usual.spread_s})


class SilenceWatch:
    """Keeps an incident open while a service owes an answer for unusually long."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self.answers, self._look_at = runtime, Answers(), 0.0

    def look(self) -> None:
        """Look, the more seldom the longer it takes."""
        if (begun := time.monotonic()) < self._look_at:
            return
        self._runtime.transactions.run(self.settle)
        self._look_at = time.monotonic() + SELDOM * (time.monotonic() - begun)

    def settle(self, uow: UnitOfWork) -> None:
        """Write down what is usual, and open and close incidents."""
        self.answers.write(uow)
        found = [one for one in silences(uow.tx, self._runtime.system.name) if one.is_unusual]
        settle_incidents(uow, (KIND,), {(KIND, one.target): ("unanswered", one.said) for one in found})


def watch_silence(runtime: Runtime) -> Duty:
    """Watch over the silence of services, in a worker of the coordinator."""
    watch = SilenceWatch(runtime)
    return Duty("silence", watch.look, every_s=LOOK_S, woken_by=watch.answers.note)
