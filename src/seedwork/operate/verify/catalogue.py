"""Put together what is read and asked of one system: the framework's part, then what each service declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pulsaga.delivery.messages import contract_of
from pulsaga.operate.verify.check import Check, Checks, FactTable, Kind
from pulsaga.operate.verify.diverged import DIVERGED
from pulsaga.operate.verify.facts import DELIVERED, DERIVED, INDEXES, RESERVED
from pulsaga.operate.verify.lost import DOUBLED, LOST
from pulsaga.operate.verify.orphaned import ORPHANED
from pulsaga.operate.verify.sources import MOVES, REQUESTS
from pulsaga.operate.verify.stuck import LATE_AND_DEAD, STUCK
from pulsaga.settings import Settings, Side

if TYPE_CHECKING:
    from pulsaga.system import System

CHECKS = (*LOST, *DOUBLED, *STUCK, *ORPHANED, *DIVERGED, *LATE_AND_DEAD)
"""What must not be in any system."""
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are reported."""


@dataclass(frozen=True)
class Part:
    """What is known of one service, with what its queries know by name."""

    service: str
    checks: Checks
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A check, the service that asks it and what its query knows by name."""

    check: Check
    service: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the check, for whoever has to mend it."""
        return f"{self.check.path} of {self.service}"


class Catalogue:
    """All that is read and asked of a system. Raise ValueError for a table that is declared twice."""

    def __init__(self, system: System, settings: Settings) -> None:
        self.system, self.services = system, [service.name for service in system.all]
        self.coordinator, self.moves = system.name, contract_of(system.sagas.moved).name
        self.front_door = system.door.name if system.door else ""
        own = [(service.name, service.checks) for service in system.all if service.checks]
        sagas = Checks(facts=MOVES, derived=DERIVED, checks=CHECKS)
        parts = [(self.front_door, REQUESTS), (self.coordinator, sagas), *own]
        self._parts = [self._part(name, checks, settings) for name, checks in parts]
        _refuse_twins(table.name for part in self._parts for table in part.checks.facts)

    def _part(self, service: str, checks: Checks, settings: Settings) -> Part:
        names = {"service": service, "coordinator": self.coordinator, "front_door": self.front_door}
        return Part(service, checks, {**checks.parameters(settings), **names})

    @property
    def tables(self) -> Mapping[str, Sequence[str]]:
        """Columns of every table of facts, by its name."""
        declared = {table.name: table.columns for part in self._parts for table in part.checks.facts}
        return {name: columns.split(", ") for name, columns in DELIVERED.items()} | declared

    @property
    def indexes(self) -> Mapping[str, Sequence[str]]:
        """Columns that rows are looked up by, by the table's name."""
        return {**INDEXES, **{table.name: table.index for part in self._parts for table in part.checks.facts}}

    @property
    def derived(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Views over the facts, with what they know by name."""
        return [(part.checks.derived, part.parameters) for part in self._parts]

    @property
    def in_hand(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Queries for commands that will be answered later."""
        return [(part.checks.in_hand, part.parameters) for part in self._parts if part.checks.in_hand]

    @property
    def questions(self) -> list[Question]:
        """Every check in the order in which it is reported."""
        asked = [Question(check, part.service, part.parameters) for part in self._parts for check in part.checks.checks]
        return sorted(asked, key=lambda question: KINDS.index(question.check.kind))

    def facts_of(self, service: str, side: Side) -> Iterator[FactTable]:
        """Yield what is read of one database beside what every service has."""
        for part in self._parts:
            if part.service == service:
                yield from (table for table in part.checks.facts if table.side == side)

    def databases(self) -> Iterator[tuple[str, Side]]:
        """Yield every database in the order in which it is read; `extract` says why."""
        doors = [self.front_door] if self.front_door else []
        others = [name for name in self.services if name not in (self.front_door, self.coordinator)]
        yield from ((name, "read") for name in (*doors, self.coordinator, *others))
        yield from ((name, "write") for name in (*doors, *others, self.coordinator))


def _refuse_twins(names: Iterator[str]) -> None:
    if twins := [name for name, number in Counter((*DELIVERED, *RESERVED, *names)).items() if number > 1]:
        raise ValueError(f"tables of facts that are declared twice: {', '.join(twins)}")
