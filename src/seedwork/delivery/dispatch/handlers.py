"""Handlers, and how one is kept from a late message: one that was accepted before the newest of its aggregate.

Age is the time of acceptance by the front door's database, and at most now: a stamp from the future does not win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pulsaga.delivery.messages import AnyMessage, Message, refused_by
from pulsaga.delivery.tables import latest
from pulsaga.delivery.transaction.rows import Wanted
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339

B = TypeVar("B")


def _reads_nothing(_message: AnyMessage) -> Iterable[Wanted]:
    return ()


@dataclass(frozen=True)
class Handler(Generic[B]):
    """What a service does with one message class: a function and the rows it reads."""

    message: type[B]
    function: Callable[[Message[B], UnitOfWork], None]
    reads: Callable[[Message[B]], Iterable[Wanted]] = _reads_nothing
    on_dead: Callable[[Message[B], UnitOfWork, str], None] | None = None
    """Hears that the message became a dead letter; loads what it reads itself."""


def only_in_time(handler: Handler[Any]) -> Handler[Any]:
    """Return a handler that is not run for a late message: it is logged and counted, and a command refused."""

    def reads(message: AnyMessage) -> Iterable[Wanted]:
        return [(latest, _key(message)), *handler.reads(message)]

    def handle(message: AnyMessage, uow: UnitOfWork) -> None:
        if _is_in_time(message, uow):
            handler.function(message, uow)

    return replace(handler, function=handle, reads=reads)


def _key(message: AnyMessage) -> str:
    """Name the aggregate that a message is about, among those of its type."""
    field = message.contract.latest_by
    assert field is not None
    return f"{message.contract.name} {getattr(message.body, field)}"


def _is_in_time(message: AnyMessage, uow: UnitOfWork) -> bool:
    """Note a message as the newest, or as late; refuse a command that is late."""
    key = _key(message)
    newest = uow.get(latest, key)
    accepted_at = min(message.accepted_at, uow.now)
    if newest is None or accepted_at >= newest["accepted_at"]:
        uow.put(latest, {"late": 0, **(newest or {}), "id": key, "accepted_at": accepted_at})
        return True
    is_command = message.contract.kind == "command"
    event = "late command" if is_command else "late event"
    uow.log(event, type=message.contract.name, subject=message.subject)
    uow.put(latest, {**newest, "late": newest["late"] + 1})
    if is_command:
        detail = f"a command accepted at {rfc3339(newest['accepted_at'])} was handled already"
        uow.reply(refused_by(type(message.body))(message.contract.name, "superseded", detail))
    return False
