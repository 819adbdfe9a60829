"""Erase a person from what a system keeps: in every record about them, what names them becomes a keyed hash.

A record is a row of any database, with the JSON and the messages in it. Only what holds data is looked at: the columns,
members and fields that hold names, as services say, and addresses of mail wherever they stand. What a system runs on
(statuses, types, topics, keys of JSON) is never touched, whatever somebody called themself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy import Engine, LargeBinary, String, Table, func, or_, select, update

from pulsaga.broker import Wire
from pulsaga.delivery import database
from pulsaga.delivery.avro import CommittedSchemas, rewritten
from pulsaga.delivery.database import open_database
from pulsaga.delivery.tables import (
    DELIVERY,
    Id,
    audit,
    event,
    failure,
    inbox,
    pack,
    pack_delivery,
    unpack,
    unpack_delivery,
)
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out
from pulsaga.running.runtime import Runtime
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.tables import saga
from pulsaga.service import Service
from pulsaga.settings import Role, Side

ERASE_ACTION, ERASED_ACTION = "erase", "erased"
"""How the audit calls that it begins, and that it has ended."""
UNFINISHED_S = 24 * 3600.0
"""Seconds after which one that has not ended is taken for one that nobody goes on with."""
PASSES = 10
"""Times that everything is looked through at most: services go on working, and a saga may lead to a further one."""
PAGE = 500
SIDES: tuple[tuple[Side, Role], ...] = (("write", "owner"), ("read", "projector"))
OF_SAGAS = ("saga", "saga_archive", "acceptance")
"""Tables whose `id` is a saga's."""
NAMED = frozenset({"subject", "ce_subject", "aggregate"})
"""What holds a name in every system."""
TOLD = frozenset({"detail", "error", "reason_detail"})
"""What is told to people, where a name may stand among other words."""
OF_PROCESSES = frozenset({"last_error", "waits_for"})
"""What a process says of itself, in a record about nobody: empty where it names the person, until it says it anew."""
ERASED = re.compile("erased-[0-9a-f]{16}")
Hide = Callable[[str], str]
"""A name → what stands in its place."""


@dataclass(frozen=True)
class Person:
    """Whom a service knows by an id, and what it calls them."""

    id: str
    usernames: frozenset[str] = frozenset()
    """Whole texts, looked for in what holds names alone."""
    addresses: frozenset[str] = frozenset()
    """Of mail: looked for wherever they stand."""


@dataclass(frozen=True)
class Erasure:
    """What a service knows of persons who are to be erased."""

    find: Callable[[Runtime, str], Person | None] | None = None
    """An id → whom this service knows by it, with everything that they were called."""
    end: Callable[[UnitOfWork, Person, Hide], None] | None = None
    """Ends what the person does here; tells others so without naming them."""
    named: frozenset[str] = frozenset()
    """Columns, members of JSON and fields of messages that hold a user name."""
    blanked: frozenset[str] = frozenset()
    """Those that hold something else of a person: empty in records about them."""


@dataclass
class Eraser:
    """One person, what holds data of persons, and the sagas that turned out to be about this one."""

    person: Person
    named: frozenset[str]
    blanked: frozenset[str]
    key: bytes
    sagas: set[str] = field(default_factory=set)

    def hide(self, name: str) -> str:
        """Return what stands in the place of a name of theirs: `erased-` and 16 digits of an HMAC.

        It differs from person to person, so that who comes back under an old name can be erased once more.
        """
        digits = hmac.digest(self.key, orjson.dumps([self.person.id, name]), "sha256").hex()[:16]
        return f"erased-{digits}"

    def is_named(self, place: str, value: str) -> bool:
        """Tell whether a text in a place names the person."""
        if place in OF_PROCESSES:
            return bool(self._all and self._all.search(value))
        return (place in self.named and value in self.person.usernames) or value in self.person.addresses

    def erased(self, place: str, value: str) -> str:
        """Return a text of a record about them, as it may stay in this place."""
        if place in self.blanked | OF_PROCESSES:
            return ""
        if place in self.named and value in self.person.usernames:
            return self.hide(value)
        pattern = self._all if place in TOLD else self._addresses
        return pattern.sub(lambda found: self.hide(found[0]), value) if pattern else value

    @cached_property
    def candidates(self) -> list[str]:
        """Texts of which each record to change holds one, as it stands by itself or in JSON."""
        names = self.person.usernames | self.person.addresses
        return sorted({spelled for name in names for spelled in (name, orjson.dumps(name).decode()[1:-1])})

    @cached_property
    def _addresses(self) -> re.Pattern[str] | None:
        return _any_of(self.person.addresses)

    @cached_property
    def _all(self) -> re.Pattern[str] | None:
        return _any_of(self.person.addresses | self.person.usernames)


def _any_of(names: frozenset[str]) -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    words = (rf"(?<![\w@])(?<!\w[.+-]){re.escape(name)}(?![\w@]|[.-]\w)" for name in longest_first)
    return re.compile("|".join(words)) if longest_first else None


def erase(runtimes: Runtimes, person_id: str, by: Signature) -> int | None:
    """Erase the person of an id; return how many records were changed, or None while a second operator has to agree.

    It may be stopped and run again. Raise DomainError `nobody` for an id by which no service knows anybody, `running`
    while a saga about the person has not ended.
    """
    services = [service for service in runtimes.system.all if service.erasure]
    known = {service.name: person for service in services if (person := _known(runtimes, service, person_id))}
    if not known:
        raise DomainError("nobody", "no service knows anybody by this id, or they are erased already")
    person = Person(
        person_id,
        frozenset(name for one in known.values() for name in one.usernames if name),
        frozenset(name for one in known.values() for name in one.addresses if name),
    )
    declared = [service.erasure for service in services if service.erasure]
    named, blanked = (
        frozenset().union(*sets) for sets in zip(*((one.named, one.blanked) for one in declared), strict=True)
    )
    eraser = Eraser(person, NAMED | named, blanked, runtimes.settings.key("INTERNAL_TOKEN"))
    _refuse_while_running(runtimes, eraser)
    if not _is_agreed(runtimes, Act(by, ERASE_ACTION, person_id)):
        return None
    changed = _erase_everywhere(runtimes, services, known.keys(), eraser)
    _note_end(runtimes, Act(by, ERASED_ACTION, person_id), changed)
    return changed


def refuse_while_erasing(runtimes: Runtimes, since: float) -> None:
    """Raise DomainError while somebody is being erased, or was since then: what was read before may name them."""
    with runtimes.coordinator.write.connect() as connection:
        recent = database.now(connection, runtimes.settings.clock_offset) - UNFINISHED_S
        query = select(audit.c.action, audit.c.subject, audit.c.at).order_by(audit.c.at)
        query = query.where(audit.c.action.in_([ERASE_ACTION, ERASED_ACTION]), audit.c.at > min(recent, since))
        found = {subject: (action, at) for action, subject, at in connection.execute(query)}
    if about := sorted(subject for subject, (action, at) in found.items() if action == ERASE_ACTION or at >= since):
        raise DomainError(
            "erasing", f"somebody is being erased, or was meanwhile ({', '.join(about)}): begin again after that"
        )


def _known(runtimes: Runtimes, service: Service, person_id: str) -> Person | None:
    """Return whom a service knows, without what is erased already; None where nothing is left."""
    if service.erasure is None or service.erasure.find is None:
        return None
    found = service.erasure.find(runtimes.runtime(service.name), person_id)
    if found is None:
        return None
    usernames, addresses = (
        frozenset(n for n in names if not ERASED.fullmatch(n)) for names in (found.usernames, found.addresses)
    )
    return Person(person_id, usernames, addresses) if usernames | addresses else None


def _refuse_while_running(runtimes: Runtimes, eraser: Eraser) -> None:
    query = select(saga).where(saga.c.status.not_in(TERMINAL))
    with runtimes.coordinator.write.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    about = [row["id"] for row in rows if row["subject"] == eraser.person.id or _changes(saga, row, eraser)]
    if about:
        raise DomainError("running", f"sagas about this person have not ended: {', '.join(about)}")


def _is_agreed(runtimes: Runtimes, act: Act) -> bool:
    with runtimes.coordinator.write.begin() as tx:
        return carry_out(runtimes, tx, act, database.now(tx, runtimes.settings.clock_offset))


def _note_end(runtimes: Runtimes, act: Act, changed: int) -> None:
    with runtimes.coordinator.write.begin() as tx:
        row = act.row(database.now(tx, runtimes.settings.clock_offset), records=changed)
        tx.execute(audit.insert().values(row))


def _erase_everywhere(runtimes: Runtimes, services: list[Service], knowing: Iterable[str], eraser: Eraser) -> int:
    """End what the person does, then look through everything; what tells the names comes last: it may be run again."""
    with ExitStack() as stack:
        places = list(_places(runtimes, stack))
        for service in services:
            _end(runtimes, service, eraser)
        told = [place for place in places if place.service.name in knowing and place.table is event]
        found = _erase_all([place for place in places if place not in told], eraser)
        found += _erase_all(told, eraser)
        for engine in {place.engine for place in places}:
            _reclaim(engine)
    return found


def _end(runtimes: Runtimes, service: Service, eraser: Eraser) -> None:
    assert service.erasure
    if (end := service.erasure.end) is not None:
        commit = runtimes.runtime(service.name).transactions.commit
        commit(lambda uow: end(uow, eraser.person, eraser.hide))  # the sweep of its worker publishes what that tells


# --- everything there is


@dataclass(frozen=True)
class _Place:
    """One table of one service."""

    service: Service
    engine: Engine
    table: Table


def _places(runtimes: Runtimes, stack: ExitStack) -> Iterator[_Place]:
    for service in runtimes.system.all:
        for side, role in SIDES:
            if tables := _tables(service, side):
                engine = open_database(runtimes.settings, service.name, side, role)
                stack.callback(engine.dispose)
                yield from (_Place(service, engine, table) for table in tables)


def _tables(service: Service, side: Side) -> list[Table]:
    """Return the tables that hold data: a read database keeps the events that its projector could not project, too."""
    if side == "write":
        return [table for table in (*DELIVERY.sorted_tables, *service.tables.sorted_tables) if table is not inbox]
    views = service.views.sorted_tables
    return [failure, *views] if views else []


def _reclaim(engine: Engine) -> None:
    """Have SQLite give back the pages in which texts stood; PostgreSQL's autovacuum does so by itself."""
    if engine.dialect.name == "sqlite":
        with closing(engine.raw_connection()) as raw:
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                raw.cursor().execute(statement)


def _erase_all(places: list[_Place], eraser: Eraser) -> int:
    """Look through tables until nothing is found any more; return how many records were changed."""
    changed = 0
    for _ in range(PASSES):
        found = sum(_erase_table(place.engine, place.table, eraser) for place in places)
        changed += found
        if not found:
            break
    return changed


def _erase_table(engine: Engine, table: Table, eraser: Eraser) -> int:
    condition = _may_be_about(table, eraser.candidates, engine.dialect.name)
    if condition is None:
        return 0
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select(table).where(condition)).mappings()]
    found = [(row, changes) for row in rows if (changes := _changes(table, row, eraser))]
    for start in range(0, len(found), PAGE):
        with engine.begin() as tx:
            for row, changes in found[start : start + PAGE]:
                tx.execute(update(table).where(*_as_it_was(table, row)).values(changes))
    return len(found)


def _as_it_was(table: Table, row: Row) -> Iterator[Any]:
    """Yield what picks a row that nobody has changed since; one that was is found again in the next pass."""
    yield from (key == row[key.name] for key in table.primary_key)
    if "revision" in table.c:
        yield table.c.revision == row["revision"]


def _may_be_about(table: Table, candidates: list[str], dialect: str) -> Any:
    """Return what rows hold that may have to change; None for a table that holds neither texts nor messages."""
    texts = [column for column in table.columns if isinstance(column.type, String) and not _is_id(column)]
    wires = [
        table.c[name]
        for name in ("wire", "delivery")
        if name in table.c and isinstance(table.c[name].type, LargeBinary)
    ]
    conditions = [column.contains(name, autoescape=True) for column in texts for name in candidates]
    conditions += [
        _as_hex(column, dialect).contains(name.encode().hex().upper()) for column in wires for name in candidates
    ]
    return or_(*conditions) if conditions else None


def _as_hex(column: Any, dialect: str) -> Any:
    return func.hex(column) if dialect == "sqlite" else func.upper(func.encode(column, "hex"))


def _is_id(column: Any) -> bool:
    return column.type is Id or getattr(column.type, "length", None) == Id.length


# --- one record


def _changes(table: Table, row: Row, eraser: Eraser) -> Row:
    """Return what changes in a row, nothing for one that is not about the person; note the saga that it belongs to."""
    texts = {name: value for name, value in row.items() if isinstance(value, str)}
    packed = {name: bytes(row[name]) for name in ("wire", "delivery") if isinstance(row.get(name), bytes | memoryview)}
    wires = {name: _wire_in(name, value) for name, value in packed.items()}
    ids = {row[name] for name in ("saga_id", "subject", *(("id",) if table.name in OF_SAGAS else ())) if row.get(name)}
    ids |= {wire.key for wire in wires.values()}
    if not (ids & eraser.sagas or _is_about(texts, wires.values(), eraser)):
        return {}
    eraser.sagas |= {wire.key for wire in wires.values()} | {row[n] for n in ("saga_id",) if row.get(n)}
    eraser.sagas |= {row["id"]} if table.name in OF_SAGAS else set()
    changed: Row = {name: anew for name, value in texts.items() if (anew := _text(name, value, eraser.erased)) != value}
    changed |= {name: new for name, old in packed.items() if (new := _repacked(name, old, eraser)) != old}
    if changed and isinstance(row.get("revision"), int):
        changed["revision"] = row["revision"] + 1  # who has read it with the names must not write them back
    return changed


def _is_about(texts: Mapping[str, str], wires: Iterable[Wire], eraser: Eraser) -> bool:
    """Tell whether any text, in its place, names the person."""
    found = False

    def look(place: str, value: str) -> str:
        nonlocal found
        found = found or eraser.is_named(place, value)
        return value

    for name, value in texts.items():
        _text(name, value, look)
    for wire in wires:
        _wire(wire, look)
    return found


Change = Callable[[str, str], str]
"""A place and the text there → the text that takes its place."""


def _text(place: str, value: str, change: Change) -> str:
    """Return a text with its texts changed: it may be JSON, whose members are places of their own."""
    if value[:1] in "{[":
        try:
            said = orjson.loads(value)
        except ValueError:
            return change(place, value)
        anew = _walked(place, said, change)
        return value if anew == said else orjson.dumps(anew).decode()
    return change(place, value)


def _walked(place: str, value: Any, change: Change) -> Any:
    if isinstance(value, Mapping):
        return {name: _walked(name, one, change) for name, one in value.items()}
    if isinstance(value, list):
        return [_walked(place, one, change) for one in value]
    return _text(place, value, change) if isinstance(value, str) else value


def _wire_in(name: str, packed: bytes) -> Wire:
    return unpack(packed) if name == "wire" else unpack_delivery(packed).wire


def _repacked(name: str, packed: bytes, eraser: Eraser) -> bytes:
    if name == "wire":
        return pack(_wire(unpack(packed), eraser.erased))
    delivery = unpack_delivery(packed)
    return pack_delivery(delivery._replace(wire=_wire(delivery.wire, eraser.erased)))


def _wire(wire: Wire, change: Change) -> Wire:
    """Return a message with its texts changed, its subject's and its body's; a body that cannot be read is blanked."""
    properties = {name: change(name, value) if name in NAMED else value for name, value in wire.properties.items()}
    try:
        body = rewritten(
            wire.body, CommittedSchemas()[wire.properties["ce_dataschema"]], lambda v: _walked("", v, change)
        )
    except Exception:  # bytes of strangers: reading them may raise anything
        body = bytes(len(wire.body))
    return wire._replace(properties=properties, body=body)
