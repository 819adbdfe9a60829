"""The workflow `deliver-order`: the order ends, what was set aside for it is gone, and its driver is free."""

from __future__ import annotations

from dataclasses import dataclass, replace

from conductores.messages import FreeDriver
from ordenes.messages import DeliverOrder, Line, OrderDelivered
from productos.messages import DeliverStock
from protools_saga import messages
from pulsaga import Access, Each, ForEach, Saga, Step, hours


@dataclass(frozen=True)
class Delivery(messages.DeliverOrder):
    """What the workflow knows."""

    lineas: tuple[Line, ...] = ()
    id_driver: str = ""


def note_order(delivery: Delivery, order: OrderDelivered) -> Delivery:
    """Learn what was delivered, and by whom."""
    return replace(delivery, lineas=tuple(order.lineas), id_driver=order.id_driver or "")


COUNT = Step[Each[Delivery, Line]](
    lambda each: DeliverStock(each.data.id_orden, each.item.id_producto), deadline=hours(24)
)
DELIVER_ORDER = Saga[Delivery](
    name="deliver-order",
    starts=messages.DeliverOrder,
    data=Delivery,
    subject=lambda delivery: delivery.id_orden,
    access=Access(start=("operator", "admin", "orders:deliver"), subject="id_orden"),
    steps=[
        Step(lambda delivery: DeliverOrder(delivery.id_orden), learn=note_order, pivot=True, deadline=hours(1)),
        ForEach(lambda delivery: delivery.lineas, lambda line: line.id_producto, [COUNT]),
        Step(lambda delivery: FreeDriver(delivery.id_driver, delivery.id_orden), deadline=hours(24)),
    ],
)
