"""The coordinator of a system: it starts sagas by commands and moves them on by replies.

Which replies it hears follows from the workflows: those that their commands declare, beside the refused, failed and
withdrawn answers of their receivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson
from sqlalchemy import Table

from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import (
    AnyMessage,
    CommandFailed,
    CommandRefused,
    CommandWithdrawn,
    Message,
    contract_of,
    is_compensation,
    new_id,
)
from pulsaga.delivery.transaction.rows import Row, Wanted
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError, MessageTooLarge
from pulsaga.records import plain
from pulsaga.saga.engine.moves import start
from pulsaga.saga.happenings import Cancelled, Failed, Happening, Refused, Replied, Signalled
from pulsaga.saga.kept import InTransaction
from pulsaga.saga.messages import CancelSaga, ChildEnded
from pulsaga.saga.moving import Moving
from pulsaga.saga.tables import saga, saga_branch
from pulsaga.saga.tokens import TOKEN_KEY, is_borne


class Receiver(Protocol):
    """A service, by the classes of its answers."""

    @property
    def refused(self) -> type[CommandRefused]: ...

    @property
    def failed(self) -> type[CommandFailed]: ...

    @property
    def withdrawn(self) -> type[CommandWithdrawn] | None: ...


class Coordinator(Moving):
    """What drives the sagas of one system, under the system's name."""

    def handlers(self, receivers: Mapping[str, Receiver]) -> list[Handler[Any]]:
        """Return what it handles, each message once, in the order of the workflows, given the services by name."""
        handlers = [Handler(starts, self.start) for starts in self.starting]
        handlers.append(Handler(self.cancel, self.cancel_saga, reads=_sagas_undone))
        handlers += [Handler(signal, self.on_signal, reads=self._reads) for signal in self.signals]
        if self.has_children:
            on_end, on_dead = self.on_child_ended, self.on_dead_reply
            handlers.append(Handler(self.child_ended, on_end, reads=self._reads_of_child, on_dead=on_dead))
        handlers += [self._reply(reply, self.on_reply) for reply in self.replies]
        asked = _owners(self.sent, receivers)
        handlers += [self._reply(receivers[name].refused, self.on_refused) for name in asked]
        handlers += [self._reply(receivers[name].failed, self.on_failed) for name in asked]
        withdrawn = [receivers[name].withdrawn for name in _owners(filter(is_compensation, self.sent), receivers)]
        return [*handlers, *(self._reply(answer, self.on_reply) for answer in withdrawn if answer)]

    def _reply(self, cls: type, function: Any) -> Handler[Any]:
        def hear(message: AnyMessage, uow: UnitOfWork) -> None:
            if message.command_id is not None:  # else it answers no command, and was told to others
                function(message, uow)

        return Handler(cls, hear, reads=self._reads, on_dead=self.on_dead_reply)

    def _reads(self, message: AnyMessage) -> Iterable[Wanted]:
        """Name what a reply moves: its saga, and the branch that sent the command, if a workflow has branches."""
        return self._moved_by(message.saga_id, message.command_id)

    def _reads_of_child(self, message: Message[ChildEnded]) -> Iterable[Wanted]:
        return self._moved_by(message.saga_id, message.body.child_id)

    def _moved_by(self, saga_id: str, command_id: str | None) -> Iterable[Wanted]:
        yield saga, saga_id
        if self.has_branches and command_id:
            yield saga_branch.c.command_id, command_id
            yield saga_branch.c.undo_id, command_id

    # --- messages

    def start(self, message: AnyMessage, uow: UnitOfWork) -> None:
        """Begin the workflow that this command asks for; its id is the command's. Refuse what cannot be kept."""
        try:
            self._begin(message, uow)
        except (DomainError, MessageTooLarge) as no:
            refusal = no if isinstance(no, DomainError) else DomainError("too-large", str(no))
            seen = uow.seen(message.id)
            uow.drop()
            uow.remember(message.id, seen.hash if seen else None)
            ended = self._never_begun(message.id, refusal.code, refusal.detail)
            if not self._tell_parent(uow, ended, message.follow(), answers=message.id):
                raise refusal from None

    def _begin(self, message: AnyMessage, uow: UnitOfWork) -> None:
        workflow, known = self.starting[type(message.body)], plain(message.body)
        if (size := len(orjson.dumps(known))) > workflow.most_bytes:
            raise DomainError("too-large", f"it takes {size} bytes, and {workflow.most_bytes} at most can be kept")
        self._save(uow, start(workflow, message.saga_id, known, uow.now, new_id), message.follow())

    def cancel_saga(self, message: Message[CancelSaga], uow: UnitOfWork) -> None:
        """Give up a saga; when it has not begun yet, see to it that it does not."""
        begins = message.body.undoes
        if uow.get(saga, begins):
            self.happen(uow, begins, Cancelled(message.context.actor or "nobody"), message.follow())
        elif uow.seen(begins):
            if not self._tell_parent(uow, self._never_begun(begins), message.follow(), answers=None):
                raise DomainError("no-saga", "what begins it was refused, or became a dead letter")
        else:
            uow.remember(begins, None)
            self._tell_parent(uow, self._never_begun(begins), message.follow(), answers=begins)

    def on_reply(self, message: AnyMessage, uow: UnitOfWork) -> None:
        """Move a saga on by a success."""
        self.happen(uow, message.saga_id, Replied(message.command_id or "", message.body), message.follow())

    def on_refused(self, message: Message[CommandRefused], uow: UnitOfWork) -> None:
        """Move a saga on by a business no."""
        no = message.body
        self.happen(uow, message.saga_id, Refused(message.command_id or "", no.code, no.detail), message.follow())

    def on_failed(self, message: Message[CommandFailed], uow: UnitOfWork) -> None:
        """Suspend a saga whose command became a dead letter."""
        body = message.body
        self.happen(uow, message.saga_id, Failed(message.command_id or "", body.code, body.detail), message.follow())

    def on_signal(self, message: AnyMessage, uow: UnitOfWork) -> None:
        """Move a saga on by a signal. An event that no saga waits for was told to others; a command is refused."""
        try:
            if not (row := uow.get(saga, message.saga_id)):
                raise DomainError("no-saga", f"there is no saga {message.saga_id}")
            if type(message.body) in self.borne:
                self._check_bearer_of(message, uow, row)
            self.happen(uow, message.saga_id, Signalled(message.body), message.follow())
        except DomainError:
            if message.contract.kind == "command":
                raise

    def _check_bearer_of(self, message: AnyMessage, uow: UnitOfWork, row: Row) -> None:
        """Raise DomainError unless who sends a signal bears a token for it that this saga gave out."""
        progress = self._recent.read(row, InTransaction(uow, row["id"]))
        workflow = self.workflow_of(progress)
        brought = [
            command_id
            for path, state in progress.all_steps.items()
            if state.command and workflow.step(path).token_for is type(message.body)
            for command_id in (state.command_id, *state.former)
        ]
        if not is_borne(message.context.actor, uow.keys(TOKEN_KEY), brought):
            raise DomainError("wrong-token", f"no token of this saga lets its bearer send {message.contract.name}")

    def on_child_ended(self, message: Message[ChildEnded], uow: UnitOfWork) -> None:
        """Move a saga on by the end of one that it has started."""
        ended = message.body
        happening: Happening = Refused(ended.child_id, ended.reason_code, ended.reason_detail)
        if ended.status == "COMPLETED":
            child = self.declared(ended.workflow)
            happening = Replied(ended.child_id, child.load(orjson.loads(ended.data)))
        self.happen(uow, message.saga_id, happening, message.follow())

    def on_dead_reply(self, message: AnyMessage, uow: UnitOfWork, error: str) -> None:
        """Suspend a saga whose reply became a dead letter here."""
        uow.load(self._reads(message))
        if uow.get(saga, message.saga_id):
            lost = Failed(message.command_id or "", "reply-failed", error, reply_lost=True)
            self.happen(uow, message.saga_id, lost, message.follow())


def _owners(commands: Iterable[type], receivers: Mapping[str, Receiver]) -> list[str]:
    """Return the names of those that these commands are sent to, each once."""
    names = dict.fromkeys(contract_of(command).owner for command in commands)
    return [name for name in names if name in receivers]


def _sagas_undone(message: Message[CancelSaga]) -> Iterable[tuple[Table, Any]]:
    return ((saga, message.body.undoes),)
