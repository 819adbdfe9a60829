"""Talk with the workflows of orders."""

from __future__ import annotations

from conductores.messages import AssignDriver, AssignmentUndone, DriverAssigned, DriverFreed, FreeDriver, UndoAssignment
from ordenes import messages as ordenes
from ordenes.messages import CreateOrder, FailOrder, Line, OrderCreated, OrderDelivered, OrderFailed, StartOrder
from productos.messages import DeliverStock, ReleaseStock, ReserveStock, StockDelivered, StockReleased, StockReserved
from protools_saga.deliver_order import DELIVER_ORDER
from protools_saga.messages import DeliverOrder, PlaceOrder
from protools_saga.place_order import PLACE_ORDER
from pulsaga.testing import given

LINES = (Line("té", 2), Line("mate", 1))
WISH = PlaceOrder("ada", LINES, "Calle 1")
STATE = ("o-1", "ada", list(LINES), "Calle 1", 1.0)
STOCK = ("té", "té", 8, 2, 0, "activo")


def test_an_order_that_finds_stock_and_a_driver_may_start() -> None:
    """Stock of each line at once, a driver once all of it is there."""
    saga = given(PLACE_ORDER, WISH)
    saga.sends(CreateOrder("ada", list(LINES), "Calle 1")).replies(OrderCreated(*STATE, "creada", None))
    tea, mate = saga.sends(ReserveStock("té", 2)), saga.sends(ReserveStock("mate", 1))
    mate.replies(StockReserved(*STOCK))
    tea.replies(StockReserved(*STOCK))
    saga.sends(AssignDriver("Calle 1")).replies(DriverAssigned("d-1", "grace", "o-1"))
    saga.sends(StartOrder("d-1")).replies(ordenes.OrderStarted(*STATE, "iniciada", "d-1"))
    saga.ends("COMPLETED")


def test_without_stock_of_one_line_nothing_of_the_others_stays_set_aside() -> None:
    """And the order has failed."""
    saga = given(PLACE_ORDER, WISH)
    created = saga.sends(CreateOrder("ada", list(LINES), "Calle 1")).replies(OrderCreated(*STATE, "creada", None))
    tea = saga.sends(ReserveStock("té", 2)).replies(StockReserved(*STOCK))
    saga.sends(ReserveStock("mate", 1)).refuses("no-stock")
    saga.sends(ReleaseStock("té", tea.command_id)).replies(StockReleased(*STOCK))
    saga.sends(FailOrder(created.command_id)).replies(OrderFailed(*STATE, "fallida", None))
    saga.ends("COMPENSATED", reason="no-stock")


def test_a_cancel_before_the_start_frees_the_driver_and_the_stock_in_reverse() -> None:
    """Whoever asked for it need give no reason."""
    saga = given(PLACE_ORDER, PlaceOrder("ada", LINES[:1], "Calle 1"))
    created = saga.sends(CreateOrder("ada", [LINES[0]], "Calle 1")).replies(OrderCreated(*STATE, "creada", None))
    tea = saga.sends(ReserveStock("té", 2)).replies(StockReserved(*STOCK))
    driver = saga.sends(AssignDriver("Calle 1"))
    saga.cancel("ada")
    driver.replies(DriverAssigned("d-1", "grace", "o-1"))
    saga.sends(UndoAssignment(driver.command_id)).replies(AssignmentUndone("d-1", "grace", None))
    saga.sends(ReleaseStock("té", tea.command_id)).replies(StockReleased(*STOCK))
    saga.sends(FailOrder(created.command_id)).replies(OrderFailed(*STATE, "fallida", None))
    saga.ends("COMPENSATED", reason="cancelled")


def test_a_delivery_counts_each_line_and_frees_the_driver() -> None:
    """Which lines and which driver the order itself says."""
    saga = given(DELIVER_ORDER, DeliverOrder("o-1"))
    saga.sends(ordenes.DeliverOrder("o-1")).replies(OrderDelivered(*STATE, "entregada", "d-1"))
    for name in ("té", "mate"):
        saga.sends(DeliverStock("o-1", name)).replies(StockDelivered(*STOCK))
    saga.sends(FreeDriver("d-1", "o-1")).replies(DriverFreed("d-1", "grace", None))
    saga.ends("COMPLETED")


def test_what_is_not_on_its_way_is_not_delivered() -> None:
    """Twice, or before it started."""
    saga = given(DELIVER_ORDER, DeliverOrder("o-1"))
    saga.sends(ordenes.DeliverOrder("o-1")).refuses("not-started")
    saga.ends("COMPENSATED", reason="not-started")
