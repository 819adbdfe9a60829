"""Describe orders, products and drivers as callers ask for them and see them."""

from __future__ import annotations

from dataclasses import dataclass, field

from marshmallow import fields

from bff.parameters import ID
from ordenes.messages import Line
from pulsaga.web import Shape, link, page_of, shape_of, text, time

ORDER_STATES = ("creada", "iniciada", "entregada", "fallida")
NAME = {"minLength": 1, "maxLength": 200}
AMOUNT = {"minimum": 0, "maximum": 2_000_000_000}


@dataclass(frozen=True)
class Order:
    """An order as callers ask for it: one product, or several lines."""

    direccion_entrega: str = field(metadata={"minLength": 1, "maxLength": 1000, "description": "Where it goes."})
    id_producto: str | None = field(
        default=None, metadata={"minLength": 1, "maxLength": 36, "description": "Which product; or `lineas`."}
    )
    cantidad: int | None = field(
        default=None, metadata={"minimum": 1, "maximum": 1_000_000, "description": "How many of it."}
    )
    lineas: list[Line] = field(
        default_factory=list, metadata={"maxItems": 100, "description": "Several products, each once."}
    )
    user_id: str | None = field(
        default=None, metadata={**NAME, "description": "Whose order it is: by default the caller's."}
    )


@dataclass(frozen=True)
class Product:
    """A product as callers ask for it."""

    nombre: str = field(metadata={**NAME, "examples": ["té"], "description": "What it is called."})
    stock: int = field(metadata={**AMOUNT, "description": "How many can be ordered."})


@dataclass(frozen=True)
class Stock:
    """A product's stock as callers set it."""

    stock: int = field(metadata={**AMOUNT, "description": "How many can be ordered from now on."})


@dataclass(frozen=True)
class Driver:
    """A driver as callers ask for one."""

    nombre: str = field(metadata={**NAME, "examples": ["grace"], "description": "Who drives."})


ORDER, PRODUCT, STOCK, DRIVER = (
    shape_of(name, cls)
    for name, cls in (
        ("place-order", Order),
        ("register-product", Product),
        ("restock-product", Stock),
        ("register-driver", Driver),
    )
)


def amount(description: str) -> fields.Integer:
    """Return a field that counts things."""
    return fields.Integer(required=True, metadata={"description": description, "minimum": 0, "examples": [5]})


class Linea(Shape):
    """So many of one product."""

    root = "linea"
    id_producto = text("Which product.", ID)
    cantidad = fields.Integer(required=True, metadata={"description": "How many.", "minimum": 1, "examples": [2]})


class OrderLinks(Shape):
    """Lead from an order to itself and to the command that made it."""

    root = "links"
    self = link("This order.", f"/orders/{ID}")
    command = link("The command by which it was asked for.", f"/commands/{ID}")


class Failure(Shape):
    """Say why nothing came of an order."""

    root = "motivo"
    code = text("Never changes; for programs.", "no-stock")
    detail = text("For people.", "0 are left, 1 were wanted")


class Orden(Shape):
    """Say where an order stands."""

    root = "order"
    id_orden = text("The command's id, too.", ID)
    id_producto = text("Of an order with one line.", ID, required=False)
    user_id = text("Whose it is.", "ada")
    time_stamp = time("When it was made.", "2026-01-31T09:26:53.589Z")
    cantidad = fields.Integer(metadata={"description": "Of an order with one line.", "minimum": 1, "examples": [2]})
    direccion_entrega = text("Where it goes.", "Calle 1")
    estado = text("Where it stands.", "iniciada", one_of=ORDER_STATES)
    id_driver = text("Who brings it.", ID, required=False)
    lineas = fields.List(fields.Nested(Linea), required=True, metadata={"description": "What it is made of."})
    motivo = fields.Nested(Failure, metadata={"description": "Of an order that is `fallida`."})
    links = fields.Nested(OrderLinks, required=True)


class ProductLinks(Shape):
    """Lead from a product to itself."""

    root = "links"
    self = link("This product.", f"/productos/{ID}")


class Producto(Shape):
    """Say how much there is of a product."""

    root = "producto"
    id_producto = text("The id of the command that made it.", ID)
    nombre = text("What it is called.", "té")
    stock = amount("What can be ordered.")
    reservado = amount("What orders hold that are not delivered.")
    entregado = amount("What was delivered.")
    links = fields.Nested(ProductLinks, required=True)


class Conductor(Shape):
    """Say what a driver does."""

    root = "conductor"
    id_driver = text("The id of the command that made it.", ID)
    nombre = text("Who drives.", "grace")
    id_orden = text("The order that the driver brings; absent for who is free.", ID, required=False)


ORDERS = page_of("orders", Orden, f"/orders?limit=50&after={ID}")
PRODUCTS = page_of("productos", Producto, f"/productos?limit=50&after={ID}")
DRIVERS = page_of("conductores", Conductor, f"/conductores?limit=50&after={ID}")
