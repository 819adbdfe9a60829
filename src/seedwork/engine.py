"""Decide what a saga does next; pure: time and ids come in as arguments, entries and commands go out.

Each move is a list of log entries, folded one by one as they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from seedwork.saga import (
    ACTIVE,
    TERMINAL,
    Data,
    Due,
    Entry,
    Failed,
    Happening,
    Outgoing,
    Progress,
    Refused,
    Replied,
    Saga,
    Silent,
    StepState,
    apply,
)

Move = tuple[Progress, list[Entry], list[Outgoing]]


def start(saga: Saga, saga_id: str, data: Data, now: float, new_id: Callable[[], str]) -> Move:
    """Begin: return progress, log entries and the first command."""
    progress = Progress(saga_id, saga.key, steps=tuple(StepState() for _ in saga.steps))
    return _Turn(saga, progress, now, new_id).started(data).move()


def advance(saga: Saga, progress: Progress, happening: Happening, now: float, new_id: Callable[[], str]) -> Move:
    """Take one happening: return the next progress, the log entries and the commands to send.

    No entries means that nothing changed (a duplicate, or a happening that no longer matters).
    """
    turn = _Turn(saga, progress, now, new_id)
    match happening:
        case Replied():
            turn.replied(happening)
        case Refused():
            turn.refused(happening)
        case Failed():
            turn.failed(happening)
        case Due():
            turn.due()
        case Silent():
            turn.silent()
    return turn.move()


class _Turn:
    """Collect the entries of one move, folding each as it is made."""

    def __init__(self, saga: Saga, progress: Progress, now: float, new_id: Callable[[], str]) -> None:
        self.saga, self.progress, self.now, self.new_id = saga, progress, now, new_id
        self.entries: list[Entry] = []

    def move(self) -> Move:
        if not self.entries:
            return self.progress, [], []
        progress = replace(self.progress, seq=self.progress.seq + 1)
        return progress, self.entries, [self._outgoing(e) for e in self.entries if e.kind in ("issued", "undo-issued")]

    def _outgoing(self, entry: Entry) -> Outgoing:
        step, data = self.saga.steps[entry.step], self.progress.data
        if entry.kind == "issued":
            return Outgoing(entry.command_id, step.command(data))
        assert step.compensation is not None
        return Outgoing(entry.command_id, step.compensation(data, self.progress.steps[entry.step].command_id))

    def log(self, kind: Any, step: int = -1, **values: Any) -> None:
        entry = Entry(kind, self.now, step, **values)
        self.entries.append(entry)
        self.progress = apply(self.progress, entry)

    # --- forward

    def started(self, data: Data) -> _Turn:
        self.log("started", data=dict(data))
        self.issue(0)
        return self

    def issue(self, index: int) -> None:
        if index == len(self.saga.steps):
            self.log("ended", code="COMPLETED")
            return
        step = self.saga.steps[index]
        name = step.command(self.progress.data).contract.name
        self.log("issued", index, command=name, command_id=self.new_id(), attempt=1, wake_at=self.now + step.deadline)

    def replied(self, reply: Replied) -> None:
        index, undo = self._find(reply.command_id)
        if undo:
            self._undone(index)
        elif self._awaits(index):
            self._resume()
            self.log("replied", index, command_id=reply.command_id, data=dict(self.saga.steps[index].learn(reply.body)))
            self.issue(index + 1)
        elif self.progress.steps[index].status != "done" and not self.progress.steps[index].late:
            self._late(index, reply.command_id)

    def _late(self, index: int, command_id: str) -> None:
        step, state = self.saga.steps[index], self.progress.steps[index]
        undoable = step.compensation is not None and state.status != "refused"
        policy = "compensate" if undoable else step.late
        self.log("parked" if policy == "park" else "late", index, command_id=command_id, code=policy)

    def refused(self, no: Refused) -> None:
        index, undo = self._find(no.command_id)
        named: dict[str, Any] = {"command_id": no.command_id, "code": no.code, "detail": no.detail}
        if undo:
            if self.progress.steps[index].status == "undoing" and self.progress.status != "SUSPENDED":
                self.log("undo-refused", index, **named)
                self._suspend(no.code, no.detail)
        elif self._awaits(index):
            self._resume()
            self.log("refused", index, **named)
            if index > self.saga.pivot:
                self._suspend(no.code, no.detail)
            else:
                self._give_up(no.code, no.detail)

    # --- trouble

    def failed(self, failure: Failed) -> None:
        index, undo = self._find(failure.command_id)
        waiting = self.progress.steps[index].status == "undoing" if undo else self._awaits(index)
        if not waiting or self.progress.status not in ACTIVE:
            return
        kind = "reply-lost" if failure.reply_lost else "undo-failed" if undo else "failed"
        self.log(kind, index, command_id=failure.command_id, code=failure.code, detail=failure.detail)
        self._suspend(failure.code, failure.detail)

    def due(self) -> None:
        waiting = self.progress.outstanding
        if self.progress.status not in ACTIVE or waiting is None or (self.progress.wake_at or 0) > self.now:
            return
        index, command_id = waiting
        detail = f"no answer to {self._command(index)} within its deadline"
        self.log("timed-out", index, command_id=command_id)
        if self.progress.compensating or index >= self.saga.pivot:
            self._suspend("timed-out", detail)
        else:
            self._give_up("timed-out", detail)

    def silent(self) -> None:
        waiting = self.progress.outstanding
        if self.progress.status not in ACTIVE or waiting is None:
            return
        index, command_id = waiting
        state = self.progress.steps[index]
        kind, attempt = (
            ("undo-issued", state.undo_attempts) if self.progress.compensating else ("issued", state.attempts)
        )
        self.log(
            kind,
            index,
            command=self._command(index),
            command_id=command_id,
            attempt=attempt + 1,
            wake_at=self.progress.wake_at,
        )

    def _suspend(self, code: str, detail: str) -> None:
        self.log("suspended", code=code, detail=detail)

    def _resume(self) -> None:
        if self.progress.status == "SUSPENDED":
            self.log("resumed", wake_at=self.now)

    # --- back

    def _give_up(self, code: str, detail: str) -> None:
        self.log("compensating", code=code, detail=detail)
        self._undo_next()

    def _undo_next(self) -> None:
        for index in reversed(range(len(self.saga.steps))):
            step, state = self.saga.steps[index], self.progress.steps[index]
            if step.compensation is not None and state.status in ("issued", "done", "failed"):
                name = step.compensation(self.progress.data, state.command_id).contract.name
                wake_at = self.now + step.deadline
                self.log("undo-issued", index, command=name, command_id=self.new_id(), attempt=1, wake_at=wake_at)
                return
        self.log("ended", code="COMPENSATED")

    def _undone(self, index: int) -> None:
        if self.progress.steps[index].status == "undoing":
            self._resume()
            self.log("undone", index, command_id=self.progress.steps[index].undo_id)
            self._undo_next()

    # --- reading

    def _find(self, command_id: str) -> tuple[int, bool]:
        for index, step in enumerate(self.progress.steps):
            if command_id and command_id in (step.command_id, step.undo_id):
                return index, command_id == step.undo_id
        raise LookupError(f"saga {self.progress.saga_id} never issued command {command_id}")

    def _awaits(self, index: int) -> bool:
        waiting = not self.progress.compensating and self.progress.status not in TERMINAL
        return waiting and self.progress.steps[index].status in ("issued", "failed")

    def _command(self, index: int) -> str:
        state = self.progress.steps[index]
        return state.undo if self.progress.compensating else state.command
