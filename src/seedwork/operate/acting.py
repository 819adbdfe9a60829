"""Hold who acts and why, whether enough operators agree, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from sqlalchemy import CompoundSelect, Connection, Select, func, select

from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import audit
from pulsaga.delivery.transaction.rows import Row
from pulsaga.errors import DomainError
from pulsaga.running.runtime import Runtime
from pulsaga.settings import Settings
from pulsaga.system import System

log = structlog.get_logger()
REQUEST_LIFETIME_S = 24 * 3600.0
"""Seconds after which an operator's wish that nobody has seconded no longer counts."""


@dataclass(frozen=True)
class Runtimes:
    """The data of every service; a runtime connects to the broker only when it is asked to."""

    system: System
    settings: Settings
    runtime: Callable[[str], Runtime]

    @property
    def coordinator(self) -> Runtime:
        """The data of the service that drives the sagas."""
        return self.runtime(self.system.name)

    def is_of_coordinator(self, topic: str) -> bool:
        """Tell whether messages of a topic are asked of the coordinator, or told by it."""
        return topic.startswith(f"{self.system.name}.")


def rows(
    runtimes: Runtimes, services: Iterable[str], query: Select[Any] | CompoundSelect[Any]
) -> list[tuple[str, Row]]:
    """Ask the write databases of these services; return each row with its service."""
    found: list[tuple[str, Row]] = []
    for service in services:
        with runtimes.runtime(service).write.connect() as connection:
            found += [(service, dict(row)) for row in connection.execute(query).mappings()]
    return found


@dataclass(frozen=True)
class Signature:
    """The operator who acts, and the reason."""

    who: str
    why: str


@dataclass(frozen=True)
class Act:
    """Describe one action of one operator; `arguments` are what a second operator has to agree to."""

    by: Signature
    action: str
    subject: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def row(self, now: float, **changed: Any) -> Row:
        """Write down that it was done, and what it changed."""
        return self._row(now, self.action, {**self.arguments, **changed})

    def request_row(self, now: float) -> Row:
        """Write down that it is wanted."""
        return self._row(now, self._wanted, self.arguments)

    def requests(self, now: float) -> Select[Any]:
        """Select who has wanted just this since it was last done."""
        last = select(func.max(audit.c.at)).where(audit.c.subject == self.subject, audit.c.action == self.action)
        return select(audit.c.who).where(
            audit.c.subject == self.subject,
            audit.c.action == self._wanted,
            audit.c.detail == _text(self.arguments),
            audit.c.at > func.coalesce(last.scalar_subquery(), 0.0),
            audit.c.at > now - REQUEST_LIFETIME_S,
        )

    def is_agreed(self, wanted_by: Sequence[str], approvals: int) -> bool:
        """Tell whether enough others want it; raise DomainError when this operator has said so before."""
        if len({*wanted_by} - {self.by.who}) >= approvals - 1:
            return True
        if self.by.who in wanted_by:
            raise DomainError("same-operator", f"{self.by.who} has asked for it already: another operator has to agree")
        return False

    @property
    def _wanted(self) -> str:
        return f"{self.action} wanted"

    def _row(self, now: float, action: str, detail: dict[str, Any]) -> Row:
        named = {"who": self.by.who, "why": self.by.why, "action": action, "subject": self.subject}
        return {"id": new_id(), "at": now, **named, "detail": _text(detail)}


def carry_out(runtimes: Runtimes, tx: Connection, act: Act, now: float, **changed: Any) -> bool:
    """Write down what is done; or, while another operator has to agree, that it is wanted, and return False."""
    agreed = act.is_agreed(list(tx.execute(act.requests(now)).scalars()), runtimes.settings.operator_approvals)
    tx.execute(audit.insert().values(act.row(now, **changed) if agreed else act.request_row(now)))
    event = "operator acted" if agreed else "operator asked"
    log.info(event, who=act.by.who, action=act.action, subject=act.subject, why=act.by.why)
    return agreed


def _text(detail: dict[str, Any]) -> str:
    return orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode()
