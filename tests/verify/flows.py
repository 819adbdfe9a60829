"""Put workflows of the pool's services together, and the systems that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from tests.verify.lab import Lab

from pulsaga.saga.calendar import Schedule
from pulsaga.saga.definition import Saga
from pulsaga.saga.kept import read_progress
from pulsaga.saga.log import Progress
from pulsaga.saga.steps import Child, ForEach, Step
from pulsaga.saga.tables import saga
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.databases import prepare_databases


def system_of(pool: ModuleType, *workflows: Saga[Any], schedules: Sequence[Schedule] = ()) -> System:
    services, door = [kind.service for kind in pool.KINDS], Service("door", module=pool.__name__)
    return System("lab", services=services, workflows=workflows, front_door=door, schedules=schedules)


def lab_of(pool: ModuleType, settings: Settings, *workflows: Saga[Any], schedules: Sequence[Schedule] = ()) -> Lab:
    """Set a system up with empty databases."""
    system = system_of(pool, *workflows, schedules=schedules)
    for service in system.all:
        prepare_databases(system, settings, service)
    return Lab(system, settings, {kind.service.name: kind.finish for kind in pool.KINDS})


def flow(pool: ModuleType, *steps: Any, number: int = 0) -> Saga[Any]:
    return Saga(
        f"flow-{number}", starts=pool.STARTS[number], data=pool.Order, subject=lambda order: order.subject, steps=steps
    )


def step(pool: ModuleType, kind: int, fate: Callable[[Any], str], **rest: Any) -> Step[Any]:
    made = pool.KINDS[kind]

    def do(known: Any) -> Any:
        return made.do(fate(known))

    def undo(_known: Any, undoes: str) -> Any:
        return made.undo(undoes)

    do.__annotations__["return"], undo.__annotations__["return"] = made.do, made.undo
    return Step(do, undo=undo, **{"deadline": 300.0, **rest})


def child(pool: ModuleType, number: int, plan: str = "", **rest: Any) -> Child[Any]:
    """Start another workflow of the pool, with the same plan or its own."""

    def start(order: Any) -> Any:
        return pool.STARTS[number](order.subject, plan or order.plan)

    start.__annotations__["return"] = pool.STARTS[number]
    return Child(start, **{"deadline": 300.0, **rest})


def for_each(pool: ModuleType, at_most: int = 1000) -> Saga[Any]:
    inner = step(pool, 0, lambda each: each.item.split()[0])
    return flow(pool, ForEach(fates, str, [inner], at_most=at_most))


def fate_of(order: Any) -> str:
    return str(order.plan.split()[0])


def fates(order: Any) -> list[str]:
    """List what becomes of each item, and its number."""
    return [f"{fate} {number}" for number, fate in enumerate(order.plan.split())]


def begin(lab: Lab, pool: ModuleType, plan: str) -> str:
    begun = lab.accept(pool.STARTS[0]("it", plan), "it")
    lab.deliver_all()
    return begun


def progress_of(lab: Lab, saga_id: str) -> Progress:
    with lab.coordinator.runtime.write.connect() as connection:
        row = connection.execute(saga.select().where(saga.c.id == saga_id)).mappings().one()
        return read_progress(connection, dict(row))
