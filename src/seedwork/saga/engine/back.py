"""The way back of a saga: what was done is undone, each branch in reverse, branches at once."""

from __future__ import annotations

from pulsaga.delivery.messages import contract_of
from pulsaga.saga.branches import fork_of
from pulsaga.saga.engine.turn import Turn
from pulsaga.saga.messages import cancelling
from pulsaga.saga.steps import Child, ForEach


class Back(Turn):
    """Lead a saga back, and stop it where somebody has to help."""

    def suspend(self, branch: str, code: str, detail: str) -> None:
        """Put a branch, or the trunk, in front of an operator."""
        self.log("suspended", branch, code=code, detail=detail)

    def resume(self, branch: str) -> None:
        """Let a branch go on that was in front of an operator."""
        if self.progress.is_stuck(branch):
            self.log("resumed", branch, wake_at=self.now)

    def give_up(self, code: str, detail: str) -> None:
        """Begin the way back."""
        self.log("compensating", code=code, detail=detail)
        self.then(self.undo_next, "")

    def undo_next(self, branch: str) -> None:
        """Undo what a branch did last and has not undone; with nothing left, it is undone."""
        for path, state in reversed(list(self.progress.branch(branch).steps.items())):
            if state.command and state.status in self.saga.step(path).undone_from:
                self.undo(path)
                return
            if state.status in ("forked", "joined") and self.saga.is_undoable(path):
                self.log("going-back", path)
                self.go_back(path)
                return
        if branch:
            self.log("branch-undone", branch)
            self.go_back(fork_of(branch))
        else:
            self.log("ended", code="COMPENSATED")

    def undo(self, path: str) -> None:
        """Send what undoes a step; a child that still runs is cancelled."""
        step, state = self.saga.step(path), self.progress.step(path)
        if isinstance(step, Child) and state.status in ("issued", "failed"):
            name = cancelling(step.sends)
        else:
            assert step.undoes_by is not None
            name = contract_of(step.undoes_by).name
        wake_at = self.now + step.deadline
        self.log("undo-issued", path, command=name, command_id=self.new_id(), attempt=1, wake_at=wake_at)

    def send_again(self, path: str, command_id: str, wake_at: float | None) -> None:
        """Send the command of a step again, or what undoes it, under the same id."""
        state, back = self.progress.step(path), self.progress.compensating
        kind, attempt = ("undo-issued", state.undo_attempts) if back else ("issued", state.attempts)
        self.log(kind, path, command=self.command(path), command_id=command_id, attempt=attempt + 1, wake_at=wake_at)

    def child_ended(self, path: str, *, completed: bool) -> None:
        """Take the end of a child that is being cancelled: what has completed all the same is undone, or parked."""
        step, state, branch = self.saga.step(path), self.progress.step(path), self.progress.branch_around(path)
        if not completed:
            self.undone(path, state.command_id)
            return
        self.resume(branch)
        self.log("replied", path, command_id=state.command_id)
        if step.undo is None:
            code = "completed" if step.late == "park" else step.late
            self.log("parked" if step.late == "park" else "late", path, command_id=state.command_id, code=code)
        self.then(self.undo_next, branch)

    def undone(self, path: str, command_id: str) -> None:
        """Note that a step is undone, by the answer to this command."""
        state, branch = self.progress.step(path), self.progress.branch_around(path)
        if state.status == "undoing":
            self.resume(branch)
            self.log("undone", path, command_id=command_id)
            self.then(self.undo_next, branch)

    def go_back(self, fork: str) -> None:
        """Undo as many branches at once as may be in hand; those that never began have nothing to undo."""
        while (branch := self._next_back(fork)) and self.fork(fork).open < self.at_most(fork):
            self.log("branch-going-back", branch)
            self.then(self.undo_next, branch)
        if not self.fork(fork).open and not self._next_back(fork):
            self.log("undone", fork)
            self.then(self.undo_next, self.progress.branch_around(fork))

    def _next_back(self, fork: str) -> str:
        key = self.fork(fork).next
        branch = f"{fork}/{key}" if key else ""
        return branch if branch and self.progress.branches[branch].state != "pending" else ""

    def at_most(self, fork: str) -> float:
        """Return how many branches may be in hand at once."""
        node = self.saga.at(fork)
        return node.at_most if isinstance(node, ForEach) else float("inf")
