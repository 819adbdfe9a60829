"""Accept commands: the acceptance row and the outbox row in one transaction, before anybody hears `202`."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Engine, and_, select
from sqlalchemy.exc import IntegrityError

from pulsaga.delivery.blame import verdict
from pulsaga.delivery.messages import Context, id_time, new_id
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.transactions import Transactions
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.web.access.callers import NOBODY
from pulsaga.web.formats import Problem
from pulsaga.web.front_door.callbacks.outward import receiver_of
from pulsaga.web.front_door.tables import acceptance, visible, webhook


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command to accept. `body_hash` is of what the caller said, whatever the format; see `hash_of`.

    An idempotency key is the actor's own: others may use the same for theirs.
    """

    command: Any
    """Body of the command that starts a workflow."""
    workflow: str
    subject: str
    body_hash: str
    idempotency_key: str | None = None
    actor: str = NOBODY.subject
    traceparent: str | None = None
    callback: str | None = None
    """URL that is told of the end."""


@dataclass(frozen=True)
class Accepted:
    """A command that was accepted; `replayed` when that happened before. `created_at` is Unix seconds."""

    id: str
    type: str
    subject: str
    created_at: float
    replayed: bool = False


def hash_of(said: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a loaded body, in hex: the same in JSON and XML."""
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


ALONE = 8
"""Threads for requests that could not be accepted with the others."""


class GroupCommit:
    """Accept the requests of many threads: who comes while one commit runs shares the next.

    A commit costs a disk's flush; under load it is paid once for all who wait, alone it is not delayed.
    """

    def __init__(self, transactions: Transactions, write: Engine) -> None:
        self._transactions, self._write = transactions, write
        self._waiting: list[tuple[Request, Future[Accepted]]] = []
        self._lock = threading.Lock()
        self._committer = ThreadPoolExecutor(1, "acceptance")
        self._alone = ThreadPoolExecutor(ALONE, "acceptance-alone")

    def accept(self, request: Request) -> Accepted:
        """Accept one command, durably; raise what `accept` raises."""
        outcome: Future[Accepted] = Future()
        with self._lock:
            self._waiting.append((request, outcome))
            is_first = len(self._waiting) == 1
        if is_first:
            self._committer.submit(self._accept_waiting)
        return outcome.result()

    def _accept_waiting(self) -> None:
        seen = 0
        while len(self._waiting) > seen:  # who is about to ask comes along
            seen = len(self._waiting)
            time.sleep(0)
        with self._lock:
            taken, self._waiting = self._waiting, []
        try:
            accepted = accept_many(self._transactions, [request for request, _ in taken])
        except BaseException as error:  # each of them must hear of it, or it would wait for ever
            self._settle_after(error, taken)
        else:
            for (_, outcome), one in zip(taken, accepted, strict=True):
                outcome.set_result(one)

    def _settle_after(self, error: BaseException, taken: Sequence[tuple[Request, Future[Accepted]]]) -> None:
        """Try each on its own when one of them may be to blame, or waits for a lock; the next group does not wait."""
        is_of_one = isinstance(error, Exception) and verdict(error) in ("item", "locked")
        for request, outcome in taken:
            if is_of_one:
                self._alone.submit(_settle, outcome, partial(accept, self._transactions, self._write, request))
            else:
                outcome.set_exception(error)


def _settle(outcome: Future[Accepted], accept_one: Callable[[], Accepted]) -> None:
    try:
        outcome.set_result(accept_one())
    except BaseException as error:  # it belongs to whoever asked
        outcome.set_exception(error)


def accept(transactions: Transactions, write: Engine, request: Request) -> Accepted:
    """Accept one command, durably; a key seen before gives what was accepted then.

    Raise the Problem 422 when that was something else. The unique index makes a racing twin wait for the first.
    """
    try:
        return accept_many(transactions, [request])[0]
    except IntegrityError:
        row = _find(write, _has_key_of(request))
        if row is None:
            raise
    if row["body_hash"] != request.body_hash:
        raise Problem(422, "idempotency-key-reused", "this idempotency key came with another request before")
    return _accepted(row, replayed=True)


def accept_many(transactions: Transactions, requests: Sequence[Request]) -> list[Accepted]:
    """Accept many commands in one commit; raise IntegrityError, with nothing accepted, when a key was seen before."""
    rows, outgoing = transactions.commit(lambda uow: [_append(uow, request) for request in requests])
    transactions.outbox.publish_later(outgoing)
    return [_accepted(row) for row in rows]


def find(write: Engine, identifier: str, actor: str | None = None) -> Accepted | None:
    """Look one acceptance up by the command's id; with an actor, only one of that caller."""
    row = _find(write, (acceptance.c.id == identifier) & visible(acceptance, actor))
    return _accepted(row) if row else None


def _append(uow: UnitOfWork, request: Request) -> Row:
    identifier = new_id()
    row = {
        "id": identifier,
        "type": request.workflow,
        "subject": request.subject,
        "actor": request.actor,
        "idempotency_key": request.idempotency_key,
        "body_hash": request.body_hash,
        "created_at": id_time(identifier).timestamp(),
    }
    uow.append(acceptance, row)
    if request.callback:
        uow.append(webhook, _webhook_row(identifier, request, uow.now))
    context = Context(identifier, actor=request.actor, traceparent=request.traceparent, accepted_at=uow.time)
    uow.send(request.command, request.subject, command_id=identifier, context=context)
    uow.log("command accepted", "debug", context=context, command=identifier, workflow=request.workflow)
    return row


def _has_key_of(request: Request) -> ColumnElement[bool]:
    return and_(acceptance.c.actor == request.actor, acceptance.c.idempotency_key == request.idempotency_key)


def _webhook_row(identifier: str, request: Request, now: float) -> Row:
    """Describe a call that is owed once the command has ended."""
    assert request.callback is not None
    named = {"id": identifier, "revision": 1, "actor": request.actor, "url": request.callback, "status": "waiting"}
    named |= {"receiver": receiver_of(request.callback), "traceparent": request.traceparent}
    return {**named, "attempts": 0, "claim": None, "due_at": now, "created_at": now, "ended_at": None, "error": ""}


def _find(write: Engine, condition: ColumnElement[bool]) -> Row | None:
    with write.connect() as connection:
        row = connection.execute(select(acceptance).where(condition)).mappings().first()
    return dict(row) if row else None


def _accepted(row: Row | Any, *, replayed: bool = False) -> Accepted:
    return Accepted(row["id"], row["type"], row["subject"], row["created_at"], replayed)
