"""Answer callers about orders, products and drivers in JSON and XML."""

from __future__ import annotations

from flask import Response

from bff.orders import queries, shapes
from bff.orders.door import DRIVER_PAGE, ORDER_ID, ORDER_PAGE, PRODUCT_ID, PRODUCT_PAGE
from pulsaga.web import LIMIT, NEXT, OVERSEEING, SEEING, Answer, allow, http, operation

api = http.api("orders", __name__)


@api.get("/orders")
@allow(SEEING)
@operation(
    parameters=(LIMIT, ORDER_PAGE),
    answers={200: Answer(description="A page of orders.", shape=shapes.ORDERS, headers=(NEXT,))},
)
def list_orders() -> Response:
    """List the orders that the caller may see, the oldest first, a page at a time."""
    after, limit, user_id = http.argument_id("after"), http.page_limit(), http.caller().sees_only
    page = queries.list_orders(http.read_engine(), after, limit, user_id)
    return http.reply("orders", page)


@api.get("/orders/<identifier>")
@allow(SEEING)
@operation(
    parameters=(ORDER_ID,),
    answers={200: Answer(description="Where the order stands.", shape=shapes.Orden)},
    problems={404: "The caller has no order of this id, or it is not made yet."},
)
def show_order(identifier: str) -> Response:
    """Show where an order stands."""
    known = http.known_id(identifier, "order")
    found = queries.find_order(http.read_engine(), known, http.caller().sees_only)
    if found is None:
        raise http.not_found("order of this id")
    return http.reply("order", found)


@api.get("/productos")
@allow(SEEING)
@operation(
    parameters=(LIMIT, PRODUCT_PAGE),
    answers={200: Answer(description="A page of products.", shape=shapes.PRODUCTS, headers=(NEXT,))},
)
def list_products() -> Response:
    """List the products that can be ordered, a page at a time."""
    after, limit = http.argument_id("after"), http.page_limit()
    return http.reply("productos", queries.list_products(http.read_engine(), after, limit))


@api.get("/productos/<id_producto>")
@allow(SEEING)
@operation(
    parameters=(PRODUCT_ID,),
    answers={200: Answer(description="How much there is of it.", shape=shapes.Producto)},
    problems={404: "There is no product of this id."},
)
def show_product(id_producto: str) -> Response:
    """Show how much there is of a product."""
    found = queries.find_product(http.read_engine(), http.known_id(id_producto, "product"))
    if found is None:
        raise http.not_found("product of this id")
    return http.reply("producto", found)


@api.get("/conductores")
@allow(OVERSEEING)
@operation(
    parameters=(LIMIT, DRIVER_PAGE),
    answers={200: Answer(description="A page of drivers.", shape=shapes.DRIVERS, headers=(NEXT,))},
)
def list_drivers() -> Response:
    """List the drivers and what they bring, a page at a time."""
    after, limit = http.argument_id("after"), http.page_limit()
    return http.reply("conductores", queries.list_drivers(http.read_engine(), after, limit))
