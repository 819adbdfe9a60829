"""Find dead letters in every service and show what they say; nothing is changed here."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import fastavro
from sqlalchemy import CompoundSelect, Select, Table, select, union_all

from pulsaga.broker import Delivery
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.dispatch.reader import Reader, Received
from pulsaga.delivery.tables import LETTERS, audit, dead_letter, unpack_delivery
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.operate.acting import Runtimes, rows
from pulsaga.operate.choosing import EVERYTHING, GivenUp, Where
from pulsaga.operate.sagas import log_of

NAMES = ("topic", "service", "code", "group", "saga")
"""What letters are found by, beside the time since which."""


@dataclass(frozen=True)
class Letter:
    """Hold one dead letter with the service in whose database it lies; a list has it without its message."""

    service: str
    row: Row

    @property
    def id(self) -> str:
        """The message's id, or the hash of what came."""
        return str(self.row["id"])

    @property
    def delivery(self) -> Delivery:
        """The message as it was received, or as it was edited."""
        return unpack_delivery(self.row["delivery"])

    @property
    def given_up(self) -> GivenUp:
        """By what it is found."""
        more = {"topic": self.row["topic"], "saga": self.row["saga_id"] or ""}
        return GivenUp(self.service, self.id, self.row["topic"], self.row["error"], self.row["at"], more)

    def summary(self) -> dict[str, Any]:
        """Say in one row what it is about."""
        names = ("id", "topic", "attempts", "error", "saga_id", "outcome")
        times = {name: self.row[name] and rfc3339(self.row[name]) for name in ("at", "ended_at")}
        return {"service": self.service, **{name: self.row[name] for name in names}, **times}


def letters(
    runtimes: Runtimes, services: Sequence[str], where: Where = EVERYTHING, *, closed: bool = False
) -> list[Letter]:
    """Return the open letters of these services, oldest first; with `closed` also those that were dealt with."""
    wanted = where.values.get("service")
    asked = [name for name in services if wanted is None or name in wanted]
    briefly = partial(_briefly, where)
    query = _every(briefly) if closed else briefly(dead_letter).where(dead_letter.c.outcome.is_(None))
    found = [Letter(service, row) for service, row in rows(runtimes, asked, query.order_by("at"))]
    return [letter for letter in found if where.holds(letter.given_up)]


def _briefly(where: Where, table: Table) -> Select[Any]:
    """Select letters without their messages, by what a column says already."""
    columns = {"topic": table.c.topic, "saga": table.c.saga_id}
    asked = (columns[name].in_(known) for name, known in where.values.items() if name in columns)
    return select(*(column for column in table.columns if column.name != "delivery")).where(*asked)


def _every(query: Callable[[Table], Select[Any]]) -> CompoundSelect[Any]:
    """Ask for the letters that lie in front of operators, and for those of the archive."""
    return union_all(*map(query, LETTERS))


def find(runtimes: Runtimes, identifier: str, service: str | None = None) -> Letter:
    """Return the newest letter of this id; raise UsageError when there is none, or when several services hold one."""
    query = _every(lambda table: select(table).where(table.c.id == identifier)).order_by("at")
    found = rows(runtimes, [service] if service else runtimes.system.names, query)
    newest = {service: Letter(service, row) for service, row in found}
    if not newest:
        raise click.UsageError(f"there is no dead letter {identifier}{f' in {service}' if service else ''}")
    if len(newest) > 1:
        raise click.UsageError(f"{identifier} is a dead letter in {' and '.join(newest)}: say which, by --service")
    return next(iter(newest.values()))


def read(runtimes: Runtimes, letter: Letter) -> Received:
    """Read a letter just as the worker of its service will."""
    runtime = runtimes.runtime(letter.service)
    return Reader(runtimes.system[letter.service].handling, runtime.codec, runtime.broker).read([letter.delivery])[0]


def show(runtimes: Runtimes, letter: Letter) -> dict[str, Any]:
    """Return everything that is known of a letter, the log of its saga around it included; needs no broker."""
    wire = letter.delivery.wire
    saga_id = letter.row["saga_id"] or wire.properties.get("ce_correlationid")
    shown = letter.summary() | {"envelope": dict(sorted(wire.properties.items())), "body": _shown_body(letter)}
    return shown | {"audit": audit_of(runtimes, letter.service, letter.id), "saga": log_of(runtimes, saga_id)}


def audit_of(runtimes: Runtimes, service: str, subject: str) -> list[dict[str, Any]]:
    """Return who did what to it, when and why, oldest first."""
    query = select(audit).where(audit.c.subject == subject).order_by(audit.c.at)
    shown = ("who", "action", "why", "detail")
    return [
        {"at": rfc3339(row["at"]), **{name: row[name] for name in shown}} for _, row in rows(runtimes, [service], query)
    ]


def decoded(body: bytes, schema: str) -> dict[str, Any]:
    """Read bytes by their writer's schema, whatever class they belong to; raise what fastavro raises."""
    values: Any = fastavro.schemaless_reader(io.BytesIO(body), fastavro.parse_schema(json.loads(schema)), None)
    return dict(values)


def _shown_body(letter: Letter) -> dict[str, Any]:
    wire = letter.delivery.wire
    try:
        return decoded(wire.body, CommittedSchemas()[wire.properties.get("ce_dataschema", "")])
    except Exception as error:  # whatever others wrote: the letter is shown all the same
        return {"unreadable": f"{type(error).__name__}: {error}", "base64": base64.b64encode(wire.body).decode()}
