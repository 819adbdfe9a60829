"""Watch over the processes of a whole system, in the coordinator's: fewer than are to run, or one that waits, is an
incident of the coordinator that ends by itself.

Heartbeats come by broadcast: the databases of other services are theirs. While this process does not hear its own, it
is the broker that is silent, and nothing is said of the others.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
import structlog
from sqlalchemy import select

from pulsaga.broker import Subscription
from pulsaga.delivery.incidents import settle_incidents
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339
from pulsaga.running.heartbeat import ALIVE_S, BEAT_S, TOPIC, WAITS_S, Beat, Hears, read_beat
from pulsaga.running.runtime import Runtime
from pulsaga.saga.tables import expected
from pulsaga.text import describe, printable

log = structlog.get_logger()

RECEIVE_S = 1.0
FORGOTTEN_AFTER_S = 600.0
"""Seconds after which a process that was heard no more is forgotten."""
RESTARTS = 5
"""Processes of a kind beyond twice as many as are to run that may end within FORGOTTEN_AFTER_S: a deployment or two."""
PROCESSES = ("process-missing", "process-restarts", "process-waits")
WATCHED = (*PROCESSES, "broker-silent")
"""Kinds of incident that a watch opens and closes."""
NOT_HEARD = ("not-heard", "what this process broadcasts does not come back to it")
Problem = tuple[tuple[str, str], tuple[str, str]]
"""Kind and subject of an incident, code and detail."""


@dataclass(frozen=True)
class Heard:
    """A beat, and when it was heard by the monotonic clock."""

    at: float
    beat: Beat


class Count(NamedTuple):
    """How many processes of one kind are to run, how many do, and how many have been missed for a while.

    `restarting` is how many have ended lately, if that is too often; else 0.
    """

    service: str
    kind: str
    expected: int
    running: int
    missing: int
    restarting: int = 0


@dataclass
class Register:
    """Who was heard, by the id of the process's run. `since` is when listening began."""

    own_id: str
    since: float
    heard: dict[str, Heard] = field(default_factory=dict)

    def hear(self, beat: Beat, now: float) -> None:
        """Note a beat. Whoever hears itself anew, after the broker was away, gives the others their time."""
        if beat.id == self.own_id and self.is_deaf(now):
            self.since = now
        self.heard[beat.id] = Heard(now, beat)
        for gone in [key for key, one in self.heard.items() if one.at < now - FORGOTTEN_AFTER_S]:
            del self.heard[gone]

    def is_deaf(self, now: float) -> bool:
        """Tell whether this process's own beats do not come back."""
        own = self.heard.get(self.own_id)
        return (own.at if own else self.since) < now - ALIVE_S

    def running(self, now: float) -> Mapping[tuple[str, str], Sequence[Heard]]:
        """Return the processes that count as running, by service and kind."""
        found: defaultdict[tuple[str, str], list[Heard]] = defaultdict(list)
        for one in self.heard.values():
            if one.beat.ended_at is None and one.at >= now - ALIVE_S:
                found[one.beat.service, one.beat.kind].append(one)
        return found

    def problems(self, wanted: Mapping[tuple[str, str], int], now: float) -> Iterator[Problem]:
        """Yield what is wrong, given how many processes are to run by service and kind."""
        for one in (one for one in self.counts(wanted, now) if one.missing):
            detail = f"{one.running} of {one.expected} run; {self._last(one.service, one.kind)}"
            yield ("process-missing", f"{one.service} {one.kind}"), ("too-few", detail)
        for one in (one for one in self.counts(wanted, now) if one.restarting):
            detail = f"{one.restarting} have ended within {FORGOTTEN_AFTER_S / 60:.0f} minutes"
            yield ("process-restarts", f"{one.service} {one.kind}"), ("again-and-again", detail)
        yield from self._waits(now)

    def counts(self, wanted: Mapping[tuple[str, str], int], now: float) -> Iterator[Count]:
        """Count the processes of each kind that is to run."""
        running = self.running(now)
        for (service, kind), count in wanted.items():
            runs = len(running.get((service, kind), ()))
            is_missed = runs < count and self._is_missed(service, kind, now)
            ended = len(self._gone(service, kind, now))
            restarting = ended if ended >= RESTARTS + 2 * count else 0
            yield Count(service, kind, count, runs, count - runs if is_missed else 0, restarting)

    def _waits(self, now: float) -> Iterator[Problem]:
        for one in (one for group in self.running(now).values() for one in group):
            beat = one.beat
            if beat.waits_since and beat.waits_for and beat.beat_at - beat.waits_since >= WAITS_S:
                code = beat.waits_for.partition(":")[0]
                yield ("process-waits", f"{beat.service} {beat.kind} {beat.replica}"), (code, beat.waits_for)

    def _of(self, service: str, kind: str) -> list[Heard]:
        return [one for one in self.heard.values() if (one.beat.service, one.beat.kind) == (service, kind)]

    def _is_missed(self, service: str, kind: str, now: float) -> bool:
        """Tell whether one went so long ago that another would have come."""
        return max([self.since, *self._gone(service, kind, now)]) < now - ALIVE_S

    def _gone(self, service: str, kind: str, now: float) -> list[float]:
        """Return when those were heard last that run no more."""
        known = self._of(service, kind)
        return [one.at for one in known if one.beat.ended_at is not None or one.at < now - ALIVE_S]

    def _last(self, service: str, kind: str) -> str:
        last = max(self._of(service, kind), key=lambda one: one.at, default=None)
        if last is None:
            return "none was heard"
        how = "ended" if last.beat.ended_at is not None else "was last heard"
        return f"{last.beat.replica} {how} at {rfc3339(last.beat.beat_at)}"


class Watch:
    """Listen to the heartbeats of all processes, and settle the incidents about them."""

    def __init__(self, runtime: Runtime, kind: str, own_id: str) -> None:
        self._runtime = runtime
        self._register = Register(own_id, time.monotonic())
        self._silent = ("broker-silent", f"the broker, to {runtime.service} {kind}")
        self._wanted: Mapping[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def hears(self) -> Hears | None:
        """Return how many processes of each kind are heard; None while this one does not hear itself."""
        now = time.monotonic()
        with self._lock:
            if self._register.is_deaf(now) or self._register.own_id not in self._register.heard:
                return None
            return {f"{service} {kind}": len(found) for (service, kind), found in self._register.running(now).items()}

    def shown(self) -> bytes:
        """Return the last beat of every process that runs, as JSON; while nothing is heard, of those before."""
        now = time.monotonic()
        with self._lock:
            own = self._register.heard.get(self._register.own_id)
            running = self._register.running(own.at if own and self._register.is_deaf(now) else now)
            return orjson.dumps([one.beat for found in running.values() for one in found])

    def stop(self) -> None:
        """End both loops."""
        self._stopping.set()

    def listen(self) -> None:
        """Listen until `stop`, whatever happens to the broker."""
        while not self._stopping.is_set():
            try:
                self._hear(self._runtime.broker.listen(TOPIC))
            except Exception as down:
                log.warning("not listening", topic=TOPIC, error=describe(down))
                self._stopping.wait(BEAT_S)

    def _hear(self, subscription: Subscription) -> None:
        try:
            while not self._stopping.is_set():
                for delivery in (heard := subscription.receive(500, RECEIVE_S)):
                    self._note(delivery.wire.body)
                subscription.ack(heard)
                if self._register.is_deaf(time.monotonic()) and self._runtime.broker.is_connected():
                    return  # the broker is back, and may have forgotten that we listen
        finally:
            subscription.close()

    def _note(self, body: bytes) -> None:
        try:
            beat = read_beat(body)
        except ValueError as error:
            log.warning("no heartbeat of ours", error=printable(str(error), 200))
            return
        with self._lock:
            self._register.hear(beat, time.monotonic())

    def look(self) -> None:
        """Settle the incidents every few seconds until `stop`."""
        while not self._stopping.wait(BEAT_S):
            try:
                self._runtime.transactions.run(self._settle)
            except Exception as down:
                log.warning("incidents about processes were not kept", error=describe(down))

    def is_deaf(self) -> bool:
        """Tell whether what this process broadcasts does not come back to it."""
        with self._lock:
            return self._register.is_deaf(time.monotonic())

    def counts(self) -> list[Count]:
        """Count the processes that were to run at the last look into the database."""
        with self._lock:
            return list(self._register.counts(self._wanted, time.monotonic()))

    def _settle(self, uow: UnitOfWork) -> None:
        now = time.monotonic()
        rows = uow.tx.execute(select(expected.c.service, expected.c.kind, expected.c.count))
        self._wanted = {(service, kind): count for service, kind, count in rows}
        if self._register.since > now - ALIVE_S:  # who beats may not have been heard yet
            return
        with self._lock:
            deaf, found = self._register.is_deaf(now), dict(self._register.problems(self._wanted, now))
        settle_incidents(uow, ("broker-silent",), {self._silent: NOT_HEARD} if deaf else {}, of=self._silent[1])
        if not deaf:  # else nothing is known of the others
            settle_incidents(uow, PROCESSES, found)
