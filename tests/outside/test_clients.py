"""Use the front door as newcomers do: by curl, by a client made from the OpenAPI document, in XML by its schemas."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from tests.outside.door import Door

BIN = Path(sys.executable).parent


def curl(door: Door, path: str, *options: str) -> tuple[str, Any]:
    """Ask by curl; return the status and what the body says."""
    known = ["-H", f"Authorization: Bearer {door.token}", "-H", "Content-Type: application/json"]
    command = ["curl", "-s", "-w", "\n%{http_code}", *known, *options, door.url + path]
    body, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return status, json.loads(body)


def test_curl_asks_follows_and_is_refused(whole: Door) -> None:
    """The first thing that anybody tries."""
    status, command = curl(whole, "/passwords", "-d", '{"username":"by-curl"}', "-H", "Prefer: wait=1")
    assert status in ("201", "202")
    assert curl(whole, command["links"]["self"])[1]["id"] == command["id"]
    status, problem = curl(whole, "/passwords", "-d", '{"username":')
    assert (status, problem["code"], problem["line"]) == ("400", "unreadable", 1)


@pytest.fixture
def generated(whole: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client made from what the running system says of itself."""
    options = ["--url", f"{whole.url}/openapi.json", "--output-path", str(tmp_path / "made"), "--meta", "none"]
    with_ruff = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(
        [BIN / "openapi-python-client", "generate", *options], env=with_ruff, check=True, capture_output=True
    )
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("made")


def test_a_generated_client_asks_follows_and_lists(whole: Door, generated: Any) -> None:
    """Whoever generates a client must be able to use it without a look into our code."""
    api = {
        name: importlib.import_module(f"made.api.bff.{name}")
        for name in ("issue_password", "show_command", "list_passwords", "show_password")
    }
    models = importlib.import_module("made.models")
    with generated.AuthenticatedClient(base_url=whole.url, token=whole.token) as client:
        wish = models.IssuePassword(username="by-client")
        command = api["issue_password"].sync(client=client, body=wish, prefer="wait=1")
        assert isinstance(command, models.Command)
        shown = api["show_command"].sync(command.id, client=client)
        assert (shown.id, shown.username) == (command.id, "by-client")
        page = api["list_passwords"].sync(client=client, limit=1)
        assert isinstance(page, models.Passwords)
        refused = api["show_password"].sync("nobody-of-this-name", client=client)
        assert (refused.status, refused.code) == (404, "not-found")


def schema(door: Door, path: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(door.ask("GET", path).data))


def test_an_xml_client_sends_and_gets_what_the_schemas_say(whole: Door) -> None:
    """Half of the callers make their classes from the XSD: a document that it does not allow breaks them."""
    allowed, problem = schema(whole, "/schema.xsd"), schema(whole, "/problem.xsd")
    headers = {"Content-Type": "application/xml", "Accept": "application/xml"}
    wish = b"<issuePassword><username>by-xml</username><email>xml@example.test</email></issuePassword>"
    allowed.assertValid(etree.fromstring(wish))
    accepted = etree.fromstring(whole.ask("POST", "/passwords", wish, headers).data)
    for path in (accepted.findtext("links/self"), "/passwords?limit=3", "/health"):
        allowed.assertValid(etree.fromstring(whole.ask("GET", path, headers=headers).data))
    allowed.assertValid(accepted)
    for body in (b"<issuePassword>", b"<issuePassword role='x'/>"):
        problem.assertValid(etree.fromstring(whole.ask("POST", "/passwords", body, headers).data))
