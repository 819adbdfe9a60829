"""The workflow `place-order`: make the order, set stock aside for each line, find a driver; then it may start.

Without stock or a driver all of it is undone, and the order has failed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from conductores.messages import AssignDriver, DriverAssigned, UndoAssignment
from ordenes.messages import CreateOrder, FailOrder, Line, StartOrder
from productos.messages import ReleaseStock, ReserveStock
from protools_saga.messages import PlaceOrder
from pulsaga import Access, Each, ForEach, Saga, Step, hours, minutes


@dataclass(frozen=True)
class Order(PlaceOrder):
    """What the workflow knows."""

    id_driver: str = ""


def note_driver(order: Order, reply: DriverAssigned) -> Order:
    """Learn who brings it."""
    return replace(order, id_driver=reply.id_driver)


RESERVE = Step[Each[Order, Line]](
    lambda each: ReserveStock(each.item.id_producto, each.item.cantidad),
    undo=lambda each, undoes: ReleaseStock(each.item.id_producto, undoes),
    deadline=minutes(15),
)
PLACE_ORDER = Saga[Order](
    name="place-order",
    starts=PlaceOrder,
    data=Order,
    subject=lambda order: order.user_id,
    access=Access(start=("caller", "operator", "admin"), owner=lambda command: str(command.user_id), subject="user_id"),
    steps=[
        Step(
            lambda order: CreateOrder(order.user_id, list(order.lineas), order.direccion_entrega),
            undo=lambda _order, undoes: FailOrder(undoes),
            deadline=minutes(15),
        ),
        ForEach(lambda order: order.lineas, lambda line: line.id_producto, [RESERVE]),
        Step(
            lambda order: AssignDriver(order.direccion_entrega),
            undo=lambda _order, undoes: UndoAssignment(undoes),
            learn=note_driver,
            deadline=minutes(15),
        ),
        Step(lambda order: StartOrder(order.id_driver), pivot=True, deadline=hours(1), late="ignore"),
    ],
)
