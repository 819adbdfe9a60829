"""Edit, replay and discard dead letters: each in one transaction with its audit row and the end of its incident."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import click
import fastavro
from sqlalchemy import Connection, delete, func, select, update

from pulsaga.broker import Delivery, check_size
from pulsaga.delivery import database
from pulsaga.delivery.messages import AnyMessage, message_of, unix_seconds
from pulsaga.delivery.tables import audit, dead_letter, event, failure, inbox, pack_delivery
from pulsaga.delivery.transaction.rows import Row, lock_rows
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, rfc3339
from pulsaga.errors import DomainError, Undecodable
from pulsaga.operate.acting import Act, Runtimes, Signature, carry_out
from pulsaga.operate.letters import Letter, decoded, find, read
from pulsaga.operate.sagas import find_row
from pulsaga.operate.superseding import archive_letters, closing, newest
from pulsaga.saga.kept import read_progress
from pulsaga.saga.log import TERMINAL, Progress
from pulsaga.saga.tables import saga

# --- discard


def discard(runtimes: Runtimes, identifier: str, service: str | None, by: Signature) -> bool:
    """Give a letter up for good; the archive keeps it. Return False when another operator has to agree first.

    A command of the coordinator's is refused with it: no saga waits for it that could still be moved.
    """
    letter = find(runtimes, identifier, service)

    def work(uow: UnitOfWork) -> bool:
        row = _still_open(uow.tx, letter)
        done = _carry_out(runtimes, uow.tx, Act(by, "discard", letter.id, _this_death(row)), "discarded")
        if done and (command := _unanswered(runtimes, uow.tx, letter)):
            _refuse(runtimes, uow, letter, command)
        if done:
            archive_letters(uow.tx, (dead_letter.c.id == letter.id) & (dead_letter.c.outcome == "discarded"))
        return done

    return runtimes.runtime(letter.service).transactions.run(work)


def _unanswered(runtimes: Runtimes, tx: Connection, letter: Letter) -> AnyMessage | None:
    """Return the envelope of a command that whoever asked for it waits on, whether its body can be read or not."""
    if letter.service != runtimes.system.name or not runtimes.is_of_coordinator(letter.row["topic"]):
        return None
    try:
        envelope = message_of(letter.delivery.wire.properties, None)
    except Undecodable:
        return None
    is_copy = letter.row["saga_id"] is None and _was_handled(tx, letter)
    has_begun = envelope.id == envelope.saga_id and find_row(tx, envelope.saga_id)
    return None if is_copy or has_begun or envelope.id != letter.id else envelope


def _refuse(runtimes: Runtimes, uow: UnitOfWork, letter: Letter, command: AnyMessage) -> None:
    """Answer for good, in the place of what was answered when it died, and whenever it comes again."""
    uow.message = command
    _take_back_the_answer(uow.tx, letter)
    if not _was_handled(uow.tx, letter):
        uow.remember(letter.id, None)
    refused = runtimes.system.coordinator.refused
    uow.reply(refused(command=letter.row["topic"], code="discarded", detail="given up by an operator"))


# --- replay


def replay(runtimes: Runtimes, identifier: str, service: str | None, by: Signature) -> bool:
    """Hand a letter to its service again, under the same id, as if it had just come.

    Return False when another operator has to agree first. Raise DomainError for what cannot be read, has expired, was
    dealt with, or was superseded.
    """
    letter = find(runtimes, identifier, service)
    message = _readable(runtimes, letter)
    with _held(runtimes, letter, message.saga_id) as (tx, progress):
        row = _still_open(tx, letter)
        now = database.now(tx, runtimes.settings.clock_offset)
        _refuse_expired(message, now)
        _refuse_superseded(runtimes, tx, letter, message, progress)
        done = _carry_out(runtimes, tx, Act(by, "replay", letter.id, _this_death(row)), "replayed")
        if done:
            _put_back(tx, letter, now)
    return done


def _readable(runtimes: Runtimes, letter: Letter) -> AnyMessage:
    received = read(runtimes, letter)
    if received.message is None:
        raise DomainError("unreadable", f"{received.error}; `edit` gives it a body that can be read")
    return received.message


@contextmanager
def _held(runtimes: Runtimes, letter: Letter, saga_id: str) -> Iterator[tuple[Connection, Progress | None]]:
    """Hold the saga's row while the letter's transaction runs: no undo can be sent between the look and the act."""
    with ExitStack() as stack:
        saga_tx = stack.enter_context(runtimes.coordinator.write.begin())
        own = letter.service == runtimes.system.name
        tx = saga_tx if own else stack.enter_context(runtimes.runtime(letter.service).write.begin())
        row = lock_rows(saga_tx, saga, [saga_id]).get(saga_id)
        yield tx, read_progress(saga_tx, row) if row else None


def _refuse_expired(message: AnyMessage, now: float) -> None:
    try:
        is_over = unix_seconds(message.expires_at) < now if message.expires_at else False
    except ValueError:
        raise DomainError("unreadable", f"it expires at {message.expires_at!r}, which is no time") from None
    if is_over:
        raise DomainError("expired", f"it expired at {message.expires_at}: its receiver would refuse it")


def _refuse_superseded(
    runtimes: Runtimes, tx: Connection, letter: Letter, message: AnyMessage, progress: Progress | None
) -> None:
    by = _superseded_by(runtimes, letter, message, progress)
    if by is None and letter.row["saga_id"] is None and _was_handled(tx, letter):
        by = "the same message, which came again, could be read and was handled"
    if by:
        raise DomainError("superseded", f"it was superseded: {by}")


def _superseded_by(runtimes: Runtimes, letter: Letter, message: AnyMessage, progress: Progress | None) -> str | None:
    """Say what has made a message pointless, or None: its saga must wait for it, if there is a saga."""
    awaited = message.id if message.contract.kind == "command" else message.command_id
    if progress is None:
        return None if message.contract.kind == "command" else f"there is no saga {message.saga_id}"
    if message.id == message.saga_id:
        return f"its saga has begun and is {progress.status}"
    if progress.status in TERMINAL:
        return f"its saga has ended {progress.status}"
    if letter.service == runtimes.system.name and message.contract.kind == "command":
        return None  # a cancel: no saga waits for it, and the saga says whether it is too late
    waits_for = progress.awaited.values()
    if not waits_for:
        return f"its saga is {progress.status} and waits for no answer"
    if all(command_id != awaited for _, command_id in waits_for):
        states = ((progress.step(path), command_id) for path, command_id in waits_for)
        names = ", ".join(f"{state.undo or state.command} {command_id}" for state, command_id in states)
        return f"its saga is {progress.status} and waits for {names}"
    return None


def _was_handled(tx: Connection, letter: Letter) -> bool:
    seen = select(inbox.c.id).where(inbox.c.consumer == letter.service, inbox.c.id == letter.id)
    return tx.execute(seen).first() is not None


def _put_back(tx: Connection, letter: Letter, now: float) -> None:
    """Take back what the burial left, and let the worker's next retry find the message as if it had just come."""
    tx.execute(delete(inbox).where(inbox.c.consumer == letter.service, inbox.c.id == letter.id))
    _take_back_the_answer(tx, letter)
    tx.execute(delete(failure).where(failure.c.id == letter.id))
    named = {name: letter.row[name] for name in ("id", "topic", "delivery", "error")}
    tx.execute(failure.insert().values(**named, attempts=0, due_at=now, at=now))


def _take_back_the_answer(tx: Connection, letter: Letter) -> None:
    """Keep the answer `failed` as history, below version 1, so that the real answer has its place."""
    answers = event.c.answers == letter.id
    oldest = select(func.coalesce(func.min(event.c.version), 1)).where(event.c.aggregate == letter.id)
    version = min(1, tx.execute(oldest).scalar_one()) - 1
    of_failure = answers & (event.c.type == f"{letter.service}.command-failed")
    tx.execute(update(event).where(of_failure).values(answers=None, version=version))


# --- edit


def edit(
    runtimes: Runtimes, identifier: str, service: str | None, by: Signature, body: Mapping[str, Any], *, whole: bool
) -> dict[str, Any] | None:
    """Give a letter another body under the same id, all of it or some fields; return it.

    Return None when another operator has to agree first. Raise UsageError naming the fields that do not fit the
    writer's schema.
    """
    letter = find(runtimes, identifier, service)
    schema = _writers_schema(runtimes, letter)
    before = _body_of(letter, schema)
    after = dict(body) if whole else {**before, **body}
    edited = _with_body(letter, schema, after)
    _readable(runtimes, Letter(letter.service, {**letter.row, "delivery": pack_delivery(edited)}))
    with runtimes.runtime(letter.service).write.begin() as tx:
        row = _still_open(tx, letter)
        act = Act(by, "edit", letter.id, {"at": row["at"], "body": after})
        done = _carry_out(runtimes, tx, act, None, before=before)
        if done:
            this = (dead_letter.c.id == letter.id) & dead_letter.c.outcome.is_(None)
            tx.execute(update(dead_letter).where(this).values(delivery=pack_delivery(edited)))
    return after if done else None


def field_of(text: str, schema: str) -> tuple[str, Any]:
    """Read NAME=VALUE by the type that the schema gives the field: text as it is, anything else as JSON."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text}: NAME=VALUE is expected")
    types = {field["name"]: field["type"] for field in json.loads(schema)["fields"]}
    if "string" in types.get(name, "string"):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def schema_of(runtimes: Runtimes, identifier: str, service: str | None) -> str:
    """Return the schema under which a letter was written."""
    return _writers_schema(runtimes, find(runtimes, identifier, service))


def _writers_schema(runtimes: Runtimes, letter: Letter) -> str:
    delivery = letter.delivery
    if not delivery.schema:
        raise DomainError("no-schema", "the message names no schema version: no body would make it readable")
    return runtimes.runtime(letter.service).broker.schema(delivery.wire.topic, delivery.schema)


def _body_of(letter: Letter, schema: str) -> dict[str, Any]:
    try:
        return decoded(letter.delivery.wire.body, schema)
    except Exception:
        return {}


def _with_body(letter: Letter, schema: str, body: Mapping[str, Any]) -> Delivery:
    parsed, buffer = fastavro.parse_schema(json.loads(schema)), io.BytesIO()
    if problems := list(_problems(json.loads(schema)["fields"], body)):
        raise click.UsageError(f"{letter.row['topic']}: {'; '.join(problems)}")
    fastavro.schemaless_writer(buffer, parsed, body)
    wire = letter.delivery.wire._replace(body=buffer.getvalue())
    check_size(wire)
    return letter.delivery._replace(wire=wire)


def _problems(fields: list[dict[str, Any]], body: Mapping[str, Any]) -> Iterator[str]:
    known = {field["name"]: field for field in fields}
    for name in body.keys() - known.keys():
        yield f"{name} is no field; there are {', '.join(known)}"
    for name, field in known.items():
        if name not in body and "default" not in field:
            yield f"{name} is missing"
        elif name in body and not fastavro.validate(body[name], field["type"], raise_errors=False):
            yield f"{name} must be of type {field['type']}, not {body[name]!r}"
        elif "\0" in str(body.get(name, "")):
            yield f"{name} holds a NUL character"


# --- shared


def _still_open(tx: Connection, letter: Letter) -> Row:
    """Lock the newest letter of this id; raise DomainError when it was dealt with, or edited this moment."""
    row = newest(tx, letter.id)
    assert row is not None
    if row["outcome"]:
        who = select(audit.c.who).where(audit.c.subject == letter.id, audit.c.at == row["ended_at"])
        by = tx.execute(who).scalar() or "what was done to its saga"
        raise DomainError(row["outcome"], f"it was {row['outcome']} at {rfc3339(row['ended_at'])} by {by}")
    if row["delivery"] != letter.row["delivery"]:
        raise DomainError("changed", "it was edited this very moment: look at it again")
    return row


def _this_death(row: Row) -> dict[str, Any]:
    """Tell which body it was and when it died, so that nobody seconds another death than was looked at."""
    return {"at": row["at"], "delivery": hashlib.sha256(row["delivery"]).hexdigest()}


def _carry_out(runtimes: Runtimes, tx: Connection, act: Act, outcome: str | None, **changed: Any) -> bool:
    """Write down what is done, and end the letter with its incident; or that it is wanted, and return False."""
    now = database.now(tx, runtimes.settings.clock_offset)
    agreed = carry_out(runtimes, tx, act, now, **changed)
    if agreed and outcome:
        for statement in closing([act.subject], now, outcome):
            tx.execute(statement)
    return agreed
