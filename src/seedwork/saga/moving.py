"""Move sagas: by what happened to them, in one transaction with their rows, their commands and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy import func, select

from pulsaga.delivery.incidents import close_incidents, open_incident
from pulsaga.delivery.messages import Context, contract_of, made_at, new_id
from pulsaga.delivery.tables import pack_context, unpack_context
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.records import plain
from pulsaga.saga.declarations import Declarations
from pulsaga.saga.engine.by_hand import is_cancellable
from pulsaga.saga.engine.moves import advance
from pulsaga.saga.engine.turn import Move
from pulsaga.saga.happenings import Due, Failed, Happening, Operator, Outgoing, Refused, Replied
from pulsaga.saga.kept import InTransaction, branch_id, row_of_branch
from pulsaga.saga.log import ACTIVE, Entry, Progress
from pulsaga.saga.messages import CancelSaga, ChildEnded, SagaMoved
from pulsaga.saga.slots import note_slots
from pulsaga.saga.snapshots import Recent, write_entries, write_steps
from pulsaga.saga.tables import saga, saga_branch, saga_child
from pulsaga.saga.tokens import FIELD, TOKEN_KEY, digest_of, token_of
from pulsaga.sealing import seal_text
from pulsaga.telemetry.logs import Level
from pulsaga.telemetry.metrics import SAGAS_REACHED

LOGGED: Mapping[str, tuple[str, Level]] = {
    "started": ("saga began", "info"),
    "ended": ("saga ended", "info"),
    "compensating": ("saga gave up", "warning"),
    "suspended": ("saga suspended", "error"),
    "paused": ("saga paused", "info"),
    "resumed": ("saga resumed", "info"),
    "parked": ("success came too late", "warning"),
    "late": ("success came too late", "info"),
    "timed-out": ("step timed out", "warning"),
    "operator": ("operator acted", "info"),
}
"""What is logged of an entry of the log, and at which level."""
SENT_AGAIN: tuple[str, Level] = ("command sent again", "info")
INCIDENTS = {"suspended": "suspended", "paused": "suspended", "parked": "parked"}
"""Kind of the incident that an entry of the log opens."""


REACHED = frozenset({"ended", "suspended"})
"""Entries after which a saga is where it stays, or stays until an operator acts."""


class Moving(Declarations):
    """The sagas of one system, and what a move of one writes and sends."""

    @cached_property
    def _recent(self) -> Recent:
        return Recent()

    def happen(self, uow: UnitOfWork, saga_id: str, happening: Happening, context: Context) -> Progress:
        """Move a saga, whose row is loaded, by what happened; return where it stands then."""
        row = uow.get(saga, saga_id)
        if row is None:
            raise LookupError(f"no saga {saga_id}")
        move = self.next_move(uow, row, happening)
        if row["status"] == "SUSPENDED" and _is_helped(*move[:2]):
            close_incidents(uow, "suspended", saga_id)  # the new one of a saga that is suspended again stays open
        began = unpack_context(row["context"])  # a reply changes neither owner nor age
        self._save(uow, move, context._replace(actor=began.actor, accepted_at=began.accepted_at), row)
        return move[0]

    def next_move(self, uow: UnitOfWork, row: Row, happening: Happening) -> Move:
        """Return what a happening would do to the saga of this row; raise DomainError for what it cannot do."""
        progress = self._recent.read(row, InTransaction(uow, row["id"]))
        if progress.forks:
            happening = self._by_branches(uow, progress, happening)
        return advance(self.workflow_of(progress), progress, happening, uow.now, new_id)

    def _by_branches(self, uow: UnitOfWork, progress: Progress, happening: Happening) -> Happening:
        """Fetch the branches that a happening is about, and name them where it does not."""
        match happening:
            case Due():
                when = saga_branch.c.wake_at
                come = (when <= uow.now) | (when > uow.now + self.longest_wait_s)  # or a clock has been put right since
                paths = uow.values(select(saga_branch.c.path).where(saga_branch.c.saga_id == progress.saga_id, come))
                uow.load((saga_branch, branch_id(progress.saga_id, path)) for path in paths)
                return Due(("", *paths))
            case Replied() | Refused() | Failed():
                for column in (saga_branch.c.command_id, saga_branch.c.undo_id):
                    if happening.command_id and (row := uow.find(saga_branch, column, happening.command_id)):
                        progress.branches.fetch(row["path"])
        return happening

    def operate(self, uow: UnitOfWork, saga_id: str, wish: Operator) -> None:
        """Move a saga, whose row is loaded, by an operator's hand; raise DomainError for what it cannot do."""
        row = uow.get(saga, saga_id)
        assert row is not None
        self.happen(uow, saga_id, wish, unpack_context(row["context"]))

    def _save(self, uow: UnitOfWork, move: Move, context: Context, before: Row | None = None) -> None:
        progress, entries, commands = move
        wake_at = _wake_at(uow, progress, before)
        if self.workflow_of(progress).is_limited:
            note_slots(uow, progress, entries)
        if not entries:
            if before and progress.forks and wake_at != before["wake_at"]:  # what it would wake for was answered
                uow.put(saga, {**before, "wake_at": wake_at})
            return
        subject = self.subject_of(progress)
        row = self._row(progress, subject, context)
        if row["target"] and before and before["target"] is None:  # what was paused or suspended asks anew
            row["asked_at"] = max(row["asked_at"], progress.moved_at)
        uow.put(saga, {**row, "wake_at": wake_at})
        for path in progress.branches.changed:
            uow.put(saga_branch, row_of_branch(progress, path, *self._silence(progress, path)))
        if progress.paused:
            for row in uow.rows_with(saga_branch, saga_branch.c.saga_id, progress.saga_id):
                uow.put(saga_branch, {**row, "target": None, "asked_at": None, "resend_at": None})
        for command in commands:  # before the event: what is sent first is published first, and the next step waits
            self._send(uow, progress, command, subject, context)
        moved = self._moved(progress, subject, entries, self._tokens(uow, commands))
        uow.record(moved, progress.saga_id, progress.seq, subject=subject, context=context)
        if any(entry.kind == "ended" for entry in entries):
            known = orjson.dumps(dict(progress.data)).decode()
            ended = (progress.saga_id, progress.workflow, progress.status, *progress.reason, known)
            self._tell_parent(uow, self.child_ended(*ended), context, answers=progress.saga_id)
        for entry in entries:
            _log(uow, progress, entry, context)
            if entry.kind in REACHED:
                uow.count(SAGAS_REACHED, progress.workflow, progress.status)
            if incident := INCIDENTS.get(entry.kind):
                open_incident(uow, incident, progress.saga_id, entry.code, entry.detail)

    @staticmethod
    def _tokens(uow: UnitOfWork, commands: Iterable[Outgoing]) -> Mapping[str, str]:
        """Return for which signal each token is that these commands bring, by its digest."""
        return {
            digest_of(token_of(uow.key(TOKEN_KEY), command.command_id)): contract_of(command.token_for).name
            for command in commands
            if command.token_for
        }

    def _row(self, progress: Progress, subject: str, context: Context) -> Row:
        target, asked_at, resend_at = self._silence(progress, "")
        return {
            "id": progress.saga_id,
            "workflow": progress.workflow,
            "status": progress.status,
            "seq": progress.seq,
            "subject": subject,
            "progress": self._recent.write(progress),
            "context": pack_context(context),
            "target": target,
            "resend_at": resend_at,
            "moved_at": progress.moved_at,
            "asked_at": asked_at,
        }

    def _send(self, uow: UnitOfWork, progress: Progress, command: Outgoing, subject: str, context: Context) -> None:
        """Send a command; one that starts a child, or cancels it, belongs to that one's saga."""
        body, identifier = command.body, command.command_id
        if child := self.starting.get(type(body)):
            uow.load([(saga_child, identifier)])
            if uow.get(saga_child, identifier) is None:  # else it is asked for again
                uow.append(saga_child, {"id": identifier, "parent_id": progress.saga_id})
            subject, context = child.subject_of(plain(body)), context._replace(saga_id=identifier)
        elif isinstance(body, CancelSaga):
            body, context = self.cancel(body.undoes), context._replace(saga_id=body.undoes)
        elif command.token_for:
            key = uow.key(TOKEN_KEY)
            body = replace(body, **{FIELD: seal_text(token_of(key, identifier), key, progress.saga_id)})
        uow.send(body, subject, command_id=identifier, context=context)

    def _silence(self, progress: Progress, branch: str) -> tuple[str | None, float | None, float | None]:
        """Return whose answer a branch, or the trunk, waits for, since when, and when to send again what was sent."""
        known = progress.branch(branch)
        if known.sent_at is None or progress.paused:
            return None, None, None
        waiting = known.outstanding(compensating=progress.compensating)
        if waiting is None:
            return None, None, None
        state, step = known.steps[waiting[0]], self.workflow_of(progress).step(waiting[0])
        command, attempt = (
            (state.undo, state.undo_attempts) if progress.compensating else (state.command, state.attempts)
        )
        asked_at = made_at(waiting[1])
        return command.partition(".")[0], asked_at, known.sent_at + step.retry.after(attempt, waiting[1])

    def _moved(
        self, progress: Progress, subject: str, entries: Sequence[Entry], tokens: Mapping[str, str]
    ) -> SagaMoved:
        return self.moved(
            saga_id=progress.saga_id,
            workflow=progress.workflow,
            subject=subject,
            status=progress.status,
            reason_code=progress.reason[0],
            reason_detail=progress.reason[1],
            started_at=progress.started_at,
            moved_at=progress.moved_at,
            cancellable=is_cancellable(self.workflow_of(progress), progress),
            steps=write_steps(progress.steps, progress.branches.changed, tokens),
            entries=write_entries(entries),
        )

    def _never_begun(self, child_id: str, code: str = "cancelled", detail: str = "it has not begun") -> ChildEnded:
        return self.child_ended(child_id, "", "COMPENSATED", code, detail, "{}")

    def _tell_parent(self, uow: UnitOfWork, ended: ChildEnded, context: Context, answers: str | None) -> bool:
        """Tell whoever has started a saga how it has ended, as the answer to its start; return whether anybody has."""
        if not self.has_children:
            return False
        parents = uow.values(select(saga_child.c.parent_id).where(saga_child.c.id == ended.child_id))
        for parent_id in parents:
            aggregate = f"{ended.child_id}/{'ended' if answers else 'never'}"  # a dead letter may still be replayed
            about = context._replace(saga_id=parent_id)
            uow.record(ended, aggregate, 1, subject=ended.child_id, answers=answers, context=about)
        return bool(parents)


def _log(uow: UnitOfWork, progress: Progress, entry: Entry, context: Context) -> None:
    """Have a line logged for an entry that an operator may look for."""
    said = LOGGED.get(entry.kind) or (SENT_AGAIN if entry.attempt > 1 else None)
    if said:
        about: dict[str, Any] = {"command": entry.command_id} if entry.command_id else {}
        about |= {"workflow": progress.workflow, "step": entry.path, "code": entry.code, "detail": entry.detail}
        uow.log(*said, context=context, **about)


def _is_helped(progress: Progress, entries: Sequence[Entry]) -> bool:
    """Tell whether nothing of what suspended a saga is left; it may be suspended again for something else."""
    kinds = {entry.kind for entry in entries}
    return "compensating" in kinds or ("resumed" in kinds and not progress.stuck)


def _wake_at(uow: UnitOfWork, progress: Progress, before: Row | None) -> float | None:
    """Return when something next happens of itself, at the latest: what is answered before may leave it too early.

    So nobody looks at all branches for each move: those in memory are known, and the row knows of the others.
    """
    if progress.paused:
        return None
    if not progress.forks or progress.status not in ACTIVE:
        return progress.wake_at
    changed = progress.branches.changed
    times = [progress.wake_at, *(branch.wake_at for branch in changed.values())]
    if before and before["wake_at"] and before["wake_at"] > uow.now:
        times.append(before["wake_at"])
    else:
        others = (saga_branch.c.saga_id == progress.saga_id) & saga_branch.c.path.not_in(changed.keys())
        times += uow.values(select(func.min(saga_branch.c.wake_at)).where(others))
    return min((time for time in times if time is not None), default=None)
