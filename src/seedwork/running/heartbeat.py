"""Tell that this process lives: a row in its service's write database and a broadcast, every few seconds.

The broadcast reaches the coordinator (`watch`) also while this process's database is down, and the row is there for
operators also while the broker is.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import orjson
import structlog
from sqlalchemy import delete, insert, update

from pulsaga.delivery import database
from pulsaga.delivery.incidents import settle_incidents
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import heartbeat
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.delivery.waiting import FAILURES, backlogs, problems, unpublished
from pulsaga.running.runtime import Runtime
from pulsaga.text import describe
from pulsaga.vitals import OURS

log = structlog.get_logger()

TOPIC = "heartbeats"
"""The ephemeral topic on which processes tell that they live."""
BEAT_S = 5.0
ALIVE_S = 15.0
"""Seconds after its last beat for which a process counts as running."""
KEPT_S = 24 * 3600.0
"""Seconds for which the row of a process that has ended is kept."""
STANDING = ("work-fails", "unpublished")
"""Kinds of incident that a process opens about its own service, and closes when their cause is over."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a process tells of itself. Times are Unix seconds of its machine."""

    id: str
    service: str
    kind: str
    replica: str
    version: str
    address: str | None = None
    started_at: float
    beat_at: float = 0.0
    ended_at: float | None = None
    last_batch_at: float | None = None
    last_error: str | None = None
    waits_since: float | None = None
    waits_for: str | None = None


TEXTS = ("id", "service", "kind", "replica", "version")


def read_beat(body: bytes) -> Beat:
    """Read what was broadcast; raise ValueError for what no process of ours says."""
    given = orjson.loads(body)
    try:
        beat = Beat(**given)
    except TypeError as error:
        raise ValueError(str(error)) from None
    for name, value in given.items():
        kinds = (
            (str,)
            if name in TEXTS
            else (float, int, type(None))
            if name.endswith(("_at", "_since"))
            else (str, type(None))
        )
        if not isinstance(value, kinds):
            raise ValueError(f"{name}: {value!r}")
    return beat


class Heartbeat:
    """The heartbeat of this process, which is one of `kind`; `address` is where it answers operators."""

    def __init__(self, runtime: Runtime, kind: str, address: str | None) -> None:
        self._runtime = runtime
        self._about = Beat(
            id=new_id(),
            service=runtime.service,
            kind=kind,
            replica=f"{socket.gethostname()}:{os.getpid()}",
            version=runtime.system.version,
            address=address,
            started_at=OURS.started_at,
        )
        self._waiting = [FAILURES, *runtime.system[runtime.service].waiting]
        self._stopping = threading.Event()

    @property
    def id(self) -> str:
        """Of this run of this process."""
        return self._about.id

    def run(self) -> None:
        """Beat until `stop`, and say at the end that it is the end."""
        while not self._stopping.wait(BEAT_S if self._about.beat_at else 0.0):
            self.beat()
        self.beat(ended=True)

    def stop(self) -> None:
        """End."""
        self._stopping.set()

    def beat(self, *, ended: bool = False) -> None:
        """Tell once; what of it fails is told the next time, and keeps the rest from nothing."""
        wait = OURS.longest_wait()
        self._about = replace(
            self._about,
            beat_at=time.time(),
            ended_at=time.time() if ended else None,
            last_batch_at=OURS.last_batch_at,
            last_error=OURS.last_error,
            waits_since=wait and wait.since,
            waits_for=wait and wait.what,
        )
        parts = (self._broadcast, self._write) if ended else (self._broadcast, self._write, self._settle)
        if failed := [error for part in parts if (error := _failure_of(part))]:
            OURS.waits(describe(failed[0]))
        else:
            OURS.goes_on()

    def _broadcast(self) -> None:
        self._runtime.broker.broadcast(TOPIC, orjson.dumps(self._about))

    def _write(self) -> None:
        row = {name: value for name, value in asdict(self._about).items() if name != "service"}
        with self._runtime.write.begin() as tx:
            now = database.now(tx, self._runtime.settings.clock_offset)
            row |= {"beat_at": now, "clock_ahead_s": time.time() - now}
            row |= {"ended_at": now} if row["ended_at"] else {}
            if not tx.execute(update(heartbeat).where(heartbeat.c.id == row["id"]).values(row)).rowcount:
                tx.execute(delete(heartbeat).where(heartbeat.c.beat_at < now - KEPT_S))
                tx.execute(insert(heartbeat).values(row))

    def _settle(self) -> None:
        """Open an incident for work of this service that fails for long, and close it when that is over."""

        def work(uow: UnitOfWork) -> None:
            found = problems(backlogs(uow.tx, self._waiting, uow.now), unpublished(uow.tx, uow.now))
            settle_incidents(uow, STANDING, {(kind, subject): (code, detail) for kind, subject, code, detail in found})

        self._runtime.transactions.run(work)


def _failure_of(part: Callable[[], object]) -> Exception | None:
    """Do one part; return what it raised, whatever that is: the others are done all the same."""
    try:
        part()
    except Exception as error:
        return error
    return None
