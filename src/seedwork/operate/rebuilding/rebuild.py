"""Rebuild a read model as an operator, or only say how it differs from what the events tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Engine

from pulsaga.delivery import database
from pulsaga.delivery.database import open_database
from pulsaga.delivery.tables import audit
from pulsaga.errors import DomainError
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out
from pulsaga.operate.erasing import refuse_while_erasing
from pulsaga.operate.rebuilding.building import Building, Outcome
from pulsaga.operate.rebuilding.events import Events
from pulsaga.operate.rebuilding.models import ReadModel
from pulsaga.operate.rebuilding.shadow import Shadow
from pulsaga.settings import Role, Side

Tell = Callable[[int], object]


def rebuild(runtimes: Runtimes, model: ReadModel, by: Signature, tell: Tell, shown: int) -> Outcome | None:
    """Build a read model anew and swap it in; return how the old one differed, at most `shown` rows of each table.

    Return None while a second operator has to agree. It may be stopped and run again. Raise DomainError, with nothing
    changed, where it cannot be built from events.
    """
    _refuse(model)
    if not _is_agreed(runtimes, model, by):
        return None
    with _building(runtimes, model, tell) as building:
        outcome = building.swapped(shown)
    _note(runtimes, model, Act(by, "rebuilt", model.name), tables=outcome.counts, kept=list(outcome.kept))
    return outcome


def compare(runtimes: Runtimes, model: ReadModel, tell: Tell, shown: int) -> Outcome:
    """Build a read model anew and say how the live one differs; change nothing. Raise DomainError as `rebuild` does."""
    _refuse(model)
    with _building(runtimes, model, tell) as building:
        return building.compared(shown)


def _refuse(model: ReadModel) -> None:
    if obstacles := list(model.obstacles()):
        raise DomainError("not-kept", "; ".join(obstacles))


def _is_agreed(runtimes: Runtimes, model: ReadModel, by: Signature) -> bool:
    with runtimes.runtime(model.service.name).write.begin() as tx:
        now = database.now(tx, runtimes.settings.clock_offset)
        return carry_out(runtimes, tx, Act(by, "rebuild", model.name), now)


def _note(runtimes: Runtimes, model: ReadModel, done: Act, **changed: Any) -> None:
    with runtimes.runtime(model.service.name).write.begin() as tx:
        row = done.row(database.now(tx, runtimes.settings.clock_offset), **changed)
        tx.execute(audit.insert().values(row))


@contextmanager
def _building(runtimes: Runtimes, model: ReadModel, tell: Tell) -> Iterator[Building]:
    """Hold a read model that is built, with its databases open; what was built goes with them."""
    began, check = _coordinator_time(runtimes), refuse_while_erasing
    with ExitStack() as stack:

        def opened(service: str, side: Side, role: Role) -> Engine:
            engine = open_database(runtimes.settings, service, side, role)
            stack.callback(engine.dispose)
            return engine

        check(runtimes, began)
        speakers = {
            owner: Events(opened(owner, "write", "reader"), types, archived=owner == runtimes.system.name)
            for owner, types in model.heard.items()
        }
        connection = stack.enter_context(opened(model.service.name, "read", "owner").connect())
        shadow = Shadow(connection, model.tables)
        made = Building(model.service.projecting, shadow, speakers, tell, partial(check, runtimes, began))
        made.build()
        yield made


def _coordinator_time(runtimes: Runtimes) -> float:
    with runtimes.coordinator.write.connect() as connection:
        return database.now(connection, runtimes.settings.clock_offset)
