"""Let a worker die between two steps of its loop: what was not committed is not acknowledged, what was is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.service.desk import KEYS, Desk, deliver, make_desk

from generador.messages import GeneratePassword
from generador.tables import password
from seedwork import faults
from seedwork.delivery import event, outbox
from seedwork.faults import InjectedFault, RuleBook
from seedwork.settings import Settings

Rule = Callable[[str], None]


@pytest.fixture
def generador(tmp_path: Path) -> Iterator[Desk]:
    desk = make_desk(Settings.read({"PROTOOLS_HOME": str(tmp_path), **KEYS}), "generador")
    yield desk
    desk.runtime.write.dispose()


@pytest.fixture
def dies_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rule:
    """Let the worker of this test die once at a seam: nothing catches what is raised there."""
    monkeypatch.setattr(faults, "_installed", None)
    file = tmp_path / "faults.sqlite"
    faults.install("generador", file)
    return lambda point: RuleBook(file).add(f"generador.{point} action=raise")


def replies(desk: Desk) -> list[str]:
    return [wire.properties["ce_id"] for wire in desk.said("generador.password-generated")]


@pytest.mark.parametrize("point", ["received", "flushed"])
def test_what_was_not_committed_is_not_acknowledged(generador: Desk, dies_at: Rule, point: str) -> None:
    """Acknowledged and rolled back would be lost: nobody delivers it again."""
    command = deliver(GeneratePassword("ada"))
    dies_at(point)
    with pytest.raises(InjectedFault):
        generador.worker.settle([command])
    assert generador.acks.acked == []
    assert generador.count(password) == 0
    generador.worker.settle([command])
    assert generador.acks.acked == [command]
    assert generador.count(password) == 1


def test_what_was_committed_and_not_acknowledged_is_done_once(generador: Desk, dies_at: Rule) -> None:
    """The redelivery finds the inbox's row, and the stored reply goes out."""
    command = deliver(GeneratePassword("ada"))
    dies_at("acking")
    with pytest.raises(InjectedFault):
        generador.worker.settle([command])
    generador.worker.settle([command])
    assert [row["version"] for row in generador.rows(password)] == [1]
    assert len(generador.rows(event)) == 1
    assert len(replies(generador)) == 1


@pytest.mark.parametrize("point", ["committed", "acked", "publishing"])
def test_what_was_committed_and_not_said_is_said_by_the_sweep(generador: Desk, dies_at: Rule, point: str) -> None:
    """The reply lies in the transaction of the work; between the two nobody can die."""
    dies_at(point)
    with pytest.raises(InjectedFault):
        generador.worker.settle([deliver(GeneratePassword("ada"))])
    assert replies(generador) == []
    with generador.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    generador.runtime.relay.sweep()
    with generador.runtime.write.connect() as connection:
        assert replies(generador) == list(connection.execute(select(event.c.id)).scalars())


def test_twins_that_come_together_are_answered_once(generador: Desk) -> None:
    """A redelivered batch may hold a command many times over; each replay would be a message more."""
    command = deliver(GeneratePassword("ada"))
    generador.worker.settle([command])
    generador.worker.settle([command, command, command])
    assert len(replies(generador)) == 2
