"""Say what ordenes understands and tells: orders, from when they are made to when they are delivered."""

from __future__ import annotations

from dataclasses import dataclass, field

from pulsaga import command, event


@dataclass(frozen=True)
class Line:
    """So many of one product."""

    id_producto: str = field(metadata={"minLength": 1, "maxLength": 36, "description": "Which product."})
    cantidad: int = field(metadata={"minimum": 1, "maximum": 1_000_000, "description": "How many of it."})


@dataclass(frozen=True)
class OrderState:
    """The full state of an order."""

    id_orden: str
    user_id: str
    lineas: list[Line]
    direccion_entrega: str
    time_stamp: float
    """When it was made, in Unix seconds."""
    estado: str
    """`creada`, `iniciada`, `entregada` or `fallida`."""
    id_driver: str | None


@event("ordenes.order-created")
@dataclass(frozen=True)
class OrderCreated(OrderState):
    """An order was made; the reply to CreateOrder."""


@event("ordenes.order-failed")
@dataclass(frozen=True)
class OrderFailed(OrderState):
    """Nothing comes of an order; the reply to FailOrder."""


@event("ordenes.order-started")
@dataclass(frozen=True)
class OrderStarted(OrderState):
    """An order is ready for dispatch; the reply to StartOrder."""


@event("ordenes.order-delivered")
@dataclass(frozen=True)
class OrderDelivered(OrderState):
    """An order is with its customer; the reply to DeliverOrder."""


@command("ordenes.create-order", replies=(OrderCreated,))
@dataclass(frozen=True)
class CreateOrder:
    """Ask for an order to be made, whose id is that of the saga."""

    user_id: str
    lineas: list[Line]
    direccion_entrega: str


@command("ordenes.fail-order", replies=(OrderFailed,))
@dataclass(frozen=True)
class FailOrder:
    """Tell that nothing comes of the order that one CreateOrder made."""

    undoes: str


@command("ordenes.start-order", replies=(OrderStarted,))
@dataclass(frozen=True)
class StartOrder:
    """Ask for the order of this saga to be dispatched by a driver."""

    id_driver: str


@command("ordenes.deliver-order", replies=(OrderDelivered,))
@dataclass(frozen=True)
class DeliverOrder:
    """Tell that an order was handed over."""

    id_orden: str
