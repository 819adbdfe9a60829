"""Ask the front door's read database for orders, products and drivers, and show them as resources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Engine, RowMapping, select, true

from bff.orders.tables import conductor, orden, producto
from pulsaga import rfc3339
from pulsaga.web import http, reasons_of

Resource = dict[str, Any]
ALL = true()
LISTED = producto.c.estado == "activo"
"""Which products can be ordered."""


def find_order(read: Engine, identifier: str, user_id: str | None) -> Resource | None:
    """Look up an order; with a user, only one of that user's."""
    row = _one(read, orden.c.id_orden, identifier, _own(user_id))
    return _shown(read, [row])[0] if row else None


def list_orders(read: Engine, after: str | None, limit: int, user_id: str | None) -> Resource:
    """List orders by id, which is by age, from behind `after` on."""
    rows = _page(read, orden.c.id_orden, after, limit, _own(user_id))
    return {"orders": _shown(read, rows[:limit])} | http.next_page(rows, limit, "after", "id_orden")


def find_product(read: Engine, identifier: str) -> Resource | None:
    """Look up a product that can be ordered."""
    row = _one(read, producto.c.id_producto, identifier, LISTED)
    return _product(row) if row else None


def list_products(read: Engine, after: str | None, limit: int) -> Resource:
    """List the products that can be ordered by id, from behind `after` on."""
    rows = _page(read, producto.c.id_producto, after, limit, LISTED)
    page = {"productos": [_product(row) for row in rows[:limit]]}
    return page | http.next_page(rows, limit, "after", "id_producto")


def list_drivers(read: Engine, after: str | None, limit: int) -> Resource:
    """List drivers by id, from behind `after` on."""
    rows = _page(read, conductor.c.id_driver, after, limit)
    shown = [_without_none({name: row[name] for name in ("id_driver", "nombre", "id_orden")}) for row in rows[:limit]]
    return {"conductores": shown} | http.next_page(rows, limit, "after", "id_driver")


def _own(user_id: str | None) -> ColumnElement[bool]:
    return ALL if user_id is None else orden.c.user_id == user_id


def _one(read: Engine, key: Column[Any], identifier: str, which: ColumnElement[bool]) -> RowMapping | None:
    query = select(key.table).where(key == identifier, which)
    with read.connect() as connection:
        return connection.execute(query).mappings().first()


def _page(
    read: Engine, key: Column[Any], after: str | None, limit: int, which: ColumnElement[bool] = ALL
) -> Sequence[RowMapping]:
    """Return a page of a table in the order of its key, and one row more if there is one."""
    query = select(key.table).where(which, key > after if after else ALL).order_by(key).limit(limit + 1)
    with read.connect() as connection:
        return connection.execute(query).mappings().all()


def _shown(read: Engine, rows: Sequence[RowMapping]) -> list[Resource]:
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
