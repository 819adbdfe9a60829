"""The table that the front door shows orders by request id from, and what fills it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Double, Index, Integer, String, Table

from bff.tables import VIEWS
from pedidos.messages import OrderCreated, OrderProcessing, OrderState
from pulsaga import Id, Message, Projection, Row, Rows

pedido = Rows[Row](
    "pedido",
    VIEWS,
    Column("order_id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("user_id", String, nullable=False),
    Column("price", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("date", Double, nullable=False),
    Index("pedido_user", "user_id", "order_id"),
)


def project_order(message: Message[OrderState]) -> Iterable[tuple[Table, Row]]:
    """Show an order's newest state."""
    return ((pedido, {**vars(message.body), "version": message.version}),)


PROJECTIONS: list[Projection[Any]] = [
    Projection(OrderCreated, project_order),
    Projection(OrderProcessing, project_order),
]
