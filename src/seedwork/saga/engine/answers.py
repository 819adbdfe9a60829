"""What a saga waits for: answers, signals, and time."""

from __future__ import annotations

from typing import Any

from pulsaga.delivery.messages import contract_of
from pulsaga.errors import DomainError
from pulsaga.records import plain
from pulsaga.saga.engine.forward import Forward
from pulsaga.saga.happenings import Due, Failed, Granted, Refused, Replied, Signalled, Silent
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.messages import cancelling
from pulsaga.saga.steps import Await, Sleep, Step, position


class Answers(Forward):
    """Take what comes, and go on."""

    def replied(self, reply: Replied) -> None:
        """Take a success."""
        path, undo = self.find(reply.command_id)
        if undo:
            self.undone(path, reply.command_id)
        elif self._is_cancelled_child(path):
            self.child_ended(path, completed=True)
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
            self._undo_refused(path, named)
        elif self._is_cancelled_child(path):
            self.child_ended(path, completed=False)
        elif self.awaits(path):
            self.resume(branch)
            if self._is_retryable(path, no.code):
                rest_s = self.saga.step(path).retry.after(len(state.former) + 1, no.command_id)
                self.log("to-be-retried", path, **named, wake_at=self.now + rest_s)
            else:
                self.log("refused", path, **named)
                self._cannot_go_on(path, no.code, no.detail)

    def _undo_refused(self, path: str, named: dict[str, Any]) -> None:
        state, branch = self.progress.step(path), self.progress.branch_around(path)
        if state.status != "undoing" or self.progress.is_stuck(branch):
            return
        if state.undo == cancelling(self.saga.step(path).sends):  # it will not be called back: its end is waited for
            return
        self.log("undo-refused", path, **named)
        self.suspend(branch, named["code"], named["detail"])

    def _is_cancelled_child(self, path: str) -> bool:
        state = self.progress.step(path)
        return state.status == "undoing" and state.undo == cancelling(self.saga.step(path).sends)

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

    # --- turns

    def granted(self, turn: Granted) -> None:
        """Send the command of a step whose turn it is; without an entry where it does not wait for that any more."""
        if self.progress.compensating or self.progress.status in TERMINAL:
            return
        branch = self.progress.branch_around(turn.path)
        state = self.progress.branch(branch).steps.get(turn.path)
        if state and state.status == "queued" and not self._is_at_rest(branch):
            self.issue(turn.path)

    # --- signals

    def signalled(self, signal: Signalled) -> None:
        """Take a signal; raise DomainError for one that is not waited for, or not yet."""
        name = contract_of(signal.body).name
        waits = [wait for _, wait in self.saga.nodes if isinstance(wait, Await) and wait.name == name]
        if not waits:
            raise DomainError("not-awaited", f"a saga of {self.saga.name} never waits for {name}")
        steps = [(path, state) for path, state in self.progress.all_steps.items() if state.signal == name]
        waiting = [path for path, state in steps if state.status == "awaiting"]
        if path := next(filter(self._is_open, waiting), None):
            self.resume(self.progress.branch_around(path))
            self.take_signal(path, signal.body)
        elif waiting:
            self._signalled_too_late(waiting[0])
        elif not any(state.status == "done" for _, state in steps):
            self._signalled_early(name, waits, signal.body)

    def _is_open(self, path: str) -> bool:
        ended = self.progress.compensating or self.progress.status in TERMINAL
        return not ended and self.progress.branch(self.progress.branch_around(path)).state == "open"

    def _signalled_too_late(self, path: str) -> None:
        wait = self.saga.at(path)
        assert isinstance(wait, Await)
        if not self.progress.step(path).late:
            self.log("parked" if wait.late == "park" else "late", path, code=wait.late, detail=f"{wait.name} came late")

    def _signalled_early(self, name: str, waits: list[Await[Any]], body: Any) -> None:
        if self.progress.compensating or self.progress.status in TERMINAL:
            raise DomainError("not-awaited", f"the saga is {self.progress.status}, and waits for {name} no more")
        if not any(wait.early for wait in waits):
            raise DomainError("not-awaited-yet", f"the saga does not wait for {name} yet")
        if name not in self.progress.early:
            self.log("kept", code=name, data=dict(plain(body)))

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
        self.log("timed-out", path, command_id=command_id)
        self._not_in_time(path, f"answer to {self.command(path)}")

    def _go_on(self, path: str, wake_at: float) -> None:
        """End a rest whose time has come."""
        node, wait_s = self.saga.at(path), wake_at - self.now
        if isinstance(node, Await):
            self._await_no_longer(path, node, wait_s)
            return
        if self.progress.step(path).status == "queued":
            self._queue_no_longer(path, wait_s)
            return
        assert isinstance(node, Step | Sleep)
        longest_s = node.retry.longest if isinstance(node, Step) else node.longest
        if wait_s > longest_s:  # a clock that was put back, as in `_wait_no_longer`
            kind = "to-be-retried" if isinstance(node, Step) else "sleeping"
            self.log(kind, path, wake_at=self.now + longest_s)
        elif wait_s <= 0 and isinstance(node, Step):
            self.ask_for(path)
        elif wait_s <= 0:
            self.log("woke", path)
            self.then(self.take_up, self.saga.after(path))

    def _await_no_longer(self, path: str, wait: Await[Any], wait_s: float) -> None:
        if wait_s > wait.deadline:  # a clock that was put back, as in `_wait_no_longer`
            self.log("awaiting", path, code=wait.name, wake_at=self.now + wait.deadline)
        elif wait_s <= 0:
            self.log("timed-out", path)
            self._not_in_time(path, wait.name)

    def _queue_no_longer(self, path: str, wait_s: float) -> None:
        limit = self.saga.step(path).limit
        if limit and wait_s > limit.wait:  # a clock that was put back, as in `_wait_no_longer`
            self.log("queued", path, code=limit.key, wake_at=self.now + limit.wait)
        elif wait_s <= 0:
            self.log("timed-out", path)
            key = limit.key if limit else "of before"
            self._cannot_go_on(path, "timed-out", f"no turn under the limit {key} within its time")

    def _not_in_time(self, path: str, what: str) -> None:
        detail = f"no {what} within its deadline"
        branch = self.progress.branch_around(path)
        if self.progress.compensating or position(path) >= self.saga.pivot:
            self.suspend(branch, "timed-out", detail)
        else:
            self._fail(branch, "timed-out", detail)

    def silent(self, happening: Silent) -> None:
        """Send again what a branch waits for."""
        if self._is_at_rest(happening.branch):
            return
        state = self.progress.branch(happening.branch)
        if waiting := state.outstanding(compensating=self.progress.compensating):
            self.send_again(*waiting, state.wake_at)
