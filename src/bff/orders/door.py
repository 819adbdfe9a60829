"""Declare the paths by which orders, products and drivers are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bff.orders.shapes import DRIVER, ORDER, PRODUCT, STOCK
from bff.parameters import ID, id_in_path, page_behind
from ordenes.messages import Line
from protools_saga.messages import (
    DeliverOrder,
    PlaceOrder,
    RegisterDriver,
    RegisterProduct,
    RemoveProduct,
    RestockProduct,
)
from pulsaga import Settings
from pulsaga.web import Entrance, Link, http, invalid

ORDER_ID, PRODUCT_ID = id_in_path("identifier", "The order's id."), id_in_path("id_producto", "The product's id.")
DELIVERED_ID = id_in_path("id_orden", "The order's id.")
ORDER_PAGE, PRODUCT_PAGE, DRIVER_PAGE = map(page_behind, ("order", "product", "driver"))


def place_order(asked: Mapping[str, Any], _settings: Settings) -> PlaceOrder:
    """Return the command for an order: of one product, or of several lines; of the caller, unless somebody is named."""
    return PlaceOrder(asked.get("user_id") or http.caller().subject, _lines(asked), asked["direccion_entrega"])


def _lines(asked: Mapping[str, Any]) -> tuple[Line, ...]:
    lines = tuple(Line(**line) for line in asked.get("lineas") or ())
    single = (asked.get("id_producto"), asked.get("cantidad"))
    if lines and single != (None, None):
        raise invalid({"/lineas": "must be absent where `id_producto` and `cantidad` are given"})
    if not lines and None in single:
        raise invalid({f"/{name}": "is needed" for name in ("id_producto", "cantidad") if asked.get(name) is None})
    twice = [product for product, number in Counter(line.id_producto for line in lines).items() if number > 1]
    if twice:
        raise invalid({"/lineas": f"names {twice[0]} more than once"})
    return lines or (Line(str(single[0]), int(single[1] or 0)),)


def deliver_order(asked: Mapping[str, Any], _settings: Settings) -> DeliverOrder:
    """Return the command for a delivery."""
    return DeliverOrder(http.known_id(asked["id_orden"], "order"))


def register_product(asked: Mapping[str, Any], _settings: Settings) -> RegisterProduct:
    """Return the command for a new product."""
    return RegisterProduct(asked["nombre"], asked["stock"])


def restock_product(asked: Mapping[str, Any], _settings: Settings) -> RestockProduct:
    """Return the command for another stock."""
    return RestockProduct(http.known_id(asked["id_producto"], "product"), asked["stock"])


def remove_product(asked: Mapping[str, Any], _settings: Settings) -> RemoveProduct:
    """Return the command that takes a product off the list."""
    return RemoveProduct(http.known_id(asked["id_producto"], "product"))


def register_driver(asked: Mapping[str, Any], _settings: Settings) -> RegisterDriver:
    """Return the command for a new driver."""
    return RegisterDriver(asked["nombre"])


def _made(name: str, where: str, description: str, view: str, parameter: str) -> Link:
    """Return the link to what a command makes under its own id."""
    path, example = partial(http.path, where), f"/{where}/{ID}"
    return Link(
        name=name, path=path, description=description, example=example, view=view, parameter=parameter, by_id=True
    )


THE_ORDER = _made("order", "orders", "The order.", "show_order", "identifier")
THE_PRODUCT = _made("producto", "productos", "The product.", "show_product", "id_producto")
ENTRANCES = (
    Entrance(
        path="/orders",
        name="place_order",
        about="Accept an order; `Prefer: wait` stays until it may start, or has failed.",
        takes=ORDER,
        begin=place_order,
        workflows=("place-order",),
        links=(THE_ORDER,),
        cancelled_at="/orders/<identifier>",
        scope="place-order",
    ),
    Entrance(
        path="/orders/<id_orden>/delivery",
        name="deliver_order",
        about="Accept that an order was handed over: it ends, and its driver is free.",
        takes=None,
        begin=deliver_order,
        workflows=("deliver-order",),
        links=(replace(THE_ORDER, by_id=False),),
        parameters=(DELIVERED_ID,),
        problems={404: "No order can have this id."},
        scope="deliver-order",
    ),
    Entrance(
        path="/productos",
        name="register_product",
        about="Accept a new product.",
        takes=PRODUCT,
        begin=register_product,
        workflows=("register-product",),
        links=(THE_PRODUCT,),
        scope="register-product",
    ),
    Entrance(
        path="/productos/<id_producto>",
        name="restock_product",
        about="Accept another stock of a product; what orders hold stays theirs.",
        takes=STOCK,
        begin=restock_product,
        workflows=("restock-product",),
        links=(replace(THE_PRODUCT, by_id=False),),
        method="PUT",
        parameters=(PRODUCT_ID,),
        problems={404: "No product can have this id."},
        scope="restock-product",
    ),
    Entrance(
        path="/productos/<id_producto>",
        name="remove_product",
        about="Accept that a product is taken off the list; refused while an order holds some of it.",
        takes=None,
        begin=remove_product,
        workflows=("remove-product",),
        method="DELETE",
        parameters=(PRODUCT_ID,),
        problems={404: "No product can have this id."},
        scope="remove-product",
    ),
    Entrance(
        path="/conductores",
        name="register_driver",
        about="Accept a new driver.",
        takes=DRIVER,
        begin=register_driver,
        workflows=("register-driver",),
        scope="register-driver",
    ),
)
