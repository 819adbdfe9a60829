"""Decide what a saga does next; pure: time and ids come in as arguments, entries and commands go out.

Each move is a list of log entries, folded one by one as they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pulsaga.delivery.messages import contract_of
from pulsaga.errors import DomainError
from pulsaga.saga.definition import Known, Saga
from pulsaga.saga.log import (
    ACTIVE,
    TERMINAL,
    Cancelled,
    Due,
    Entry,
    Failed,
    Happening,
    Operator,
    Outgoing,
    Progress,
    Refused,
    Replied,
    Silent,
    StepState,
    StepStatus,
    apply,
)
from pulsaga.saga.steps import Sleep, Step, When, position

CANCELLABLE: tuple[StepStatus, ...] = ("pending",)
"""What the pivot may be for a saga to be cancelled: not even issued."""
Move = tuple[Progress, list[Entry], list[Outgoing]]


def start(saga: Saga[Any], saga_id: str, data: Known, now: float, new_id: Callable[[], str]) -> Move:
    """Begin: return progress, log entries and the first command."""
    return _Turn(saga, Progress(saga_id, saga.key), now, new_id).started(data).move()


def advance(saga: Saga[Any], progress: Progress, happening: Happening, now: float, new_id: Callable[[], str]) -> Move:
    """Take one happening: return the next progress, the log entries and the commands to send.

    No entries means that nothing changed (a duplicate, or a happening that no longer matters). Raise DomainError for
    what somebody wants and the saga cannot do.
    """
    turn = _Turn(saga, progress, now, new_id)
    match happening:
        case Replied() | Refused() | Failed() if turn.is_former(happening.command_id):
            turn.answered_too_late(happening)
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
        case Operator():
            turn.operator(happening)
        case Cancelled():
            turn.cancelled(happening)
    return turn.move()


def not_to_be_given_up(saga: Saga[Any], progress: Progress, pivot_may_be: Collection[StepStatus]) -> DomainError | None:
    """Return why a saga cannot be compensated now, or None."""
    if progress.status in TERMINAL:
        return DomainError("ended", f"the saga has ended {progress.status}, and that is final")
    if progress.compensating:
        return DomainError("compensating", f"the saga is {progress.status} and being compensated already")
    pivot = progress.steps.get(str(saga.pivot), StepState())
    if saga.pivot == len(saga.steps) or pivot.status in pivot_may_be:
        return None
    said = f"the saga is {progress.status}, and {pivot.command}, its pivot, is {pivot.status}"
    return DomainError("past-pivot", f"{said}: it cannot be called back")


def is_cancellable(saga: Saga[Any], progress: Progress) -> bool:
    """Tell whether `Cancelled` would be taken now."""
    return not_to_be_given_up(saga, progress, CANCELLABLE) is None


class _Turn:
    """Collect the entries of one move, folding each as it is made."""

    def __init__(self, saga: Saga[Any], progress: Progress, now: float, new_id: Callable[[], str]) -> None:
        self.saga, self.progress, self.now, self.new_id = saga, progress, now, new_id
        self.entries: list[Entry] = []

    def move(self) -> Move:
        if not self.entries:
            return self.progress, [], []
        progress = self.progress._replace(seq=self.progress.seq + 1)
        return progress, self.entries, [self._outgoing(e) for e in self.entries if e.kind in ("issued", "undo-issued")]

    def _outgoing(self, entry: Entry) -> Outgoing:
        step, data = self.saga.step(entry.path), self.saga.load(self.progress.data)
        if entry.kind == "issued":
            return Outgoing(entry.command_id, step.command(data))
        assert step.undo is not None
        return Outgoing(entry.command_id, step.undo(data, self.progress.steps[entry.path].command_id))

    def log(self, kind: Any, path: str = "", **values: Any) -> None:
        entry = Entry(kind, self.now, path, **values)
        self.entries.append(entry)
        self.progress = apply(self.progress, entry)

    # --- forward

    def started(self, data: Known) -> _Turn:
        self.log("started", data=dict(data))
        self.take_up("0")
        return self

    def take_up(self, path: str | None) -> None:
        """Begin what stands at a path; None is the end."""
        if path is None:
            self.log("ended", code="COMPLETED")
            return
        match self.saga.at(path):
            case Step():
                self.issue(path)
            case Sleep() as sleep:
                self.log("sleeping", path, wake_at=sleep.wake_at(self.saga.load(self.progress.data), self.now))
            case When() as when:
                decided = "then" if when.condition(self.saga.load(self.progress.data)) else "else"
                self.log("decided", path, code=decided)
                self.take_up(f"{path}/{decided}/0" if when.branch(decided) else self.saga.after(path))

    def issue(self, path: str) -> None:
        step = self.saga.step(path)
        name = contract_of(step.sends).name
        self.log("issued", path, command=name, command_id=self.new_id(), attempt=1, wake_at=self.now + step.deadline)

    def replied(self, reply: Replied) -> None:
        path, undo = self._find(reply.command_id)
        if undo:
            self._undone(path)
        elif self._awaits(path):
            self._resume()
            learned = self.saga.learned(self.progress.data, path, reply.body)
            self.log("replied", path, command_id=reply.command_id, data=learned)
            self.take_up(self.saga.after(path))
        elif self.progress.steps[path].status != "done" and not self.progress.steps[path].late:
            self._late(path, reply.command_id)

    def _late(self, path: str, command_id: str) -> None:
        step, state = self.saga.step(path), self.progress.steps[path]
        undoable = step.undo is not None and state.status != "refused"
        policy = "compensate" if undoable else step.late
        self.log("parked" if policy == "park" else "late", path, command_id=command_id, code=policy)

    def refused(self, no: Refused) -> None:
        path, undo = self._find(no.command_id)
        named: dict[str, Any] = {"command_id": no.command_id, "code": no.code, "detail": no.detail}
        if undo:
            if self.progress.steps[path].status == "undoing" and self.progress.status != "SUSPENDED":
                self.log("undo-refused", path, **named)
                self._suspend(no.code, no.detail)
        elif self._awaits(path):
            self._resume()
            if self._is_retryable(path, no.code):
                rest_s = self.saga.step(path).retry.after(len(self.progress.steps[path].former) + 1, no.command_id)
                self.log("to-be-retried", path, **named, wake_at=self.now + rest_s)
                return
            self.log("refused", path, **named)
            if position(path) > self.saga.pivot:
                self._suspend(no.code, no.detail)
            else:
                self._give_up(no.code, no.detail)

    def _is_retryable(self, path: str, code: str) -> bool:
        step = self.saga.step(path)
        return code in step.retryable and len(self.progress.steps[path].former) + 1 < step.tries

    # --- trouble

    def failed(self, failure: Failed) -> None:
        path, undo = self._find(failure.command_id)
        waiting = self.progress.steps[path].status == "undoing" if undo else self._awaits(path)
        if not waiting or self.progress.status not in ACTIVE:
            return
        kind = "reply-lost" if failure.reply_lost else "undo-failed" if undo else "failed"
        self.log(kind, path, command_id=failure.command_id, code=failure.code, detail=failure.detail)
        self._suspend(failure.code, failure.detail)

    def due(self) -> None:
        waiting, resting = self.progress.outstanding, self.progress.resting
        if self.progress.status not in ACTIVE:
            return
        if waiting is not None:
            self._wait_no_longer(*waiting)
        elif resting is not None:
            self._go_on(resting)

    def _wait_no_longer(self, path: str, command_id: str) -> None:
        """Give up waiting for an answer whose deadline has passed."""
        wait_s, deadline_s = (self.progress.wake_at or 0) - self.now, self.saga.step(path).deadline
        if wait_s > deadline_s:  # the clock that said so has been put back: how long it has waited is not known
            self._send_again(path, command_id, self.now + deadline_s)
        if wait_s > 0:
            return
        detail = f"no answer to {self._command(path)} within its deadline"
        self.log("timed-out", path, command_id=command_id)
        if self.progress.compensating or position(path) >= self.saga.pivot:
            self._suspend("timed-out", detail)
        else:
            self._give_up("timed-out", detail)

    def _go_on(self, path: str) -> None:
        """End a rest whose time has come."""
        node, wait_s = self.saga.at(path), (self.progress.wake_at or 0) - self.now
        assert isinstance(node, Step | Sleep)
        longest_s = node.retry.longest if isinstance(node, Step) else node.longest
        if wait_s > longest_s:  # a clock that was put back, as in `due`
            kind = "to-be-retried" if isinstance(node, Step) else "sleeping"
            self.log(kind, path, wake_at=self.now + longest_s)
        elif wait_s <= 0 and isinstance(node, Step):
            self.issue(path)
        elif wait_s <= 0:
            self.log("woke", path)
            self.take_up(self.saga.after(path))

    def silent(self) -> None:
        waiting = self.progress.outstanding
        if self.progress.status not in ACTIVE or waiting is None:
            return
        self._send_again(*waiting, self.progress.wake_at)

    def _send_again(self, path: str, command_id: str, wake_at: float | None) -> None:
        state, command = self.progress.steps[path], self._command(path)
        kind, attempt = (
            ("undo-issued", state.undo_attempts) if self.progress.compensating else ("issued", state.attempts)
        )
        self.log(kind, path, command=command, command_id=command_id, attempt=attempt + 1, wake_at=wake_at)

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
        for path, state in reversed(list(self.progress.steps.items())):
            if state.command and self.saga.step(path).undo and state.status in ("issued", "done", "failed"):
                self._undo(path)
                return
        self.log("ended", code="COMPENSATED")

    def _undo(self, path: str) -> None:
        step = self.saga.step(path)
        assert step.undoes_by is not None
        name = contract_of(step.undoes_by).name
        wake_at = self.now + step.deadline
        self.log("undo-issued", path, command=name, command_id=self.new_id(), attempt=1, wake_at=wake_at)

    def _undone(self, path: str) -> None:
        if self.progress.steps[path].status == "undoing":
            self._resume()
            self.log("undone", path, command_id=self.progress.steps[path].undo_id)
            self._undo_next()

    def cancelled(self, wish: Cancelled) -> None:
        self._require_way_back(CANCELLABLE)
        self._give_up("cancelled", f"cancelled by {wish.who}")

    # --- by hand

    def operator(self, wish: Operator) -> None:
        if self.progress.status in TERMINAL:
            raise DomainError("ended", f"the saga has ended {self.progress.status}, and that is final")
        match wish.action:
            case "resume":
                self._resume_by(wish)
            case "retry-step":
                self._retry_by(wish)
            case "compensate":
                self._give_up_by(wish, "operator", "given up by an operator", ("pending", "failed"))
            case "cancel":
                self._give_up_by(wish, "cancelled", "cancelled by an operator", CANCELLABLE)

    def _resume_by(self, wish: Operator) -> None:
        path, answer = self._stands_at(wish)
        if answer:
            ways = "`retry-step` issues it anew" + ("; `dead-letters replay` tries it again" * (answer == "failed"))
            said = f"{self._command(path)} was answered for good ({answer}), asking again would repeat the answer"
            raise DomainError("answered", f"{said}: {ways}")
        state = self.progress.steps[path]
        self._note(wish, path)
        self._resume()
        command_id = state.undo_id if self.progress.compensating else state.command_id
        self._send_again(path, command_id, self.now + self.saga.step(path).deadline)

    def _retry_by(self, wish: Operator) -> None:
        path, answer = self._stands_at(wish)
        if not answer:
            command = self._command(path)
            raise DomainError("not-answered", f"{command} may still be answered: `resume` asks again under the same id")
        self._note(wish, path)
        self._resume()
        if self.progress.compensating:
            self._undo(path)
        else:
            self.issue(path)

    def _give_up_by(self, wish: Operator, code: str, detail: str, pivot_may_be: tuple[StepStatus, ...]) -> None:
        self._require_way_back(pivot_may_be)
        self._note(wish)
        self._give_up(code, detail)

    def _require_way_back(self, pivot_may_be: tuple[StepStatus, ...]) -> None:
        if no := not_to_be_given_up(self.saga, self.progress, pivot_may_be):
            raise no

    def _note(self, wish: Operator, path: str = "") -> None:
        self.log("operator", path, code=wish.action, detail=f"{wish.who}: {wish.why}")

    def _stands_at(self, wish: Operator) -> tuple[str, str]:
        """Return the step that holds a suspended saga, and `refused` or `failed` if that was answered for good."""
        if self.progress.status != "SUSPENDED":
            said = f"the saga is {self.progress.status}: `{wish.action}` is for what is suspended"
            raise DomainError("not-suspended", said)
        for path, state in self.progress.steps.items():
            if state.status == "undoing":
                return path, state.undo_answer
            if not self.progress.compensating and state.status in ("issued", "refused", "failed"):
                return path, "" if state.status == "issued" else state.status
        raise LookupError(f"saga {self.progress.saga_id} is suspended at no step")

    # --- commands that were replaced

    def is_former(self, command_id: str) -> bool:
        return self._path_of_former(command_id) is not None

    def answered_too_late(self, happening: Replied | Refused | Failed) -> None:
        """Nobody waits for it any more; a success that nobody expected is put in front of an operator, once."""
        path = self._path_of_former(happening.command_id)
        if isinstance(happening, Replied) and path is not None and not self.progress.steps[path].late:
            self.log("parked", path, command_id=happening.command_id, code="superseded")

    def _path_of_former(self, command_id: str) -> str | None:
        steps = self.progress.steps.items()
        return next((path for path, step in steps if command_id and command_id in step.former), None)

    # --- reading

    def _find(self, command_id: str) -> tuple[str, bool]:
        for path, step in self.progress.steps.items():
            if command_id and command_id in (step.command_id, step.undo_id):
                return path, command_id == step.undo_id
        raise LookupError(f"saga {self.progress.saga_id} never issued command {command_id}")

    def _awaits(self, path: str) -> bool:
        waiting = not self.progress.compensating and self.progress.status not in TERMINAL
        return waiting and self.progress.steps[path].status in ("issued", "failed")

    def _command(self, path: str) -> str:
        state = self.progress.steps[path]
        return state.undo if self.progress.compensating else state.command
