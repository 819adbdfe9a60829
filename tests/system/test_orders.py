"""Order from a running system, by hand as its users do, and two hundred at once for the last fifty items."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from lxml import etree
from tests.system.conftest import Mode
from tests.system.harness import System, at_once

from pulsaga_program.local.process import send

WAIT = {"Prefer": "wait=30"}
ORDERS, STOCK, DYING_S = 200, 50, 4.0
KILLED = ("productos worker", "conductores worker", "ordenes worker", "protools_saga worker", "bff worker")


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system, in which nobody is asked to come slower."""
    with mode.running(tmp_path_factory.mktemp("orders"), only=(), RATE_LIMIT="none", SWEEP_AFTER="1") as running:
        yield running


def made(system: System, path: str, **body: Any) -> str:
    """Ask for a product or a driver; return the id."""
    answer = system.post(path, body, **WAIT)
    assert (answer.status, answer.json["status"]) == (201, "completed"), answer
    return str(answer.json["id"])


def order(system: System, identifier: str) -> Any:
    """Show an order, once it is there."""
    answer = system.get(f"/orders/{identifier}")
    return answer.json if answer.status == 200 else None


def product(system: System, identifier: str) -> tuple[int, int, int]:
    shown = system.get(f"/productos/{identifier}").json
    return shown["stock"], shown["reservado"], shown["entregado"]


def test_an_order_goes_all_the_way_in_both_languages(system: System) -> None:
    """Made, started, delivered; refused without a driver; cancelled too late."""
    tea, driver = made(system, "/productos", nombre="té", stock=10), made(system, "/conductores", nombre="grace")
    wish = {"id_producto": tea, "cantidad": 3, "user_id": "ada", "direccion_entrega": "Calle 1"}
    placed = system.post("/orders", wish, **WAIT)
    assert placed.status == 201, placed
    shown = system.eventually(lambda: order(system, placed.json["id"]))
    assert (shown["estado"], shown["id_driver"], shown["cantidad"]) == ("iniciada", driver, 3)
    refused = system.post("/orders", as_xml(tea, 1), Accept="application/xml", **WAIT)
    assert (refused.status, refused.xml["code"]) == (409, "no-driver")
    assert system.delete(f"/orders/{shown['id_orden']}").status == 409
    assert system.post(f"/orders/{shown['id_orden']}/delivery", {}, **WAIT).status == 201
    system.eventually(lambda: order(system, shown["id_orden"])["estado"] == "entregada")
    system.eventually(lambda: product(system, tea) == (7, 0, 3))
    states = Counter(one["estado"] for one in system.get("/orders").json["orders"])
    assert states == {"entregada": 1, "fallida": 1}


def as_xml(product: str, number: int) -> bytes:
    root = etree.Element("pedido")
    wish = {"id_producto": product, "cantidad": str(number), "user_id": "bob", "direccion_entrega": "Calle 2"}
    for name, text in wish.items():
        etree.SubElement(root, name).text = text
    return etree.tostring(root)


def test_two_hundred_order_the_last_fifty_while_processes_die(system: System) -> None:
    """Fifty get one, the others are told; nothing is lost, nobody brings two, and all of it can be delivered."""
    drivers = at_once(lambda n: made(system, "/conductores", nombre=f"driver-{n}"), range(STOCK))
    mate = made(system, "/productos", nombre="mate", stock=STOCK)
    with dying(system):
        placed = at_once(lambda n: place(system, mate, f"u{n}"), range(ORDERS))
        time.sleep(DYING_S)  # while what was accepted is done
    ends = Counter(ended["status"] for ended in system.outcomes(placed))
    assert ends == {"completed": STOCK, "refused": ORDERS - STOCK}
    system.eventually(system.is_at_rest)
    system.eventually(lambda: product(system, mate) == (0, STOCK, 0))
    started = system.eventually(lambda: on_their_way(system, placed))
    assert len({one["id_driver"] for one in started} & {*drivers}) >= STOCK - 1  # the first test's driver may help
    assert len({one["id_driver"] for one in started}) == STOCK
    done = at_once(lambda one: deliver(system, one["id_orden"]), started)
    assert {ended["status"] for ended in system.outcomes(done)} == {"completed"}
    system.eventually(lambda: product(system, mate) == (0, 0, STOCK))
    system.eventually(system.is_at_rest)
    verified = system.eventually(lambda: verify(system))
    assert "nothing lost, doubled or stuck" in verified


def place(system: System, product: str, user: str) -> str:
    return accepted(system, "/orders", id_producto=product, cantidad=1, user_id=user, direccion_entrega="Calle 1")


def deliver(system: System, identifier: str) -> str:
    return accepted(system, f"/orders/{identifier}/delivery")


def accepted(system: System, path: str, **body: Any) -> str:
    """Ask until it is accepted."""
    while (answer := system.post(path, body)).status == 503:
        time.sleep(float(answer.headers.get("Retry-After", "1")))
    assert answer.status == 202, answer
    return str(answer.json["id"])


def on_their_way(system: System, placed: list[str]) -> list[Any] | None:
    started = [shown for one in placed if (shown := order(system, one)) and shown["estado"] == "iniciada"]
    return started if len(started) == STOCK else None


def verify(system: System) -> str | None:
    done = system.run("verify")
    return done.stdout if done.returncode == 0 else None


@contextmanager
def dying(system: System) -> Iterator[None]:
    """Kill workers, one after the other, while the block runs; the supervisor starts them again."""
    stopping, chance = threading.Event(), Random(15)

    def kill() -> None:
        while not stopping.wait(0.5):
            for pid in system.children(*chance.choice(KILLED).split())[:1]:
                send(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        stopping.set()
        killer.join()
