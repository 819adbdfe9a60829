"""Take a batch through its handlers: fold twins, replay what was seen, run what is new, keep what failed.

The outcomes of a handler (DESIGN §4.5): it returns; it raises DomainError, which is an answer; it raises Unavailable,
which waits uncounted; anything else blames the message: a failure row and, after N attempts, a dead letter.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from pulsaga import faults
from pulsaga.broker import Broker, Delivery
from pulsaga.delivery.avro import Codec
from pulsaga.delivery.late import only_in_time
from pulsaga.delivery.messages import (
    MEMORY_S,
    UUID7,
    AnyMessage,
    Message,
    check_id,
    contract_of,
    first_id,
    has_field,
    id_time,
    is_compensation,
    message_of,
    new_id,
)
from pulsaga.delivery.rows import Row, Wanted
from pulsaga.delivery.tables import dead_letter, failure, hash_of, identity, incident, pack_delivery, unpack_delivery
from pulsaga.delivery.unit_of_work import UnitOfWork, rfc3339
from pulsaga.errors import DomainError, Unavailable, Undecodable
from pulsaga.text import printable

log = structlog.get_logger()

LONGEST_RETRY_S = 60.0
"""Seconds for which a message that failed is left alone at most."""
LONGEST_ERROR = 2000
"""Characters kept of an error."""
B = TypeVar("B")


def _reads_nothing(_message: AnyMessage) -> Iterable[Wanted]:
    return ()


@dataclass(frozen=True)
class Handler(Generic[B]):
    """What a service does with one message class: a function and the rows it reads."""

    message: type[B]
    function: Callable[[Message[B], UnitOfWork], None]
    reads: Callable[[Message[B]], Iterable[Wanted]] = _reads_nothing
    on_dead: Callable[[Message[B], UnitOfWork, str], None] | None = None
    """Hears that the message became a dead letter; loads what it reads itself."""


class Received(NamedTuple):
    """A delivery with what it says, or with the reason why that cannot be read."""

    delivery: Delivery
    hash: bytes
    message: AnyMessage | None = None
    error: Exception | None = None

    @property
    def id(self) -> str:
        """The message's id, or the hash of what came."""
        return self.message.id if self.message else identity(self.delivery)


def readable(batch: Iterable[Received]) -> list[AnyMessage]:
    """Return the messages of those that could be read."""
    return [received.message for received in batch if received.message]


@dataclass(frozen=True, slots=True)
class Retry:
    """Hold what the failure row said: attempts so far and when the first one was (Unix seconds)."""

    attempts: int = 0
    first_at: float | None = None


FIRST = Retry()


class Reader:
    """Decode deliveries by their writer's schema version into the classes a service knows."""

    def __init__(self, classes: Iterable[type], codec: Codec, broker: Broker) -> None:
        self._classes = {contract_of(cls).name: cls for cls in classes}
        self._codec = codec
        self._broker = broker

    def read(self, deliveries: Sequence[Delivery]) -> list[Received]:
        """Decode each on its own; what cannot be read, or not now, is said of that one alone."""
        return [self._read(delivery) for delivery in deliveries]

    def _read(self, delivery: Delivery) -> Received:
        wire, digest = delivery.wire, hash_of(delivery.wire.body)
        try:
            cls = self._classes.get(wire.properties.get("ce_type", ""))
            if cls is None:
                raise Undecodable(f"ce_type {wire.properties.get('ce_type')!r} is unknown here")
            if not delivery.schema:
                raise Undecodable("the message names no schema version")
            writer = self._broker.schema(wire.topic, delivery.schema)
            message = message_of(wire.properties, self._codec.decode(cls, wire.body, writer))
        except Exception as error:  # these are bytes of others: whatever reading them raises is about this message
            return Received(delivery, digest, error=error)
        return Received(delivery, digest, message)


class Inbox:
    """Run handlers for one service; knows how it says no and what it does with what fails."""

    def __init__(
        self,
        handlers: Mapping[type, Handler[Any]],
        refused: type | None,
        failed: type | None,
        *,
        withdrawn: type | None,
        attempts: int,
        delay_s: float,
    ) -> None:
        self._refused, self._failed, self._withdrawn = refused, failed, withdrawn
        self._noes = {contract_of(no).name for no in (refused, failed) if no}
        self._attempts, self._delay_s = attempts, delay_s
        self._undoing = frozenset(cls for cls in handlers if has_field(cls, "undoes"))
        self._handlers = {cls: self._guarded(cls, handler) for cls, handler in handlers.items()}

    def _guarded(self, cls: type, handler: Handler[Any]) -> Handler[Any]:
        """Return a handler with what its message declares: that late ones have no effect, or that it undoes another."""
        if contract_of(cls).latest_by:
            handler = only_in_time(handler)
        if self._withdrawn is not None and is_compensation(cls):
            handler = replace(handler, function=partial(self._undo, handler.function))
        return handler

    def handle(
        self, batch: Sequence[Received], uow: UnitOfWork, retry: Retry = FIRST, blamed: Exception | None = None
    ) -> None:
        """Handle a batch inside a transaction; `blamed` is the database's error against the one message in it."""
        unique = self._fold(batch, uow)
        if retry is FIRST:  # a dead letter that an operator replays was buried before
            unique = self._without_buried(unique, uow)
        self._load_inbox(readable(unique), uow)
        errors = {batch[0].id: blamed} if blamed else self._load(unique, uow)
        for received in unique:
            if self._is_fresh(received, uow):
                self._handle_one(received, uow, retry, errors.get(received.id))

    def _load_inbox(self, messages: Sequence[AnyMessage], uow: UnitOfWork) -> None:
        """Load what is known of these messages, and of the commands that they undo."""
        undone = [message.body.undoes for message in messages if type(message.body) in self._undoing]
        undone = [identifier for identifier in undone if UUID7.fullmatch(identifier)]
        uow.load_inbox([message.id for message in messages] + undone)
        if forgotten := [identifier for identifier in undone if uow.seen(identifier) is None]:
            uow.load_answers(forgotten)

    def _load(self, unique: Sequence[Received], uow: UnitOfWork) -> dict[str, Exception]:
        """Load what the handlers read; return whose reads went wrong. What the database refuses may be such a key."""
        wanted: list[Wanted] = []
        errors: dict[str, Exception] = {}
        for received in unique:
            try:
                wanted += self._reads(received)
            except Exception as error:
                errors[received.id] = error
        uow.load(wanted)
        return errors

    def _fold(self, batch: Sequence[Received], uow: UnitOfWork) -> list[Received]:
        unique: dict[str, Received] = {}
        for received in batch:
            first = unique.setdefault(received.id, received)
            if first.hash != received.hash:
                self._conflict(received, uow)
        return list(unique.values())

    @staticmethod
    def _without_buried(unique: list[Received], uow: UnitOfWork) -> list[Received]:
        """Leave out what cannot be read and lies in the dead letters already: its redelivery is only acknowledged."""
        unreadable = [received.id for received in unique if received.message is None]
        if not unreadable:
            return unique
        buried = set(uow.values(select(dead_letter.c.id).where(dead_letter.c.id.in_(unreadable))))
        return [received for received in unique if received.message or received.id not in buried]

    def _is_fresh(self, received: Received, uow: UnitOfWork) -> bool:
        if received.message is None or (seen := uow.seen(received.message.id)) is None:
            return True
        if seen.hash not in (None, received.hash):
            self._conflict(received, uow)
        elif seen.reply is not None:
            uow.replay(seen.reply)
        elif seen.hash is None:
            uow.message = received.message
            self._refuse(received.message, DomainError("withdrawn", "the command was undone before it arrived"), uow)
        uow.keep()
        return False

    def _conflict(self, received: Received, uow: UnitOfWork) -> None:
        self._report(
            uow,
            "conflict",
            received.id,
            "same-id-other-body",
            f"{received.delivery.wire.topic}: refused, nothing changed",
        )
        uow.keep()

    def _reads(self, received: Received) -> Iterable[Wanted]:
        message = received.message
        return self._handlers[type(message.body)].reads(message) if message else ()

    def _handle_one(self, received: Received, uow: UnitOfWork, retry: Retry, blamed: Exception | None) -> None:
        uow.message = message = received.message
        try:
            if message is None or blamed:
                raise blamed or received.error or Undecodable("nothing to read")
            self._run(message, received.hash, uow, retry)
            faults.reach("handled", (message,))
        except Unavailable as down:
            uow.drop()
            self._wait(received, down, uow, retry)
        except Exception as error:
            if isinstance(error, DBAPIError) and error is not blamed:
                raise  # nothing more can be done in this transaction
            uow.drop()
            self._fail(received, error, uow, retry)
        uow.keep()

    def _run(self, message: AnyMessage, digest: bytes, uow: UnitOfWork, retry: Retry) -> None:
        is_command = message.contract.kind == "command"
        uow.remember(message.id, digest)
        try:
            _check_age(message, uow, retry)
            self._handlers[type(message.body)].function(message, uow)
        except DomainError as no:
            if not is_command:
                raise
            uow.drop()
            uow.remember(message.id, digest)
            self._refuse(message, no, uow)
            if no.code == "expired":
                self._report(uow, "expired", message.id, no.code, no.detail)

    def _refuse(self, message: AnyMessage, no: DomainError, uow: UnitOfWork) -> None:
        if self._refused is not None and message.contract.kind == "command":
            uow.reply(self._refused(command=message.contract.name, code=no.code, detail=no.detail))

    # --- compensations

    def _undo(self, compensate: Callable[[AnyMessage, UnitOfWork], None], message: AnyMessage, uow: UnitOfWork) -> None:
        """Compensate a command that was handled; answer at once for one that did nothing, or of which nobody can tell.

        One that has not come yet leaves a tombstone, which refuses it when it comes.
        """
        undone = message.body.undoes
        check_id(undone)
        seen, answer = uow.seen(undone), uow.answer_to(undone)
        was_handled = seen.hash is not None if seen else answer is not None
        if was_handled and (answer is None or answer.properties["ce_type"] not in self._noes):
            compensate(message, uow)
        elif seen is None and answer is None and undone < first_id(uow.now - MEMORY_S):
            self._tell_outcome_unknown(message, uow)
        else:
            if seen is None and answer is None:
                uow.remember(undone, None)
            assert self._withdrawn is not None
            uow.reply(self._withdrawn(command=message.contract.name, undoes=undone))

    def _tell_outcome_unknown(self, message: AnyMessage, uow: UnitOfWork) -> None:
        detail = f"whether {message.body.undoes} was handled can not be told any more: neither inbox nor events know it"
        self._answer_failed(message, "outcome-unknown", detail, uow)
        self._report(uow, "outcome-unknown", message.id, "outcome-unknown", detail)

    # --- what could not be handled

    def _wait(self, received: Received, down: Unavailable, uow: UnitOfWork, retry: Retry) -> None:
        log.warning("waiting", topic=received.delivery.wire.topic, id=received.id, error=str(down))
        self._keep_failure(received, down, uow, retry, retry.attempts)

    def _fail(self, received: Received, error: Exception, uow: UnitOfWork, retry: Retry) -> None:
        if retry is FIRST and self._waits_already(received, uow):
            return
        attempts = retry.attempts + 1
        log.error("failed", topic=received.delivery.wire.topic, id=received.id, attempt=attempts, error=said(error))
        if attempts < self._attempts:
            self._keep_failure(received, error, uow, retry, attempts)
        else:
            self._bury(received, error, uow, attempts)

    def _waits_already(self, received: Received, uow: UnitOfWork) -> bool:
        """Tell whether a failure row of this id waits to be retried; another body under it is a conflict."""
        for waiting in uow.values(select(failure.c.delivery).where(failure.c.id == received.id)):
            if hash_of(unpack_delivery(waiting).wire.body) != received.hash:
                self._conflict(received, uow)
            return True
        return False

    def _keep_failure(self, received: Received, error: Exception, uow: UnitOfWork, retry: Retry, attempts: int) -> None:
        first_at = uow.now if retry.first_at is None else retry.first_at
        delay = min(LONGEST_RETRY_S, max(self._delay_s, uow.now - first_at))
        row = {**failure_row(received, error, attempts, first_at), "due_at": uow.now + delay}
        uow.append(failure, row)

    def _bury(self, received: Received, error: Exception, uow: UnitOfWork, attempts: int) -> None:
        message, topic = received.message, received.delivery.wire.topic
        self._tell_of_death(message, error, uow)
        saga_id = message.saga_id if message else None
        uow.append(dead_letter, {**failure_row(received, error, attempts, uow.now), "saga_id": saga_id})
        self._report(uow, "dead-letter", received.id, "dead-letter", f"{topic}: {said(error)}")
        if message is None:
            return
        uow.remember(message.id, received.hash)
        self._answer_failed(message, "dead-letter", said(error), uow)

    def _answer_failed(self, message: AnyMessage, code: str, detail: str, uow: UnitOfWork) -> None:
        if message.contract.kind == "command" and self._failed is not None:
            uow.reply(self._failed(command=message.contract.name, code=code, detail=detail))

    def _tell_of_death(self, message: AnyMessage | None, error: Exception, uow: UnitOfWork) -> None:
        """Let the service react; whatever goes wrong there, the dead letter is kept."""
        on_dead = self._handlers[type(message.body)].on_dead if message else None
        if message is None or on_dead is None:
            return
        try:
            with uow.tx.begin_nested():  # PostgreSQL refuses all that follows an error
                on_dead(message, uow, said(error))
        except Exception:
            uow.drop()
            log.exception("nobody could react to a dead letter", id=message.id)

    def _report(self, uow: UnitOfWork, kind: str, subject: str, code: str, detail: str) -> None:
        uow.append(incident, incident_row(kind, subject, code, detail, uow.now))


def _check_age(message: AnyMessage, uow: UnitOfWork, retry: Retry) -> None:
    """Refuse what has expired, and what may have been handled so long ago that its id is forgotten."""
    if message.expires_at and message.expires_at < uow.time:
        raise DomainError("expired", f"expired at {message.expires_at}")
    if retry is FIRST and message.id < first_id(uow.now - MEMORY_S):
        raise DomainError("expired", f"an id of {rfc3339(id_time(message.id).timestamp())} may be forgotten already")


def incident_row(kind: str, subject: str, code: str, detail: str, at: float) -> Row:
    """Put something in front of an operator."""
    said = {"subject": printable(subject), "code": printable(code), "detail": printable(detail, LONGEST_ERROR)}
    return {"id": new_id(), "kind": kind, **said, "at": at}


def close_incidents(uow: UnitOfWork, kind: str, subject: str) -> None:
    """Note that nobody has to look any more."""
    known = (incident.c.subject == subject) & (incident.c.kind == kind) & incident.c.closed_at.is_(None)
    free = select(incident.c.id).where(known).with_for_update(nowait=uow.pass_locked)
    for row in uow.appended(incident):  # of this very batch
        if (row["subject"], row["kind"]) == (subject, kind):
            row["closed_at"] = uow.now
    uow.values(update(incident).where(incident.c.id.in_(free)).values(closed_at=uow.now).returning(incident.c.id))


def stored_delivery(row: Row) -> Delivery | None:
    """Read the message of a failure row; None for a row that is damaged, which keeps no other from being tried."""
    try:
        return unpack_delivery(row["delivery"])
    except Exception as error:
        log.error("a failure cannot be read", id=row["id"], error=said(error))
        return None


def failure_row(received: Received, error: Exception, attempts: int, at: float) -> Row:
    """Describe a message that could not be handled, as the failure tables keep it."""
    return {
        "id": received.id,
        "topic": received.delivery.wire.topic,
        "delivery": pack_delivery(received.delivery),
        "attempts": attempts,
        "error": said(error),
        "at": at,
    }


def said(error: Exception) -> str:
    """Name an error in one printable line with the place it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return printable(f"{type(error).__name__}: {error}{place}", LONGEST_ERROR)
