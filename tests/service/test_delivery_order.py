"""Let a worker die between two steps of its loop: what was not committed is not acknowledged, what was is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.service.desk import KEYS, Desk, deliver, make_desk
from tests.service.stage import Death, dying_at

from generador.messages import GeneratePassword
from generador.tables import password
from pulsaga import faults
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.outbox import SWEEP_PAGE
from pulsaga.delivery.tables import event, failure, outbox
from pulsaga.faults import RuleBook
from pulsaga.settings import Settings

Rule = Callable[[str], None]


@pytest.fixture
def generador(tmp_path: Path) -> Iterator[Desk]:
    desk = make_desk(Settings.read({"PROTOOLS_HOME": str(tmp_path), **KEYS}), "generador")
    yield desk
    desk.runtime.write.dispose()


@pytest.fixture
def dies_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rule:
    """Let the worker of this test die once at a seam: nothing catches what is raised there."""
    monkeypatch.setattr(faults, "InjectedFault", Death)
    return rules(tmp_path, monkeypatch)


@pytest.fixture
def breaks_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rule:
    """Let something raise once at a seam that nobody expected to raise."""
    return rules(tmp_path, monkeypatch)


def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rule:
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
    with pytest.raises(Death):
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
    with pytest.raises(Death):
        generador.worker.settle([command])
    generador.worker.settle([command])
    assert [row["version"] for row in generador.rows(password)] == [1]
    assert len(generador.rows(event)) == 1
    assert len(replies(generador)) == 1


@pytest.mark.parametrize("point", ["committed", "acked", "publishing"])
def test_what_was_committed_and_not_said_is_said_by_the_sweep(generador: Desk, dies_at: Rule, point: str) -> None:
    """The reply lies in the transaction of the work; between the two nobody can die."""
    dies_at(point)
    with pytest.raises(Death):
        generador.worker.settle([deliver(GeneratePassword("ada"))])
    assert replies(generador) == []
    with generador.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    generador.runtime.transactions.outbox.sweep()
    with generador.runtime.write.connect() as connection:
        assert replies(generador) == list(connection.execute(select(event.c.id)).scalars())


def test_twins_that_come_together_are_answered_once(generador: Desk) -> None:
    """A redelivered batch may hold a command many times over; each replay would be a message more."""
    command = deliver(GeneratePassword("ada"))
    generador.worker.settle([command])
    generador.worker.settle([command, command, command])
    assert len(replies(generador)) == 2


@pytest.mark.parametrize("point", ["flushed", "committed", "publishing", "published"])
def test_a_seam_is_passed_with_what_is_in_hand(generador: Desk, dies_at: Rule, point: str) -> None:
    """A rule that names one message must meet that one and spare the others."""
    dies_at(f"{point} match=saga={(saga_id := new_id())}")
    generador.worker.settle([deliver(GeneratePassword("bob"))])
    with pytest.raises(Death):
        generador.worker.settle([deliver(GeneratePassword("ada"), saga_id=saga_id)])


@pytest.mark.parametrize("point", ["flushed", "committed"])
def test_an_error_that_nobody_expected_stops_neither_the_loop_nor_the_batch(
    generador: Desk, breaks_at: Rule, point: str
) -> None:
    """A worker that ends for it is started again, gets the same batch again, and so on for ever."""
    breaks_at(point)
    batch = [deliver(GeneratePassword(name)) for name in ("ada", "bob")]
    generador.worker.settle(batch)
    assert generador.acks.acked == batch
    assert generador.count(password) == len(set(replies(generador))) == 2


def test_what_a_rule_breaks_while_it_is_handled_is_a_failure_of_its_own(generador: Desk, breaks_at: Rule) -> None:
    """As any error of a handler would be."""
    broken, good = deliver(GeneratePassword("ada")), deliver(GeneratePassword("bob"))
    breaks_at(f"handled match=saga={broken.wire.key}")
    generador.worker.settle([good, broken])
    assert [row["id"] for row in generador.rows(failure)] == [broken.wire.properties["ce_id"]]
    assert generador.count(password) == 1


def sweep_and_clear(desk: Desk) -> None:
    desk.runtime.transactions.outbox.sweep()
    desk.runtime.transactions.outbox.clear()


def test_whoever_dies_while_sweeping_or_clearing_leaves_the_rows_to_the_next_sweep(
    generador: Desk, dies_at: Rule
) -> None:
    """A row goes only after the broker has confirmed its message."""
    generador.broker.is_up = False
    saga_id = new_id()
    generador.worker.settle([deliver(GeneratePassword("ada"), saga_id=saga_id)])
    generador.broker.is_up = True
    for point in (f"sweeping match=saga={saga_id}", "clearing"):
        dies_at(point)
        with generador.runtime.write.begin() as tx:
            tx.execute(update(outbox).values(due_at=0))
        with pytest.raises(Death):
            sweep_and_clear(generador)
        assert generador.count(outbox) == 1
    with generador.runtime.write.begin() as tx:
        tx.execute(update(outbox).values(due_at=0))
    sweep_and_clear(generador)
    assert generador.count(outbox) == 0
    assert replies(generador) == 2 * replies(generador)[:1]


def test_what_was_confirmed_is_cleared_by_the_next_commit_that_succeeds(generador: Desk) -> None:
    """A commit that fails clears nothing, and nothing is forgotten for it."""
    generador.worker.settle([deliver(GeneratePassword("ada"))])
    with pytest.raises(ZeroDivisionError):
        generador.runtime.transactions.commit(lambda _uow: 1 / 0)
    with dying_at(generador, "commit"):
        generador.runtime.transactions.outbox.clear()
    assert generador.count(outbox) == 1
    assert generador.runtime.transactions.commit(lambda _uow: "done") == ("done", [])
    assert generador.count(outbox) == 0


def test_the_sweep_publishes_the_oldest_first_and_a_page_at_a_time(generador: Desk) -> None:
    """After an outage the backlog must not be one message, and who has waited longest comes first."""
    generador.broker.is_up = False
    generador.worker.settle([deliver(GeneratePassword(f"u{number}")) for number in range(SWEEP_PAGE + 3)])
    generador.broker.is_up = True
    with generador.runtime.write.begin() as tx:
        for age, row in enumerate(tx.execute(select(outbox.c.id)).all()):
            tx.execute(update(outbox).where(outbox.c.id == row.id).values(due_at=-age))
    oldest = sorted(generador.rows(outbox), key=lambda row: row["due_at"])
    assert [generador.runtime.transactions.outbox.sweep() for _ in range(3)] == [SWEEP_PAGE, 3, 0]
    assert replies(generador) == [row["id"] for row in oldest]
