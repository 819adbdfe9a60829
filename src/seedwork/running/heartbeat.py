"""Tell that this process lives: a row in its service's write database and a broadcast, every few seconds.

The broadcast reaches the coordinator (`watch`) also while this process's database is down, and the row is there for
operators also while the broker is.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial

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
from pulsaga.telemetry.vitals import OURS
from pulsaga.text import describe

log = structlog.get_logger()

TOPIC = "heartbeats"
"""The ephemeral topic on which processes tell that they live."""
BEAT_S = 5.0
ALIVE_S = 15.0
"""Seconds after its last beat for which a process counts as running."""
WAITS_S = 10.0
"""Seconds for which a process may wait for something before operators hear of it."""
KEPT_S = 3600.0
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


NAMES = frozenset(one.name for one in fields(Beat))
TEXTS = ("id", "service", "kind", "replica", "version")


def read_beat(body: bytes) -> Beat:
    """Read what was broadcast; raise ValueError for what no process of ours says."""
    given = orjson.loads(body)
    if not isinstance(given, dict):
        raise ValueError("no object")
    given = {name: value for name, value in given.items() if name in NAMES}  # a newer release may say more
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


Hears = Mapping[str, int]
"""How many processes are heard, by service and kind with a space between."""


class Heartbeat:
    """The heartbeat of this process, which is one of `kind`; `address` is where it answers operators.

    The broadcast and the row go each at their own pace: a database that hangs must not silence the process.
    """

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
        self._told = runtime.system.told_once(runtime.service)
        self._stopping = threading.Event()
        self.hears: Callable[[], Hears | None] = lambda: None

    @property
    def id(self) -> str:
        """Of this run of this process."""
        return self._about.id

    def stop(self) -> None:
        """End both loops; each says at its end that the process ends."""
        self._stopping.set()

    def broadcast(self) -> None:
        """Broadcast every few seconds until `stop`."""
        self._repeat(self.tell)

    def write(self) -> None:
        """Write the row, and settle the incidents of this service, every few seconds until `stop`."""
        self._repeat(self.note)

    def _repeat(self, work: Callable[[bool], object]) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            _waiting_for(partial(work, False))
            pause_s = BEAT_S
        _waiting_for(partial(work, True))

    def tell(self, is_end: bool = False) -> None:
        """Broadcast once."""
        self._runtime.broker.broadcast(TOPIC, orjson.dumps(self._now(is_end)))

    def _now(self, is_end: bool) -> Beat:
        wait, now = OURS.longest_wait(), time.time()
        return replace(
            self._about,
            beat_at=now,
            ended_at=now if is_end else None,
            last_batch_at=OURS.last_batch_at,
            last_error=OURS.last_error,
            waits_since=wait and wait.since,
            waits_for=wait and wait.what,
        )

    def note(self, is_end: bool = False) -> None:
        """Write the row once, and settle the incidents of this service."""
        self._write(is_end)
        if not is_end:
            self._runtime.transactions.run(self._settle)

    def _write(self, is_end: bool) -> None:
        row = {name: value for name, value in asdict(self._now(is_end)).items() if name != "service"}
        hears = self.hears()
        with self._runtime.write.begin() as tx:
            now = database.now(tx, self._runtime.settings.clock_offset)
            row |= {"beat_at": now, "ended_at": now if is_end else None, "clock_ahead_s": time.time() - now}
            row["hears"] = None if hears is None else orjson.dumps(hears).decode()
            if not tx.execute(update(heartbeat).where(heartbeat.c.id == row["id"]).values(row)).rowcount:
                tx.execute(delete(heartbeat).where(heartbeat.c.beat_at < now - KEPT_S))
                tx.execute(insert(heartbeat).values(row))

    def _settle(self, uow: UnitOfWork) -> None:
        """Open an incident for work of this service that fails for long, and close it when that is over."""
        found = problems(backlogs(uow.tx, self._waiting, uow.now), unpublished(uow.tx, told=self._told))
        settle_incidents(uow, STANDING, {(kind, subject): (code, detail) for kind, subject, code, detail in found})


def _waiting_for(work: Callable[[], object]) -> None:
    """Do something; whatever it raises, this thread waits for it to be over, and says so."""
    try:
        work()
    except Exception as error:
        OURS.waits(describe(error))
    else:
        OURS.goes_on()
