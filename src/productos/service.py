"""Declare productos: products, and what orders hold of them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from productos.checks import CHECKS
from productos.handlers import (
    deliver_stock,
    register_product,
    release_stock,
    remove_product,
    reservation_id,
    reserve_stock,
    restock_product,
)
from productos.messages import (
    DeliverStock,
    RegisterProduct,
    ReleaseStock,
    RemoveProduct,
    ReserveStock,
    RestockProduct,
)
from productos.tables import WRITE, producto, reserva
from pulsaga import Handler, Service


def held(id_orden: str, id_producto: str) -> Iterable[tuple[Table, str]]:
    """Name the rows of a product, and of what an order holds of it."""
    return (producto, id_producto), (reserva, reservation_id(id_orden, id_producto))


PRODUCTOS = Service(
    "productos",
    tables=WRITE,
    handlers=[
        Handler(RegisterProduct, register_product, reads=lambda m: [(producto, m.saga_id)]),
        Handler(RestockProduct, restock_product, reads=lambda m: [(producto, m.body.id_producto)]),
        Handler(RemoveProduct, remove_product, reads=lambda m: [(producto, m.body.id_producto)]),
        Handler(ReserveStock, reserve_stock, reads=lambda m: held(m.saga_id, m.body.id_producto)),
        Handler(ReleaseStock, release_stock, reads=lambda m: held(m.saga_id, m.body.id_producto)),
        Handler(DeliverStock, deliver_stock, reads=lambda m: held(m.body.id_orden, m.body.id_producto)),
    ],
    checks=CHECKS,
)
