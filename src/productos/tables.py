"""Lay out what is in stock, and what is set aside of it."""

from __future__ import annotations

from typing import TypedDict

from sqlalchemy import CheckConstraint, Column, Double, Index, Integer, MetaData, String

from pulsaga import Id, Rows

WRITE = MetaData()


class ProductRow(TypedDict):
    """A product, and how much of it there is."""

    id_producto: str
    version: int
    nombre: str
    stock: int
    reservado: int
    entregado: int
    estado: str
    changed_at: float


class ReservationRow(TypedDict):
    """What one order holds of one product."""

    id: str
    id_orden: str
    id_producto: str
    command_id: str
    cantidad: int
    estado: str


producto = Rows[ProductRow](
    "producto",
    WRITE,
    Column("id_producto", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("nombre", String, nullable=False),
    Column("stock", Integer, nullable=False),
    Column("reservado", Integer, nullable=False),
    Column("entregado", Integer, nullable=False),
    Column("estado", String, nullable=False, comment="activo or retirado"),
    Column("changed_at", Double, nullable=False),
    CheckConstraint("stock >= 0 AND reservado >= 0 AND entregado >= 0", name="producto_is_there"),
    info={"subject": "id_producto"},
)

reserva = Rows[ReservationRow](
    "reserva",
    WRITE,
    Column("id", String, primary_key=True, comment="order and product"),
    Column("revision", Integer, nullable=False),
    Column("id_orden", String, nullable=False),
    Column("id_producto", String, nullable=False),
    Column("command_id", Id, nullable=False, comment="of the ReserveStock"),
    Column("cantidad", Integer, nullable=False),
    Column("estado", String, nullable=False, comment="reservada, liberada or entregada"),
    Index("reserva_producto", "id_producto"),
)
