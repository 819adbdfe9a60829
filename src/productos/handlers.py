"""Handle productos' commands. What is in stock, set aside and delivered of a product changes together."""

from __future__ import annotations

from typing import Any

from productos.messages import (
    DeliverStock,
    ProductRegistered,
    ProductRemoved,
    ProductRestocked,
    RegisterProduct,
    ReleaseStock,
    RemoveProduct,
    ReserveStock,
    RestockProduct,
    StockDelivered,
    StockReleased,
    StockReserved,
)
from productos.tables import ProductRow, ReservationRow, producto, reserva
from pulsaga import DomainError, Message, UnitOfWork

STATE = ("id_producto", "nombre", "stock", "reservado", "entregado", "estado")


def reservation_id(id_orden: str, id_producto: str) -> str:
    """Return the key of what an order holds of a product."""
    return f"{id_orden}/{id_producto}"


def register_product(message: Message[RegisterProduct], uow: UnitOfWork) -> None:
    """Keep a new product."""
    row: ProductRow = {
        "id_producto": message.saga_id,
        "version": 0,
        "nombre": message.body.nombre,
        "stock": message.body.stock,
        "reservado": 0,
        "entregado": 0,
        "estado": "activo",
        "changed_at": uow.now,
    }
    _tell(ProductRegistered, row, uow)


def restock_product(message: Message[RestockProduct], uow: UnitOfWork) -> None:
    """Have so much in stock; refuse with `no-product`."""
    row = _active(message.body.id_producto, uow)
    _tell(ProductRestocked, {**row, "stock": message.body.stock}, uow)


def remove_product(message: Message[RemoveProduct], uow: UnitOfWork) -> None:
    """Take a product off the list; refuse with `no-product`, or `reserved` while an order holds some of it."""
    row = _active(message.body.id_producto, uow)
    if row["reservado"]:
        raise DomainError("reserved", f"{row['reservado']} of it are set aside for orders")
    _tell(ProductRemoved, {**row, "estado": "retirado"}, uow)


def reserve_stock(message: Message[ReserveStock], uow: UnitOfWork) -> None:
    """Set stock aside; refuse with `no-product` or `no-stock`."""
    wanted, row = message.body, _active(message.body.id_producto, uow)
    if row["stock"] < wanted.cantidad:
        raise DomainError("no-stock", f"{row['stock']} of {wanted.id_producto} are left, {wanted.cantidad} were wanted")
    held: ReservationRow = {
        "id": reservation_id(message.saga_id, wanted.id_producto),
        "id_orden": message.saga_id,
        "id_producto": wanted.id_producto,
        "command_id": message.id,
        "cantidad": wanted.cantidad,
        "estado": "reservada",
    }
    uow.put(reserva, held)
    moved = {"stock": row["stock"] - wanted.cantidad, "reservado": row["reservado"] + wanted.cantidad}
    _tell(StockReserved, {**row, **moved}, uow)


def release_stock(message: Message[ReleaseStock], uow: UnitOfWork) -> None:
    """Put back what one ReserveStock set aside."""
    asked = message.body
    row, held = (
        uow.get(producto, asked.id_producto),
        uow.get(reserva, reservation_id(message.saga_id, asked.id_producto)),
    )
    assert row is not None, "what was reserved is a product"
    if held and held["command_id"] == asked.undoes and held["estado"] == "reservada":
        uow.put(reserva, {**held, "estado": "liberada"})
        row = {**row, "stock": row["stock"] + held["cantidad"], "reservado": row["reservado"] - held["cantidad"]}
    _tell(StockReleased, row, uow)


def deliver_stock(message: Message[DeliverStock], uow: UnitOfWork) -> None:
    """Count what an order held as delivered; refuse with `no-reservation`."""
    asked = message.body
    row, held = (
        uow.get(producto, asked.id_producto),
        uow.get(reserva, reservation_id(asked.id_orden, asked.id_producto)),
    )
    if row is None or held is None or held["estado"] != "reservada":
        raise DomainError("no-reservation", f"order {asked.id_orden} holds nothing of {asked.id_producto}")
    uow.put(reserva, {**held, "estado": "entregada"})
    moved = {"reservado": row["reservado"] - held["cantidad"], "entregado": row["entregado"] + held["cantidad"]}
    _tell(StockDelivered, {**row, **moved}, uow)


def _active(id_producto: str, uow: UnitOfWork) -> ProductRow:
    row = uow.get(producto, id_producto)
    if row is None or row["estado"] != "activo":
        raise DomainError("no-product", f"there is no product {id_producto}")
    return row


def _tell(event: type[Any], row: Any, uow: UnitOfWork) -> None:
    """Keep a product's next version, and answer with all of it."""
    after: Any = {**row, "version": row["version"] + 1, "changed_at": uow.now}
    uow.put(producto, after)
    uow.reply(event(**{name: after[name] for name in STATE}), after["id_producto"], after["version"])
