"""Stop what a running system needs, one after the other: `protools status` names it soon, an alert of a real Prometheus
fires, and both end when it is over.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, text
from tests.system.conftest import Mode
from tests.system.harness import System
from tests.system.mailboxes import SmtpServer
from tests.system.prometheus import Prometheus, prometheus

from pulsaga.delivery.database import open_database
from pulsaga_program.local import LocalPostgres, LocalPulsar

NAMED_WITHIN_S = 60.0
"""Half a minute is promised; the rest is for a busy machine, which runs other tests beside."""
Outage = Callable[[], AbstractContextManager[None]]


class Stop(NamedTuple):
    """Something that may stop: its name in the status, its alert and that alert's service, and how it is stopped."""

    kind: str
    subject: str
    alert: str
    service: str
    outage: Outage


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose parts are taken away."""
    with mode.running(tmp_path_factory.mktemp(mode.name), MAIL_ATTEMPTS="100") as running:
        yield running


@pytest.fixture(scope="module")
def alerts(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus over it, with the rules that ship."""
    with prometheus(system, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def status(system: System) -> dict[str, Any]:
    """Run the command; its exit code says whether there is anything to look at."""
    done = system.run("status", "--json")
    shown: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if shown["findings"] else 0), done.stderr
    return shown


def kinds(system: System) -> set[tuple[str, str]]:
    """Return kind and subject of everything that somebody should look at."""
    return {(one["kind"], one["subject"]) for one in status(system)["findings"]}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a SQLite database's write lock, as something that hangs would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def stops(system: System, mode: Mode, request: pytest.FixtureRequest) -> Iterator[list[Stop]]:
    """Yield what may stop, together where one does not follow from the other."""
    killed = partial(system.without, "run", "bff", "worker")
    missing = Stop("process-missing", "bff worker", "ProcessMissing", "bff", killed)
    if mode.name == "embedded":
        write = system.home / "db" / "generador-write.sqlite"  # the status may miss who cannot write its row
        yield [missing, Stop("process", "generador", "ProcessWaits", "generador", lambda: locked(write))]
        yield [Stop("broker-down", "broker", "BrokerSilent", "", partial(system.without, "broker", "embedded"))]
        return
    assert isinstance(system.mailbox, SmtpServer)
    pulsar, postgres = request.getfixturevalue("pulsar"), request.getfixturevalue("postgres")
    yield [missing, Stop("process-waits", "correo worker", "ProcessWaits", "correo", system.mailbox.outage)]
    yield [Stop("broker-down", "broker", "BrokerSilent", "", lambda: without(pulsar))]
    yield [Stop("database-down", "write database of correo", "ProcessWaits", "correo", lambda: without(postgres))]


@contextmanager
def without(server: LocalPulsar | LocalPostgres) -> Iterator[None]:
    """Keep a server down while the block runs."""
    server.stop("immediate") if isinstance(server, LocalPostgres) else server.kill()
    try:
        yield
    finally:
        server.start()


def named(system: System, stops: Sequence[Stop]) -> Iterator[bool]:
    """Tell of each whether the status names it; of a process it says which one."""
    found = kinds(system)
    for stop in stops:
        yield any(kind.startswith(stop.kind) and about.startswith(stop.subject) for kind, about in found)


def stop_and_look(system: System, alerts: Prometheus, together: Sequence[Stop], username: str) -> None:
    """Stop some things; status and alerts tell of each, and of its end."""

    def fire() -> list[bool]:
        return [alerts.fires(stop.alert, **({"service": stop.service} if stop.service else {})) for stop in together]

    def is_well() -> bool:
        return not any(fire()) and not any(named(system, together))

    alerts.find_targets()
    system.eventually(is_well, NAMED_WITHIN_S)
    with ExitStack() as outages:
        for stop in together:
            outages.enter_context(stop.outage())
        if together[0].kind != "database-down":
            system.accept(username)
        system.eventually(lambda: all(fire()) and all(named(system, together)), NAMED_WITHIN_S)
    system.eventually(is_well, NAMED_WITHIN_S)


def test_whatever_stops_is_named_within_half_a_minute_and_so_is_its_end(
    system: System, mode: Mode, alerts: Prometheus, request: pytest.FixtureRequest
) -> None:
    """With a dead worker everything used to be green until the deadline of a step, an hour later."""
    system.issue("before")
    system.eventually(lambda: kinds(system) == set() and not alerts.firing())
    for number, together in enumerate(stops(system, mode, request)):
        stop_and_look(system, alerts, together, f"during-{number}")
    system.eventually(system.is_at_rest)
    system.eventually(lambda: kinds(system) == set(), NAMED_WITHIN_S)


def test_over_http_with_a_token_the_status_is_the_same(system: System) -> None:
    """Whoever is on call should need no database password; a service that nobody answers for is named."""
    system.eventually(lambda: kinds(system) == set())
    ports = [one for one in status(system)["services"]["protools_saga"]["processes"] if one["address"]]
    changes = {"OPERATORS_URL": f"http://{ports[0]['address']}", "DB_PASSWORD": "wrong", "BROKER_TOKEN": "wrong"}
    here, there = status(system), json.loads(system.run("status", "--json", **changes).stdout)
    for shown in (here, there):
        assert shown["findings"] == []
    assert there["services"].keys() == here["services"].keys()
    assert there["services"]["correo"]["expected"] == {"worker": 1, "web": 1}
    shown = system.run("config", "show", "--running", **changes).stdout
    assert f"DB_USERNAME  {system.settings.db_username or '-'}  -\n" in shown
    assert shown.count("OPERATORS_PORT") == 1
    with system.without("run", "correo"):
        named = system.eventually(lambda: unreached(system, changes), NAMED_WITHIN_S)
    assert all("does not answer" in why or why == "no process of correo is heard" for why in named)
    system.eventually(lambda: kinds(system) == set(), NAMED_WITHIN_S)


def unreached(system: System, changes: dict[str, str]) -> set[str]:
    """Return why a service could not be asked over HTTP."""
    found = json.loads(system.run("status", "--json", **changes).stdout)["findings"]
    return {one["detail"] for one in found if (one["kind"], one["subject"]) == ("unreached", "correo")}


def advice(system: System) -> dict[str, str]:
    """Run the doctor; return what to do, by what is wrong. Its exit code says whether there is anything."""
    done = system.run("doctor", "--json")
    found = {f"{one['about']}: {one['detail']}": one["do"] for one in json.loads(done.stdout) if not one["is_well"]}
    assert done.returncode == bool(found), done.stderr
    return found


def test_the_doctor_names_what_is_set_up_wrongly_and_its_advice_helps(system: System, mode: Mode) -> None:
    """A right that somebody took away and a migration that never ran look like faults of the code at 3 a.m."""
    assert advice(system) == {}
    reader = f"{system.settings.db_name}_generador_reader"
    with changing(system, "correo") as connection:
        connection.execute(text("UPDATE projection_version SET version_num = '0000'"))
    if mode.name == "pulsar":
        with changing(system, "generador") as connection:
            connection.execute(text(f'REVOKE SELECT ON failure FROM "{reader}"'))
    found = advice(system)
    assert found["read database of correo: migrations are missing: projection"] == "run `protools bootstrap`"
    if mode.name == "pulsar":
        grant = found[f"read database of generador: {reader} lacks SELECT on failure"]
        with changing(system, "generador") as connection:
            connection.execute(text(grant))
    with changing(system, "correo") as connection:
        connection.execute(text("UPDATE projection_version SET version_num = '0001'"))
    assert advice(system) == {}


@contextmanager
def changing(system: System, service: str) -> Iterator[Connection]:
    """Change a service's read database, as its owner."""
    engine = open_database(system.settings, service, "read", "owner")
    with engine.begin() as connection:
        yield connection
    engine.dispose()
