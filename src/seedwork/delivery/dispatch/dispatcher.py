"""Take a batch through its handlers: fold twins, replay what was seen, run what is new, keep what failed.

The outcomes of a handler (DESIGN §4.5): it returns; it raises DomainError, which is an answer; it raises Unavailable,
which waits uncounted; anything else blames the message: a failure row and, after N attempts, a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import select, union
from sqlalchemy.exc import DBAPIError

from pulsaga import faults
from pulsaga.delivery import spans
from pulsaga.delivery.dispatch.failures import FIRST, Failures, Outcome, Retry, report_conflict
from pulsaga.delivery.dispatch.handlers import Handler, only_in_time
from pulsaga.delivery.dispatch.reader import Received, readable
from pulsaga.delivery.incidents import open_incident
from pulsaga.delivery.messages import (
    MEMORY_S,
    UUID7,
    AnyMessage,
    check_id,
    contract_of,
    first_id,
    has_field,
    id_time,
    is_compensation,
)
from pulsaga.delivery.tables import LETTERS
from pulsaga.delivery.transaction.rows import Wanted
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, ids_of, rfc3339
from pulsaga.errors import DomainError, Unavailable, Undecodable
from pulsaga.telemetry import traces
from pulsaga.telemetry.metrics import HANDLED, REFUSED, bounded_code
from pulsaga.text import describe


class Dispatcher:
    """The handlers of one service, with how it refuses, and with what becomes of messages that fail."""

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
        self._refused, self._withdrawn = refused, withdrawn
        self._did_nothing = {contract_of(answer).name for answer in (refused, failed) if answer}
        self._failures = Failures(handlers, failed, attempts, delay_s)
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
                report_conflict(received, uow)
        return list(unique.values())

    @staticmethod
    def _without_buried(unique: list[Received], uow: UnitOfWork) -> list[Received]:
        """Leave out what cannot be read and lies in the dead letters already: its redelivery is only acknowledged."""
        unreadable = [received.id for received in unique if received.message is None]
        if not unreadable:
            return unique
        kept = union(*(select(table.c.id).where(table.c.id.in_(unreadable)) for table in LETTERS))
        buried = set(uow.values(kept))
        return [received for received in unique if received.message or received.id not in buried]

    def _is_fresh(self, received: Received, uow: UnitOfWork) -> bool:
        if received.message is None or (seen := uow.seen(received.message.id)) is None:
            return True
        if seen.hash not in (None, received.hash):
            report_conflict(received, uow)
        elif seen.reply is not None:
            uow.replay(seen.reply)
            uow.log("answered again", "debug", **ids_of(received.message))
        elif seen.hash is None:
            uow.message = received.message
            self._refuse(received.message, DomainError("withdrawn", "the command was undone before it arrived"), uow)
        uow.count(HANDLED, received.delivery.wire.topic, "repeated")
        uow.keep()
        return False

    def _reads(self, received: Received) -> Iterable[Wanted]:
        message = received.message
        return self._handlers[type(message.body)].reads(message) if message else ()

    def _handle_one(self, received: Received, uow: UnitOfWork, retry: Retry, blamed: Exception | None) -> None:
        message, span = received.message, None
        if traces.recorder and message and (span := spans.processing(message, uow.service)):
            received = received._replace(message=message.under(span.traceparent))
        uow.message = received.message
        error = self._tried(received, uow, retry, blamed)
        if span:
            uow.end_span(span, describe(error) if error else "")
        uow.keep()

    def _tried(self, received: Received, uow: UnitOfWork, retry: Retry, blamed: Exception | None) -> Exception | None:
        """Run the handler; where it comes to nothing, see to what becomes of the message, and return why."""
        message = received.message
        try:
            if message is None or blamed:
                raise blamed or received.error or Undecodable("nothing to read")
            outcome = self._run(message, received.hash, uow, retry)
            faults.reach("handled", (message,))
        except Unavailable as down:
            uow.drop()
            uow.count(HANDLED, received.delivery.wire.topic, self._failures.wait(received, down, uow, retry))
            return down
        except Exception as error:
            if isinstance(error, DBAPIError) and error is not blamed:
                raise  # nothing more can be done in this transaction
            uow.drop()
            uow.count(HANDLED, received.delivery.wire.topic, self._failures.fail(received, error, uow, retry))
            return error
        uow.count(HANDLED, message.contract.name, outcome)
        uow.log("handled", "debug", type=message.contract.name)
        return None

    def _run(self, message: AnyMessage, digest: bytes, uow: UnitOfWork, retry: Retry) -> Outcome:
        is_command = message.contract.kind == "command"
        uow.remember(message.id, digest)
        try:
            _check_age(message, uow, retry)
            self._handlers[type(message.body)].function(message, uow)
            return "done"
        except DomainError as refusal:
            if not is_command:
                raise
            uow.drop()
            uow.remember(message.id, digest)
            self._refuse(message, refusal, uow)
            uow.count(REFUSED, message.contract.name, bounded_code(message.contract.name, refusal.code))
            if refusal.code == "expired":
                open_incident(uow, "expired", message.id, refusal.code, refusal.detail, topic=message.contract.name)
            return "refused"

    def _refuse(self, message: AnyMessage, refusal: DomainError, uow: UnitOfWork) -> None:
        if self._refused is not None and message.contract.kind == "command":
            uow.log("command refused", type=message.contract.name, code=refusal.code)
            uow.reply(self._refused(command=message.contract.name, code=refusal.code, detail=refusal.detail))

    # --- compensations

    def _undo(self, compensate: Callable[[AnyMessage, UnitOfWork], None], message: AnyMessage, uow: UnitOfWork) -> None:
        """Compensate a command that was handled; answer at once for one that did nothing, or of which nobody can tell.

        One that has not come yet leaves a tombstone, which refuses it when it comes.
        """
        undone = message.body.undoes
        check_id(undone)
        seen, answer = uow.seen(undone), uow.answer_to(undone)
        was_handled = seen.hash is not None if seen else answer is not None
        if was_handled and (answer is None or answer.properties["ce_type"] not in self._did_nothing):
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
        self._failures.answer(message, "outcome-unknown", detail, uow)
        open_incident(uow, "outcome-unknown", message.id, "outcome-unknown", detail, topic=message.contract.name)


def _check_age(message: AnyMessage, uow: UnitOfWork, retry: Retry) -> None:
    """Refuse what has expired, and what may have been handled so long ago that its id is forgotten."""
    if message.expires_at and message.expires_at < uow.time:
        raise DomainError("expired", f"expired at {message.expires_at}")
    if retry is FIRST and message.id < first_id(uow.now - MEMORY_S):
        raise DomainError("expired", f"an id of {rfc3339(id_time(message.id).timestamp())} may be forgotten already")
