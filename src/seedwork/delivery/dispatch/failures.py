"""Keep what could not be handled: it waits, it is tried again, and after N attempts it is a dead letter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from sqlalchemy import select

from pulsaga.broker import Delivery
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.reader import Received
from pulsaga.delivery.incidents import open_incident
from pulsaga.delivery.messages import AnyMessage
from pulsaga.delivery.tables import dead_letter, failure, hash_of, pack_delivery, unpack_delivery
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork, ids_of
from pulsaga.errors import Unavailable
from pulsaga.telemetry.logs import Level
from pulsaga.telemetry.vitals import OURS
from pulsaga.text import describe

log = structlog.get_logger()

LONGEST_RETRY_S = 60.0
"""Seconds for which a message that failed is left alone at most."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt, by its failure row: attempts so far and when the first one was (Unix seconds)."""

    attempts: int = 0
    first_at: float | None = None


FIRST = Retry()
Outcome = Literal["done", "refused", "repeated", "failed", "waiting", "dead"]
"""What came of a message."""


class Failures:
    """The messages that one service could not handle; `failed` is the class of its answer to a buried command."""

    def __init__(
        self, handlers: Mapping[type, Handler[Any]], failed: type | None, attempts: int, delay_s: float
    ) -> None:
        self._handlers, self._failed = handlers, failed
        self._attempts, self._delay_s = attempts, delay_s

    def wait(self, received: Received, down: Unavailable, uow: UnitOfWork, retry: Retry) -> Outcome:
        """Keep a message until what it needs is back; that is no attempt."""
        self._log("waiting", "warning", received, down, uow)
        self._keep(received, down, uow, retry, retry.attempts)
        return "waiting"

    def fail(self, received: Received, error: Exception, uow: UnitOfWork, retry: Retry) -> Outcome:
        """Keep a message for its next attempt, or bury it after the last one."""
        if retry is FIRST and _waits_already(received, uow):
            return "repeated"
        attempts = retry.attempts + 1
        OURS.failed(f"{received.delivery.wire.topic} {received.id}: {describe(error)}")
        is_last = attempts >= self._attempts
        if is_last:
            self._bury(received, error, uow, attempts)
        else:
            self._keep(received, error, uow, retry, attempts)
        self._log("dead letter" if is_last else "failed", "error", received, error, uow, attempt=attempts)
        return "dead" if is_last else "failed"

    @staticmethod
    def _log(event: str, level: Level, received: Received, error: Exception, uow: UnitOfWork, **about: Any) -> None:
        topic = received.delivery.wire.topic
        uow.log(event, level, topic=topic, message=received.id, error=describe(error), **about)

    def answer(self, message: AnyMessage, code: str, detail: str, uow: UnitOfWork) -> None:
        """Answer a command that failed."""
        if message.contract.kind == "command" and self._failed is not None:
            uow.reply(self._failed(command=message.contract.name, code=code, detail=detail))

    def _keep(self, received: Received, error: Exception, uow: UnitOfWork, retry: Retry, attempts: int) -> None:
        first_at = uow.now if retry.first_at is None else retry.first_at
        delay = min(LONGEST_RETRY_S, max(self._delay_s, uow.now - first_at))
        row = {**failure_row(received, error, attempts, first_at), "due_at": uow.now + delay}
        uow.append(failure, row)

    def _bury(self, received: Received, error: Exception, uow: UnitOfWork, attempts: int) -> None:
        message, topic = received.message, received.delivery.wire.topic
        self._tell_of_death(message, error, uow)
        saga_id = message.saga_id if message else None
        uow.append(dead_letter, {**failure_row(received, error, attempts, uow.now), "saga_id": saga_id})
        open_incident(uow, "dead-letter", received.id, type(error).__name__, describe(error), topic=topic)
        if message is not None:
            uow.remember(message.id, received.hash)
            self.answer(message, "dead-letter", describe(error), uow)

    def _tell_of_death(self, message: AnyMessage | None, error: Exception, uow: UnitOfWork) -> None:
        """Let the service react; whatever goes wrong there, the dead letter is kept."""
        on_dead = self._handlers[type(message.body)].on_dead if message else None
        if message is None or on_dead is None:
            return
        try:
            with uow.tx.begin_nested():  # PostgreSQL refuses all that follows an error
                on_dead(message, uow, describe(error))
        except Exception:
            uow.drop()
            log.exception("nobody could react to a dead letter", **ids_of(message))


def _waits_already(received: Received, uow: UnitOfWork) -> bool:
    """Tell whether a failure row of this id waits to be retried; another body under it is a conflict."""
    for waiting in uow.values(select(failure.c.delivery).where(failure.c.id == received.id)):
        if hash_of(unpack_delivery(waiting).wire.body) != received.hash:
            report_conflict(received, uow)
        return True
    return False


def report_conflict(received: Received, uow: UnitOfWork) -> None:
    """Put in front of an operator that two bodies came under one id."""
    detail, topic = "refused, nothing changed", received.delivery.wire.topic
    open_incident(uow, "conflict", received.id, "same-id-other-body", detail, topic=topic)
    uow.keep()


def failure_row(received: Received, error: Exception, attempts: int, at: float) -> Row:
    """Describe a message that could not be handled, as the failure tables keep it."""
    return {
        "id": received.id,
        "topic": received.delivery.wire.topic,
        "delivery": pack_delivery(received.delivery),
        "attempts": attempts,
        "error": describe(error),
        "at": at,
    }


def stored_delivery(row: Row) -> Delivery | None:
    """Read the message of a failure row; None for a row that is damaged, which keeps no other from being tried."""
    try:
        return unpack_delivery(row["delivery"])
    except Exception as error:
        log.error("a failure cannot be read", message=row["id"], error=describe(error))
        return None
