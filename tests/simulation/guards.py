"""Take one guard away at a time, from outside; `src` has no switch that weakens one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.simulation.disks import Disks
from tests.simulation.faults import replaced

import correo.handlers
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.dispatch.worker import Worker
from pulsaga.delivery.loop import keep_trying
from pulsaga.delivery.outbox import Outbox
from pulsaga.delivery.tables import outbox
from pulsaga.delivery.transaction import claims
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.saga.engine.turn import Turn

Removal = Callable[[Disks], AbstractContextManager[None]]


def without_inbox(_disks: Disks) -> AbstractContextManager[None]:
    """Nobody remembers what was handled."""

    def load_nothing(_uow: UnitOfWork, _ids: Any) -> None:
        return

    def remember_nothing(_uow: UnitOfWork, _identifier: str, _digest: bytes | None) -> None:
        return

    return _both(replaced(UnitOfWork, "load_inbox", load_nothing), replaced(UnitOfWork, "remember", remember_nothing))


def without_outbox(_disks: Disks) -> AbstractContextManager[None]:
    """What is said is published after the commit or never."""
    append = UnitOfWork.append

    def append_all_but_the_outbox(uow: UnitOfWork, table: Any, row: Row) -> None:
        if table is not outbox:
            append(uow, table, row)

    return replaced(UnitOfWork, "append", append_all_but_the_outbox)


def with_early_removal_from_outbox(_disks: Disks) -> AbstractContextManager[None]:
    """An outbox row goes before the broker has confirmed its message."""
    publish = Outbox.publish

    def forget_and_publish(of: Outbox, wires: Sequence[Wire]) -> None:
        of.confirm([wire.properties["ce_id"] for wire in wires])
        publish(of, wires)

    return replaced(Outbox, "publish", forget_and_publish)


def with_ack_before_commit(_disks: Disks) -> AbstractContextManager[None]:
    """A batch is acknowledged as soon as it is received."""

    def settle(worker: Worker, batch: Sequence[Delivery]) -> None:
        worker._subscription.ack(batch)
        done = keep_trying(worker._stopping, lambda: worker._handle(batch))
        if done is not None:
            worker._transactions.outbox.publish(done[1])

    return replaced(Worker, "settle", settle)


@contextmanager
def without_end(disks: Disks) -> Iterator[None]:
    """A saga that has ended, or gives up, goes on when an answer comes; engine and database both let it."""
    disk = disks.of("protools_saga")
    ((trigger,),) = disk.rows("SELECT sql FROM sqlite_master WHERE name = 'saga_end_is_final'")

    def awaits(turn: Turn, path: str) -> bool:
        return turn.progress.step(path).status != "done"

    disk.execute("DROP TRIGGER saga_end_is_final")
    try:
        with replaced(Turn, "awaits", awaits):
            yield
    finally:
        disk.execute(trigger)


def without_tombstones(_disks: Disks) -> AbstractContextManager[None]:
    """An undo that comes before its do leaves no trace."""
    remember = UnitOfWork.remember

    def remember_the_handled(uow: UnitOfWork, identifier: str, digest: bytes | None) -> None:
        if digest is not None:
            remember(uow, identifier, digest)

    return replaced(UnitOfWork, "remember", remember_the_handled)


def with_new_ids_when_sent_again(_disks: Disks) -> AbstractContextManager[None]:
    """A command that is sent again is another command to its receiver."""
    log = Turn.log

    def log_anew(turn: Turn, kind: Any, path: str = "", **values: Any) -> None:
        if values.get("attempt", 1) > 1:
            values["command_id"] = turn.new_id()
        log(turn, kind, path, **values)

    return replaced(Turn, "log", log_anew)


def without_undo_of_one_message(_disks: Disks) -> AbstractContextManager[None]:
    """What a failing message has buffered is written with the rest."""
    return replaced(UnitOfWork, "drop", lambda _uow: None)


def without_claim(_disks: Disks) -> AbstractContextManager[None]:
    """A sender reports whatever it holds by now."""

    def report_all(uow: UnitOfWork, table: Any, claimed: Sequence[Row], report: Any, **_how: Any) -> list[Row]:
        uow.load((table, row["id"]) for row in claimed)
        for before in claimed:
            report(uow, uow.get(table, before["id"]))
        return []

    return _both(replaced(correo.handlers, "report_held", report_all), replaced(claims, "report_held", report_all))


def with_a_new_date_on_each_mail(_disks: Disks) -> AbstractContextManager[None]:
    """A mail that is sent again is another mail."""
    letter = correo.handlers.Sender._letter

    def dated(sender: Any, row: Row, context: Any) -> Any:
        return letter(sender, {**row, "created_at": row["due_at"]}, context)

    return replaced(correo.handlers.Sender, "_letter", dated)


@contextmanager
def _both(first: AbstractContextManager[None], second: AbstractContextManager[None]) -> Iterator[None]:
    with first, second:
        yield
