"""Hold JSON and XML to being equals: the same fields in the same order, both as the published schemas say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from tests.service.rooms import Room, room
from tests.service.wishes import DOOR

from bff import resources
from bff.tables import password
from bff.vault import Vault
from pulsaga.delivery.messages import new_id
from pulsaga.web import problems, webapp
from pulsaga.web.contract import Shape
from pulsaga.web.documents import snapshots
from pulsaga.web.formats import PROBLEM_NAMESPACE, item_name
from pulsaga.web.front_door.commands.resources import COMMAND_STATUSES, command_shape
from pulsaga.web.front_door.tables import command
from system import SYSTEM

Asked = tuple[str, str, dict[str, Any]]
SECRET = {"username": "ada", "password": "<&> \u00e9 '\""}
IDS = {status: new_id() for status in COMMAND_STATUSES if status != "accepted"}
COMMAND = command_shape(DOOR.views.values())
SHOWN: list[tuple[type[Shape], int, str, str, dict[str, Any]]] = [
    (COMMAND, 202, "POST", "/passwords", {"username": "zoë", "email": "zoe@example.test"}),
    *((COMMAND, 200, "GET", f"/commands/{identifier}", {}) for identifier in IDS.values()),
    (COMMAND, 202, "DELETE", f"/commands/{IDS['running']}", {}),
    (resources.Passwords, 200, "GET", "/passwords", {}),
    (resources.Passwords, 200, "GET", "/passwords?limit=1", {}),
    (resources.Passwords, 200, "GET", "/passwords?after=zzz", {}),
    (resources.Password, 200, "GET", "/passwords/ada", {}),
    (resources.Reveal, 200, "POST", "/reveals", {"token": "t"}),
    *((webapp.Health, 200, "GET", path, {}) for path in ("/livez", "/readyz")),
]
REFUSED: list[tuple[int, str, str, Any]] = [
    (400, "POST", "/passwords", b"\xff"),
    (404, "GET", f"/commands/{new_id()}", None),
    (405, "PATCH", "/passwords", None),
    (409, "DELETE", f"/commands/{IDS['completed']}", None),
    (413, "POST", "/passwords", b" " * 70_000),
    (422, "POST", "/passwords", {"username": "", "email": "nobody", "more": "x"}),
    (422, "GET", "/passwords?limit=0", None),
    (503, "POST", "/reveals", {"token": "down"}),
]


@pytest.fixture
def bff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    made = room("bff", tmp_path, GENERADOR_URL="http://127.0.0.1:1")
    made.app.extensions["vault"] = vault = Vault(made.runtime)
    reveal = vault.reveal
    monkeypatch.setattr("bff.vault.Vault.reveal", lambda _, token: SECRET if token == "t" else reveal(token))
    for number, (status, identifier) in enumerate(IDS.items()):
        reason = ("mailbox-refused", "550 <no> & never") if status in ("refused", "suspended") else ("", "")
        about = {"id": identifier, "type": "issue-password", "subject": "a/b", "actor": "nobody", "status": status}
        times = {"created_at": 1.5, "updated_at": 2.0 + number, "version": number}
        columns = about | times | {"reason_code": reason[0], "reason_detail": reason[1]}
        made.write_view(command, **columns, cancellable=status == "running")
    for username in ("ada", "b & c"):
        times = {"version": 1, "issued_at": 1.0, "changed_at": 2.0}
        made.write_view(password, username=username, status="issued", actor="nobody", **times)
    yield made
    made.close()


def ask(bff: Room, method: str, path: str, said: Any, language: str) -> Any:
    headers = {"Accept": f"application/{language}", "Content-Type": f"application/{language}"}
    if isinstance(said, dict):
        said = json.dumps(said) if language == "json" else xml_of(said)
    return bff.http.open(path, method=method, data=said or None, headers=headers | {"Idempotency-Key": "k"})


def xml_of(said: dict[str, str]) -> bytes:
    root = etree.Element("said")
    for name, value in said.items():
        etree.SubElement(root, name).text = value
    return bytes(etree.tostring(root))


def like_json(element: Any, shape: Any) -> Any:
    """Read XML back as JSON has it: names, order and nesting; every value as text."""
    if isinstance(shape, dict):
        return {
            etree.QName(each).localname: like_json(each, shape.get(etree.QName(each).localname)) for each in element
        }
    if isinstance(shape, list):
        return [like_json(each, shape[0] if shape else None) for each in element]
    return element.text or ""


def as_text(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: as_text(value) for name, value in document.items()}
    return [as_text(each) for each in document] if isinstance(document, list) else str(document)


def ordered(document: Any) -> str:
    return json.dumps(document, sort_keys=False)


def published(bff: Room, name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(bff.http.get(f"/{name}").data))


@pytest.mark.parametrize(("shape", "status", "method", "path", "said"), SHOWN)
def test_a_resource_is_the_same_in_both_languages(
    bff: Room, shape: type[Shape], status: int, method: str, path: str, said: dict[str, Any]
) -> None:
    """A caller may change its language without reading the documentation again; and either may be validated."""
    in_json, in_xml = (ask(bff, method, path, said, language) for language in ("json", "xml"))
    assert (in_json.status_code, in_xml.status_code) == (status, status)
    assert (in_json.mimetype, in_xml.mimetype) == ("application/json", "application/xml")
    shape().load(in_json.json)
    root = etree.fromstring(in_xml.data)
    published(bff, "schema.xsd").assertValid(root)
    document = in_json.json
    if isinstance(items := document.get(shape.root), list):  # the root is the list
        rows = root.findall(item_name(shape.root))
        assert ordered([like_json(row, items[0]) for row in rows]) == ordered(as_text(items))
        assert root.findtext("links/next") == document.get("links", {}).get("next")
    else:
        assert ordered(like_json(root, document)) == ordered(as_text(document))


@pytest.mark.parametrize(("status", "method", "path", "said"), REFUSED)
def test_a_problem_is_the_same_in_both_languages(bff: Room, status: int, method: str, path: str, said: Any) -> None:
    """An error is read by programs too: in the namespace of RFC 9457, as the published schema says."""
    in_json, in_xml = (ask(bff, method, path, said, language) for language in ("json", "xml"))
    assert (in_json.status_code, in_xml.status_code) == (status, status)
    assert (in_json.mimetype, in_xml.mimetype) == ("application/problem+json", "application/problem+xml")
    problems.Problem().load(in_json.json)
    root = etree.fromstring(in_xml.data)
    published(bff, "problem.xsd").assertValid(root)
    assert etree.QName(root).namespace == PROBLEM_NAMESPACE
    if status != 400:  # what is unreadable is so in another place
        assert ordered(like_json(root, in_json.json)) == ordered(as_text(in_json.json))


def test_every_example_is_valid(bff: Room) -> None:
    """People copy them."""
    schema, problem = published(bff, "schema.xsd"), published(bff, "problem.xsd")
    examples = list(_examples(json.loads((snapshots.folder_of(SYSTEM) / "openapi.json").read_text())))
    assert len(examples) > 40
    for media_type, example in examples:
        if media_type.endswith("xml"):
            (problem if "problem" in media_type else schema).assertValid(etree.fromstring(example.encode()))


def _examples(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, inner in node.items():
            if name.startswith("application/") and "example" in inner:
                yield name, inner["example"]
            yield from _examples(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _examples(inner)


def test_a_published_schema_refuses_what_is_not_ours(bff: Room) -> None:
    """The proof that validating proves something."""
    schema = published(bff, "schema.xsd")
    got = bff.http.get("/passwords/ada", headers={"Accept": "text/xml"}).data
    assert schema.validate(etree.fromstring(got))
    assert schema.validate(etree.fromstring(bff.http.get("/health", headers={"Accept": "text/xml"}).data))
    assert not schema.validate(etree.fromstring(got.replace(b"issued</status>", b"lost</status>")))
    assert not schema.validate(etree.fromstring(got.replace(b"<version>1</version>", b"")))
