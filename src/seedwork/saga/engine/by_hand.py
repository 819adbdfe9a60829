"""What operators and callers want of a saga: to give it up, or to help it on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pulsaga.errors import DomainError
from pulsaga.saga.branches import StepState, StepStatus
from pulsaga.saga.definition import Saga
from pulsaga.saga.engine.answers import Answers
from pulsaga.saga.happenings import Cancelled, Operator
from pulsaga.saga.log import ACTIVE, TERMINAL, Progress
from pulsaga.saga.steps import Await, Step

CANCELLABLE: tuple[StepStatus, ...] = ("pending",)
"""What the pivot may be for a saga to be cancelled: not even issued."""
Stand = tuple[str, str, str]
"""A branch that is stuck, the step that holds it, and `refused` or `failed` if that was answered for good."""


def not_to_be_given_up(saga: Saga[Any], progress: Progress, pivot_may_be: Collection[StepStatus]) -> DomainError | None:
    """Return why a saga cannot be compensated now, or None."""
    if progress.status in TERMINAL:
        return DomainError("ended", f"the saga has ended {progress.status}, and that is final")
    if progress.compensating:
        return DomainError("compensating", f"the saga is {progress.status} and being compensated already")
    pivot = progress.steps.get(str(saga.pivot), StepState())
    if saga.pivot == len(saga.steps) or pivot.status in (*pivot_may_be, "queued"):
        return None
    said = f"the saga is {progress.status}, and {pivot.command}, its pivot, is {pivot.status}"
    return DomainError("past-pivot", f"{said}: it cannot be called back")


def is_cancellable(saga: Saga[Any], progress: Progress) -> bool:
    """Tell whether `Cancelled` would be taken now."""
    return not_to_be_given_up(saga, progress, CANCELLABLE) is None


class ByHand(Answers):
    """Do what somebody wants, or raise DomainError for what the saga cannot do."""

    def cancelled(self, wish: Cancelled) -> None:
        """Give up what is wanted no more."""
        self._require_way_back(CANCELLABLE)
        self.give_up("cancelled", f"cancelled by {wish.who}")

    def operator(self, wish: Operator) -> None:
        """Do what an operator wants."""
        if self.progress.status in TERMINAL:
            raise DomainError("ended", f"the saga has ended {self.progress.status}, and that is final")
        match wish.action:
            case "pause":
                self._pause_by(wish)
            case "resume" if self.progress.paused:
                self._end_pause(wish)
            case "resume":
                self._resume_by(wish)
            case "retry-step":
                self._retry_by(wish)
            case "compensate":
                self._give_up_by(wish, "operator", "given up by an operator", ("pending", "failed"))
            case "cancel":
                self._give_up_by(wish, "cancelled", "cancelled by an operator", CANCELLABLE)

    def _pause_by(self, wish: Operator) -> None:
        if self.progress.status not in ACTIVE:
            raise DomainError("not-running", f"the saga is {self.progress.status}: `pause` is for what goes on")
        self._note(wish)
        self.log("paused", code="paused", detail=f"paused by {wish.who}: {wish.why}")

    def _end_pause(self, wish: Operator) -> None:
        """Go on: what is waited for has its whole time again, and what sleeps wakes when it would have."""
        self._note(wish)
        self.log("resumed", wake_at=self.progress.wake_at)
        for branch in ["", *self.progress.branches]:
            state = self.progress.branch(branch)
            if waiting := state.outstanding(compensating=self.progress.compensating):
                self._wait_again(waiting[0])
            elif (path := state.resting) and state.steps[path].status in ("awaiting", "queued"):
                self._wait_again(path)

    def _resume_by(self, wish: Operator) -> None:
        stands = self._stands(wish)
        unanswered = [(branch, path) for branch, path, answer in stands if not answer]
        if not unanswered:
            _, path, answer = stands[0]
            ways = "`retry-step` issues it anew" + ("; `dead-letters replay` tries it again" * (answer == "failed"))
            said = f"{self._awaited(path)} was answered for good ({answer}), asking again would repeat the answer"
            raise DomainError("answered", f"{said}: {ways}")
        for branch, path in unanswered:
            self._note(wish, path)
            self.resume(branch)
            self._wait_again(path)

    def _wait_again(self, path: str) -> None:
        state, node = self.progress.step(path), self.saga.at(path)
        assert isinstance(node, Step | Await)
        wake_at = self.now + node.deadline
        if isinstance(node, Await):
            self.log("awaiting", path, code=node.name, wake_at=wake_at)
        elif state.status == "queued":
            self.ask_for(path)
        else:
            self.send_again(path, state.undo_id if self.progress.compensating else state.command_id, wake_at)

    def _retry_by(self, wish: Operator) -> None:
        stands = self._stands(wish)
        answered = [(branch, path) for branch, path, answer in stands if answer]
        if not answered:
            awaited = self._awaited(stands[0][1])
            raise DomainError("not-answered", f"{awaited} may still be answered: `resume` asks again under the same id")
        for branch, path in answered:
            self._note(wish, path)
            self.resume(branch)
            self.then(self.undo if self.progress.compensating else self.take_up, path)

    def _give_up_by(self, wish: Operator, code: str, detail: str, pivot_may_be: tuple[StepStatus, ...]) -> None:
        self._require_way_back(pivot_may_be)
        self._note(wish)
        self.give_up(code, detail)

    def _require_way_back(self, pivot_may_be: tuple[StepStatus, ...]) -> None:
        if no := not_to_be_given_up(self.saga, self.progress, pivot_may_be):
            raise no

    def _note(self, wish: Operator, path: str = "") -> None:
        self.log("operator", path, code=wish.action, detail=f"{wish.who}: {wish.why}")

    def _awaited(self, path: str) -> str:
        return self.command(path) or self.progress.step(path).signal or path

    def _stands(self, wish: Operator) -> list[Stand]:
        """Return where a suspended saga is stuck: in its trunk, or in one or more branches."""
        if self.progress.status != "SUSPENDED":
            said = f"the saga is {self.progress.status}: `{wish.action}` is for what is suspended"
            raise DomainError("not-suspended", said)
        if self.progress.paused:
            raise DomainError("paused", f"the saga is paused: `{wish.action}` is for what is stuck")
        branches = ["", *(self.progress.branches if self.progress.stuck else ())]
        return [self._stands_at(branch) for branch in branches if self.progress.is_stuck(branch)]

    def _stands_at(self, branch: str) -> Stand:
        for path, state in self.progress.branch(branch).steps.items():
            if state.status == "undoing":
                return branch, path, state.undo_answer
            if not self.progress.compensating and state.status in ("issued", "awaiting", "queued", "refused", "failed"):
                return branch, path, state.status if state.status in ("refused", "failed") else ""
        raise LookupError(f"saga {self.progress.saga_id} is suspended at no step")
