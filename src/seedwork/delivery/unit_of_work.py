"""Work on one batch in one transaction: load rows once, buffer what handlers decide, write one statement per table.

A handler reads with `get`, `find` and `take` and buffers with `put`, `append`, `send`, `record` and `reply`. What one
message buffered is kept or dropped alone, so a failing message cannot spoil its neighbours.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Never, cast

from sqlalchemy import Column, ColumnElement, Connection, Double, Table, select, text

from pulsaga.broker import Wire, check_size
from pulsaga.delivery import database
from pulsaga.delivery.avro import Codec
from pulsaga.delivery.messages import (
    MEMORY_S,
    AnyMessage,
    CommandFailed,
    CommandRefused,
    CommandWithdrawn,
    Context,
    Message,
    contract_of,
    new_id,
    properties_of,
)
from pulsaga.delivery.rows import (
    Change,
    Delete,
    Insert,
    OneOf,
    OnTwin,
    Pool,
    R,
    Row,
    Rows,
    Wanted,
    among,
    array,
    change,
    key_of,
    known_values,
    lock_rows,
)
from pulsaga.delivery.tables import Seen, event, inbox, outbox, pack, unpack
from pulsaga.errors import SettingError, Stale, Unavailable


def _no_key(name: str) -> bytes:
    raise SettingError(name, "no keys were given to this process")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Say who speaks: the service's name, its codec, the test offset of its clock in seconds, its keys."""

    service: str
    codec: Codec
    clock_offset: float = 0.0
    key: Callable[[str], bytes] = _no_key
    sweep_after_s: float = 5.0
    """Seconds an outbox row rests before the sweep publishes it."""


class UnitOfWork:
    """The work of one transaction, buffered. `now` is Unix seconds by the database's clock."""

    def __init__(self, tx: Connection, speaker: Speaker) -> None:
        self._tx = tx
        self._speaker = speaker
        self._rows: dict[Table, dict[Any, Row | None]] = defaultdict(dict)
        self._changed: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self._appended: dict[Table, list[Row]] = defaultdict(list)
        self._removed: dict[Table, list[Any]] = defaultdict(list)
        self._inbox: dict[str, Seen] = {}
        self._answers: dict[str, Wire] = {}
        self._found: dict[Column[Any], dict[Any, Any]] = defaultdict(dict)
        """Of each unique column: the primary keys, or None, of the values that were asked for."""
        self._pools: dict[Pool, deque[Any]] = {}
        """Of each pool: the primary keys of the rows that are locked for this batch, but for those that were taken."""
        self._taken: dict[Table, dict[Any, Row | None]] = defaultdict(dict)
        """Of each table: the rows that a message took from a pool, as it left them; None where it changed nothing."""
        self._elsewhere: dict[Pool, bool] = {}
        self._now: float | None = None
        self._buffer = _Buffer()
        self.pass_locked = False
        """Whether rows that another transaction holds are passed over, and their readers told to wait."""
        self._held: dict[Column[Any], set[Any]] = defaultdict(set)
        self.message: AnyMessage | None = None
        self.outgoing: list[Wire] = []
        """What is to be published after the commit."""

    # --- loading

    @property
    def tx(self) -> Connection:
        """The transaction itself, for statements of operators that must not wait for the end."""
        return self._tx

    @property
    def now(self) -> float:
        """Unix seconds by the database's clock, read once per transaction."""
        if self._now is None:
            self._now = database.now(self._tx, self._speaker.clock_offset)
        return self._now

    @property
    def time(self) -> str:
        """`now` as RFC 3339."""
        return rfc3339(self.now)

    def load_inbox(self, ids: Iterable[str]) -> None:
        """Load what the inbox knows of these ids, with their replies, and the clock: one statement."""
        query = _inbox_query(self._tx.dialect.name, self._speaker.clock_offset)
        rows = self._tx.execute(query, {"consumer": self._speaker.service, "keys": array(self._tx, list(ids))})
        for now, identifier, digest, wire in rows:
            self._now = now
            if identifier is not None:
                self._inbox[identifier] = Seen(digest, unpack(wire) if wire else None)

    def seen(self, identifier: str) -> Seen | None:
        """Return what the inbox knows of an id, or None."""
        return self._buffer.inbox.get(identifier) or self._inbox.get(identifier)

    def load_answers(self, ids: Iterable[str]) -> None:
        """Load the events that answer these commands, also when the inbox has forgotten the commands: one statement."""
        query = _answers_query(self._tx.dialect.name)
        for identifier, wire in self._tx.execute(query, {"keys": array(self._tx, list(ids))}):
            self._answers[identifier] = unpack(wire)

    def answer_to(self, identifier: str) -> Wire | None:
        """Return the event that answers a command, or None as far as that was loaded."""
        seen = self.seen(identifier)
        return seen.reply if seen else self._answers.get(identifier)

    def load(self, wanted: Iterable[Wanted]) -> None:
        """Load and lock rows by primary key and unique column, in key order, then of pools: one statement for each."""
        targets: dict[Any, list[Any]] = defaultdict(list)
        for target, key in wanted:
            targets[target].append(key)
        pools = {target: len(keys) for target, keys in targets.items() if isinstance(target, Pool)}
        columns = [target for target in targets if isinstance(target, Column)]
        tables = {target for target in targets if isinstance(target, Table)} | {column.table for column in columns}
        for table in sorted(tables, key=lambda t: t.name):
            by_column = {column: set(targets[column]) for column in columns if column.table is table}
            self._load_rows(table, set(targets.get(table, ())) - self._rows[table].keys(), by_column)
        for pool, limit in self._limits(pools).items():
            rows = self.claim(pool.table, pool.condition, pool.order_by, limit)
            self._pools[pool] = deque(row[key_of(pool.table).name] for row in rows)

    def _limits(self, pools: dict[Pool, int]) -> dict[Pool, int]:
        """Return how many rows of each pool to load for so many wishes: neighbours may take or change some of them."""
        wishes: dict[Table, int] = defaultdict(int)
        for pool, number in pools.items():
            wishes[pool.table] += number
        return {pool: wishes[pool.table] + len(self._rows[pool.table]) for pool in pools}

    def _load_rows(self, table: Table, keys: set[Any], by_column: dict[Column[Any], set[Any]]) -> None:
        if not keys and not by_column:
            return
        found = lock_rows(self._tx, table, keys, by_column, pass_locked=self.pass_locked)
        self._rows[table] |= dict.fromkeys(keys) | found
        self._note_held(key_of(table), keys - found.keys())
        for column, values in by_column.items():
            self._found[column] |= dict.fromkeys(values)
            self._found[column] |= {row[column.name]: key for key, row in found.items() if row[column.name] in values}
            self._note_held(column, {value for value in values if self._found[column][value] is None})

    def _note_held(self, column: Column[Any], missing: set[Any]) -> None:
        if self.pass_locked and missing:
            self._held[column] |= known_values(self._tx, column, missing)

    def claim(self, table: Rows[R], condition: Any, order: ColumnElement[Any], limit: int) -> list[R]:
        """Load and lock rows that match, passing over those a rival holds (SKIP LOCKED)."""
        query = select(table).where(condition).order_by(order).limit(limit).with_for_update(skip_locked=True)
        rows: list[Any] = [dict(row) for row in self._tx.execute(query).mappings()]
        self._rows[table] |= {row[key_of(table).name]: row for row in rows}
        return rows

    def values(self, statement: Any) -> list[Any]:
        """Run a statement at once and return its first column; what it reads it does not lock."""
        return list(self._tx.execute(statement).scalars())

    def get(self, table: Rows[R], key: Any) -> R | None:
        """Return a loaded row as this message would see it, or None.

        Raise Unavailable when another transaction holds it and `pass_locked` is set, LookupError when it was not asked
        for.
        """
        if self._held and key in self._held[key_of(table)]:
            raise Unavailable(f"{table.name} {key!r} is held by another transaction")
        for rows in (self._buffer.changed[table], self._changed[table], self._rows[table]):
            if key in rows:
                row: Any = rows[key]
                return None if row is None else cast(R, dict(row))
        raise LookupError(f"{table.name} {key!r} was not loaded: name it in the handler's reads")

    def find(self, table: Rows[R], column: Column[Any], value: Any) -> R | None:
        """Return the row with this value in a unique column as this message would see it, or None.

        Raise as `get` does.
        """
        if self._held and value in self._held[column]:
            raise Unavailable(f"{column} {value!r} is held by another transaction")
        if value not in self._found[column]:
            raise LookupError(f"{column} {value!r} was not loaded: name it in the handler's reads")
        mine, kept = self._buffer.changed[table], self._changed[table]
        row = next((row for row in mine.values() if row[column.name] == value), None)
        row = row or next((row for k, row in kept.items() if k not in mine and row[column.name] == value), None)
        key = self._found[column][value]
        if row or key is None or key in mine or key in kept:
            return cast(R, dict(row)) if row else None
        return self.get(table, key)

    def take(self, one: OneOf[R]) -> R | None:
        """Return the row of a pool that is this message's, the same whenever it asks, or None when no row matches.

        No other message of the batch is given it unless this one fails. Raise Unavailable while all that match are in
        the hands of others, LookupError for a pool that was not asked for.
        """
        pool, table, mine = one.pool, cast(Rows[R], one.pool.table), self._buffer.taken
        if pool not in self._pools:
            raise LookupError(f"no row of this pool of {table.name} was loaded: name it in the handler's reads")
        if pool not in mine:
            key = self._first_free(pool)
            if key is None:
                return None
            mine[pool] = key
        return self.get(table, mine[pool])

    def _first_free(self, pool: Pool) -> Any:
        """Return the primary key of the first row that nobody in this batch has taken or changed, or None."""
        rows, taken, changed = self._pools[pool], self._taken[pool.table], self._changed[pool.table]
        while rows and rows[0] in taken:
            rows.popleft()
        mine = self._buffer.changed[pool.table].keys() | set(self._buffer.taken.values())
        free = next((key for key in rows if key not in taken and key not in changed and key not in mine), None)
        if free is None and (self._may_match_later(pool.table) or self._is_held_elsewhere(pool)):
            raise Unavailable(f"every {pool.table.name} that matches is in the hands of others")
        return free

    def _may_match_later(self, table: Table) -> bool:
        """Tell whether this batch has taken rows and left them, or changed others: after the commit they may match."""
        taken = self._taken[table]
        return None in taken.values() or any(row is not taken.get(key) for key, row in self._changed[table].items())

    def _is_held_elsewhere(self, pool: Pool) -> bool:
        """Tell whether rows match that this transaction could not lock. Asked once: nobody can give them back here."""
        if pool not in self._elsewhere:
            key = key_of(pool.table)
            others = select(key).where(pool.condition, key.not_in(self._rows[pool.table].keys())).limit(1)
            self._elsewhere[pool] = bool(self.values(others))
        return self._elsewhere[pool]

    def key(self, name: str) -> bytes:
        """Return one of the process's keys."""
        return self._speaker.key(name)

    # --- buffering

    def put(self, table: Rows[R], row: R | Callable[[R], Never]) -> None:
        """Write a whole row over the one that was loaded, or as a new one.

        A function is never given. Its type makes mypy look at the table's first, and so check the keys of a row that
        is written as a dictionary in the call.
        """
        whole = cast(Row, row)
        self._buffer.changed[table][whole[key_of(table).name]] = whole

    def append(self, table: Rows[R], row: R | Callable[[R], Never]) -> None:
        """Add a row; an equal key already there leaves it as it is where the table is a log of ours."""
        self._buffer.appended.append((table, cast(Row, row)))

    def appended(self, table: Table) -> list[Row]:
        """Return the rows that earlier messages of this transaction added to a table."""
        return self._appended.get(table, [])

    def remove(self, table: Table, key: Any) -> None:
        """Delete a row by primary key, before anything is written; not undone by `drop`."""
        self._removed[table].append(key)

    def send(
        self, body: Any, subject: str, *, command_id: str | None = None, context: Context | None = None
    ) -> AnyMessage:
        """Send a command; a re-sent one keeps its id."""
        expires_at = rfc3339(self.now + MEMORY_S)
        message = self._message(body, subject, context, identifier=command_id, expires_at=expires_at)
        self._post(message)
        return message

    def record(
        self,
        body: Any,
        aggregate: str,
        version: int,
        *,
        subject: str | None = None,
        answers: str | None = None,
        context: Context | None = None,
    ) -> AnyMessage:
        """Tell an event: the full state of an aggregate at a version; `answers` makes it the reply to that command."""
        message = self._message(body, subject or aggregate, context, command_id=answers, version=version)
        wire = self._post(message)
        if answers is not None and (seen := self.seen(answers)):
            self._buffer.inbox[answers] = seen._replace(reply=wire)
        names = {"aggregate": aggregate, "version": version, "id": message.id, "type": contract_of(body).name}
        self.append(event, {**names, "answers": answers, "wire": pack(wire), "at": self.now})
        return message

    def reply(self, body: Any, aggregate: str | None = None, version: int = 1) -> AnyMessage:
        """Answer the command in hand: the reply is the event; one that changes no aggregate is the command's own."""
        assert self.message is not None
        command = self.message
        _check_declared(command, body)
        return self.record(body, aggregate or command.id, version, subject=command.subject, answers=command.id)

    def replay(self, wire: Wire) -> None:
        """Publish a stored reply again, under the same `ce_id`, without a new outbox row."""
        self._buffer.outgoing.append(wire)

    def remember(self, identifier: str, digest: bytes | None) -> None:
        """Note an id as handled; without a digest it is a tombstone that refuses the command later."""
        self._buffer.inbox[identifier] = Seen(digest, None)
        self.append(inbox, {"consumer": self._speaker.service, "id": identifier, "hash": digest, "at": self.now})

    def _message(
        self, body: Any, subject: str, context: Context | None, identifier: str | None = None, **rest: Any
    ) -> AnyMessage:
        if context is None:
            assert self.message is not None
            context = self.message.follow()
        source = f"/protools/{self._speaker.service}"
        return Message(body, identifier or new_id(), source, subject, self.time, context, **rest)

    def _post(self, message: AnyMessage) -> Wire:
        body = self._speaker.codec.encode(message.body)
        wire = Wire(message.contract.name, message.saga_id, properties_of(message), body)
        check_size(wire)
        row = {
            "id": message.id,
            "topic": wire.topic,
            "wire": pack(wire),
            "due_at": self.now + self._speaker.sweep_after_s,
        }
        self.append(outbox, row)
        self._buffer.outgoing.append(wire)
        return wire

    # --- one message of the batch

    def keep(self) -> None:
        """Take over what the message in hand buffered."""
        buffer, self._buffer = self._buffer, _Buffer()
        for table, rows in buffer.changed.items():
            self._changed[table] |= rows
        for table, row in buffer.appended:
            self._appended[table].append(row)
        self._inbox |= buffer.inbox
        for pool, key in buffer.taken.items():
            self._taken[pool.table][key] = buffer.changed[pool.table].get(key)
        self.outgoing += buffer.outgoing

    def drop(self) -> None:
        """Forget what the message in hand buffered, and only that."""
        self._buffer = _Buffer()

    # --- the end

    def flush(self) -> None:
        """Delete, then write everything, in one statement where one table of state changed.

        Raise Stale when a rival changed a row that was loaded.
        """
        self.keep()
        if self._removed:
            change(self._tx, [Delete(table, keys) for table, keys in self._removed.items()])
        waiting: list[Change] = [Insert(table, rows, _on_twin(table)) for table, rows in self._appended.items()]
        for table in sorted(filter(self._changed.get, self._changed), key=lambda t: t.name):
            rows = self._changed_rows(table)
            written = change(self._tx, [*waiting, Insert(table, rows, "if-unchanged")])
            if written != len(rows):
                raise Stale(f"{len(rows) - written} rows of {table.name} were changed by a rival")
            waiting = []
        if waiting:
            change(self._tx, waiting)

    def touched(self) -> Iterator[Wire | Row]:
        """Yield what this transaction says and which rows it changes, for the seams."""
        yield from self.outgoing
        for table, rows in self._changed.items():
            yield from (about(table, row) for row in rows.values())

    def _changed_rows(self, table: Table) -> list[Row]:
        changed = sorted(self._changed[table].items())
        return [{**row, "revision": self._revision(table, key) + 1} for key, row in changed]

    def _revision(self, table: Table, key: Any) -> int:
        loaded = self._rows[table].get(key)
        return loaded["revision"] if loaded else 0


def about(table: Table, row: Mapping[str, Any]) -> Row:
    """Return a row with its `subject`: the column that the table's `info` names so."""
    name = table.info.get("subject")
    return {"subject": row[name], **row} if name else dict(row)


class _Buffer:
    """Hold what one message wants written."""

    def __init__(self) -> None:
        self.changed: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self.appended: list[tuple[Table, Row]] = []
        self.inbox: dict[str, Seen] = {}
        self.taken: dict[Pool, Any] = {}
        self.outgoing: list[Wire] = []


def _check_declared(command: AnyMessage, body: Any) -> None:
    """Raise TypeError for an answer that the command does not declare: the coordinator would not hear it."""
    if isinstance(body, CommandRefused | CommandFailed | CommandWithdrawn):
        return
    declared = command.contract.replies
    if type(body) not in declared:
        names = ", ".join(contract_of(reply).name for reply in declared) or "none"
        raise TypeError(f"{command.contract.name} declares the replies {names}, not {contract_of(body).name}")


@lru_cache(64)
def rfc3339(at: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


LOGS = frozenset({"outbox", "failure", "dead_letter", "incident"})
"""Tables in which the same key again is the same fact again."""


def _on_twin(table: Table) -> OnTwin:
    return "ignore" if table.name in LOGS else "raise"


@cache
def _answers_query(dialect: str) -> Any:
    known = among("answers", "uuid", dialect)
    sql = f"SELECT answers, wire FROM event WHERE {known}"  # noqa: S608 - no input of others
    return text(sql).columns(answers=event.c.answers.type, wire=event.c.wire.type)


@cache
def _inbox_query(dialect: str, clock_offset: float) -> Any:
    clock = database.clock_sql(dialect, clock_offset)
    known = among("i.id", "uuid", dialect)
    return text(
        f"SELECT {clock} AS now, i.id, i.hash, "  # noqa: S608 - no input of others
        "(SELECT e.wire FROM event e WHERE e.answers = i.id) AS wire FROM (SELECT 1 AS one) AS one "
        f"LEFT JOIN inbox i ON i.consumer = :consumer AND {known}"
    ).columns(now=Double, id=inbox.c.id.type, hash=inbox.c.hash.type, wire=event.c.wire.type)
