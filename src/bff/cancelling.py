"""Cancel commands: whoever asks for it is heard once, durably, and the saga decides."""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from bff.tables import cancellation, command
from protools_saga.messages import CancelSaga
from seedwork.messages import Context, new_id
from seedwork.relay import Relay
from seedwork.unit_of_work import UnitOfWork


def is_cancellable(read: Engine, identifier: str) -> bool:
    """Tell whether a command may still be cancelled, or was, as far as the read model knows."""
    with read.connect() as connection:
        known = connection.execute(select(command.c.cancellable).where(command.c.id == identifier)).scalar()
    return known is None or bool(known)


def cancel(relay: Relay, context: Context, username: str) -> None:
    """Have the saga of this context cancelled, durably; asked for again, nothing more is said."""

    def ask(uow: UnitOfWork) -> None:
        said = uow.send(CancelSaga(undoes=context.saga_id), username, command_id=new_id(), context=context)
        row = {"id": context.saga_id, "command_id": said.id, "actor": context.actor, "at": uow.now}
        uow.append(cancellation, row)

    try:
        _, outgoing = relay.commit(ask)
    except IntegrityError:  # it was asked for before
        return
    relay.publish_later(outgoing)
