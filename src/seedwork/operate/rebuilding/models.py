"""Name the read models of a system, whose events they show, and why one of them cannot be built from events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import click
from sqlalchemy import Table

from pulsaga.delivery.messages import contract_of
from pulsaga.service import Service
from pulsaga.system import System


@dataclass(frozen=True)
class ReadModel:
    """The read tables of a service, or one of them."""

    system: System
    service: Service
    tables: Sequence[Table]
    """In an order in which what is referred to comes first."""

    @property
    def name(self) -> str:
        """How an operator calls it: `stock`, `stock.item`."""
        whole = len(self.tables) == len(self.service.views.tables)
        return self.service.name if whole else f"{self.service.name}.{self.tables[0].name}"

    @cached_property
    def heard(self) -> Mapping[str, list[type]]:
        """The types that its projections turn into rows, by the service that owns them."""
        found: dict[str, list[type]] = defaultdict(list)
        for cls in self.service.projecting:
            found[contract_of(cls).owner].append(cls)
        return found

    def obstacles(self) -> Iterator[str]:
        """Yield why it cannot be built from events."""
        for owner, types in sorted(self.heard.items()):
            for contract in map(contract_of, types):
                if owner not in self.system.names:
                    yield f"{contract.name} is told by {owner}, which is no service here: nothing keeps its events"
                elif contract.kind != "event":
                    yield f"{contract.name} is a command: nothing keeps those"


def read_models(system: System) -> list[ReadModel]:
    """Return the read model of every service that has one."""
    shown = (service for service in system.all if service.projections and service.views.tables)
    return [ReadModel(system, service, service.views.sorted_tables) for service in shown]


def read_model(system: System, name: str) -> ReadModel:
    """Return the read model of a service, or one table of it: `stock`, `stock.item`. Raise UsageError for none."""
    service, _, table = name.partition(".")
    for model in read_models(system):
        tables = [one for one in model.tables if table in ("", one.name)]
        if model.service.name == service and tables:
            return ReadModel(system, model.service, tables)
    known = [model.service.name for model in read_models(system)]
    raise click.UsageError(f"there is no read model {name}; there are {', '.join(known)}, and SERVICE.TABLE of each")
