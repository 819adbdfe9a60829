"""Ask the front door's read database for orders, products and drivers, and show them as resources."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Engine, RowMapping, select, true

from bff.orders.tables import conductor, orden, producto
from pulsaga import rfc3339
from pulsaga.web import http, reasons_of

Resource = dict[str, Any]


def find_order(read: Engine, identifier: str, user_id: str | None) -> Resource | None:
    """Look up an order; with a user, only one of that user's."""
    found = _orders(read, orden.c.id_orden == identifier, user_id, 1)
    return _shown(read, found)[0] if found else None


def list_orders(read: Engine, after: str, limit: int, user_id: str | None) -> Resource:
    """List orders by id, which is by age, from behind `after` on."""
    rows = _orders(read, orden.c.id_orden > after if after else true(), user_id, limit + 1)
    return {"orders": _shown(read, rows[:limit])} | http.next_page(rows, limit, "after", "id_orden")


def find_product(read: Engine, identifier: str) -> Resource | None:
    """Look up a product that can be ordered."""
    query = select(producto).where(producto.c.id_producto == identifier, producto.c.estado == "activo")
    with read.connect() as connection:
        row = connection.execute(query).mappings().first()
    return _product(row) if row else None


def list_products(read: Engine, after: str, limit: int) -> Resource:
    """List the products that can be ordered by id, from behind `after` on."""
    listed = select(producto).where(producto.c.estado == "activo", producto.c.id_producto > after if after else true())
    with read.connect() as connection:
        rows = connection.execute(listed.order_by(producto.c.id_producto).limit(limit + 1)).mappings().all()
    page = {"productos": [_product(row) for row in rows[:limit]]}
    return page | http.next_page(rows, limit, "after", "id_producto")


def list_drivers(read: Engine, after: str, limit: int) -> Resource:
    """List drivers by id, from behind `after` on."""
    listed = select(conductor).where(conductor.c.id_driver > after if after else true())
    with read.connect() as connection:
        rows = connection.execute(listed.order_by(conductor.c.id_driver).limit(limit + 1)).mappings().all()
    shown = [_without_none({name: row[name] for name in ("id_driver", "nombre", "id_orden")}) for row in rows[:limit]]
    return {"conductores": shown} | http.next_page(rows, limit, "after", "id_driver")


def _orders(read: Engine, which: ColumnElement[bool], user_id: str | None, limit: int) -> list[RowMapping]:
    own = true() if user_id is None else orden.c.user_id == user_id
    query = select(orden).where(which, own).order_by(orden.c.id_orden).limit(limit)
    with read.connect() as connection:
        return list(connection.execute(query).mappings())


def _shown(read: Engine, rows: list[RowMapping]) -> list[Resource]:
    reasons = reasons_of(read, [row["id_orden"] for row in rows if row["estado"] == "fallida"])
    return [_order(row, reasons.get(row["id_orden"])) for row in rows]


def _order(row: RowMapping, reason: dict[str, str] | None) -> Resource:
    lines = json.loads(row["lineas"])
    only = lines[0] if len(lines) == 1 else {"id_producto": None, "cantidad": None}
    links = {"self": http.path("orders", row["id_orden"]), "command": http.path("commands", row["id_orden"])}
    return _without_none(
        {
            "id_orden": row["id_orden"],
            "id_producto": only["id_producto"],
            "user_id": row["user_id"],
            "time_stamp": rfc3339(row["time_stamp"]),
            "cantidad": only["cantidad"],
            "direccion_entrega": row["direccion_entrega"],
            "estado": row["estado"],
            "id_driver": row["id_driver"],
            "lineas": lines,
            "motivo": reason,
            "links": links,
        }
    )


def _product(row: RowMapping) -> Resource:
    kept = ("id_producto", "nombre", "stock", "reservado", "entregado")
    return {name: row[name] for name in kept} | {"links": {"self": http.path("productos", row["id_producto"])}}


def _without_none(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if value is not None}
