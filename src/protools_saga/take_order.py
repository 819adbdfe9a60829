"""The workflow `take-order`: the order is made, then it is being worked on."""

from __future__ import annotations

from pedidos.messages import CreateOrder, ProcessOrder
from protools_saga import messages
from pulsaga import Access, Saga, Step, hours, minutes

TAKE_ORDER = Saga[messages.TakeOrder](
    name="take-order",
    starts=messages.TakeOrder,
    data=messages.TakeOrder,
    subject=lambda order: order.user_id,
    access=Access(start=("caller", "operator", "admin"), owner=lambda command: str(command.user_id), subject="user_id"),
    steps=[
        Step(lambda order: CreateOrder(order.user_id, order.price), pivot=True, deadline=minutes(15)),
        Step(lambda _order: ProcessOrder(), deadline=hours(24)),
    ],
)
