"""Cancel commands: whoever asks for it is heard once, durably, and the saga decides."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError

from pulsaga.delivery.messages import Context, new_id
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.web.front_door.tables import cancellation, command, refused_cancel


def is_cancellable(read: Engine, identifier: str) -> bool:
    """Tell whether a command may still be cancelled, or was, as far as the read model knows."""
    with read.connect() as connection:
        known = connection.execute(select(command.c.cancellable).where(command.c.id == identifier)).scalar()
    return known is None or bool(known)


def cancel(transactions: Transactions, read: Engine, context: Context, command: Any, subject: str) -> None:
    """Send the command that cancels the saga of this context, durably; again, it is sent only if it was refused.

    A refusal holds for its moment only: what had not begun may have begun since, by an operator's hand.
    """

    def ask(uow: UnitOfWork) -> None:
        command_id = new_id()
        if _note(uow, read, {"id": context.saga_id, "command_id": command_id, "actor": context.actor, "at": uow.now}):
            uow.send(command, subject, command_id=command_id, context=context)

    try:
        _, outgoing = transactions.commit(ask)
    except IntegrityError:  # it was asked for before
        return
    if outgoing:
        transactions.outbox.publish_later(outgoing)


def _note(uow: UnitOfWork, read: Engine, row: Row) -> bool:
    """Note a cancel that is to be said; return False for one that was said before and may still have its effect."""
    of_command = cancellation.c.id == row["id"]
    earlier = uow.values(select(cancellation.c.command_id).where(of_command))
    if not earlier:
        uow.append(cancellation, row)
        return True
    still = of_command & (cancellation.c.command_id == earlier[0])  # a rival may say it at this very moment
    again = update(cancellation).where(still).values(row).returning(cancellation.c.id)
    return _was_refused(read, earlier[0]) and bool(uow.values(again))


def _was_refused(read: Engine, command_id: str) -> bool:
    with read.connect() as connection:
        known = select(refused_cancel.c.id).where(refused_cancel.c.id == command_id)
        return connection.execute(known).first() is not None
