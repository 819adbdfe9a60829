"""The tables that the front door shows orders, products and drivers from."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, String, Text

from bff.tables import VIEWS
from pulsaga import Id, Row, Rows

orden = Rows[Row](
    "orden",
    VIEWS,
    Column("id_orden", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("user_id", String, nullable=False),
    Column("lineas", Text, nullable=False, comment="JSON"),
    Column("direccion_entrega", Text, nullable=False),
    Column("time_stamp", Double, nullable=False),
    Column("estado", String, nullable=False),
    Column("id_driver", Id),
    Index("orden_user", "user_id", "id_orden"),
)
producto = Rows[Row](
    "producto",
    VIEWS,
    Column("id_producto", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("nombre", String, nullable=False),
    Column("stock", Integer, nullable=False),
    Column("reservado", Integer, nullable=False),
    Column("entregado", Integer, nullable=False),
    Column("estado", String, nullable=False),
)
conductor = Rows[Row](
    "conductor",
    VIEWS,
    Column("id_driver", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("nombre", String, nullable=False),
    Column("id_orden", Id),
)
