"""Handle ordenes' commands: an order is made, starts, and is delivered; or nothing comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ordenes.messages import (
    CreateOrder,
    DeliverOrder,
    FailOrder,
    Line,
    OrderCreated,
    OrderDelivered,
    OrderFailed,
    OrderStarted,
    StartOrder,
)
from ordenes.tables import OrderRow, orden
from pulsaga import DomainError, Message, UnitOfWork

STATE = ("id_orden", "user_id", "direccion_entrega", "time_stamp", "estado", "id_driver")


def create_order(message: Message[CreateOrder], uow: UnitOfWork) -> None:
    """Keep a new order."""
    wanted = message.body
    row: OrderRow = {
        "id_orden": message.saga_id,
        "version": 0,
        "user_id": wanted.user_id,
        "lineas": json.dumps([asdict(line) for line in wanted.lineas]),
        "direccion_entrega": wanted.direccion_entrega,
        "time_stamp": uow.now,
        "estado": "creada",
        "id_driver": None,
        "changed_at": uow.now,
    }
    _tell(OrderCreated, row, uow)


def fail_order(message: Message[FailOrder], uow: UnitOfWork) -> None:
    """Note that nothing comes of an order."""
    _tell(OrderFailed, {**_order(message.saga_id, "creada", uow), "estado": "fallida"}, uow)


def start_order(message: Message[StartOrder], uow: UnitOfWork) -> None:
    """Note who brings an order."""
    started = {"estado": "iniciada", "id_driver": message.body.id_driver}
    _tell(OrderStarted, {**_order(message.saga_id, "creada", uow), **started}, uow)


def deliver_order(message: Message[DeliverOrder], uow: UnitOfWork) -> None:
    """Note that an order was handed over; refuse with `no-order`, or `not-started` when it is not on its way."""
    _tell(OrderDelivered, {**_order(message.body.id_orden, "iniciada", uow), "estado": "entregada"}, uow)


def lines_of(row: OrderRow) -> Sequence[Line]:
    """Read the lines of an order."""
    return [Line(**line) for line in json.loads(row["lineas"])]


def _order(id_orden: str, estado: str, uow: UnitOfWork) -> OrderRow:
    row = uow.get(orden, id_orden)
    if row is None:
        raise DomainError("no-order", f"there is no order {id_orden}")
    if row["estado"] != estado:
        raise DomainError("not-started" if estado == "iniciada" else "not-new", f"the order is {row['estado']}")
    return row


def _tell(event: type[Any], row: Any, uow: UnitOfWork) -> None:
    """Keep an order's next version, and answer with all of it."""
    after: Any = {**row, "version": row["version"] + 1, "changed_at": uow.now}
    uow.put(orden, after)
    state = {name: after[name] for name in STATE}
    uow.reply(event(**state, lineas=lines_of(after)), after["id_orden"], after["version"])
