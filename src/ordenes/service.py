"""Declare ordenes: orders, and where they stand."""

from __future__ import annotations

from ordenes.checks import CHECKS
from ordenes.handlers import create_order, deliver_order, fail_order, start_order
from ordenes.messages import CreateOrder, DeliverOrder, FailOrder, StartOrder
from ordenes.tables import WRITE, orden
from pulsaga import Handler, Service

ORDENES = Service(
    "ordenes",
    tables=WRITE,
    handlers=[
        Handler(CreateOrder, create_order, reads=lambda m: [(orden, m.saga_id)]),
        Handler(FailOrder, fail_order, reads=lambda m: [(orden, m.saga_id)]),
        Handler(StartOrder, start_order, reads=lambda m: [(orden, m.saga_id)]),
        Handler(DeliverOrder, deliver_order, reads=lambda m: [(orden, m.body.id_orden)]),
    ],
    checks=CHECKS,
)
