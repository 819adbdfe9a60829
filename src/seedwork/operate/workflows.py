"""Look at the workflows of a system, and at the sagas that what is declared would strand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sqlalchemy import Connection, select

from pulsaga.delivery.messages import contract_of
from pulsaga.operate.acting import Runtimes
from pulsaga.operate.sagas import moves_of
from pulsaga.saga.branches import StepState
from pulsaga.saga.definition import Saga
from pulsaga.saga.kept import read_progress
from pulsaga.saga.log import TERMINAL, Progress, fold
from pulsaga.saga.steps import Await, ForEach, Node, Parallel, Sleep, Step, When, place
from pulsaga.saga.tables import saga
from pulsaga.text import describe

PAGE = 1000


@dataclass
class Stranded:
    """Sagas that have not ended, and that what is declared could not lead to their end, for one reason."""

    workflow: str
    why: str
    example: str
    """The id of one of them."""
    sagas: int = 0


def stranded(runtimes: Runtimes) -> tuple[int, list[Stranded]]:
    """Hold each saga that has not ended against what is declared; return how many there are, and those at fault."""
    found: dict[tuple[str, str], Stranded] = {}
    number = 0
    with runtimes.coordinator.write.connect() as connection:
        for row in _living(connection):
            number += 1
            if why := _why(runtimes, connection, row):
                one = found.setdefault((row["workflow"], why), Stranded(row["workflow"], why, row["id"]))
                one.sagas += 1
    return number, list(found.values())


def _living(connection: Connection) -> Iterator[dict[str, Any]]:
    """Yield the rows of sagas that have not ended, a page at a time: between them the connection is free."""
    living = select(saga.c.id, saga.c.workflow, saga.c.progress).where(saga.c.status.not_in(TERMINAL))
    page = connection.execute(living.order_by(saga.c.id).limit(PAGE)).mappings().all()
    while page:
        yield from map(dict, page)
        behind = living.where(saga.c.id > page[-1]["id"])
        page = connection.execute(behind.order_by(saga.c.id).limit(PAGE)).mappings().all()


def _why(runtimes: Runtimes, connection: Connection, row: dict[str, Any]) -> str:
    try:
        progress = read_progress(connection, row)
        workflow = runtimes.system.sagas.workflow_of(progress)
        workflow.load(progress.data)
        told = reduce(fold, moves_of(runtimes, connection, row["id"]), Progress(row["id"], progress.workflow))
    except Exception as error:  # whatever is kept may be anything; it is this saga's fault, and not the next one's
        return describe(error)
    if told != progress:
        return "its log is read as another state than its row has"
    return next(_departures(workflow, progress), "")


def _departures(workflow: Saga[Any], progress: Progress) -> Iterator[str]:
    known = dict(workflow.nodes)
    for path, state in progress.all_steps.items():
        declared = workflow.declared(path)
        node, kinds = known.get(declared), _kinds_of(state)
        if not isinstance(node, kinds):
            was, now = " or ".join(kind.__name__ for kind in kinds), type(node).__name__ if node else "gone"
            yield f"{place(declared)} was {was}, and is {now}"
        elif isinstance(node, Step):
            yield from _other_commands(declared, node, state)


def _kinds_of(state: StepState) -> tuple[type[Node[Any]], ...]:
    if state.command or state.status == "queued":
        return (Step,)
    if state.status in ("then", "else"):
        return (When,)
    if state.signal:
        return (Await,)
    return (Sleep,) if state.status in ("sleeping", "done") else (Parallel, ForEach)


def _other_commands(path: str, step: Step[Any], state: StepState) -> Iterator[str]:
    sends, undoes = contract_of(step.sends).name, contract_of(step.undoes_by).name if step.undoes_by else "nothing"
    if state.command != sends:
        yield f"{place(path)} has sent {state.command}, and would send {sends}"
    if state.undo and state.undo != undoes:
        yield f"{place(path)} is undone by {state.undo}, and would be by {undoes}"
