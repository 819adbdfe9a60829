"""The way forward of a saga: what stands next is begun, branches too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pulsaga.delivery.messages import contract_of
from pulsaga.errors import DomainError
from pulsaga.records import built
from pulsaga.saga.branches import escaped, fork_of, is_branch
from pulsaga.saga.definition import Known
from pulsaga.saga.engine.back import Back
from pulsaga.saga.engine.turn import plain_item
from pulsaga.saga.steps import Await, ForEach, Parallel, Sleep, Step, When, position

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
                self.ask_for(path)
            case Sleep() as sleep:
                self.log("sleeping", path, wake_at=sleep.wake_at(self._view_at(path), self.now))
            case When() as when:
                decided = "then" if when.condition(self._view_at(path)) else "else"
                self.log("decided", path, code=decided)
                self.then(self.take_up, f"{path}/{decided}/0" if when.branch(decided) else self.saga.after(path))
            case Await() as wait:
                self._await(path, wait)
            case Parallel() as parallel:
                self._fork(path, {"keys": [str(number) for number in range(len(parallel.branches))]})
            case ForEach() as each:
                self._fork_items(path, each)

    def _view_at(self, path: str) -> Any:
        return self.view(self.progress.branch_around(path))

    def ask_for(self, path: str) -> None:
        """Send the command of a step, or wait for its turn where there is a limit."""
        if limit := self.saga.step(path).limit:
            self.log("queued", path, code=limit.key, wake_at=self.now + limit.wait)
        else:
            self.issue(path)

    def issue(self, path: str) -> None:
        """Send the command of a step, for the first time or as a new one."""
        step = self.saga.step(path)
        name = contract_of(step.sends).name
        self.log("issued", path, command=name, command_id=self.new_id(), attempt=1, wake_at=self.now + step.deadline)

    def _await(self, path: str, wait: Await[Any]) -> None:
        if wait.name in self.progress.early:
            self.take_signal(path, built(wait.signal, self.progress.early[wait.name]))
        else:
            self.log("awaiting", path, code=wait.name, wake_at=self.now + wait.deadline)

    def take_signal(self, path: str, body: Any) -> None:
        """Go on behind an `Await`."""
        wait, branch = self.saga.at(path), self.progress.branch_around(path)
        assert isinstance(wait, Await)
        learned = self.learned(branch, wait.learn(self.view(branch), body)) if wait.learn else {}
        self.log("signalled", path, code=wait.name, data=learned)
        self.then(self.take_up, self.saga.after(path))

    # --- branches

    def _fork_items(self, path: str, each: ForEach[Any, Any]) -> None:
        items = list(each.items(self._view_at(path)))
        if wrong := self._wrong_with(items, each):
            self.log("refused", path, code="items", detail=wrong)
            self._cannot_go_on(path, "items", wrong)
        else:
            kept = [plain_item(item) for item in items]
            self._fork(path, {"keys": [escaped(str(each.key(item))) for item in items], "items": kept})

    def _wrong_with(self, items: Sequence[Any], each: ForEach[Any, Any]) -> str:
        """Say why items cannot be taken, or nothing."""
        if len(items) > each.most:
            return f"there are {len(items)} items, and {each.most} at most can be taken"
        if (size := len(json.dumps([plain_item(item) for item in items]))) > self.saga.most_bytes:
            return f"the items take {size} bytes, and {self.saga.most_bytes} at most can be kept"
        for key, number in Counter(str(each.key(item)) for item in items).items():
            if not 0 < len(key) <= LONGEST_KEY:
                return (
                    f"{key[:LONGEST_KEY]!r} is no key of an item: it has {len(key)} characters, not 1 to {LONGEST_KEY}"
                )
            if number > 1:
                return f"{number} items have the key {key!r}"
        return ""

    def refuse_items(self) -> None:
        """Raise DomainError for items that cannot be taken, where they are known from the start."""
        for path in self.saga.item_types:
            each = self.saga.at(path)
            assert isinstance(each, ForEach)
            if "each" not in path.split("/") and (wrong := self._wrong_from_the_start(each)):
                raise DomainError("items", wrong)

    def _wrong_from_the_start(self, each: ForEach[Any, Any]) -> str:
        try:
            return self._wrong_with(list(each.items(self.view(""))), each)
        except Exception:  # it needs what the saga has yet to learn
            return ""

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
