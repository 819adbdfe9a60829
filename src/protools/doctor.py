"""Look whether everything that a system needs is there and set up rightly, and say what to do where it is not."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import get_args

from sqlalchemy import Connection, select, text

from pulsaga.broker import BrokerAdmin, connect_admin
from pulsaga.broker.compatibility import same_schema
from pulsaga.delivery import database
from pulsaga.delivery.avro import versions_of
from pulsaga.delivery.database import open_database, role_name
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.tables import heartbeat
from pulsaga.errors import ProtoolsError
from pulsaga.operate.status.survey import at_once
from pulsaga.running.heartbeat import ALIVE_S
from pulsaga.service import Service
from pulsaga.settings import Settings, Side
from pulsaga.system import System
from pulsaga_program.databases import pending
from pulsaga_program.preflight import check_values

ANSWER_WITHIN_S = 15.0
SKEW_S = 1.0
"""Seconds by which clocks may differ: ids tell their age by them."""
LEAST_FREE = 0.05
"""Share of a disk that should be free: a full one stops broker and databases."""
BOOTSTRAP = "run `protools bootstrap`"
UNSAFE = ("fsync", "full_page_writes", "synchronous_commit")
"""Settings of PostgreSQL with which off a commit may be lost with the power."""


@dataclass(frozen=True)
class Found:
    """One thing that was looked at; where it is not as it should be, `do` says what helps."""

    about: str
    detail: str
    do: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be done."""
        return not self.do


def examine(system: System, settings: Settings) -> list[Found]:
    """Look at everything, all at once."""
    asked: dict[str, Callable[[], list[Found]]] = {
        "settings": partial(_settings, system, settings),
        "broker": partial(_broker, system, settings),
    }
    for service in system.all:
        for side in get_args(Side):
            asked[f"{side} database of {service.name}"] = partial(_database, system, settings, service, side)
    said, down = at_once(asked, ANSWER_WITHIN_S)
    parts = [said.get(about) or [Found(about, down[about], _help_with(about))] for about in asked]
    return [*_machine(settings), *(found for part in parts for found in part)]


def _help_with(about: str) -> str:
    if about == "broker":
        return "start it, or set BROKER_URL and BROKER_ADMIN_URL to where it is"
    return f"start it, or set DB_HOSTNAME and the like; {BOOTSTRAP} if it was never made"


def _machine(settings: Settings) -> Iterator[Found]:
    client = "" if settings.embedded else f", pulsar-client {version('pulsar-client')}"
    yield Found("versions", f"Protools {version('pulsaga')}, Python {platform.python_version()}{client}")
    if settings.home.is_dir():
        yield _disk(settings)


def _disk(settings: Settings) -> Found:
    disk = shutil.disk_usage(settings.home)
    detail = f"{disk.free / 2**30:.1f} GiB of {disk.total / 2**30:.1f} GiB are free under {settings.home}"
    return Found("disk", detail, "" if disk.free / disk.total > LEAST_FREE else "make room")


def _settings(system: System, settings: Settings) -> list[Found]:
    try:
        check_values(system, settings)
    except ProtoolsError as error:
        return [Found("settings", str(error), "correct it")]
    return [Found("settings", "each can be used")]


# --- databases


def _database(system: System, settings: Settings, service: Service, side: Side) -> list[Found]:
    about = f"{side} database of {service.name}"
    engine = open_database(settings, service.name, side, "owner")
    try:
        with engine.connect() as connection:
            return list(_looked_at(connection, about, system, settings, service, side))
    finally:
        engine.dispose()


def _looked_at(
    connection: Connection, about: str, system: System, settings: Settings, service: Service, side: Side
) -> Iterator[Found]:
    if behind := pending(connection, system, service, side):
        yield Found(about, f"migrations are missing: {', '.join(behind)}", BOOTSTRAP)
        return
    now = database.now(connection)
    ahead_s = time.time() - now
    if abs(ahead_s) > SKEW_S:
        yield Found(about, f"this machine's clock is {ahead_s:+.1f} s off its own", "let NTP keep both")
    if side == "write":
        yield from _processes(connection, about, now)
    if connection.dialect.name == "postgresql":
        yield from _postgresql(connection, about, settings, service)
    yield Found(about, f"answers, {connection.dialect.name} {_version_of(connection)}")


def _version_of(connection: Connection) -> str:
    asked = "SHOW server_version" if connection.dialect.name == "postgresql" else "SELECT sqlite_version()"
    return str(connection.execute(text(asked)).scalar())


def _processes(connection: Connection, about: str, now: float) -> Iterator[Found]:
    alive = heartbeat.c.ended_at.is_(None), heartbeat.c.beat_at > now - ALIVE_S
    rows = connection.execute(select(heartbeat.c.replica, heartbeat.c.version, heartbeat.c.clock_ahead_s).where(*alive))
    found = rows.all()
    for replica, _, ahead_s in found:
        if abs(ahead_s or 0.0) > SKEW_S:
            yield Found(about, f"the clock of {replica} is {ahead_s:+.1f} s off its own", "let NTP keep both")
    if len(releases := sorted({row.version for row in found})) > 1:
        yield Found(about, f"processes of {' and '.join(releases)} run", "end those of the older release")


def _postgresql(connection: Connection, about: str, settings: Settings, service: Service) -> Iterator[Found]:
    for name in UNSAFE:
        if connection.execute(text(f"SHOW {name}")).scalar() == "off":
            yield Found(about, f"{name} is off", "set it to on: a commit may be lost with the power")
    for role, right in (("reader", "SELECT"), ("projector", "SELECT, INSERT, UPDATE, DELETE")):
        name = role_name(settings, service.name, role)  # type: ignore[arg-type]
        if lacking := list(connection.execute(text(LACKING), {"role": name, "right": right}).scalars()):
            yield Found(
                about, f"{name} lacks {right} on {', '.join(lacking[:5])}", GRANT.format(role=name, right=right)
            )


LACKING = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname NOT LIKE '%version'
AND NOT (SELECT bool_and(has_table_privilege(:role, c.oid, one)) FROM unnest(string_to_array(:right, ', ')) one)
"""
GRANT = 'GRANT {right} ON ALL TABLES IN SCHEMA public TO "{role}"'


# --- the broker


def _broker(system: System, settings: Settings) -> list[Found]:
    admin = connect_admin(settings.broker_url, settings.broker_admin_url, settings.namespace, settings.broker_access)
    try:
        name, advice = admin.examine()
        wrong = [Found("broker", one.found, one.do) for one in advice]
        return [*wrong, *_topics(admin, system.all), Found("broker", f"answers, {name}")]
    finally:
        admin.close()


def _topics(admin: BrokerAdmin, services: Sequence[Service]) -> Iterator[Found]:
    there = set(admin.topics())
    wanted = {contract_of(cls).name: contract_of(cls) for service in services for cls in service.messages}
    if missing := sorted(wanted.keys() - there):
        yield Found("broker", f"topics are missing: {', '.join(missing[:5])}", BOOTSTRAP)
    for topic, contract in wanted.items():
        if topic in there:
            yield from _schemas(admin, topic, versions_of(contract))
    for topic, names in _subscriptions(services).items():
        if topic in there and (lacking := sorted(names - {*admin.subscriptions(topic)})):
            yield Found("broker", f"{topic} has no subscription {', '.join(lacking)}", BOOTSTRAP)


def _schemas(admin: BrokerAdmin, topic: str, committed: Sequence[str]) -> Iterator[Found]:
    registered = admin.schemas(topic)
    if not all(any(same_schema(known, one) for known in registered) for one in committed):
        yield Found("broker", f"{topic} lacks a schema that is committed", BOOTSTRAP)
    try:
        for one in committed:
            admin.check_schema(topic, one)
    except ProtoolsError as error:
        yield Found("broker", str(error), "another release registered it: deploy what fits, or mend the schema")


def _subscriptions(services: Sequence[Service]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for service in services:
        for topic, name in service.subscriptions:
            found.setdefault(topic, set()).add(name)
    return found
