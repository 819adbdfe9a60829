"""Say what pedidos understands and tells: orders of a price."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command, event


@dataclass(frozen=True)
class OrderState:
    """The full state of an order."""

    order_id: str
    user_id: str
    price: int
    status: str
    """`new` or `processing`."""
    date: float
    """When it was made, in Unix seconds."""


@event("pedidos.order-created")
@dataclass(frozen=True)
class OrderCreated(OrderState):
    """An order is there; the reply to CreateOrder."""


@event("pedidos.order-processing")
@dataclass(frozen=True)
class OrderProcessing(OrderState):
    """An order is being worked on; the reply to ProcessOrder."""


@command("pedidos.create-order", replies=(OrderCreated,))
@dataclass(frozen=True)
class CreateOrder:
    """Ask for an order to be kept under the saga's id."""

    user_id: str
    price: int


@command("pedidos.process-order", replies=(OrderProcessing,))
@dataclass(frozen=True)
class ProcessOrder:
    """Ask for the saga's order to be worked on."""
