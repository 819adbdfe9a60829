"""Declare what `protools verify` reads of a service beside what every service has, and what it must not find there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Select

from pulsaga.delivery.messages import first_id
from pulsaga.settings import Settings, Side

Kind = Literal["lost", "doubled", "stuck", "orphaned", "diverged", "late", "dead"]


class Floor(NamedTuple):
    """The oldest of what is read: what is before it explains nothing that is judged."""

    at: float
    """Unix seconds."""

    @property
    def id(self) -> str:
        """First UUIDv7 of that time."""
        return first_id(self.at)


@dataclass(frozen=True)
class FactTable:
    """Rows of one of a service's databases, for the checks to join: a table with the columns of the query."""

    name: str
    query: Callable[[Floor], Select[Any]]
    """Floor → what is read: what is older may be left out."""
    _: KW_ONLY
    side: Side = "write"
    index: Sequence[str] = ()
    """Columns that the checks look rows up by; several of one index are separated by commas."""
    row: Callable[[Any], Iterable[Any]] = tuple
    """Row as it was read → row as it is kept, for what only Python can read."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.query(Floor(0.0)).selected_columns.keys()


@dataclass(frozen=True)
class Check:
    """Something that must not be, or with `is_defect` False something to be told for information.

    The query yields ids, each with a detail. It knows the tables of `facts.DELIVERED` and of every service's
    `Checks.facts`; `judged`, the sagas in question; `owned`, the commands of these; `unheard`, the acceptances without
    a trace; `lived`, until when a service has handled messages; `in_hand`, the commands that will be answered later.
    Known by name are `:since`, `:cutoff` (later is too young to judge), `:known` (an inbox may have forgotten what is
    before it), `:bound` (seconds of grace), `:coordinator` and `:front_door` (names of services; empty where there is
    none), `:service` (the one that declares the check) and its `Checks.parameters`. A read model may be behind what
    lies in an outbox.
    """

    kind: Kind
    name: str
    says: str
    sql: str
    is_defect: bool = True
    _: KW_ONLY
    narrows: str = ""
    """`kind/name` of a more general check: what this one names is left out there."""

    @property
    def path(self) -> str:
        """`kind/name`."""
        return f"{self.kind}/{self.name}"


def _no_parameters(_settings: Settings) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What `protools verify` knows of a service's own effects."""

    facts: Sequence[FactTable] = ()
    derived: str = ""
    """`CREATE VIEW …;` over the facts, for several checks to look at."""
    in_hand: str = ""
    """Query for the ids of commands that were handled and will be answered later, such as calls still to be made."""
    checks: Sequence[Check] = ()
    parameters: Callable[[Settings], Mapping[str, Any]] = _no_parameters
    """Settings → what the queries of this service know by name."""
