"""Say what productos understands and tells: what is in stock, set aside for orders, and delivered."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command, event


@dataclass(frozen=True)
class ProductState:
    """The full state of a product."""

    id_producto: str
    nombre: str
    stock: int
    """What can still be ordered."""
    reservado: int
    """What is set aside for orders that are not delivered."""
    entregado: int
    estado: str
    """`activo` or `retirado`."""


@event("productos.product-registered")
@dataclass(frozen=True)
class ProductRegistered(ProductState):
    """A product can be ordered; the reply to RegisterProduct."""


@event("productos.product-restocked")
@dataclass(frozen=True)
class ProductRestocked(ProductState):
    """There is another stock of a product; the reply to RestockProduct."""


@event("productos.product-removed")
@dataclass(frozen=True)
class ProductRemoved(ProductState):
    """A product cannot be ordered any more; the reply to RemoveProduct."""


@event("productos.stock-reserved")
@dataclass(frozen=True)
class StockReserved(ProductState):
    """Stock is set aside for an order; the reply to ReserveStock."""


@event("productos.stock-released")
@dataclass(frozen=True)
class StockReleased(ProductState):
    """What was set aside can be ordered again; the reply to ReleaseStock."""


@event("productos.stock-delivered")
@dataclass(frozen=True)
class StockDelivered(ProductState):
    """What was set aside for an order is delivered; the reply to DeliverStock."""


@command("productos.register-product", replies=(ProductRegistered,))
@dataclass(frozen=True)
class RegisterProduct:
    """Ask for a new product, whose id is that of the saga."""

    nombre: str
    stock: int


@command("productos.restock-product", replies=(ProductRestocked,))
@dataclass(frozen=True)
class RestockProduct:
    """Ask for so much of a product to be in stock, whatever was; what is set aside stays so."""

    id_producto: str
    stock: int


@command("productos.remove-product", replies=(ProductRemoved,))
@dataclass(frozen=True)
class RemoveProduct:
    """Ask for a product to be taken off the list."""

    id_producto: str


@command("productos.reserve-stock", replies=(StockReserved,))
@dataclass(frozen=True)
class ReserveStock:
    """Ask for stock to be set aside for an order: the one of this saga."""

    id_producto: str
    cantidad: int


@command("productos.release-stock", replies=(StockReleased,))
@dataclass(frozen=True)
class ReleaseStock:
    """Ask for one reservation to be undone."""

    id_producto: str
    undoes: str


@command("productos.deliver-stock", replies=(StockDelivered,))
@dataclass(frozen=True)
class DeliverStock:
    """Tell that what was set aside for an order is with its customer."""

    id_orden: str
    id_producto: str
