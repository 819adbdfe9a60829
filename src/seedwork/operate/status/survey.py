"""Ask every database and the broker, all at once, how a system is; what does not answer holds up nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import orjson
from sqlalchemy import Connection, Engine, Select, func, select

from pulsaga.broker import Owed, connect_admin
from pulsaga.delivery import database
from pulsaga.delivery.database import open_database
from pulsaga.delivery.tables import dead_letter, heartbeat, incident, pause
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.waiting import FAILURES, Backlog, backlogs, unpublished
from pulsaga.running.gauges import live_sagas
from pulsaga.running.heartbeat import ALIVE_S
from pulsaga.saga.silence import Silence, silences
from pulsaga.saga.tables import expected
from pulsaga.service import Service
from pulsaga.settings import Settings, Side
from pulsaga.system import System
from pulsaga.text import printable

A = TypeVar("A", bound="Asked")
T = TypeVar("T")
SAID_CHARACTERS = 300
ANSWER_WITHIN_S = 8.0
"""Seconds after which what was asked is taken to be down."""
RECENT_S = 900.0
"""Seconds for which an incident that is over is shown."""


def is_alive(beat: Row, now: float) -> bool:
    """Tell by its heartbeat whether a process runs; `now` is by the clock of its database."""
    return beat["ended_at"] is None and bool(beat["beat_at"] >= now - ALIVE_S)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one part of the system said, or why it did not."""

    down: str = ""


@dataclass(frozen=True, kw_only=True)
class Letters:
    """Open dead letters of one message type and reason."""

    topic: str
    reason: str
    count: int
    oldest_s: float


@dataclass(frozen=True, kw_only=True)
class Write(Asked):
    """A service's write database. Ages are seconds by its clock."""

    now: float = 0.0
    beats: Sequence[Row] = ()
    outbox: Backlog = Backlog("unpublished")
    waiting: Sequence[Backlog] = ()
    letters: Sequence[Letters] = ()
    pauses: Sequence[Row] = ()
    """Message types that its workers do not take, `*` for all, with who said so and why."""
    incidents: Sequence[Row] = ()
    """Those that are open, and those that were closed lately."""


@dataclass(frozen=True, kw_only=True)
class Read(Asked):
    """A service's read database."""

    unprojected: Backlog = Backlog("unprojected")


@dataclass(frozen=True, kw_only=True)
class Sagas(Asked):
    """What the coordinator's write database knows of the whole."""

    now: float = 0.0
    live: Sequence[tuple[str, str, int, float]] = ()
    """Workflow, status, number, and the oldest move in Unix seconds."""
    silences: Sequence[Silence] = ()
    expected: Mapping[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """How many processes of a service and a kind are to run, and since when."""
    hears: Mapping[str, int] = field(default_factory=dict)
    """How many run as the coordinator hears them, by service and kind with a space between."""


@dataclass(frozen=True, kw_only=True)
class Broker(Asked):
    """What the broker owes."""

    owed: Sequence[Owed] = ()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All of it at one time, in Unix seconds."""

    system: str
    at: float
    write: Mapping[str, Write]
    read: Mapping[str, Read]
    sagas: Sagas
    broker: Broker
    unreached: Mapping[str, str] = field(default_factory=dict)
    """Services of which no process answered operators, and why; of these nothing else is known."""


def survey(system: System, settings: Settings) -> Picture:
    """Ask everything at once."""
    said, down = at_once(questions(system, settings), ANSWER_WITHIN_S)

    def of(cls: type[A], *key: str) -> A:
        return cast(A, said[key]) if key in said else cls(down=down[key])

    return Picture(
        system=system.name,
        at=time.time(),
        write={name: of(Write, "write", name) for name in system.names},
        read={service.name: of(Read, "read", service.name) for service in system.all if service.projections},
        sagas=of(Sagas, "sagas"),
        broker=of(Broker, "broker"),
    )


def questions(system: System, settings: Settings) -> dict[tuple[str, ...], Callable[[], Asked]]:
    """Return what is asked of the broker, about the sagas, and of each database by side and service."""
    asked: dict[tuple[str, ...], Callable[[], Asked]] = {
        ("broker",): partial(_broker, settings),
        ("sagas",): partial(_sagas, system, settings),
    }
    for service in system.all:
        asked["write", service.name] = partial(_write, system, settings, service)
        if service.projections:
            asked["read", service.name] = partial(_read, settings, service)
    return asked


def at_once(asked: Mapping[Any, Callable[[], T]], within_s: float) -> tuple[dict[Any, T], dict[Any, str]]:
    """Ask in a thread each; return by key what was said, and why nothing was."""
    said: dict[Any, T] = {}
    down: dict[Any, str] = {}

    def ask(key: Any, question: Callable[[], T]) -> None:
        try:
            said[key] = question()
        except Exception as error:  # whatever it raises, it is about this part alone
            cause = getattr(error, "orig", None) or error
            down[key] = printable(f"{type(cause).__name__}: {str(cause).strip()}".partition("\n")[0], SAID_CHARACTERS)

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in asked.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    heard = said.copy()
    return heard, {key: down.get(key, f"no answer within {within_s:g} s") for key in asked if key not in heard}


def _asking(settings: Settings, service: str, side: Side, ask: Callable[[Connection], Asked]) -> Asked:
    engine: Engine = open_database(settings, service, side, "reader")
    try:
        with engine.connect() as tx:
            return ask(tx)
    finally:
        engine.dispose()


def _write(system: System, settings: Settings, service: Service) -> Asked:
    def ask(tx: Connection) -> Asked:
        now = database.now(tx, settings.clock_offset)
        recent = incident.c.closed_at.is_(None) | (incident.c.closed_at > now - RECENT_S)
        return Write(
            now=now,
            beats=_rows(tx, select(heartbeat).order_by(heartbeat.c.kind, heartbeat.c.started_at)),
            outbox=unpublished(tx, told=system.told_once(service.name)),
            waiting=backlogs(tx, [FAILURES, *service.waiting], now),
            letters=_letters(tx, now),
            pauses=_rows(tx, select(pause).order_by(pause.c.at)),
            incidents=_rows(tx, select(incident).where(recent).order_by(incident.c.at).limit(MOST)),
        )

    return _asking(settings, service.name, "write", ask)


def _rows(tx: Connection, query: Select[Any]) -> list[Row]:
    return [dict(row) for row in tx.execute(query).mappings()]


MOST = 1000
"""Incidents of one service that are looked at: what they are about is said by the oldest."""


def _letters(tx: Connection, now: float) -> list[Letters]:
    """Count open letters by message type and class of their error, the largest group first."""
    kind = func.substr(dead_letter.c.error, 1, KIND_CHARACTERS)
    found = select(dead_letter.c.topic, kind, func.count(), func.min(dead_letter.c.at))
    counts: dict[tuple[str, str], tuple[int, float]] = {}
    for topic, why, count, at in tx.execute(
        found.where(dead_letter.c.outcome.is_(None)).group_by(dead_letter.c.topic, kind)
    ):
        key = topic, why.partition(":")[0]
        known, oldest = counts.get(key, (0, at))
        counts[key] = known + count, min(oldest, at)
    groups = [
        Letters(topic=topic, reason=reason, count=count, oldest_s=now - at)
        for (topic, reason), (count, at) in counts.items()
    ]
    return sorted(groups, key=lambda group: -group.count)


KIND_CHARACTERS = 40
"""Of an error: its class stands at its beginning."""


def _read(settings: Settings, service: Service) -> Asked:
    def ask(tx: Connection) -> Asked:
        (unprojected,) = backlogs(tx, [FAILURES], database.now(tx, settings.clock_offset))
        return Read(unprojected=unprojected._replace(name="unprojected"))

    return _asking(settings, service.name, "read", ask)


def _sagas(system: System, settings: Settings) -> Asked:
    def ask(tx: Connection) -> Asked:
        now = database.now(tx, settings.clock_offset)
        rows = tx.execute(select(expected.c.service, expected.c.kind, expected.c.count, expected.c.at))
        counts = {(service, kind): (count, at) for service, kind, count, at in rows}
        owed = silences(tx, system.name)
        return Sagas(now=now, live=live_sagas(tx), silences=owed, expected=counts, hears=_heard(tx, now))

    return _asking(settings, system.name, "write", ask)


def _heard(tx: Connection, now: float) -> Mapping[str, int]:
    """Return what the coordinator's process heard that beat last, if one runs that hears."""
    fresh = heartbeat.c.hears.is_not(None), heartbeat.c.beat_at > now - ALIVE_S
    found = tx.execute(select(heartbeat.c.hears).where(*fresh).order_by(heartbeat.c.beat_at.desc()).limit(1)).scalar()
    heard: Mapping[str, int] = orjson.loads(found) if found else {}
    return heard


def _broker(settings: Settings) -> Asked:
    admin = connect_admin(settings.broker_url, settings.broker_admin_url, settings.namespace, settings.broker_access)
    try:
        return Broker(owed=admin.owed())
    finally:
        admin.close()
