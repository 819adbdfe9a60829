"""Erase a person from what a system keeps: in every record about them, what names them becomes a keyed hash.

A record is a row of any database, with the JSON and the messages in it. It is about a person where one of its texts is
a name of theirs, or where it belongs to a saga that is about them; what only happens to hold the same letters is left.
One value becomes one hash everywhere: what belonged together still does, and `verify` finds nothing amiss.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Engine, LargeBinary, String, Table, func, or_, select, update

from pulsaga.broker import Wire
from pulsaga.delivery import database
from pulsaga.delivery.avro import CommittedSchemas, rewritten
from pulsaga.delivery.database import open_database
from pulsaga.delivery.tables import DELIVERY, Id, inbox, pack, pack_delivery, unpack, unpack_delivery
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out
from pulsaga.running.runtime import Runtime
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.tables import saga
from pulsaga.service import Service
from pulsaga.settings import Role, Side

PASSES = 10
"""Times that everything is looked through at most: services go on working, and a saga may lead to a further one."""
PAGE = 500
SIDES: tuple[tuple[Side, Role], ...] = (("write", "owner"), ("read", "projector"))
OF_SAGAS = ("saga", "saga_archive", "acceptance")
"""Tables whose `id` is a saga's."""
ERASED = re.compile("erased-[0-9a-f]{16}")
Hide = Callable[[str], str]
"""A text → the same without what is a person's."""


@dataclass(frozen=True)
class Person:
    """What is to be erased of one person."""

    names: frozenset[str]
    """What names this person and nobody else: a user name, addresses of mail."""
    words: frozenset[str] = frozenset()
    """What is theirs and may be others', too, such as a family name: erased in records about them alone."""


@dataclass(frozen=True)
class Erasure:
    """How a service that knows persons has one erased."""

    find: Callable[[Runtime, str], Person | None]
    """An id → whom the service knows by that."""
    end: Callable[[UnitOfWork, str, Hide], None]
    """Ends what the person does here, hides their names in its own rows, and tells others so."""


@dataclass
class Eraser:
    """The texts of one person, and the sagas that turned out to be about them."""

    person: Person
    key: bytes
    sagas: set[str] = field(default_factory=set)

    def hide(self, value: str) -> str:
        """Return a text without what is this person's; each value becomes `erased-` and 16 digits of its HMAC."""
        return self._pattern.sub(lambda found: self._hashes[found[0]], value)

    def is_about(self, value: str) -> bool:
        """Tell whether a text is a name of theirs, a saga about them, or JSON with a name as one of its texts."""
        names = self.person.names
        return value in names or value in self.sagas or any(f'"{spelled}"' in value for spelled in self.spelled)

    @cached_property
    def spelled(self) -> list[str]:
        """The names, by themselves and as they stand in JSON; a record that holds none of them needs no change."""
        return sorted({spelled for name in self.person.names for spelled in _spellings(name)})

    @cached_property
    def _hashes(self) -> dict[str, str]:
        values = [value for value in (*self.person.names, *self.person.words) if value]
        hashes = {value: f"erased-{hmac.digest(self.key, value.encode(), 'sha256').hex()[:16]}" for value in values}
        return {spelled: hashes[value] for value in values for spelled in _spellings(value)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._hashes, key=len, reverse=True)
        return re.compile("|".join(rf"(?<![\w@])(?<!\w[.+-]){re.escape(one)}(?![\w@]|[.-]\w)" for one in longest_first))


def _spellings(value: str) -> set[str]:
    return {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}


def erase(runtimes: Runtimes, person_id: str, by: Signature) -> int | None:
    """Erase the person of an id; return how many records were changed, or None while a second operator has to agree.

    It may be stopped and run again. Raise DomainError `nobody` for an id by which no service knows anybody, `running`
    while a saga about the person has not ended.
    """
    known = {service.name: _known(runtimes, service, person_id) for service in runtimes.system.all}
    knowing = {name: person for name, person in known.items() if person}
    if not knowing:
        raise DomainError("nobody", "no service knows anybody by this id, or they are erased already")
    names = frozenset(name for person in knowing.values() for name in person.names)
    words = frozenset(word for person in knowing.values() for word in person.words if word)
    eraser = Eraser(Person(names, words), runtimes.settings.key("INTERNAL_TOKEN"))
    _refuse_while_running(runtimes, eraser)
    if not _is_agreed(runtimes, Act(by, "erase", person_id)):
        return None
    with ExitStack() as stack:
        places = list(_places(runtimes, stack))
        found = _erase_all([place for place in places if place.service.name not in knowing], eraser)
        for name in knowing:
            _end(runtimes, runtimes.system[name], person_id, eraser.hide)
        found += _erase_all(places, eraser)
        for place in places:
            place.reclaim()
    return found


def _known(runtimes: Runtimes, service: Service, person_id: str) -> Person | None:
    if service.erasure is None:
        return None
    found = service.erasure.find(runtimes.runtime(service.name), person_id)
    names = frozenset(name for name in found.names if not ERASED.fullmatch(name)) if found else frozenset()
    return Person(names, found.words) if found and names else None


def _refuse_while_running(runtimes: Runtimes, eraser: Eraser) -> None:
    query = select(saga).where(saga.c.status.not_in(TERMINAL), _may_be_about(saga, eraser.spelled))
    with runtimes.coordinator.write.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    if running := [row["id"] for row in rows if _changes(saga, row, eraser)]:
        raise DomainError("running", f"sagas about this person have not ended: {', '.join(running)}")


def _is_agreed(runtimes: Runtimes, act: Act) -> bool:
    with runtimes.coordinator.write.begin() as tx:
        return carry_out(runtimes, tx, act, database.now(tx, runtimes.settings.clock_offset))


def _end(runtimes: Runtimes, service: Service, person_id: str, hide: Hide) -> None:
    erasure = service.erasure
    assert erasure
    work = runtimes.runtime(service.name).transactions.commit
    work(lambda uow: erasure.end(uow, person_id, hide))  # the sweep of its worker publishes what that tells


# --- everything there is


@dataclass(frozen=True)
class _Place:
    """One database of one service."""

    service: Service
    engine: Engine
    tables: list[Table]

    def reclaim(self) -> None:
        """Have SQLite give back the pages in which texts stood; PostgreSQL's autovacuum does so by itself."""
        if self.engine.dialect.name == "sqlite":
            with closing(self.engine.raw_connection()) as raw:
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    raw.cursor().execute(statement)


def _places(runtimes: Runtimes, stack: ExitStack) -> Iterator[_Place]:
    for service in runtimes.system.all:
        for side, role in SIDES:
            declared = [*DELIVERY.sorted_tables, *service.tables.sorted_tables]
            tables = [
                table for table in (declared if side == "write" else service.views.sorted_tables) if table is not inbox
            ]
            if tables:
                engine = open_database(runtimes.settings, service.name, side, role)
                stack.callback(engine.dispose)
                yield _Place(service, engine, tables)


def _erase_all(places: Iterable[_Place], eraser: Eraser) -> int:
    """Look through databases until nothing is found any more; return how many records were changed."""
    changed = 0
    for _ in range(PASSES):
        found = sum(_erase_table(place.engine, table, eraser) for place in places for table in place.tables)
        changed += found
        if not found:
            break
    return changed


def _erase_table(engine: Engine, table: Table, eraser: Eraser) -> int:
    condition, keys = _may_be_about(table, eraser.spelled, engine.dialect.name), list(table.primary_key)
    if condition is None:
        return 0
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select(table).where(condition)).mappings()]
    found = [(row, changes) for row in rows if (changes := _changes(table, row, eraser))]
    for start in range(0, len(found), PAGE):
        with engine.begin() as tx:
            for row, changes in found[start : start + PAGE]:
                tx.execute(update(table).where(*(key == row[key.name] for key in keys)).values(changes))
    return len(found)


def _may_be_about(table: Table, spelled: list[str], dialect: str = "") -> Any:
    """Return what rows hold that may have to change; None for a table that holds neither texts nor messages."""
    texts = [column for column in table.columns if isinstance(column.type, String) and not _is_id(column)]
    wires = [
        column
        for column in table.columns
        if column.name in ("wire", "delivery") and isinstance(column.type, LargeBinary)
    ]
    conditions = [column.contains(name, autoescape=True) for column in texts for name in spelled]
    conditions += [
        _as_hex(column, dialect).contains(name.encode().hex().upper()) for column in wires for name in spelled
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
    packed = {name: row[name] for name in ("wire", "delivery") if isinstance(row.get(name), bytes | memoryview)}
    wires = {name: _wire_in(name, bytes(value)) for name, value in packed.items()}
    said = [text for wire in wires.values() for text in _texts_of(wire)]
    if not any(map(eraser.is_about, (*texts.values(), *said))):
        return {}
    eraser.sagas.update(wire.key for wire in wires.values())
    eraser.sagas.update(
        row[name] for name in ("saga_id", "id" if table.name in OF_SAGAS else "saga_id") if row.get(name)
    )
    changed: Row = {name: hidden for name, value in texts.items() if (hidden := eraser.hide(value)) != value}
    for name, value in packed.items():
        if (anew := _repacked(name, bytes(value), eraser.hide)) != bytes(value):
            changed[name] = anew
    if changed and isinstance(row.get("revision"), int):
        changed["revision"] = row["revision"] + 1  # who has read it with the names must not write them back
    return changed


def _wire_in(name: str, packed: bytes) -> Wire:
    return unpack(packed) if name == "wire" else unpack_delivery(packed).wire


def _texts_of(wire: Wire) -> list[str]:
    texts: list[str] = [wire.key, *wire.properties.values()]

    def note(text: str) -> str:
        texts.append(text)
        return text

    _with_body(wire, note)
    return texts


def _repacked(name: str, packed: bytes, hide: Hide) -> bytes:
    if name == "wire":
        return pack(_hidden(unpack(packed), hide))
    delivery = unpack_delivery(packed)
    return pack_delivery(delivery._replace(wire=_hidden(delivery.wire, hide)))


def _hidden(wire: Wire, hide: Hide) -> Wire:
    properties = {name: hide(value) for name, value in wire.properties.items()}
    return wire._replace(key=hide(wire.key), properties=properties, body=_with_body(wire, hide))


def _with_body(wire: Wire, change: Hide) -> bytes:
    """Return a message's body with each of its texts changed; one that cannot be read is blanked."""
    try:
        return rewritten(wire.body, CommittedSchemas()[wire.properties["ce_dataschema"]], change)
    except Exception:  # bytes of strangers: reading them may raise anything
        return bytes(len(wire.body))
