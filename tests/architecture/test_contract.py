"""Hold what callers are told against the code, and every route to being told of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pulsaga.delivery.avro import Codec
from pulsaga.delivery.messages import Context, Message, contract_of, new_id, properties_of
from pulsaga.errors import DefinitionError
from pulsaga.web.documents import asyncapi, openapi, snapshots
from system import SYSTEM


@pytest.fixture(scope="module")
def derived() -> Any:
    return snapshots.derive(SYSTEM)


def test_every_route_is_described() -> None:
    """A route that the document does not name is one that no client is generated for and no suite calls."""
    with snapshots.front_door(SYSTEM) as app:
        rules = {(openapi.template(rule), method.lower()) for rule in openapi.routes(app) for method in rule.methods}
    paths = json.loads((snapshots.folder_of(SYSTEM) / "openapi.json").read_text())["paths"]
    told = {(path, method) for path, methods in paths.items() for method in methods}
    assert {rule for rule in rules if rule[1] not in ("head", "options")} == told


def test_a_route_that_says_nothing_would_be_seen() -> None:
    """The proof that nobody can add one beside the document."""
    with snapshots.front_door(SYSTEM) as app:
        app.add_url_rule("/beside", view_func=lambda: "")
        with pytest.raises(DefinitionError, match="/beside"):
            openapi.check(app)


@pytest.mark.parametrize("name", sorted(path.name for path in snapshots.folder_of(SYSTEM).iterdir()))
def test_what_is_served_is_what_the_code_says(name: str, derived: dict[str, str]) -> None:
    """The committed document is what callers read; `make contract` writes it."""
    assert (snapshots.folder_of(SYSTEM) / name).read_text() == derived[name], "run `make contract`"


def test_the_envelope_is_told_as_it_is_written() -> None:
    """Another language builds its headers by this list."""
    body = next(iter(SYSTEM["correo"].messages))(**dict.fromkeys(("username", "email", "sealed_token"), ""))
    least = Message(body, new_id(), "correo", "ada", "", Context(new_id()))
    context = Context(new_id(), "cause", "actor", "trace", "accepted")
    most = Message(body, new_id(), "correo", "ada", "", context, command_id="c", version=1, expires_at="e")
    assert tuple(properties_of(least)) == asyncapi.ALWAYS
    assert tuple(properties_of(most)) == tuple(asyncapi.ENVELOPE)


def test_every_message_is_described() -> None:
    """One that is not is a secret between two of our services."""
    document = asyncapi.document(SYSTEM, Codec())
    declared = {contract_of(cls).name for name in SYSTEM.names for cls in SYSTEM[name].messages}
    assert declared == document["components"]["messages"].keys() == document["channels"].keys()
    heard = {f"{name}.takes.{topic}" for name in SYSTEM.names for topic in SYSTEM[name].consumes}
    assert heard <= document["operations"].keys()
