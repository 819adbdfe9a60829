"""Keep rows of another service's events in a read database: written by the projector alone, versioned, tried again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from tests.service.desk import CODEC, Acks, deliver
from tests.service.fakes import FakeBroker
from tests.service.stage import BOTH, settings_on

from bff.service import BFF
from bff.tables import password
from generador.messages import PasswordGenerated, PasswordRevealed, PasswordRevoked
from pulsaga.broker import Delivery
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.reader import Reader
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.projection import Projection, Projector
from pulsaga.delivery.tables import failure
from pulsaga.settings import Role, Settings
from pulsaga_program.databases import prepare_databases
from system import SYSTEM

REFUSED = {"sqlite": "readonly", "postgresql": "permission denied"}


@dataclass
class Mirror:
    """The front door's copy of generador's passwords, by projector and reader."""

    projector: Projector
    owner: Engine
    reader: Engine

    def project(self, *deliveries: Delivery) -> None:
        self.projector.settle(deliveries)

    def shown(self) -> list[tuple[str, str, int]]:
        with self.reader.connect() as connection:
            rows = connection.execute(select(password.c.username, password.c.status, password.c.version))
            return sorted(tuple(row) for row in rows)

    def failures(self) -> Sequence[Any]:
        with self.reader.connect() as connection:
            return connection.execute(select(failure)).all()

    def make_due(self) -> None:
        with self.owner.begin() as tx:
            tx.execute(update(failure).values(due_at=0))


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    found = settings_on(request, tmp_path)
    prepare_databases(SYSTEM, found, BFF)
    return found


@pytest.fixture
def mirror(settings: Settings) -> Iterator[Mirror]:
    def opened(role: Role) -> Engine:
        return open_database(settings, "bff", "read", role)

    engine = opened("projector")
    projector = Projector(BFF.projecting, Reader(BFF.projecting, CODEC, FakeBroker()), engine, Acks(), 500)
    made = Mirror(projector, opened("owner"), opened("reader"))
    yield made
    for used in (engine, made.owner, made.reader):
        used.dispose()


def generated(username: str, version: int = 1) -> Delivery:
    return deliver(PasswordGenerated(username, "issued", 1.0, 1.0, "x"), command_id=new_id(), version=version)


def test_events_of_another_service_become_rows_and_the_newest_wins(mirror: Mirror) -> None:
    """Topics keep no order between them: a revocation may come before what it revoked."""
    revoked = deliver(PasswordRevoked("ada", "revoked", 1.0, 2.0), command_id=new_id(), version=3)
    revealed = deliver(PasswordRevealed("ada", "revealed", 1.0, 2.0), version=2)
    mirror.project(revoked, generated("bob"))
    mirror.project(generated("ada"))
    mirror.project(revealed, revoked)
    assert mirror.shown() == [("ada", "revoked", 3), ("bob", "issued", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        insert(password).values(username="eve", version=1, status="issued", issued_at=0, changed_at=0),
        update(password).values(status="revealed"),
        delete(password),
        text("DROP TABLE password"),
    ],
    ids=["insert", "update", "delete", "drop"],
)
def test_whoever_reads_them_cannot_write_them(mirror: Mirror, statement: Any) -> None:
    """They tell what another service did: a web process that changed them would make that up."""
    mirror.project(generated("ada"))
    refused = f"{REFUSED[mirror.reader.dialect.name]}|must be owner"
    with pytest.raises(DBAPIError, match=refused), mirror.reader.begin() as tx:
        tx.execute(statement)
    assert mirror.shown() == [("ada", "issued", 1)]


def test_what_cannot_be_projected_is_tried_again_and_holds_up_nobody(mirror: Mirror) -> None:
    """A row that the database refuses is kept as a failure, as of the service's own events."""
    broken = {**BFF.projecting, PasswordGenerated: Projection(PasswordGenerated, _without_status)}
    projections, mirror.projector._projections = mirror.projector._projections, broken
    mirror.project(generated("ada"), deliver(PasswordRevealed("bob", "revealed", 1.0, 2.0), version=2))
    assert mirror.shown() == [("bob", "revealed", 2)]
    (kept,) = mirror.failures()
    assert kept.topic == contract_of(PasswordGenerated).name
    mirror.projector._projections = projections
    mirror.project(deliver(PasswordRevoked("ada", "revoked", 1.0, 2.0), command_id=new_id(), version=2))
    mirror.make_due()
    mirror.projector.retry_failures()
    assert (mirror.failures(), mirror.shown()) == ([], [("ada", "revoked", 2), ("bob", "revealed", 2)])


def _without_status(message: Any) -> Any:
    ((table, row),) = BFF.projecting[PasswordGenerated].function(message)
    return ((table, {**row, "status": None}),)
