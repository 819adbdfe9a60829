"""Handle conductores' commands: a driver has one order at a time, and an order one driver."""

from __future__ import annotations

from typing import Any

from conductores.messages import (
    AssignDriver,
    AssignmentUndone,
    DriverAssigned,
    DriverFreed,
    DriverRegistered,
    FreeDriver,
    RegisterDriver,
    UndoAssignment,
)
from conductores.tables import DriverRow, conductor
from pulsaga import DomainError, Message, UnitOfWork, one_of

FREE = one_of(conductor, conductor.c.id_orden.is_(None), order_by=conductor.c.changed_at)
"""Whoever has been free for longest."""


def register_driver(message: Message[RegisterDriver], uow: UnitOfWork) -> None:
    """Keep a new driver."""
    row: DriverRow = {
        "id_driver": message.saga_id,
        "version": 0,
        "nombre": message.body.nombre,
        "id_orden": None,
        "command_id": None,
        "changed_at": uow.now,
    }
    _tell(DriverRegistered, row, uow)


def assign_driver(message: Message[AssignDriver], uow: UnitOfWork) -> None:
    """Give the order of this saga to whoever is free; refuse with `no-driver`."""
    row = uow.take(FREE)
    if row is None:
        raise DomainError("no-driver", "every driver has an order")
    _tell(DriverAssigned, {**row, "id_orden": message.saga_id, "command_id": message.id}, uow)


def undo_assignment(message: Message[UndoAssignment], uow: UnitOfWork) -> None:
    """Free whoever was given an order by one AssignDriver; refuse with `not-assigned`."""
    row = uow.find(conductor, conductor.c.command_id, message.body.undoes)
    if row is None:
        raise DomainError("not-assigned", "nobody brings an order by this command any more")
    _tell(AssignmentUndone, {**row, "id_orden": None, "command_id": None}, uow)


def free_driver(message: Message[FreeDriver], uow: UnitOfWork) -> None:
    """Free a driver who has delivered an order; refuse with `not-assigned`."""
    row = uow.get(conductor, message.body.id_driver)
    if row is None or row["id_orden"] != message.body.id_orden:
        raise DomainError("not-assigned", f"driver {message.body.id_driver} does not bring {message.body.id_orden}")
    _tell(DriverFreed, {**row, "id_orden": None, "command_id": None}, uow)


def _tell(event: type[Any], row: DriverRow, uow: UnitOfWork) -> None:
    """Keep a driver's next version, and answer with all of it."""
    after: DriverRow = {**row, "version": row["version"] + 1, "changed_at": uow.now}
    uow.put(conductor, after)
    uow.reply(event(after["id_driver"], after["nombre"], after["id_orden"]), after["id_driver"], after["version"])
