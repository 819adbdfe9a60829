"""Take orders of a price, each under the id of its request, and list a caller's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Response
from marshmallow import fields
from sqlalchemy import RowMapping, select

from bff.parameters import ID
from bff.pedidos.tables import pedido
from protools_saga.messages import TakeOrder
from pulsaga import Settings, rfc3339
from pulsaga.web import ASKING, LIMIT, Answer, Entrance, Shape, Shown, allow, http, operation, shape_of, text, time

PATH = "/api/v1/order/"
api = http.api("pedidos", __name__)


@dataclass(frozen=True)
class Asked:
    """An order as callers ask for it."""

    price: int = field(
        metadata={"minimum": 0, "maximum": 2_000_000_000, "description": "What it costs.", "examples": [400]}
    )


class Taken(Shape):
    """Say that an order was taken."""

    root = "taken"
    status = text("That it worked.", "OK", one_of=("OK",))
    message = text("For people.", "Your order is on the way")
    orderId = text("Of the order.", ID)


class Pedido(Shape):
    """An order by request id."""

    root = "pedido"
    _id = text("Of the order.", ID)
    price = fields.Integer(required=True, metadata={"description": "What it costs.", "minimum": 0, "examples": [400]})
    date = time("When it was made.", "2026-01-31T09:26:53.589Z")
    userId = text("Whose it is.", f"usuarios~{ID}")
    status = text("Where it stands.", "processing", one_of=("new", "processing"))


class PedidoData(Shape):
    """Hold orders."""

    root = "data"
    data = fields.List(fields.Nested(Pedido), required=True, metadata={"description": "The oldest first."})


class Pedidos(Shape):
    """List a caller's orders."""

    root = "pedidos"
    status = text("That it worked.", "success", one_of=("success",))
    results = fields.Integer(required=True, metadata={"description": "How many.", "minimum": 0, "examples": [1]})
    data = fields.Nested(PedidoData, required=True)


def take_order(asked: Mapping[str, Any], _settings: Settings) -> TakeOrder:
    """Return the command for an order of the caller."""
    return TakeOrder(http.caller().subject, asked["price"])


ENTRANCES = (
    Entrance(
        path=PATH,
        name="take_order",
        about="Take an order. A request that comes again under its `X-Request-Id` is answered alike, and is one order.",
        takes=shape_of("take-order", Asked),
        begin=take_order,
        workflows=("take-order",),
        scope="take-order",
        by_request_id=True,
        shown=Shown(
            shape=Taken,
            document=lambda order_id: {"status": "OK", "message": "Your order is on the way", "orderId": order_id},
            description="The order is taken, durably.",
        ),
    ),
)


@api.get(PATH)
@allow(ASKING)
@operation(parameters=(LIMIT,), answers={200: Answer(description="The caller's orders.", shape=Pedidos)})
def list_own_orders() -> Response:
    """List the caller's own orders, the newest ones where there are many, the oldest of them first."""
    query = select(pedido).where(pedido.c.user_id == http.caller().subject)
    with http.read_engine().connect() as connection:
        newest = query.order_by(pedido.c.order_id.desc()).limit(http.page_limit())
        rows = connection.execute(newest).mappings().all()
    shown = [_resource(row) for row in reversed(rows)]
    return http.reply("pedidos", {"status": "success", "results": len(shown), "data": {"data": shown}})


def _resource(row: RowMapping) -> dict[str, Any]:
    return {
        "_id": row["order_id"],
        "price": row["price"],
        "date": rfc3339(row["date"]),
        "userId": row["user_id"],
        "status": row["status"],
    }
