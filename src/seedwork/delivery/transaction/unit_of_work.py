"""Work on one batch in one transaction: load rows once, buffer what handlers decide, write one statement per table.

A handler reads with `get`, `find` and `take` and buffers with `put`, `append`, `send`, `record` and `reply`. What one
message buffered is kept or dropped alone, so a failing message cannot spoil its neighbours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Never, cast

from prometheus_client import Counter as Counted
from sqlalchemy import Connection, Double, Table, text

from pulsaga.broker import Wire, check_size
from pulsaga.delivery import database, spans
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
from pulsaga.delivery.tables import Seen, event, inbox, outbox, pack, unpack
from pulsaga.delivery.transaction.locked_rows import LockedRows
from pulsaga.delivery.transaction.rows import (
    Change,
    Delete,
    Insert,
    OnTwin,
    R,
    Row,
    Rows,
    among,
    array,
    change,
)
from pulsaga.errors import SettingError, Stale
from pulsaga.telemetry import traces
from pulsaga.telemetry.logs import Level, Note, is_logged
from pulsaga.telemetry.traces import Span, trace_id


def _no_keys(name: str) -> tuple[bytes, ...]:
    raise SettingError(name, "no keys were given to this process")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Say who speaks: the service's name, its codec, the test offset of its clock in seconds, its keys."""

    service: str
    codec: Codec
    clock_offset: float = 0.0
    keys: Callable[[str], tuple[bytes, ...]] = _no_keys
    sweep_after_s: float = 5.0
    """Seconds an outbox row rests before the sweep publishes it."""


class UnitOfWork(LockedRows):
    """The work of one transaction, buffered. `now` is Unix seconds by the database's clock."""

    def __init__(self, tx: Connection, speaker: Speaker) -> None:
        super().__init__(tx)
        self._speaker = speaker
        self._appended: dict[Table, list[Row]] = defaultdict(list)
        self._removed: dict[Table, list[Any]] = defaultdict(list)
        self._inbox: dict[str, Seen] = {}
        self._answers: dict[str, Wire] = {}
        self._now: float | None = None
        self._buffer = _Buffer()
        self.message: AnyMessage | None = None
        self.outgoing: list[Wire] = []
        """What is to be published after the commit."""
        self.counted: Counter[tuple[Counted, tuple[str, ...]]] = Counter()
        """What is counted after the commit: a metric and its labels."""
        self.sending: dict[str, Span] = {}
        """By the id of a message: the span that ends when it is published."""
        self.notes: list[Note] = []
        """What is logged after the commit."""
        self._ending: list[tuple[Span, str]] = []

    @property
    def service(self) -> str:
        """Name of the service whose database this is."""
        return self._speaker.service

    # --- loading

    @property
    def now(self) -> float:
        """Unix seconds by the database's clock, read once per transaction."""
        if self._now is None:
            self._now = database.now(self.tx, self._speaker.clock_offset)
        return self._now

    @property
    def time(self) -> str:
        """`now` as RFC 3339."""
        return rfc3339(self.now)

    def load_inbox(self, ids: Iterable[str]) -> None:
        """Load what the inbox knows of these ids, with their replies, and the clock: one statement."""
        query = _inbox_query(self.tx.dialect.name, self._speaker.clock_offset)
        rows = self.tx.execute(query, {"consumer": self._speaker.service, "keys": array(self.tx, list(ids))})
        for now, identifier, digest, wire in rows:
            self._now = now
            if identifier is not None:
                self._inbox[identifier] = Seen(digest, unpack(wire) if wire else None)

    def seen(self, identifier: str) -> Seen | None:
        """Return what the inbox knows of an id, or None."""
        return self._buffer.inbox.get(identifier) or self._inbox.get(identifier)

    def load_answers(self, ids: Iterable[str]) -> None:
        """Load the events that answer these commands, also when the inbox has forgotten the commands: one statement."""
        query = _answers_query(self.tx.dialect.name)
        for identifier, wire in self.tx.execute(query, {"keys": array(self.tx, list(ids))}):
            self._answers[identifier] = unpack(wire)

    def answer_to(self, identifier: str) -> Wire | None:
        """Return the event that answers a command, or None as far as that was loaded."""
        seen = self.seen(identifier)
        return seen.reply if seen else self._answers.get(identifier)

    def key(self, name: str) -> bytes:
        """Return one of the process's keys, the one in force."""
        return self.keys(name)[0]

    def keys(self, name: str) -> tuple[bytes, ...]:
        """Return the keys that may read what is sealed: the one in force, then the one before, if there is one."""
        return self._speaker.keys(name)

    # --- buffering

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

    def log(self, event: str, level: Level = "info", *, context: Context | None = None, **about: Any) -> None:
        """Have a line logged once this is committed; it names the saga and the trace, and the message in hand."""
        if is_logged(level):
            named = {**ids_of(self.message, context), **about}
            self._buffer.notes.append(Note(level, event, {name: value for name, value in named.items() if value}))

    def end_span(self, span: Span, error: str = "") -> None:
        """Have a span ended once this is committed; not undone by `drop`."""
        self._ending.append((span, error))

    def _message(
        self, body: Any, subject: str, context: Context | None, identifier: str | None = None, **rest: Any
    ) -> AnyMessage:
        if context is None:
            assert self.message is not None
            context = self.message.follow()
        source = f"/protools/{self._speaker.service}"
        return Message(body, identifier or new_id(), source, subject, self.time, context, **rest)

    def _post(self, message: AnyMessage) -> Wire:
        if traces.recorder and (span := spans.sending(message)):
            message = message.under(span.traceparent)
            self._buffer.sending[message.id] = span
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

    def count(self, metric: Counted, *labels: str) -> None:
        """Count one, if it is committed."""
        self._buffer.counted.append((metric, labels))

    # --- one message of the batch

    def keep(self) -> None:
        """Take over what the message in hand buffered."""
        for table, row in self._buffer.appended:
            self._appended[table].append(row)
        self._inbox |= self._buffer.inbox
        self.outgoing += self._buffer.outgoing
        for one in self._buffer.counted:
            self.counted[one] += 1
        self.sending |= self._buffer.sending
        self.notes += self._buffer.notes
        super().keep()

    def drop(self) -> None:
        """Forget what the message in hand buffered, and only that."""
        super().drop()
        self._buffer = _Buffer()

    # --- the end

    def flush(self) -> None:
        """Delete, then write everything, in one statement where one table of state changed.

        Raise Stale when a rival changed a row that was loaded.
        """
        self.keep()
        if self._removed:
            change(self.tx, [Delete(table, keys) for table, keys in self._removed.items()])
        waiting: list[Change] = [Insert(table, rows, _on_twin(table)) for table, rows in self._appended.items()]
        for table in self.changed_tables():
            rows = self.changed_rows(table)
            written = change(self.tx, [*waiting, Insert(table, rows, "if-unchanged")])
            if written != len(rows):
                raise Stale(f"{len(rows) - written} rows of {table.name} were changed by a rival")
            waiting = []
        if waiting:
            change(self.tx, waiting)

    def tell(self) -> None:
        """Log and trace what is committed by now: a reader of the log that went away takes nothing of it back."""
        with suppress(OSError, ValueError):
            for note in self.notes:
                note.write()
        for span, error in self._ending:
            span.end(error)

    def touched(self) -> Iterator[Wire | Row]:
        """Yield what this transaction says and which rows it changes, for the seams."""
        yield from self.outgoing
        for table, rows in self._changed.items():
            yield from (about(table, row) for row in rows.values())


def ids_of(message: AnyMessage | None, context: Context | None = None) -> dict[str, Any]:
    """Return the ids by which lines of the log are found, of a message or, without one, of a context."""
    known = context or (message.context if message else None)
    ids = {"saga": known.saga_id, "trace": trace_id(known.traceparent)} if known else {}
    if message:
        is_command = message.contract.kind == "command"
        ids |= {"command": message.id if is_command else message.command_id, "message": message.id}
    return ids


def about(table: Table, row: Mapping[str, Any]) -> Row:
    """Return a row with its `subject`: the column that the table's `info` names so."""
    name = table.info.get("subject")
    return {"subject": row[name], **row} if name else dict(row)


class _Buffer:
    """What one message adds and sends."""

    def __init__(self) -> None:
        self.appended: list[tuple[Table, Row]] = []
        self.inbox: dict[str, Seen] = {}
        self.outgoing: list[Wire] = []
        self.counted: list[tuple[Counted, tuple[str, ...]]] = []
        self.sending: dict[str, Span] = {}
        self.notes: list[Note] = []


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
