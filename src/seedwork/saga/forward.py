"""The way forward of a saga: what stands next is begun, answers are taken, time passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pulsaga.delivery.messages import contract_of
from pulsaga.saga.back import Back
from pulsaga.saga.branches import escaped, fork_of, is_branch
from pulsaga.saga.definition import Known
from pulsaga.saga.happenings import Due, Failed, Refused, Replied, Silent
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.steps import ForEach, Parallel, Sleep, Step, When, position
from pulsaga.saga.turn import plain_item

LONGEST_KEY = 100
"""Characters of an item's key."""


class Forward(Back):
    """Lead a saga forward."""

    # --- what stands next

    def take_up(self, path: str) -> None:
        """Begin what stands at a path; at the end of a branch, or of the trunk, end it."""
        if self.progress.compensating:  # a neighbour could not go on
            return
        if is_branch(path):
            self._end(path)
            return
        match self.saga.at(path):
            case Step():
                self.issue(path)
            case Sleep() as sleep:
                self.log("sleeping", path, wake_at=sleep.wake_at(self._view_at(path), self.now))
            case When() as when:
                decided = "then" if when.condition(self._view_at(path)) else "else"
                self.log("decided", path, code=decided)
                self.then(self.take_up, f"{path}/{decided}/0" if when.branch(decided) else self.saga.after(path))
            case Parallel() as parallel:
                self._fork(path, {"keys": [str(number) for number in range(len(parallel.branches))]})
            case ForEach() as each:
                self._fork_items(path, each)

    def _view_at(self, path: str) -> Any:
        return self.view(self.progress.branch_around(path))

    def issue(self, path: str) -> None:
        """Send the command of a step, for the first time or as a new one."""
        step = self.saga.step(path)
        name = contract_of(step.sends).name
        self.log("issued", path, command=name, command_id=self.new_id(), attempt=1, wake_at=self.now + step.deadline)

    # --- branches

    def _fork_items(self, path: str, each: ForEach[Any, Any]) -> None:
        items = list(each.items(self._view_at(path)))
        keys = [str(each.key(item)) for item in items]
        if wrong := _wrong_with(keys, each.most):
            self.log("refused", path, code="items", detail=wrong)
            self._cannot_go_on(path, "items", wrong)
        else:
            kept = [plain_item(item) for item in items]
            self._fork(path, {"keys": [escaped(key) for key in keys], "items": kept})

    def _fork(self, path: str, branches: Known) -> None:
        self.log("forked", path, data=branches)
        self._go_on_with(path)

    def _go_on_with(self, fork: str) -> None:
        """Begin as many branches as may be in hand; when all have ended, go on behind them."""
        node, at_most = self.saga.at(fork), self.at_most(fork)
        while (now := self.fork(fork)).next and now.open < at_most and not now.cause[0]:
            branch = f"{fork}/{now.next}"
            self.log("branch-began", branch)
            self.then(self.take_up, f"{branch}/0")
        if now.open:
            return
        if now.cause[0]:
            self._fail(self.progress.branch_around(fork), *now.cause)
            return
        around = self.progress.branch_around(fork)
        gathered: Known = {}
        if isinstance(node, ForEach) and node.learn:
            gathered = self.learned(around, node.learn(self.view(around), self.items_of(fork)))
        self.log("joined", fork, data=gathered)
        self.then(self.take_up, self.saga.after(fork))

    def _end(self, branch: str) -> None:
        if branch:
            self.log("branch-ended", branch)
            self._go_on_with(fork_of(branch))
        else:
            self.log("ended", code="COMPLETED")

    def _cannot_go_on(self, path: str, code: str, detail: str) -> None:
        """Give up before the pivot; behind it, ask an operator."""
        branch = self.progress.branch_around(path)
        if position(path) > self.saga.pivot:
            self.suspend(branch, code, detail)
        else:
            self._fail(branch, code, detail)

    def _fail(self, branch: str, code: str, detail: str) -> None:
        """Give the saga up, or note that a branch has failed whose neighbours are waited for."""
        if self._waits_for_neighbours(branch):
            self.log("branch-failed", branch, code=code, detail=detail)
            self._go_on_with(fork_of(branch))
        else:
            self.give_up(code, detail)

    def _waits_for_neighbours(self, branch: str) -> bool:
        while branch:
            node = self.saga.at(fork_of(branch))
            if isinstance(node, Parallel | ForEach) and node.fail == "wait":
                return True
            branch = self.progress.branch_around(fork_of(branch))
        return False

    # --- answers

    def replied(self, reply: Replied) -> None:
        """Take a success."""
        path, undo = self.find(reply.command_id)
        if undo:
            self.undone(path)
        elif self.awaits(path):
            branch, learn = self.progress.branch_around(path), self.saga.step(path).learn
            self.resume(branch)
            learned = self.learned(branch, learn(self.view(branch), reply.body)) if learn else {}
            self.log("replied", path, command_id=reply.command_id, data=learned)
            self.then(self.take_up, self.saga.after(path))
        elif self.progress.step(path).status != "done" and not self.progress.step(path).late:
            self._late(path, reply.command_id)

    def _late(self, path: str, command_id: str) -> None:
        step, state = self.saga.step(path), self.progress.step(path)
        undoable = step.undo is not None and state.status != "refused"
        policy = "compensate" if undoable else step.late
        self.log("parked" if policy == "park" else "late", path, command_id=command_id, code=policy)

    def answered_too_late(self, happening: Replied | Refused | Failed) -> None:
        """Nobody waits for it any more; a success that nobody expected is put in front of an operator, once."""
        path = self.path_of_former(happening.command_id)
        if isinstance(happening, Replied) and path is not None and not self.progress.step(path).late:
            self.log("parked", path, command_id=happening.command_id, code="superseded")

    def refused(self, no: Refused) -> None:
        """Take a business no."""
        path, undo = self.find(no.command_id)
        state, branch = self.progress.step(path), self.progress.branch_around(path)
        named: dict[str, Any] = {"command_id": no.command_id, "code": no.code, "detail": no.detail}
        if undo:
            if state.status == "undoing" and not self.progress.is_stuck(branch):
                self.log("undo-refused", path, **named)
                self.suspend(branch, no.code, no.detail)
        elif self.awaits(path):
            self.resume(branch)
            if self._is_retryable(path, no.code):
                rest_s = self.saga.step(path).retry.after(len(state.former) + 1, no.command_id)
                self.log("to-be-retried", path, **named, wake_at=self.now + rest_s)
            else:
                self.log("refused", path, **named)
                self._cannot_go_on(path, no.code, no.detail)

    def _is_retryable(self, path: str, code: str) -> bool:
        step = self.saga.step(path)
        return code in step.retryable and len(self.progress.step(path).former) + 1 < step.tries

    def failed(self, failure: Failed) -> None:
        """Take the word that a command or its reply became a dead letter."""
        path, undo = self.find(failure.command_id)
        branch = self.progress.branch_around(path)
        waiting = self.progress.step(path).status == "undoing" if undo else self.awaits(path)
        if not waiting or self._is_at_rest(branch):
            return
        kind = "reply-lost" if failure.reply_lost else "undo-failed" if undo else "failed"
        self.log(kind, path, command_id=failure.command_id, code=failure.code, detail=failure.detail)
        self.suspend(branch, failure.code, failure.detail)

    # --- time

    def due(self, happening: Due) -> None:
        """Let time pass for branches."""
        for branch in happening.branches:
            if self._is_at_rest(branch):
                continue
            state = self.progress.branch(branch)
            if waiting := state.outstanding(compensating=self.progress.compensating):
                self._wait_no_longer(*waiting, state.wake_at or 0)
            elif state.resting and not self.progress.compensating:
                self._go_on(state.resting, state.wake_at or 0)
            self.settle()

    def _is_at_rest(self, branch: str) -> bool:
        return self.progress.status in TERMINAL or self.progress.is_stuck(branch)

    def _wait_no_longer(self, path: str, command_id: str, wake_at: float) -> None:
        """Give up waiting for an answer whose deadline has passed."""
        wait_s, deadline_s = wake_at - self.now, self.saga.step(path).deadline
        if wait_s > deadline_s:  # the clock that said so has been put back: how long it has waited is not known
            self.send_again(path, command_id, self.now + deadline_s)
        if wait_s > 0:
            return
        detail = f"no answer to {self.command(path)} within its deadline"
        self.log("timed-out", path, command_id=command_id)
        branch = self.progress.branch_around(path)
        if self.progress.compensating or position(path) >= self.saga.pivot:
            self.suspend(branch, "timed-out", detail)
        else:
            self._fail(branch, "timed-out", detail)

    def _go_on(self, path: str, wake_at: float) -> None:
        """End a rest whose time has come."""
        node, wait_s = self.saga.at(path), wake_at - self.now
        assert isinstance(node, Step | Sleep)
        longest_s = node.retry.longest if isinstance(node, Step) else node.longest
        if wait_s > longest_s:  # a clock that was put back, as in `_wait_no_longer`
            kind = "to-be-retried" if isinstance(node, Step) else "sleeping"
            self.log(kind, path, wake_at=self.now + longest_s)
        elif wait_s <= 0 and isinstance(node, Step):
            self.issue(path)
        elif wait_s <= 0:
            self.log("woke", path)
            self.then(self.take_up, self.saga.after(path))

    def silent(self, happening: Silent) -> None:
        """Send again what a branch waits for."""
        if self._is_at_rest(happening.branch):
            return
        state = self.progress.branch(happening.branch)
        if waiting := state.outstanding(compensating=self.progress.compensating):
            self.send_again(*waiting, state.wake_at)


def _wrong_with(keys: Sequence[str], most: int) -> str:
    """Say why items cannot be taken by their keys, or nothing."""
    if len(keys) > most:
        return f"there are {len(keys)} items, and {most} at most can be taken"
    for key, number in Counter(keys).items():
        if not 0 < len(key) <= LONGEST_KEY:
            return f"{key[:LONGEST_KEY]!r} is no key of an item: it has {len(key)} characters, not 1 to {LONGEST_KEY}"
        if number > 1:
            return f"{number} items have the key {key!r}"
    return ""
