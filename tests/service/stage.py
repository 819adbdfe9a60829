"""Set the stage for what goes wrong: choose the database, let time pass, hold a commit, die, count what it cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, event
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, KEYS, Desk, deliver
from tests.service.passwords import SYSTEM

from correo.messages import PasswordMailSent, SendPasswordMail
from generador.messages import GeneratePassword, PasswordGenerated
from generador.vault import new_token
from protools_saga.messages import IssuePassword
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.tables import event as events
from pulsaga.delivery.tables import unpack
from pulsaga.saga.log import Entry
from pulsaga.saga.snapshots import entries_of
from pulsaga.sealing import seal_text
from pulsaga.settings import Settings
from pulsaga_program.local import LocalPostgres

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgres)
BOTH = ["sqlite", POSTGRESQL]
LINK_KEY = Settings.read(KEYS).key("LINK_KEY")
MOVED = CommittedSchemas()[contract_of(SYSTEM.sagas.moved).dataschema]


def settings_on(request: pytest.FixtureRequest, home: Path, **environment: str) -> Settings:
    """Read settings for the database that the fixture was asked for."""
    given = {"PROTOOLS_HOME": str(home), "FAILURE_ATTEMPTS": "3", **KEYS, **environment}
    if request.param == "postgresql":
        server: LocalPostgres = request.getfixturevalue("postgres")
        name = f"t{new_id()[-10:]}"
        given |= server.environment() | {"DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    return Settings.read(given)


def pass_time(desk: Desk, seconds: float) -> None:
    """Move this process's clock on: the database's plus an offset."""
    transactions = desk.runtime.transactions
    transactions.outbox.speaker = replace(
        transactions.outbox.speaker, clock_offset=transactions.outbox.speaker.clock_offset + seconds
    )


# --- sagas


def start_sagas(coordinator: Desk, number: int) -> list[Wire]:
    """Start sagas for u0, u1, … in one batch; return the commands they sent."""
    wishes = [deliver(IssuePassword(f"u{i}", f"u{i}@example.test")) for i in range(number)]
    coordinator.worker.settle(wishes)
    return coordinator.said(contract_of(GeneratePassword).name)[-number:]


def answer(command: Wire, body: Any = None) -> Delivery:
    """Reply to a command; PasswordGenerated where nothing else is given."""
    body = body or PasswordGenerated("ada", "issued", 1.0, 1.0, "sealed")
    return deliver(body, saga_id=command.key, command_id=command.properties["ce_id"], version=1)


def mail_sent(command: Wire) -> Delivery:
    """Reply to a SendPasswordMail."""
    body = PasswordMailSent(command.properties["ce_id"], "ada", "ada@example.test", "sent", 1, 1.0, 2.0)
    return answer(command, body)


def wish_for_mail(username: str) -> Delivery:
    """Ask correo for a mail that it can compose."""
    token = seal_text(new_token(), LINK_KEY, username)
    return deliver(SendPasswordMail(username, f"{username}@example.test", token))


def log_of(coordinator: Desk, saga_id: str) -> list[Entry]:
    """Read a saga's command log, oldest entry first."""
    moves = [row for row in coordinator.rows(events) if row["aggregate"] == saga_id]
    bodies = [CODEC.decode(SYSTEM.sagas.moved, unpack(row["wire"]).body, MOVED) for row in sorted(moves, key=_version)]
    return [entry for body in bodies for entry in entries_of(body)]


def kinds_of(coordinator: Desk, saga_id: str) -> list[str]:
    """Read what kinds of entries a saga's command log holds."""
    return [entry.kind for entry in log_of(coordinator, saga_id)]


def _version(row: Any) -> int:
    return int(row["version"])


# --- refusals

REFUSE = {
    "sqlite": ["CREATE TRIGGER refuse BEFORE UPDATE ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, 'no'); END"],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
        "CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()",
    ],
}


def refuse_updates(desk: Desk, table: Table, when: str) -> None:
    """Have the database refuse what would make a row of the table like this."""
    with desk.runtime.write.begin() as tx:
        for statement in REFUSE[tx.dialect.name]:
            tx.exec_driver_sql(statement.format(table=table.name, when=when))


# --- rivals


class Gate:
    """Hold the next commit of a desk: `reached` says that it stands there, `open` lets it through."""

    def __init__(self, desk: Desk) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        event.listen(desk.runtime.write, "commit", self._hold)

    def _hold(self, _connection: Any) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self.open.wait(PATIENCE_S)


class Death(BaseException):
    """End a process in the middle of something: nobody catches it."""


@contextmanager
def dying_at(desk: Desk, moment: str) -> Iterator[None]:
    """Let this desk's process die at an event of its engine, such as `commit`."""

    def die(*_: Any) -> None:
        raise Death

    event.listen(desk.runtime.write, moment, die)
    try:
        with pytest.raises(Death):
            yield
    finally:
        event.remove(desk.runtime.write, moment, die)


@dataclass
class Bill:
    """Count what an engine did while it was counted."""

    commits: int = 0
    rollbacks: int = 0
    statements: int = 0


@contextmanager
def counted(engine: Engine) -> Iterator[Bill]:
    """Count commits, rollbacks and round trips."""
    bill = Bill()

    def count(name: str) -> Callable[..., None]:
        def up(*_: Any) -> None:
            setattr(bill, name, getattr(bill, name) + 1)

        return up

    listeners = {
        "commit": count("commits"),
        "rollback": count("rollbacks"),
        "before_cursor_execute": count("statements"),
    }
    for moment, listener in listeners.items():
        event.listen(engine, moment, listener)
    yield bill
    for moment, listener in listeners.items():
        event.remove(engine, moment, listener)
