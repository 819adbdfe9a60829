"""Declare pedidos: orders of a price, each under the id of the request that asked for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from sqlalchemy import Column, Double, Integer, MetaData, String, Table, select

from pedidos.messages import CreateOrder, OrderCreated, OrderProcessing, OrderState, ProcessOrder
from pulsaga import (
    Check,
    Checks,
    DomainError,
    FactTable,
    Handler,
    Id,
    Message,
    Projection,
    Row,
    Rows,
    Service,
    UnitOfWork,
)

WRITE, READ = MetaData(), MetaData()


class OrderRow(TypedDict):
    """An order."""

    order_id: str
    version: int
    user_id: str
    price: int
    status: str
    date: float


def _columns() -> list[Column[Any]]:
    return [
        Column("order_id", Id, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("user_id", String, nullable=False),
        Column("price", Integer, nullable=False),
        Column("status", String, nullable=False, comment="new or processing"),
        Column("date", Double, nullable=False),
    ]


pedido = Rows[OrderRow]("pedido", WRITE, *_columns(), info={"subject": "user_id"})
pedido_view = Rows[Row]("pedido_view", READ, *_columns())


def create_order(message: Message[CreateOrder], uow: UnitOfWork) -> None:
    """Keep a new order."""
    asked = message.body
    _tell(
        OrderCreated,
        {
            "order_id": message.saga_id,
            "version": 1,
            "user_id": asked.user_id,
            "price": asked.price,
            "status": "new",
            "date": uow.now,
        },
        uow,
    )


def process_order(message: Message[ProcessOrder], uow: UnitOfWork) -> None:
    """Begin to work on an order; refuse with `no-order`."""
    row = uow.get(pedido, message.saga_id)
    if row is None:
        raise DomainError("no-order", "there is no such order")
    _tell(OrderProcessing, {**row, "version": row["version"] + 1, "status": "processing"}, uow)


def _tell(event: type[OrderState], row: OrderRow, uow: UnitOfWork) -> None:
    uow.put(pedido, row)
    state = event(row["order_id"], row["user_id"], row["price"], row["status"], row["date"])
    uow.reply(state, row["order_id"], row["version"])


def project_order(message: Message[OrderState]) -> Iterable[tuple[Table, Row]]:
    """Show an order's newest state."""
    return ((pedido_view, {**vars(message.body), "version": message.version}),)


PEDIDOS = Service(
    "pedidos",
    tables=WRITE,
    views=READ,
    handlers=[
        Handler(CreateOrder, create_order, reads=lambda m: [(pedido, m.saga_id)]),
        Handler(ProcessOrder, process_order, reads=lambda m: [(pedido, m.saga_id)]),
    ],
    projections=[Projection(OrderCreated, project_order), Projection(OrderProcessing, project_order)],
    checks=Checks(
        facts=[
            FactTable(
                "pedido",
                lambda floor: select(pedido.c.order_id, pedido.c.status).where(pedido.c.order_id >= floor.id),
                index=["order_id"],
            )
        ],
        checks=[
            Check(
                "orphaned",
                "request-order",
                "an order by request id exists that no saga asked for",
                """
                SELECT order_id, status FROM pedido
                WHERE order_id >= :since AND NOT EXISTS (SELECT 1 FROM issued WHERE saga_id = order_id)
                """,
            ),
            Check(
                "diverged",
                "request-order",
                "a saga is completed, and its order by request id is not being worked on",
                """
                SELECT l.id, COALESCE(o.status, 'no row') FROM log l JOIN judged USING (id)
                LEFT JOIN pedido o ON o.order_id = l.id
                WHERE l.status = 'COMPLETED' AND o.status IS NOT 'processing'
                  AND EXISTS (SELECT 1 FROM issued WHERE saga_id = l.id AND name = 'pedidos.create-order')
                """,
            ),
        ],
    ),
)
