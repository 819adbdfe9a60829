"""Project what ordenes, productos and conductores tell into the front door's read database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Table

from bff.orders.tables import conductor, orden, producto
from conductores.messages import AssignmentUndone, DriverAssigned, DriverFreed, DriverRegistered, DriverState
from ordenes.messages import OrderCreated, OrderDelivered, OrderFailed, OrderStarted, OrderState
from productos.messages import (
    ProductRegistered,
    ProductRemoved,
    ProductRestocked,
    ProductState,
    StockDelivered,
    StockReleased,
    StockReserved,
)
from pulsaga import Message, Projection, Row


def project_order(message: Message[OrderState]) -> Iterable[tuple[Table, Row]]:
    """Show an order's newest state."""
    state = asdict(message.body)
    return ((orden, {**state, "lineas": json.dumps(state["lineas"]), "version": message.version}),)


def project_product(message: Message[ProductState]) -> Iterable[tuple[Table, Row]]:
    """Show a product's newest state."""
    return ((producto, {**vars(message.body), "version": message.version}),)


def project_driver(message: Message[DriverState]) -> Iterable[tuple[Table, Row]]:
    """Show a driver's newest state."""
    return ((conductor, {**vars(message.body), "version": message.version}),)


ORDERS = (OrderCreated, OrderFailed, OrderStarted, OrderDelivered)
PRODUCTS = (ProductRegistered, ProductRestocked, ProductRemoved, StockReserved, StockReleased, StockDelivered)
DRIVERS = (DriverRegistered, DriverAssigned, AssignmentUndone, DriverFreed)
PROJECTIONS: list[Projection[Any]] = [
    *(Projection(event, project_order) for event in ORDERS),
    *(Projection(event, project_product) for event in PRODUCTS),
    *(Projection(event, project_driver) for event in DRIVERS),
]
