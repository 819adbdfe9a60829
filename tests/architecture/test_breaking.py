"""Hold the comparison of contracts to seeing what breaks callers, and to letting everything else pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from pulsaga.web.documents import snapshots
from pulsaga.web.documents.breaking import breaks
from system import SYSTEM

OPENAPI, ASYNCAPI = (
    json.loads((snapshots.folder_of(SYSTEM) / f"{name}.json").read_text()) for name in ("openapi", "asyncapi")
)
Change = Callable[[Any], object]


def post(document: Any) -> Any:
    return document["paths"]["/passwords"]["post"]


def schema(document: Any, name: str) -> Any:
    return document["components"]["schemas"][name]


def fields_of(document: Any, name: str) -> Any:
    return document["components"]["messages"][name]["payload"]["schema"]["fields"]


BREAKING: list[tuple[str, Change]] = [
    ("path /reveals is gone", lambda d: d["paths"].pop("/reveals")),
    ("/passwords post is gone", lambda d: d["paths"]["/passwords"].pop("post")),
    ("clients call it issue_password", lambda d: post(d).update(operationId="wish")),
    ("the body application/xml is gone", lambda d: post(d)["requestBody"]["content"].pop("application/xml")),
    ("answer 202 is gone", lambda d: post(d)["responses"].pop("202")),
    ("answer 202: header Location is gone", lambda d: post(d)["responses"]["202"]["headers"].pop("Location")),
    ("answer 202 application/xml is gone", lambda d: post(d)["responses"]["202"]["content"].pop("application/xml")),
    ("Idempotency-Key is not taken any more", lambda d: post(d)["parameters"].pop(0)),
    ("Idempotency-Key is needed now", lambda d: post(d)["parameters"][0].update(required=True)),
    ("Idempotency-Key: the pattern is", lambda d: post(d)["parameters"][0]["schema"].update(pattern="[a-z]+")),
    ("email is needed now", lambda d: schema(d, "IssuePassword")["required"].append("email")),
    ("field email is gone", lambda d: schema(d, "IssuePassword")["properties"].pop("email")),
    ("username: maxLength is 9", lambda d: schema(d, "IssuePassword")["properties"]["username"].update(maxLength=9)),
    ("'anything' is refused now", lambda d: schema(d, "IssuePassword")["properties"]["username"].update(enum=["ada"])),
    ("field status is gone", lambda d: schema(d, "Command")["properties"].pop("status")),
    ("does not always have status", lambda d: schema(d, "Command")["required"].remove("status")),
    ("version: type integer is string", lambda d: schema(d, "Password")["properties"]["version"].update(type="string")),
    ("field code is gone", lambda d: schema(d, "Reason")["properties"].pop("code")),
    ("is written otherwise in XML", lambda d: schema(d, "Command").update(xml={"name": "order"})),
    ("/reveals: asks who calls", lambda d: d["paths"]["/reveals"]["post"].pop("security")),
]
HARMLESS: list[Change] = [
    lambda d: d["paths"].update({"/more": deepcopy(d["paths"]["/passwords"])}),
    lambda d: schema(d, "IssuePassword")["properties"].update(nickname={"type": "string"}),
    lambda d: schema(d, "IssuePassword")["properties"]["username"].update(maxLength=999),
    lambda d: schema(d, "Command")["properties"].update(more={"type": "string"}),
    lambda d: schema(d, "Command")["required"].append("more"),
    lambda d: post(d)["responses"].update({"207": deepcopy(post(d)["responses"]["202"])}),
    lambda d: post(d).update(summary="Said better."),
]
SAGA_MOVED = "protools_saga.saga-moved"
BREAKING_MESSAGES: list[tuple[str, Change]] = [
    (f"channels {SAGA_MOVED} is gone", lambda d: d["channels"].pop(SAGA_MOVED)),
    ("has another address", lambda d: d["channels"][SAGA_MOVED].update(address="elsewhere")),
    ("is gone", lambda d: d["operations"].pop(f"bff.follows.{SAGA_MOVED}")),
    ("has no status any more", lambda d: fields_of(d, SAGA_MOVED).pop(3)),
    ("status", lambda d: fields_of(d, SAGA_MOVED)[3].update(type="int")),
    ("field mood", lambda d: fields_of(d, SAGA_MOVED).append({"name": "mood", "type": "string"})),
    ("does not always have ce_time", lambda d: schema(d, "Envelope")["required"].remove("ce_time")),
]


def found(document: Any, change: Change) -> list[str]:
    changed = deepcopy(document)
    change(changed)
    return breaks(document, changed)


@pytest.mark.parametrize(("what", "change"), BREAKING, ids=[what for what, _ in BREAKING])
def test_a_change_that_breaks_callers_is_named(what: str, change: Change) -> None:
    """A client that worked yesterday must not find out by itself."""
    assert [line for line in found(OPENAPI, change) if what in line]


@pytest.mark.parametrize(("what", "change"), BREAKING_MESSAGES, ids=[what for what, _ in BREAKING_MESSAGES])
def test_a_change_that_breaks_readers_of_messages_is_named(what: str, change: Change) -> None:
    """Old replicas and old messages stay for longer than a deployment."""
    assert [line for line in found(ASYNCAPI, change) if what in line]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_is_only_more_breaks_nobody(change: Change) -> None:
    """A gate that cries at every change is taken away."""
    assert found(OPENAPI, change) == []


@pytest.mark.parametrize(("version", "is_written"), [("2.9.0", False), ("3.0.0", True)])
def test_what_breaks_is_not_written_unless_the_version_says_so(tmp_path: Path, version: str, is_written: bool) -> None:
    """`make contract` is how a change reaches callers; here it stops."""
    changed = deepcopy(OPENAPI)
    changed["paths"].pop("/reveals")
    changed["info"]["version"] = version
    (tmp_path / "openapi.json").write_text(json.dumps(OPENAPI))
    text = json.dumps(changed)
    if is_written:
        assert list(snapshots.write({"openapi.json": text}, tmp_path))
    else:
        with pytest.raises(snapshots.Breaking, match="/reveals"):
            list(snapshots.write({"openapi.json": text}, tmp_path))
    assert ((tmp_path / "openapi.json").read_text() == text) is is_written
