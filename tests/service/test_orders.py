"""Order from real databases: stock is never lost, nobody brings two orders, what fails leaves nothing behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any

import pytest
from tests.service.desk import arrived, deliver, sit_down
from tests.service.stage import BOTH, POSTGRESQL, settings_on
from tests.verify.lab import Lab, defects

from conductores.messages import AssignDriver
from conductores.tables import conductor
from ordenes.messages import Line
from ordenes.tables import orden
from productos.messages import ReleaseStock, ReserveStock
from productos.tables import producto, reserva
from protools_saga.messages import (
    DeliverOrder,
    PlaceOrder,
    RegisterDriver,
    RegisterProduct,
    RemoveProduct,
    RestockProduct,
)
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import event
from pulsaga.records import plain
from pulsaga.saga.tables import saga
from pulsaga.settings import Settings
from pulsaga_program.databases import prepare_databases
from system import SYSTEM


class Shop(Lab):
    """The whole system in one thread, with a product in stock and drivers."""

    def ask(self, body: Any) -> str:
        subject = SYSTEM.sagas.starting[type(body)].subject_of(plain(body))
        return self.accept(body, subject)

    def order(self, *lines: tuple[str, int]) -> str:
        return self.ask(PlaceOrder("ada", tuple(Line(*line) for line in lines), "Calle 1"))

    def product(self, stock: int, name: str = "té") -> str:
        return self.done(RegisterProduct(name, stock))

    def drivers(self, number: int) -> list[str]:
        return [self.done(RegisterDriver(f"driver-{n}")) for n in range(number)]

    def done(self, body: Any) -> str:
        identifier = self.ask(body)
        self.deliver_all()
        return identifier

    def of(self, service: str, table: Any, key: str) -> dict[str, Any]:
        return {row[key]: dict(row) for row in self.desks[service].rows(table)}

    @property
    def ends(self) -> Counter[str]:
        rows = self.coordinator.rows(saga)
        return Counter(row["status"] for row in rows if row["workflow"] == "place-order@1")

    @property
    def states(self) -> Counter[str]:
        return Counter(row["estado"] for row in self.desks["ordenes"].rows(orden))

    def counted(self, product: str) -> tuple[int, int, int]:
        row = self.of("productos", producto, "id_producto")[product]
        return row["stock"], row["reservado"], row["entregado"]

    def busy(self) -> list[str]:
        """Return the orders that drivers bring."""
        return [row["id_orden"] for row in self.desks["conductores"].rows(conductor) if row["id_orden"]]


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    for service in SYSTEM.all:
        prepare_databases(SYSTEM, settings, service)
    made = Shop(SYSTEM, settings)
    yield made
    made.close()


def test_an_order_is_made_starts_and_is_delivered(shop: Shop) -> None:
    """What it holds is set aside, then gone; its driver is free again."""
    tea, mate = shop.product(10), shop.product(5, "mate")
    (grace,) = shop.drivers(1)
    ordered = shop.order((tea, 3), (mate, 5))
    shop.deliver_all()
    assert shop.of("ordenes", orden, "id_orden")[ordered]["estado"] == "iniciada"
    assert (shop.counted(tea), shop.counted(mate), shop.busy()) == ((7, 3, 0), (0, 5, 0), [ordered])
    shop.done(DeliverOrder(ordered))
    assert (shop.counted(tea), shop.counted(mate), shop.busy()) == ((7, 0, 3), (0, 0, 5), [])
    row = shop.of("ordenes", orden, "id_orden")[ordered]
    assert (row["estado"], row["id_driver"], row["user_id"]) == ("entregada", grace, "ada")
    shop.done(DeliverOrder(ordered))
    assert shop.counted(tea) == (7, 0, 3), "twice is once"
    shop.come_to_rest()
    assert defects(shop.report()) == {}


@pytest.mark.parametrize(("stock", "drivers", "code"), [(1, 1, "no-stock"), (5, 0, "no-driver")])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_an_order_that_lacks_something_leaves_nothing_behind(shop: Shop, stock: int, drivers: int, code: str) -> None:
    """Undone in reverse, and the order says that it failed."""
    tea, mate = shop.product(stock), shop.product(9, "mate")
    shop.drivers(drivers)
    shop.order((mate, 2), (tea, 2))
    shop.deliver_all()
    assert (shop.states, shop.ends) == ({"fallida": 1}, {"COMPENSATED": 1})
    assert (shop.counted(tea), shop.counted(mate), shop.busy()) == ((stock, 0, 0), (9, 0, 0), [])
    (row,) = (row for row in shop.coordinator.rows(saga) if row["workflow"] == "place-order@1")
    assert f'"{code}"' in row["progress"]
    shop.come_to_rest()
    assert defects(shop.report()) == {}


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_products_are_restocked_and_removed_but_not_while_an_order_holds_some(shop: Shop) -> None:
    """What is set aside stays so, whatever the stock is set to."""
    tea = shop.product(2)
    shop.drivers(2)
    first = shop.order((tea, 2))
    shop.deliver_all()
    shop.done(RemoveProduct(tea))
    assert shop.of("productos", producto, "id_producto")[tea]["estado"] == "activo"
    shop.done(RestockProduct(tea, 7))
    assert shop.counted(tea) == (7, 2, 0)
    shop.done(DeliverOrder(first))
    shop.done(RemoveProduct(tea))
    assert shop.of("productos", producto, "id_producto")[tea]["estado"] == "retirado"
    for wish in (RestockProduct(tea, 9), RemoveProduct(tea), RestockProduct("nothing", 1), DeliverOrder("nobody's")):
        shop.done(wish)
    shop.order((tea, 1))
    shop.deliver_all()
    assert (shop.states, shop.counted(tea)) == ({"entregada": 1, "fallida": 1}, (7, 0, 2))
    shop.come_to_rest()
    assert defects(shop.report()) == {}


@pytest.mark.parametrize("seed", range(4))
def test_stock_is_never_lost_nor_sold_twice_whatever_happens_to_messages_and_processes(shop: Shop, seed: int) -> None:
    """More orders than stock, more stock than drivers; losses, repeats, deaths, cancels, deliveries."""
    chance = Random(seed)
    tea, mate = shop.product(12), shop.product(8, "mate")
    shop.drivers(9)
    orders = [shop.order((tea, chance.randint(1, 3)), *([(mate, 1)] * chance.randint(0, 1))) for _ in range(16)]
    for _ in range(250):
        shop.deliver_some(chance)
        lot = chance.random()
        if lot < 0.02:
            shop.cancel(chance.choice(orders))
        elif lot < 0.06:
            shop.ask(DeliverOrder(chance.choice(orders)))
        assert min(min(shop.counted(product)) for product in (tea, mate)) >= 0
        assert len(shop.busy()) == len(set(shop.busy()))
    shop.come_to_rest()
    held = Counter[tuple[str, str]]()
    for row in shop.desks["productos"].rows(reserva):
        held[row["id_producto"], row["estado"]] += row["cantidad"]
    for product, stock in ((tea, 12), (mate, 8)):
        left, reserved, delivered = shop.counted(product)
        assert (left + reserved + delivered, reserved) == (stock, held[product, "reservada"])
        assert delivered == held[product, "entregada"]
    brought = [row["id_orden"] for row in shop.desks["ordenes"].rows(orden) if row["estado"] == "iniciada"]
    assert sorted(shop.busy()) == sorted(brought)
    assert shop.ends["RUNNING"] == shop.ends["SUSPENDED"] == shop.states["creada"] == 0
    assert defects(shop.report()) == {}


def test_within_one_batch_each_driver_has_one_order(shop: Shop) -> None:
    """Twenty orders that ask in the same transaction."""
    drivers = shop.drivers(12)
    desk = shop.desks["conductores"]
    desk.worker.settle([deliver(AssignDriver("Calle 1")) for _ in range(20)])
    rows = desk.rows(conductor)
    assert {row["id_driver"] for row in rows if row["id_orden"]} == set(drivers)
    assert len({row["id_orden"] for row in rows}) == 12
    assert Counter(row["type"] for row in desk.rows(event))["conductores.command-refused"] == 8


@pytest.mark.parametrize("settings", [POSTGRESQL], indirect=True)
def test_two_replicas_never_give_one_driver_two_orders(shop: Shop, settings: Settings) -> None:
    """Both ask in the same moment, again and again, for the same few."""
    shop.drivers(12)
    desks = [sit_down(settings, "conductores", None, SYSTEM) for _ in range(2)]
    together = Barrier(2)

    def ask(desk: Any) -> None:
        for _ in range(4):
            together.wait(60)
            desk.worker.settle([deliver(AssignDriver("Calle 1")) for _ in range(3)])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ask, desks))
    for desk in desks:
        for _ in range(5):
            desk.make_due()
            desk.worker.retry_failures()
    orders = [row["id_orden"] for row in shop.desks["conductores"].rows(conductor)]
    assert None not in orders
    assert len(set(orders)) == 12
    for desk in desks:
        desk.runtime.write.dispose()


def test_a_reservation_whose_undo_comes_first_is_never_made(shop: Shop) -> None:
    """Nor when it comes again."""
    tea, saga_id, command = shop.product(5), new_id(), new_id()
    desk = shop.desks["productos"]
    desk.worker.settle([deliver(ReleaseStock(tea, command), saga_id=saga_id)])
    for _ in range(2):
        desk.worker.settle([deliver(ReserveStock(tea, 2), identifier=command, saga_id=saga_id)])
    assert (shop.counted(tea), desk.rows(reserva)) == ((5, 0, 0), [])
    late = deliver(ReserveStock(tea, 2), saga_id=saga_id)
    desk.worker.settle([late])
    assert shop.counted(tea) == (3, 2, 0)
    desk.worker.settle([arrived(late.wire)] * 2)
    assert shop.counted(tea) == (3, 2, 0)
