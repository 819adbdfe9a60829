"""Lay out the orders."""

from __future__ import annotations

from typing import TypedDict

from sqlalchemy import Column, Double, Integer, MetaData, String, Text

from pulsaga import Rows

WRITE = MetaData()


class OrderRow(TypedDict):
    """An order."""

    id_orden: str
    version: int
    user_id: str
    lineas: str
    direccion_entrega: str
    time_stamp: float
    estado: str
    id_driver: str | None
    changed_at: float


orden = Rows[OrderRow](
    "orden",
    WRITE,
    Column("id_orden", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("user_id", String, nullable=False),
    Column("lineas", Text, nullable=False, comment="JSON: product and number of each line"),
    Column("direccion_entrega", Text, nullable=False),
    Column("time_stamp", Double, nullable=False),
    Column("estado", String, nullable=False, comment="creada, iniciada, entregada or fallida"),
    Column("id_driver", String),
    Column("changed_at", Double, nullable=False),
    info={"subject": "id_orden"},
)
