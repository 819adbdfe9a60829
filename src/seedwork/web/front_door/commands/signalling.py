"""Let callers send signals to sagas that wait for them: one route for each signal that a workflow opens to callers.

A signal goes to a command that the caller names, or to the one whose token the caller bears.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response
from marshmallow import fields
from sqlalchemy import Engine, select

from pulsaga.delivery.messages import Context, contract_of
from pulsaga.errors import DefinitionError
from pulsaga.saga.steps import BEARER, OWNER, Await
from pulsaga.saga.tokens import BORNE, digest_of
from pulsaga.web import http
from pulsaga.web.access.rights import ASKING, PUBLIC, Right, allow, right_of
from pulsaga.web.contract import Answer, Shape, operation
from pulsaga.web.formats import Problem
from pulsaga.web.front_door.commands import routes
from pulsaga.web.front_door.commands.parameters import COMMAND_ID, LOCATION
from pulsaga.web.front_door.commands.resources import ID, link, text
from pulsaga.web.front_door.door import FrontDoor, view_of
from pulsaga.web.front_door.shapes import TOKEN, borne_body, command_of, signal_body
from pulsaga.web.front_door.tables import awaited, command, signal_token


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

    def is_open(self, states: set[str]) -> bool:
        """Tell whether a saga that stands so with it waits for it, or keeps it until it does."""
        return "open" in states or (self.is_kept and not states)


class HeardLinks(Shape):
    """Lead from a signal to the command that it was sent to."""

    root = "links"
    command = link("The command.", f"/commands/{ID}")


class Heard(Shape):
    """Say that a signal was heard, durably."""

    root = "signal"
    signal = text("What was sent.", "approve")
    links = fields.Nested(HeardLinks, required=True)


class Borne(Shape):
    """Say that a signal was heard, durably, and nothing about whom it reaches."""

    root = "signal"
    signal = text("What was sent.", "confirm")


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
    if wait.by in (OWNER, BEARER):
        return ASKING if wait.by == OWNER else PUBLIC  # the token is the right
    try:
        return right_of(wait.by or ())
    except DefinitionError as error:
        raise DefinitionError(f"{wait.name}: {error}") from None


def add_to(api: Blueprint, door: FrontDoor, signal: Signal) -> None:
    """Add the route of a signal to a blueprint."""

    view: Callable[..., Response]

    def send(body: Mapping[str, Any], identifier: str) -> Response:
        return _send(door, signal, identifier, body)

    def bear(body: Mapping[str, Any]) -> Response:
        return _bear(signal, body)

    if signal.right == PUBLIC:
        view, path, said = bear, f"/signals/{signal.name}", "to the command whose token you bear, once"
        declared = operation(
            takes=borne_body(signal.name, signal.message),
            answers={202: Answer(description="Heard, durably.", shape=Borne)},
            problems={
                404: "No command gave out this token for it.",
                409: "It was sent, or is not waited for any more.",
            },
        )
    else:
        view, path, said = send, f"/commands/<identifier>/signals/{signal.name}", "to a command that waits for it"
        declared = operation(
            takes=signal_body(signal.name, signal.message),
            parameters=(COMMAND_ID,),
            answers={202: Answer(description="Heard, durably.", shape=Heard, headers=(LOCATION,))},
            problems={404: "Nobody was given this id.", 409: "The command does not wait for it, or not any more."},
        )
    view.__name__ = "signal_" + re.sub(r"\W", "_", signal.name)
    view.__doc__ = f"Send the signal `{signal.name}` {said}.\n\n{signal.message.__doc__ or ''}"
    api.post(path)(allow(signal.right)(declared(view)))


def _send(door: FrontDoor, signal: Signal, identifier: str, body: Mapping[str, Any]) -> Response:
    sees_only = http.caller().sees_only if signal.only_of_owner else None
    found = routes.look_up(door, http.identifier(identifier), sees_only)
    if not found:
        raise http.not_found("command of this id")
    message = command_of(signal.message, body)
    states = _states(http.read_engine(), found["id"], signal)
    if "taken" not in states and not signal.is_open(states):
        raise Problem(409, "not-awaited", f"the command is {found['status']}, and does not wait for {signal.name}")
    subject = found[view_of(door.views, found["type"]).subject]
    _hand_on(message, subject, Context(found["id"], actor=http.caller().subject))
    where = http.path("commands", found["id"])
    return http.reply("signal", {"signal": signal.name, "links": {"command": where}}, 202, {"Location": where})


def _bear(signal: Signal, body: Mapping[str, Any]) -> Response:
    """Send a signal to the saga that gave out a token; its bearer, who may be anybody, hears nothing else about it."""
    digest, read = digest_of(body[TOKEN]), http.read_engine()
    name = contract_of(signal.message).name
    given = select(signal_token.c.saga_id).where(signal_token.c.id == digest, signal_token.c.signal == name)
    with read.connect() as connection:
        saga_id = connection.execute(given).scalar()
        subject = connection.execute(select(command.c.subject).where(command.c.id == saga_id)).scalar() or ""
    if saga_id is None:
        raise Problem(404, "unknown-token", f"no token for {signal.name} is like this one")
    message = command_of(signal.message, body, aside=TOKEN)
    states = _states(read, saga_id, signal)
    if "taken" in states:
        raise Problem(409, "already-sent", f"{signal.name} was sent before")
    if not signal.is_open(states):
        raise Problem(409, "not-awaited", f"{signal.name} is not waited for")
    _hand_on(message, subject, Context(saga_id, actor=f"{BORNE}{digest}"))
    return http.reply("signal", {"signal": signal.name}, 202)


def _hand_on(message: Any, subject: str, context: Context) -> None:
    about, transactions = context._replace(traceparent=http.traceparent()), http.runtime().transactions
    _, outgoing = transactions.commit(lambda uow: uow.send(message, subject, context=about))
    transactions.outbox.publish_later(outgoing)


def _states(read: Engine, saga_id: str, signal: Signal) -> set[str]:
    """Return where a saga stands with a signal, wherever it has come to wait for it, as far as is known here."""
    name = contract_of(signal.message).name
    query = select(awaited.c.state).where(awaited.c.saga_id == saga_id, awaited.c.signal == name)
    with read.connect() as connection:
        return set(connection.execute(query).scalars())
