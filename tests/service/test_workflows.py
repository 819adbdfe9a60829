"""Hold the front door to what it promises of any workflow that is declared, and of those that are not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import urllib3
from lxml import etree
from tests.patience import PATIENCE_S
from tests.receiver import receiving
from tests.service.rooms import Room, eventually
from tests.service.shop import (
    CLOSE,
    FLOOR,
    ORDER,
    ORDER_XML,
    PLACE_ORDER,
    PLACED,
    SECRET,
    TIDY_UP,
    PlaceOrder,
    Tidy,
    open_shop,
    saga,
)
from tests.service.web import serving

from pulsaga.delivery.messages import command as command_named
from pulsaga.delivery.messages import contract_of, message_of
from pulsaga.delivery.tables import outbox, unpack
from pulsaga.errors import DefinitionError
from pulsaga.saga.definition import Access
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.access.tokens import SECRET_BYTES, issue
from pulsaga.web.front_door.callbacks.webhooks import Webhooks
from pulsaga.web.front_door.commands.waiting import changed_ids_body, topic_of
from pulsaga.web.front_door.overload.admission import Admission
from pulsaga.web.front_door.tables import acceptance, cancellation, command, command_move, webhook
from pulsaga_program.preflight import check_front_door

PATH = "/workflows/place-order"
XML = {"Content-Type": "application/xml", "Accept": "application/xml"}
TIMES = {"created_at": 1.5, "updated_at": 2.5}


@command_named("shop.tidy-down")
@dataclass(frozen=True)
class TidyDown(Tidy):
    """Ask for the shelves to be tidied from the top."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Room]:
    """The shop, where nobody is asked who they are."""
    made = open_shop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Room]:
    """The shop, which asks."""
    made = open_shop(tmp_path, AUTH="", JWT_SECRET=SECRET)
    yield made
    made.close()


def sent(shop: Room, cls: type) -> list[Any]:
    """Read the messages that wait to be published."""
    wires = [unpack(row["wire"]) for row in shop.rows(outbox)]
    text = shop.runtime.codec._schemas[contract_of(cls).dataschema]
    return [message_of(wire.properties, shop.runtime.codec.decode(cls, wire.body, text)) for wire in wires]


def nothing_was_done(shop: Room) -> bool:
    """Whether nothing is stored, nothing is sent."""
    return shop.rows(acceptance) == shop.rows(outbox) == shop.rows(webhook) == []


def end(shop: Room, identifier: str, status: str = "completed", code: str = "") -> None:
    """Let the read model show a command's end, as the projector does."""
    row = {"id": identifier, "version": 1, "status": status, "reason_code": code, "reason_detail": code}
    about = {"type": "place-order", "subject": "o-1", "actor": "nobody", "cancellable": False}
    shop.write_view(command, **row, **about, **TIMES)
    shop.write_view(command_move, **row, updated_at=2.5)


# --- accepting


@pytest.mark.parametrize(
    "said",
    [{"json": ORDER}, {"data": ORDER_XML, "headers": XML}],
    ids=["json", "xml"],
)
def test_a_workflow_is_started_by_its_own_fields_in_both_languages(shop: Room, said: dict[str, Any]) -> None:
    """One declaration opens it: nested fields, lists and numbers come out as the command has them, defaults too."""
    answer = shop.http.post(PATH, **said)
    assert answer.status_code == 202
    (row,), (message,) = shop.rows(acceptance), sent(shop, PlaceOrder)
    assert answer.headers["Location"] == f"/commands/{row['id']}"
    assert (row["type"], row["subject"], row["actor"]) == ("place-order", "o-1", "nobody")
    assert (message.body, message.id, message.subject) == (PLACED, row["id"], "o-1")


def test_a_command_shows_its_subject_by_the_name_that_its_workflow_declares(shop: Room) -> None:
    """Nothing in the framework is called username; what an operator searches for has the workflow's word."""
    placed = shop.http.post(PATH, json=ORDER).json
    assert (placed["type"], placed["subject"]) == ("place-order", "o-1")
    tidied = shop.http.post("/workflows/tidy-up", json={"shelf": 4}).json
    assert (tidied["type"], tidied["shelf"], "subject" in tidied) == ("tidy-up", "shelf 4", False)
    assert shop.http.get(tidied["links"]["self"]).json == tidied
    assert placed["links"] == {"self": f"/commands/{placed['id']}"}


def test_a_subject_may_be_a_number(tmp_path: Path) -> None:
    """It is written as text wherever it is shown."""
    shop = open_shop(tmp_path, (saga("tidy-up", Tidy, lambda tidy: tidy.shelf, Access(start="operator")),))
    with closing(shop):
        assert shop.http.post("/workflows/tidy-up", json={"shelf": 4}).get_json()["subject"] == "4"


def test_the_same_key_and_body_in_either_language_is_the_same_command(shop: Room) -> None:
    """A client that repeats itself must not order twice."""
    key = {"Idempotency-Key": "k"}
    first = shop.http.post(PATH, json=ORDER, headers=key)
    again = shop.http.post(PATH, data=ORDER_XML, headers=key | XML)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert len(shop.rows(acceptance)) == 1
    assert shop.http.post(PATH, json={**ORDER, "discount": 0.5}, headers=key).status_code == 422


def test_a_key_of_another_workflow_is_no_key_of_this_one(tmp_path: Path) -> None:
    """Two workflows may take the same fields; the second caller must not be told of the first's command."""
    twin = replace(TIDY_UP, name="tidy-down", starts=TidyDown, data=TidyDown)
    made = open_shop(tmp_path, (TIDY_UP, twin))
    key = {"Idempotency-Key": "k"}
    assert made.http.post("/workflows/tidy-up", json={"shelf": 1}, headers=key).status_code == 202
    assert made.http.post("/workflows/tidy-down", json={"shelf": 1}, headers=key).status_code == 422
    made.close()


def test_who_prefers_to_wait_hears_the_end(shop: Room) -> None:
    """`201` and the command, or its refusal as a problem."""
    waiting = shop.app.extensions["waiting"]
    waiting.start()
    assert shop.broker.listening.wait(PATIENCE_S)
    for status, code, expected in (("completed", "", 201), ("refused", "sold-out", 409)):
        answers: list[Any] = []
        known = {row["id"] for row in shop.rows(acceptance)}

        def ask(into: list[Any] = answers) -> None:
            into.append(shop.http.post(PATH, json=ORDER, headers={"Prefer": "wait=20"}))

        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda seen=known: {row["id"] for row in shop.rows(acceptance)} - seen)  # type: ignore[misc]
        (identifier,) = {row["id"] for row in shop.rows(acceptance)} - known
        end(shop, identifier, status, code)
        shop.broker.broadcast(topic_of("door"), changed_ids_body([identifier]))
        asking.join(PATIENCE_S)
        assert answers[0].status_code == expected
        assert answers[0].json.get("code", "") == code
    waiting.stop()


def test_a_command_is_followed_and_cancelled_like_any_other(shop: Room) -> None:
    """What a caller can do with a command does not depend on which workflow it started."""
    identifier = shop.http.post(PATH, json=ORDER).json["id"]
    assert shop.http.delete(f"/commands/{identifier}").status_code == 202
    (row,) = shop.rows(cancellation)
    wire = next(unpack(one["wire"]) for one in shop.rows(outbox) if one["id"] == row["command_id"])
    assert (row["id"], wire.topic, wire.properties["ce_subject"]) == (identifier, "shop.cancel-saga", "o-1")
    end(shop, identifier, "refused", "cancelled")
    told = shop.http.get(f"/commands/{identifier}/events").text
    (data,) = [line.removeprefix("data: ") for line in told.split("\n") if line.startswith("data: ")]
    assert (orjson.loads(data)["subject"], orjson.loads(data)["status"]) == ("o-1", "refused")


def test_its_end_is_told_where_the_caller_said(tmp_path: Path) -> None:
    """`callback` stands beside the command's fields, and the call shows the command as `GET` does."""
    made = open_shop(tmp_path, WEBHOOK_PRIVATE="allow")
    with receiving() as receiver:
        answer = made.http.post(PATH, json={**ORDER, "callback": receiver.url})
        identifier = answer.json["id"]
        end(made, identifier)
        door = made.app.extensions["front_door"]
        Webhooks(made.runtime, made.app.extensions["read"], door.views).call_due()
        ((_, body),) = receiver.taken
        assert orjson.loads(body) == made.http.get(f"/commands/{identifier}").json
    assert sent(made, PlaceOrder)[0].body == PLACED
    made.close()


def test_new_work_is_counted_before_its_body_is_read(
    shop: Room, client: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate knows every path that starts something: no declared workflow is a way around it."""
    gate: Admission = shop.app.extensions["gate"]
    monkeypatch.setattr(gate._load, "has_room", lambda _now, *, returning: returning)
    with serving(shop.app) as web:
        headers = {"Content-Type": "application/json"}
        for path in (PATH, "/workflows/tidy-up", "/workflows//place-order", "/workflows/place%2Dorder"):
            answer = client.request("POST", web.url + path, body=b"{{{", headers=headers)
            assert answer.status in (503, 404), path
            assert answer.status == 503 or "//" in path
    assert nothing_was_done(shop)


# --- what is open


@pytest.mark.parametrize("name", ["close", "nothing", "place-order/x", "", "PLACE-ORDER", "cancel-saga"])
@pytest.mark.parametrize("who", ["nobody", "admin"])
def test_what_is_not_declared_open_is_not_there(guarded: Room, name: str, who: str) -> None:
    """Closed unless declared: no caller tells a closed workflow from a word, and nothing is stored, sent or counted."""
    headers = bearer(guarded, "admin", "root") if who == "admin" else {}
    unknown = guarded.http.post("/workflows/unheard-of", json={"at": "now"}, headers=headers)
    answer = guarded.http.post(f"/workflows/{name}", json={"at": "now"}, headers=headers)
    assert (answer.status_code, answer.json) == (404, unknown.json)
    assert nothing_was_done(guarded)
    gate: Admission = guarded.app.extensions["gate"]
    adapter = guarded.app.url_map.bind("localhost")
    assert not [rule for rule in guarded.app.url_map.iter_rules() if "close" in rule.rule]
    assert all(not adapter.test(f"/workflows/{closed}", "POST") for closed in ("close", "nothing"))
    assert not gate.is_command("")


def bearer(room: Room, role: str, subject: str, **claims: Any) -> dict[str, str]:
    """Return the header that proves who asks."""
    settings: Settings = room.runtime.settings
    assert settings.jwt_secret
    assert len(settings.jwt_secret) >= SECRET_BYTES
    known = {"sub": subject, "role": role, "iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    token = jwt.encode(known | {"exp": int(time.time()) + 60} | claims, settings.jwt_secret, "HS256")
    return {"Authorization": f"Bearer {token}"}


SCOPES: list[tuple[Any, int]] = [
    ("orders:write", 202),
    ("openid orders:read orders:write", 202),
    (None, 403),
    ("", 403),
    ("orders:read", 403),
    ("orders:writes", 403),
    ("ORDERS:WRITE", 403),
    ("orders:write\torders:read", 403),
    ("operator", 403),
    (["orders:write"], 403),
    ({"orders:write": 1}, 403),
    (7, 403),
]


@pytest.mark.parametrize(("scope", "status"), SCOPES)
def test_a_scope_that_a_token_lists_opens_what_asks_for_it(guarded: Room, scope: Any, status: int) -> None:
    """RFC 8693 §4.2: a list with spaces between. The refusal names the scope that would do (RFC 6750 §3.1)."""
    headers = bearer(guarded, "caller", "ada", **({} if scope is None else {"scope": scope}))
    answer = guarded.http.post(PATH, json=ORDER, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="orders:write"')
        assert nothing_was_done(guarded)


def test_a_token_of_our_own_lists_what_it_is_for(guarded: Room) -> None:
    """Whoever tries a workflow out needs no issuer beside us."""
    settings = guarded.runtime.settings
    token = issue(settings, "ada", "caller", 60, ["orders:read", "orders:write"])
    assert guarded.http.post(PATH, json=ORDER, headers={"Authorization": f"Bearer {token}"}).status_code == 202
    for wrong in ("operator", "a:b c:d", ""):
        with pytest.raises(ValueError, match="is no scope"):
            issue(settings, "ada", "caller", 60, [wrong])


def test_a_scope_that_is_called_like_a_role_is_none(guarded: Room) -> None:
    """Whoever lets people name scopes of their own must not let them name themselves operators."""
    path, body = "/workflows/tidy-up", {"shelf": 1}
    for scope, role, status in (("operator", "caller", 403), ("operator admin", "reader", 403), ("", "operator", 202)):
        headers = bearer(guarded, role, "ada", scope=scope)
        assert guarded.http.post(path, json=body, headers=headers).status_code == status


def test_only_whose_it_is_may_ask_but_for_those_who_may_ask_for_everybody(guarded: Room) -> None:
    """A rule over the input decides: a token for orders is none for other people's orders."""
    for subject, role, status in (("eve", "caller", 403), ("eve", "reader", 403), ("ada", "caller", 202)):
        headers = bearer(guarded, role, subject, scope="orders:write")
        assert guarded.http.post(PATH, json=ORDER, headers=headers).status_code == status
        assert len(guarded.rows(acceptance)) == (status == 202)
    for role in ("operator", "admin"):
        headers = bearer(guarded, role, "eve", scope="orders:write")
        assert guarded.http.post(PATH, json=ORDER, headers=headers).status_code == 202


def test_nobody_hears_of_a_field_that_is_wrong_before_it_is_known_who_asks(guarded: Room) -> None:
    """Strangers learn nothing about what a workflow takes."""
    assert guarded.http.post(PATH, json={"x": 1}).status_code == 401
    assert guarded.http.post(PATH, json={"x": 1}, headers=bearer(guarded, "caller", "ada")).status_code == 403


# --- what may be given

WRONG: list[tuple[dict[str, Any], set[str]]] = [
    ({"checked_by": "me"}, {"/checked_by"}),
    ({"colour": "red", "quantity": 1}, {"/colour", "/quantity"}),
    ({"order_id": 1}, {"/order_id"}),
    ({"order_id": None}, {"/order_id"}),
    ({"order_id": ["o-1"]}, {"/order_id"}),
    ({"order_id": "o\x00"}, {"/order_id"}),
    ({"order_id": "x" * 10_001}, {"/order_id"}),
    ({"lines": {}}, {"/lines"}),
    ({"lines": None}, {"/lines"}),
    ({"lines": [{"sku": "tea"}]}, {"/lines/0/quantity"}),
    ({"lines": [ORDER["lines"][0], {"sku": "tea", "quantity": "2"}]}, {"/lines/1/quantity"}),
    ({"lines": [{"sku": "tea", "quantity": 2.5}]}, {"/lines/0/quantity"}),
    ({"lines": [{"sku": "tea", "quantity": True}]}, {"/lines/0/quantity"}),
    ({"lines": [{"sku": "tea", "quantity": 2**63}]}, {"/lines/0/quantity"}),
    ({"lines": [{"sku": "tea", "quantity": 0}]}, {"/lines/0/quantity"}),
    ({"lines": [{"sku": "tea", "quantity": 1, "gift": "true"}]}, {"/lines/0/gift"}),
    ({"lines": [{"sku": "tea", "quantity": 1, "price": 0}]}, {"/lines/0/price"}),
    ({"lines": ["tea"]}, {"/lines/0"}),
    ({"lines": [{"sku": "tea", "quantity": 1}] * 1001}, {"/lines"}),
    ({"to": "Strand"}, {"/to"}),
    ({"to": {"floor": 1}}, {"/to/street"}),
    ({"to": {"street": "x", "floor": "3"}}, {"/to/floor"}),
    ({"discount": "0.5"}, {"/discount"}),
    ({"discount": True}, {"/discount"}),
    ({"tags": [1]}, {"/tags/0"}),
    ({"discount": 1.5}, {""}),
    ({"order_id": ""}, {""}),
    ({"order_id": "a\nb"}, {""}),
    ({"order_id": "x" * 255}, {""}),
    ({"callback": "ftp://x"}, {"/callback"}),
]


@pytest.mark.parametrize(("change", "pointers"), WRONG)
def test_what_the_command_cannot_hold_is_refused_with_a_pointer(
    shop: Room, change: dict[str, Any], pointers: set[str]
) -> None:
    """Types, limits, what the dataclass itself refuses, and fields that are not open: named, and nothing stored."""
    body = {name: value for name, value in {**ORDER, **change}.items() if name not in pointers}
    answer = shop.http.post(PATH, json={**ORDER, **change})
    assert answer.status_code == 422, body
    assert {error["pointer"] for error in answer.json["errors"]} == pointers
    assert nothing_was_done(shop)


IN_XML: list[tuple[str, str, str]] = [
    ("<customer>ada</customer>", "<customer>ada</customer><checked_by>me</checked_by>", "/checked_by"),
    ("<quantity>2</quantity>", "<quantity>two</quantity>", "/lines/0/quantity"),
    ("<quantity>2</quantity>", "<quantity>2.0</quantity>", "/lines/0/quantity"),
    ("<quantity>2</quantity>", "<quantity/>", "/lines/0/quantity"),
    ("<quantity>2</quantity>", "<quantity>99999999999999999999</quantity>", "/lines/0/quantity"),
    ("<gift>true</gift>", "<gift>yes</gift>", "/lines/1/gift"),
    ("<tags><tag>new</tag></tags>", "<tags>new</tags>", "/tags"),
    ("<tags><tag>new</tag></tags>", "<tags><other>new</other></tags>", "/tags"),
    ("<tags><tag>new</tag></tags>", "<tags><tag><b/></tag><tag><b/></tag></tags>", "/tags/0"),
    ("<discount>0.25</discount>", "<discount>INF</discount>", "/discount"),
    ("<discount>0.25</discount>", "<discount>1e999</discount>", "/discount"),
    ("<floor>3</floor>", "<floor>3</floor><floor>4</floor>", "/to/floor"),
    ("<to>", '<to kind="home">', "/to/@kind"),
]


@pytest.mark.parametrize(("part", "instead", "pointer"), IN_XML)
def test_xml_is_refused_by_the_same_names(shop: Room, part: str, instead: str, pointer: str) -> None:
    """Both languages load into one set of names."""
    answer = shop.http.post(PATH, data=ORDER_XML.replace(part, instead), headers=XML)
    assert answer.status_code == 422
    problem = "{urn:ietf:rfc:7807}"
    pointers = [one.text for one in etree.fromstring(answer.data).iter(f"{problem}pointer")]
    assert pointer in pointers
    assert nothing_was_done(shop)


@pytest.mark.parametrize(
    ("part", "instead", "change"),
    [
        ("<tags><tag>new</tag></tags>", "<tags/>", {"tags": []}),
        ("<tags><tag>new</tag></tags>", "<tags> </tags>", {"tags": []}),
        ("<tags><tag>new</tag></tags>", "<tags><tag/><tag>b</tag></tags>", {"tags": ["", "b"]}),
        ("<floor>3</floor>", "", {"to": {"street": "Strand 1"}}),
        ("<floor>3</floor>", "<floor>-3</floor>", {"to": {"street": "Strand 1", "floor": -3}}),
        ("<discount>0.25</discount>", "<discount>1</discount>", {"discount": 1}),
    ],
)
def test_what_xml_says_is_what_json_says(shop: Room, part: str, instead: str, change: dict[str, Any]) -> None:
    """A list of none, of one, an absent choice: XML has its own ways to write them."""
    assert shop.http.post(PATH, data=ORDER_XML.replace(part, instead), headers=XML).status_code == 202
    assert shop.http.post(PATH, json={**ORDER, **change}).status_code == 202
    in_xml, in_json = (message.body for message in sent(shop, PlaceOrder))
    assert in_xml == in_json


def test_a_whole_number_may_be_written_with_a_point_in_json(shop: Room) -> None:
    """JSON Schema: 2.0 is an integer; some languages write every number so."""
    lines = [{"sku": "tea", "quantity": 2.0}]
    assert shop.http.post(PATH, json={**ORDER, "lines": lines}).status_code == 202
    assert sent(shop, PlaceOrder)[0].body.lines[0].quantity == 2


# --- declarations that cannot work


def declared(access: Access | None, **fields: Any) -> Any:
    """Make a workflow of a command with these fields."""
    made = command_named("shop.odd")(
        make_dataclass("Odd", [(name, *rest) for name, rest in fields.items()], frozen=True)
    )
    return saga("odd", made, lambda _odd: "odd", access)


OPEN = Access(start="operator")
IMPOSSIBLE: list[tuple[Any, str]] = [
    (declared(OPEN, callback=(str,)), "callback"),
    (declared(OPEN, at=(bytes,)), "bytes"),
    (declared(OPEN, at=(dict[str, str],)), "dict"),
    (declared(OPEN, at=(int | str,)), "more than one type|none of"),
    (declared(OPEN, at=(tuple[int, str],)), "one kind of item"),
    (declared(Access(start="operator", fields=("at", "to")), at=(str,)), "has no field to"),
    (declared(Access(start="operator", fields=()), at=(str,)), "may not give at, which has no default"),
    (declared(Access(start="operater"), at=(str,)), "workflow odd: operater: a role is one of"),
    (declared(Access(start=()), at=(str,)), "workflow odd: nobody may start it"),
    (declared(Access(start="operator", subject="status"), at=(str,)), "workflow odd: .* its subject as 'status'"),
    (declared(Access(start="operator", subject="my id"), at=(str,)), "workflow odd: .* its subject as 'my id'"),
    (declared(Access(start=("operator", "orders")), at=(str,)), "orders: a role is one of"),
]


@pytest.mark.parametrize(("odd", "told"), IMPOSSIBLE)
def test_a_declaration_that_cannot_work_stops_the_start_and_names_itself(tmp_path: Path, odd: Any, told: str) -> None:
    """Else the first caller finds it, and the operator has only a log."""
    with pytest.raises(DefinitionError, match=told):
        open_shop(tmp_path, (odd,))
    with pytest.raises(DefinitionError, match=told):  # before anything is made
        check_front_door(System("shop", services=[FLOOR], workflows=[odd]))


def test_a_field_called_callback_is_no_harm_where_callers_may_not_give_it(tmp_path: Path) -> None:
    """Only the two meanings of one word collide."""
    odd = declared(Access(start="operator", fields=("at",)), at=(str,), callback=(str, field(default="none")))
    open_shop(tmp_path, (odd,)).close()


# --- documents


def test_the_documents_describe_it(shop: Room) -> None:
    """OpenAPI with each field and its limits; XML Schema that takes what the front door takes."""
    document = shop.http.get("/openapi.json").json
    body = document["components"]["schemas"]["PlaceOrder"]
    assert list(body["properties"]) == [*(name for name in PLACE_ORDER.access.fields or ()), "callback"]  # type: ignore[union-attr]
    assert sorted(body["required"]) == ["customer", "lines", "order_id", "to"]
    line = document["components"]["schemas"]["PlaceOrderLine"]
    assert (line["properties"]["quantity"]["minimum"], line["properties"]["quantity"]["type"]) == (1, "integer")
    assert body["properties"]["lines"]["maxItems"] == 1000
    assert {"operationId": "start_place_order"}.items() <= document["paths"][PATH]["post"].items()
    assert "/workflows/close" not in document["paths"]
    assert CLOSE.name not in str(document["paths"].keys())


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/messages"])
def test_the_pages_are_of_it(shop: Room, path: str) -> None:
    """A page that tells of another system, or of none, is worse than no page."""
    page = shop.http.get(path)
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert f"<h1>{shop.runtime.system.title} 1.0.0</h1>" in page.text
    assert ("shop.place-order" if path == "/docs/messages" else PATH) in page.text
    assert "/passwords" not in page.text
    with closing(shop.http.get("/static/docs.css")) as style:
        assert style.content_type.startswith("text/css")


def test_the_messages_are_described(shop: Room) -> None:
    """A service in another language is written by this document."""
    described = shop.http.get("/asyncapi.json").json["components"]["messages"]
    assert {contract_of(cls).name for cls in shop.runtime.system.messages} == described.keys()


def test_a_route_that_says_nothing_hides_no_other(tmp_path: Path) -> None:
    """An application's own route without a description is in no document; `protools make documents` names it."""
    shop = open_shop(tmp_path)
    shop.app.add_url_rule("/beside", view_func=lambda: "")
    assert PATH in (paths := shop.http.get("/openapi.json").json["paths"])
    assert "/beside" not in paths
    shop.close()


def test_xml_by_the_published_schema_is_taken_and_the_answer_is_valid(shop: Room) -> None:
    """A caller validates what it sends and gets against one schema."""
    schema = etree.XMLSchema(etree.fromstring(shop.http.get("/schema.xsd").data))
    document = etree.fromstring(ORDER_XML.replace("order>", "placeOrder>"))
    schema.assertValid(document)
    answer = shop.http.post(PATH, data=etree.tostring(document), headers=XML)
    assert answer.status_code == 202
    schema.assertValid(etree.fromstring(answer.data))
    document.append(etree.Element("checked_by"))
    assert not schema.validate(document)


def test_the_example_of_the_document_is_taken(shop: Room) -> None:
    """What people copy out of the documentation works, in both languages."""
    content = shop.http.get("/openapi.json").json["paths"][PATH]["post"]["requestBody"]["content"]
    for media_type, described in content.items():
        said = described["example"]
        body = said if isinstance(said, str) else orjson.dumps({**said, "callback": "http://127.0.0.1:1/x"})
        if isinstance(said, str):
            body = said.replace("https://caller.example/hooks", "http://127.0.0.1:1/x")
        made = open_shop(shop.runtime.settings.home / media_type.rpartition("/")[2], WEBHOOK_PRIVATE="allow")
        assert made.http.post(PATH, data=body, headers={"Content-Type": media_type}).status_code == 202
        made.close()
