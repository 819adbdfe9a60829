"""Let callers send signals to sagas that wait for them: one route for each signal that a workflow opens to callers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response
from marshmallow import fields
from sqlalchemy import Engine, select

from pulsaga.delivery.messages import Context, contract_of
from pulsaga.errors import DefinitionError
from pulsaga.saga.steps import OWNER, Await
from pulsaga.web import http
from pulsaga.web.access.rights import ASKING, Right, allow, right_of
from pulsaga.web.contract import Answer, Shape, operation
from pulsaga.web.formats import Problem
from pulsaga.web.front_door.commands import routes
from pulsaga.web.front_door.commands.parameters import COMMAND_ID, LOCATION
from pulsaga.web.front_door.commands.resources import ID, link, text
from pulsaga.web.front_door.door import FrontDoor, view_of
from pulsaga.web.front_door.shapes import command_of, signal_body
from pulsaga.web.front_door.tables import awaited


@dataclass(frozen=True)
class Signal:
    """A signal that callers may send."""

    message: type
    right: Right
    only_of_owner: bool
    is_kept: bool
    """Whether one that comes early is kept."""

    @property
    def name(self) -> str:
        """What callers call it."""
        return contract_of(self.message).name.partition(".")[2]


class HeardLinks(Shape):
    """Lead from a signal to the command that it was sent to."""

    root = "links"
    command = link("The command.", f"/commands/{ID}")


class Heard(Shape):
    """Say that a signal was heard, durably."""

    root = "signal"
    signal = text("What was sent.", "approve")
    links = fields.Nested(HeardLinks, required=True)


def signals_of(door: FrontDoor) -> Iterator[Signal]:
    """Yield the signals that callers may send; raise DefinitionError where two workflows let different ones send it."""
    waits: dict[type, list[Await[Any]]] = {}
    for saga in door.system.workflows:
        for _, node in saga.nodes:
            if isinstance(node, Await) and node.by is not None:
                waits.setdefault(node.signal, []).append(node)
    for message, nodes in waits.items():
        rights = {_right(node) for node in nodes}
        if len(rights) > 1:
            raise DefinitionError(f"{contract_of(message).name}: all that wait for it let the same callers send it")
        only_of_owner = nodes[0].by == OWNER
        yield Signal(message, rights.pop(), only_of_owner, is_kept=any(node.early for node in nodes))


def _right(wait: Await[Any]) -> Right:
    if wait.by == OWNER:
        return ASKING
    try:
        return right_of(wait.by or ())
    except DefinitionError as error:
        raise DefinitionError(f"{wait.name}: {error}") from None


def add_to(api: Blueprint, door: FrontDoor, signal: Signal) -> None:
    """Add the route of a signal to a blueprint."""

    def send(body: Mapping[str, Any], identifier: str) -> Response:
        return _send(door, signal, identifier, body)

    send.__name__ = "signal_" + re.sub(r"\W", "_", signal.name)
    about = signal.message.__doc__ or ""
    send.__doc__ = f"Send the signal `{signal.name}` to a command that waits for it. Twice counts once.\n\n{about}"
    declared = operation(
        takes=signal_body(signal.name, signal.message),
        parameters=(COMMAND_ID,),
        answers={202: Answer(description="Heard, durably.", shape=Heard, headers=(LOCATION,))},
        problems={404: "Nobody was given this id.", 409: "The command does not wait for it, or not any more."},
    )
    api.post(f"/commands/<identifier>/signals/{signal.name}")(allow(signal.right)(declared(send)))


def _send(door: FrontDoor, signal: Signal, identifier: str, body: Mapping[str, Any]) -> Response:
    sees_only = http.caller().sees_only if signal.only_of_owner else None
    found = routes.look_up(door, http.identifier(identifier), sees_only)
    if not found:
        raise http.not_found("command of this id")
    message = command_of(signal.message, body)
    if not _is_awaited(http.read_engine(), found["id"], signal):
        raise Problem(409, "not-awaited", f"the command is {found['status']}, and does not wait for {signal.name}")
    context = Context(found["id"], actor=http.caller().subject, traceparent=http.traceparent())
    subject = found[view_of(door.views, found["type"]).subject]
    transactions = http.runtime().transactions
    _, outgoing = transactions.commit(lambda uow: uow.send(message, subject, context=context))
    transactions.outbox.publish_later(outgoing)
    where = http.path("commands", found["id"])
    return http.reply("signal", {"signal": signal.name, "links": {"command": where}}, 202, {"Location": where})


def _is_awaited(read: Engine, saga_id: str, signal: Signal) -> bool:
    """Tell whether a saga waits for a signal, or has it, or keeps it until it does, as far as the read model knows."""
    name = contract_of(signal.message).name
    query = select(awaited.c.state).where(awaited.c.saga_id == saga_id, awaited.c.signal == name)
    with read.connect() as connection:
        states = connection.execute(query).scalars().all()
    return any(state != "over" for state in states) or (signal.is_kept and not states)
