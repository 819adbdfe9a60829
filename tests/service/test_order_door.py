"""Ask the front door for orders, products and drivers: what is taken, by whom, and what each caller sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.rooms import Room, room
from tests.service.shop import SECRET

from bff.orders.tables import conductor, orden, producto
from ordenes.messages import Line
from protools_saga.messages import (
    DeliverOrder,
    PlaceOrder,
    RegisterDriver,
    RegisterProduct,
    RemoveProduct,
    RestockProduct,
)
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import contract_of, message_of, new_id
from pulsaga.delivery.tables import outbox, unpack
from pulsaga.settings import Settings
from pulsaga.web.access.tokens import issue
from pulsaga.web.front_door.tables import cancellation
from pulsaga.web.front_door.tables import command as shown_command
from system import SYSTEM

XML = {"Content-Type": "application/xml", "Accept": "application/xml"}
TEA, MATE = new_id(), new_id()
IDS = iter(sorted(new_id() for _ in range(1000)))
"""One after the other; two that are made in one millisecond come in any order."""
WISH = {"id_producto": TEA, "cantidad": 2, "user_id": "ada", "direccion_entrega": "Calle 1"}
TWO_TEAS = {"id_producto": TEA, "cantidad": 2}
NO_SINGLE = {"id_producto": None, "cantidad": None}


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    """A front door that asks who calls."""
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET)
    yield made
    made.close()


def by(name: str, role: Any = "caller", scope: str = "") -> dict[str, str]:
    settings = Settings.read({"JWT_SECRET": SECRET})
    return {"Authorization": f"Bearer {issue(settings, name, role, 86400.0, scope.split())}"}


ADA, BOSS = by("ada"), by("boss", "operator")


def shown(bff: Room, estado: str = "iniciada", user: str = "ada", lines: int = 1, code: str = "") -> str:
    """Let an order have come so far; return its id."""
    identifier = next(IDS)
    lineas = [{"id_producto": TEA, "cantidad": 2}, {"id_producto": MATE, "cantidad": 1}][:lines]
    bff.write_view(
        orden, id_orden=identifier, version=1, user_id=user, lineas=json.dumps(lineas), direccion_entrega="Calle 1",
        time_stamp=1.0, estado=estado, id_driver=None,
    )  # fmt: skip
    bff.write_view(
        shown_command, id=identifier, version=1, type="place-order", subject=user, actor=user,
        status="refused" if code else "running", reason_code=code, reason_detail="for people" if code else "",
        cancellable=not code, created_at=1.0, updated_at=1.0,
    )  # fmt: skip
    return identifier


# --- asking


@pytest.mark.parametrize(
    ("body", "placed"),
    [
        (WISH, PlaceOrder("ada", (Line(TEA, 2),), "Calle 1")),
        ({**WISH, "user_id": None}, PlaceOrder("ada", (Line(TEA, 2),), "Calle 1")),
        (
            {"lineas": [TWO_TEAS, {"id_producto": MATE, "cantidad": 1}], "direccion_entrega": "é"},
            PlaceOrder("ada", (Line(TEA, 2), Line(MATE, 1)), "é"),
        ),
    ],
    ids=["one", "own", "lines"],
)  # fmt: skip
def test_an_order_is_of_one_product_or_of_several(bff: Room, body: dict[str, Any], placed: PlaceOrder) -> None:
    """Its id is in the answer at once, and where it will be shown."""
    answer = bff.http.post("/orders", json=body, headers=ADA)
    assert answer.status_code == 202, answer.text
    identifier = answer.json["id"]
    assert answer.headers["Location"] == f"/commands/{identifier}"
    assert answer.json["links"]["order"] == f"/orders/{identifier}"
    (message,) = read(bff, PlaceOrder)
    assert (message.body, message.saga_id, message.context.actor) == (placed, identifier, "ada")


def read(bff: Room, cls: type) -> list[Any]:
    """Read the messages that wait to be published."""
    wires = [unpack(row["wire"]) for row in bff.rows(outbox)]
    schema = CommittedSchemas()[contract_of(cls).dataschema]
    return [message_of(wire.properties, bff.runtime.codec.decode(cls, wire.body, schema)) for wire in wires]


def test_an_order_comes_in_xml_whatever_its_root_is_called(bff: Room) -> None:
    """As callers of the original speak."""
    body = (
        f"<x><lineas><linea><id_producto>{TEA}</id_producto><cantidad> 2 </cantidad></linea></lineas>"
        "<direccion_entrega>Calle 1</direccion_entrega></x>"
    )
    answer = bff.http.post("/orders", data=body, headers={**XML, **ADA})
    assert answer.status_code == 202, answer.text
    (message,) = read(bff, PlaceOrder)
    assert message.body == PlaceOrder("ada", (Line(TEA, 2),), "Calle 1")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cantidad": 0}, "/cantidad"),
        ({"cantidad": "two"}, "/cantidad"),
        ({"cantidad": None}, "/cantidad"),
        ({"id_producto": None}, "/id_producto"),
        ({"id_producto": ""}, "/id_producto"),
        ({"direccion_entrega": ""}, "/direccion_entrega"),
        ({"direccion_entrega": None}, "/direccion_entrega"),
        ({"lineas": [{"id_producto": TEA, "cantidad": 1}]}, "/lineas"),
        ({"more": 1}, "/more"),
        ({**NO_SINGLE, "lineas": []}, "/id_producto"),
        (
            {**NO_SINGLE, "lineas": [TWO_TEAS, TWO_TEAS]},
            "/lineas",
        ),
        ({**NO_SINGLE, "lineas": [{"id_producto": TEA, "cantidad": 0}]}, "/lineas/0/cantidad"),
    ],
)  # fmt: skip
def test_an_order_that_is_wrong_says_where(bff: Room, change: dict[str, Any], field: str) -> None:
    """And nothing is accepted."""
    answer = bff.http.post("/orders", json={**WISH, **change}, headers=ADA)
    assert answer.status_code == 422, answer.text
    assert field in {error["pointer"] for error in answer.json["errors"]}
    assert bff.rows(outbox) == []


@pytest.mark.parametrize(
    ("headers", "method", "path", "body", "status"),
    [
        (ADA, "POST", "/orders", WISH, 202),
        (by("eve"), "POST", "/orders", WISH, 403),
        (BOSS, "POST", "/orders", WISH, 202),
        (by("eve", "reader"), "POST", "/orders", WISH, 403),
        ({}, "POST", "/orders", WISH, 401),
        (ADA, "POST", f"/orders/{new_id()}/delivery", None, 403),
        (by("ada", scope="orders:deliver"), "POST", f"/orders/{new_id()}/delivery", None, 202),
        (BOSS, "POST", "/orders/x/delivery", None, 404),
        (ADA, "POST", "/productos", {"nombre": "té", "stock": 1}, 403),
        (BOSS, "POST", "/productos", {"nombre": "té", "stock": 1}, 202),
        (by("ada", scope="productos:write"), "PUT", f"/productos/{TEA}", {"stock": 3}, 202),
        (ADA, "PUT", f"/productos/{TEA}", {"stock": 3}, 403),
        (BOSS, "PUT", f"/productos/{TEA}", {"stock": -1}, 422),
        (BOSS, "PUT", "/productos/x", {"stock": 1}, 404),
        (BOSS, "DELETE", f"/productos/{TEA}", None, 202),
        (ADA, "DELETE", f"/productos/{TEA}", None, 403),
        (BOSS, "POST", "/conductores", {"nombre": "grace"}, 202),
        (ADA, "POST", "/conductores", {"nombre": "grace"}, 403),
        (BOSS, "POST", "/conductores", {"nombre": ""}, 422),
        (ADA, "GET", "/productos", None, 200),
        (ADA, "GET", "/conductores", None, 403),
        (BOSS, "GET", "/conductores", None, 200),
    ],
)
def test_who_may_ask_for_what(
    bff: Room, headers: dict[str, str], method: str, path: str, body: Any, status: int
) -> None:
    """What is refused is not stored."""
    answer = bff.http.open(path, method=method, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert len(bff.rows(outbox)) == (status == 202)


@pytest.mark.parametrize(
    ("method", "path", "body", "command"),
    [
        ("POST", f"/orders/{TEA}/delivery", None, DeliverOrder(TEA)),
        ("POST", "/productos", {"nombre": "té", "stock": 1}, RegisterProduct("té", 1)),
        ("PUT", f"/productos/{TEA}", {"stock": 3}, RestockProduct(TEA, 3)),
        ("DELETE", f"/productos/{TEA.upper()}", None, RemoveProduct(TEA)),
        ("POST", "/conductores", {"nombre": "grace"}, RegisterDriver("grace")),
    ],
)
def test_each_path_sends_its_command_and_the_same_request_again_is_the_same(
    bff: Room, method: str, path: str, body: Any, command: Any
) -> None:
    """Under one key, and only at that path."""
    keyed = {**BOSS, "Idempotency-Key": "k-1"}
    first, again = (bff.http.open(path, method=method, json=body, headers=keyed) for _ in range(2))
    assert (first.json["id"], again.headers.get("Idempotent-Replayed")) == (again.json["id"], "true")
    assert [message.body for message in read(bff, type(command))] == [command]
    other = bff.http.post("/conductores", json={"nombre": "another"}, headers=keyed)
    assert other.status_code == 422


# --- seeing


def test_a_caller_sees_own_orders_and_a_role_sees_all(bff: Room) -> None:
    """In pages, the oldest first; another's is not found."""
    mine, theirs = shown(bff), shown(bff, user="eve", lines=2)
    failed = shown(bff, "fallida", code="no-stock")
    listed = bff.http.get("/orders", headers=ADA).json["orders"]
    assert [order["id_orden"] for order in listed] == [mine, failed]
    assert listed[0] == {
        "id_orden": mine, "id_producto": TEA, "user_id": "ada", "time_stamp": "1970-01-01T00:00:01.000Z",
        "cantidad": 2, "direccion_entrega": "Calle 1", "estado": "iniciada",
        "lineas": [{"id_producto": TEA, "cantidad": 2}],
        "links": {"self": f"/orders/{mine}", "command": f"/commands/{mine}"},
    }  # fmt: skip
    assert listed[1]["motivo"] == {"code": "no-stock", "detail": "for people"}
    assert bff.http.get(f"/orders/{theirs}", headers=ADA).status_code == 404
    several = bff.http.get(f"/orders/{theirs}", headers=BOSS).json
    assert (several["user_id"], len(several["lineas"]), "id_producto" in several) == ("eve", 2, False)
    page = bff.http.get("/orders?limit=2", headers=BOSS)
    assert [order["id_orden"] for order in page.json["orders"]] == [mine, theirs]
    following = bff.http.get(page.json["links"]["next"], headers=BOSS)
    assert [order["id_orden"] for order in following.json["orders"]] == [failed]


def test_orders_are_shown_in_xml(bff: Room) -> None:
    """Lines and reason too."""
    shown(bff, "fallida", lines=2, code="no-driver")
    answer = bff.http.get("/orders", headers={**ADA, "Accept": "application/xml"}).text
    assert f"<lineas><linea><id_producto>{TEA}</id_producto><cantidad>2</cantidad></linea>" in answer
    assert "<motivo><code>no-driver</code>" in answer


def test_products_and_drivers_are_shown(bff: Room) -> None:
    """Those that can be ordered; who is free has no order."""
    for number, estado in enumerate(("activo", "retirado")):
        bff.write_view(
            producto, id_producto=(TEA, MATE)[number], version=1, nombre="té", stock=3, reservado=2, entregado=1,
            estado=estado,
        )  # fmt: skip
    bff.write_view(conductor, id_driver=TEA, version=1, nombre="grace", id_orden=None)
    (listed,) = bff.http.get("/productos", headers=ADA).json["productos"]
    assert listed == bff.http.get(f"/productos/{TEA}", headers=ADA).json
    assert (listed["stock"], listed["reservado"], listed["entregado"]) == (3, 2, 1)
    for gone in (MATE, "x", new_id()):
        assert bff.http.get(f"/productos/{gone}", headers=ADA).status_code == 404
    assert bff.http.get("/conductores", headers=BOSS).json == {"conductores": [{"id_driver": TEA, "nombre": "grace"}]}


# --- cancelling


def test_an_order_is_cancelled_by_its_id(bff: Room) -> None:
    """By its owner or a role, while it can be; and nothing else is, though it has an id like it."""
    order, late, theirs = shown(bff), shown(bff, "fallida", code="no-stock"), shown(bff, user="eve")
    product = new_id()
    bff.write_view(
        shown_command, id=product, version=1, type="register-product", subject="té", actor="ada", status="running",
        reason_code="", reason_detail="", cancellable=True, created_at=1.0, updated_at=1.0,
    )  # fmt: skip
    statuses = [bff.http.delete(f"/orders/{one}", headers=ADA).status_code for one in (order, late, theirs, product)]
    assert statuses == [202, 409, 404, 404]
    assert [row["id"] for row in bff.rows(cancellation)] == [order]
    assert read(bff, SYSTEM.sagas.cancel)[0].body.undoes == order
