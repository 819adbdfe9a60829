"""Lay out the drivers."""

from __future__ import annotations

from typing import TypedDict

from sqlalchemy import Column, Double, Integer, MetaData, String

from pulsaga import Id, Rows

WRITE = MetaData()


class DriverRow(TypedDict):
    """A driver, and the order in hand."""

    id_driver: str
    version: int
    nombre: str
    id_orden: str | None
    command_id: str | None
    changed_at: float


conductor = Rows[DriverRow](
    "conductor",
    WRITE,
    Column("id_driver", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("nombre", String, nullable=False),
    Column("id_orden", String, unique=True, comment="the order in hand; null for who is free"),
    Column("command_id", Id, unique=True, comment="of the AssignDriver"),
    Column("changed_at", Double, nullable=False),
    info={"subject": "id_driver"},
)
