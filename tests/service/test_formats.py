"""Hold a front door to speaking a format that its system adds, everywhere that it speaks JSON and XML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import urllib3
from tests.service.rooms import Room
from tests.service.shop import ORDER, PLACED, PlaceOrder, open_shop
from tests.service.test_workflows import PATH, end, sent
from tests.service.web import serving

from pulsaga.errors import DefinitionError
from pulsaga.web.formats import JSON, XML, Format
from pulsaga_program.preflight import check_front_door

TYPE = "application/vnd.msgpack"
MSGPACK = Format(
    media_type=TYPE,
    read=lambda body, _charset: msgpack.unpackb(body, strict_map_key=False),
    write=lambda _name, document: msgpack.packb(document),
    write_problem=msgpack.packb,
)
SPEAKS = {"Content-Type": TYPE, "Accept": TYPE}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Room]:
    made = open_shop(tmp_path, formats=[MSGPACK])
    yield made
    made.close()


def told(answer: Any) -> Any:
    assert answer.content_type == TYPE
    return msgpack.unpackb(answer.data)


def test_a_command_is_sent_and_shown_in_a_format_that_was_added(shop: Room) -> None:
    """The same declaration opens the workflow to it: fields, lists and numbers as in JSON, and no line beside."""
    answer = shop.http.post(PATH, data=msgpack.packb(ORDER), headers=SPEAKS)
    assert answer.status_code == 202
    (message,) = sent(shop, PlaceOrder)
    assert message.body == PLACED
    identifier = told(answer)["id"]
    end(shop, identifier)
    in_json = shop.http.get(f"/commands/{identifier}").json
    assert told(shop.http.get(f"/commands/{identifier}", headers={"Accept": TYPE})) == in_json
    assert in_json["status"] == "completed"


@pytest.mark.parametrize(
    ("status", "method", "path", "said"),
    [
        (400, "POST", PATH, b"\xc1"),
        (404, "GET", "/commands/nobody", b""),
        (405, "PATCH", PATH, b""),
        (413, "POST", PATH, b" " * 70_000),
        (422, "POST", PATH, msgpack.packb({"order_id": "o-1"})),
    ],
)
def test_a_problem_is_told_in_it(shop: Room, status: int, method: str, path: str, said: bytes) -> None:
    """An error in another format than the answer is one more parser in every client."""
    answer = shop.http.open(path, method=method, data=said, headers=SPEAKS)
    problem = told(answer)
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["type"] == f"urn:protools:problem:{problem['code']}"


@pytest.mark.parametrize(
    "said",
    [
        {"order_id": b"bytes"},
        {"order_id": msgpack.Timestamp(1)},
        {"discount": float("nan")},
        {1: "a name that is no text"},
        {"tags": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    ],
    ids=["bytes", "time", "nan", "name", "depth"],
)
def test_what_json_could_not_have_said_is_unreadable(shop: Room, said: object) -> None:
    """Whatever stands behind the door was written for JSON's values."""
    problem = told(shop.http.post(PATH, data=msgpack.packb(said), headers=SPEAKS))
    assert (problem["status"], problem["code"]) == (400, "unreadable")


def test_what_is_spoken_is_said_where_something_else_is_asked(shop: Room) -> None:
    """A developer learns of a format from the refusal of another one."""
    unknown = shop.http.post(PATH, data=b"a: 1", headers={"Content-Type": "application/yaml"})
    assert TYPE in unknown.headers["Accept"]
    assert TYPE in shop.http.get("/commands/nobody", headers={"Accept": "image/png"}).json["detail"]


def test_the_document_lists_it_wherever_a_resource_or_problem_may_be_had(shop: Room) -> None:
    """Clients are generated from it."""
    posted = shop.http.get("/openapi.json").json["paths"][PATH]["post"]
    bodies = [posted["requestBody"], posted["responses"]["202"], posted["responses"]["409"]]
    assert [TYPE in body["content"] for body in bodies] == [True, True, True]
    assert bodies[0]["content"][TYPE]["schema"] == bodies[0]["content"]["application/json"]["schema"]


def test_what_never_reaches_the_app_is_refused_in_it_too(shop: Room, client: urllib3.PoolManager) -> None:
    """The server itself answers what it cannot let in."""
    with serving(shop.app) as running:
        answer = client.request("GET", f"{running.url}/%00", headers={"Accept": TYPE})
    assert answer.headers["Content-Type"] == TYPE
    assert msgpack.unpackb(answer.data)["status"] == answer.status


@pytest.mark.parametrize(
    "added",
    [[MSGPACK, MSGPACK], [replace(JSON, write=XML.write)], [replace(MSGPACK, media_type="Text/CSV")]],
    ids=["twice", "built in", "upper case"],
)
def test_a_format_that_is_in_the_way_of_another_is_a_mistake(shop: Room, tmp_path: Path, added: list[Format]) -> None:
    """Two readers of one media type: which of them is asked would depend on an order."""
    with pytest.raises(DefinitionError, match=r"format"):
        check_front_door(replace(shop.runtime.system, formats=added))
