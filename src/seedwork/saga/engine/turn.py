"""One move of a saga in the making: its entries, and what each makes of the saga's progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pulsaga.records import built, plain
from pulsaga.saga.branches import StepState, fork_of, knows
from pulsaga.saga.definition import Saga
from pulsaga.saga.happenings import Outgoing
from pulsaga.saga.log import TERMINAL, Entry, Progress, apply
from pulsaga.saga.messages import CancelSaga, cancelling
from pulsaga.saga.steps import Each, ForEach

Move = tuple[Progress, list[Entry], list[Outgoing]]


class Turn:
    """Collect the entries of one move, folding each as it is made."""

    def __init__(self, saga: Saga[Any], progress: Progress, now: float, new_id: Callable[[], str]) -> None:
        self.saga, self.progress, self.now, self.new_id = saga, progress, now, new_id
        self.entries: list[Entry] = []
        self._agenda: deque[Callable[[], None]] = deque()
        self._views: dict[str, Any] = {}

    def move(self) -> Move:
        """Do what is left to do, and return the move."""
        self.settle()
        if not self.entries:
            return self.progress, [], []
        progress = self.progress._replace(seq=self.progress.seq + 1)
        return progress, self.entries, [self._outgoing(e) for e in self.entries if e.kind in ("issued", "undo-issued")]

    def then(self, work: Callable[[str], None], path: str) -> None:
        """Do this next: a thousand branches that end at once are no recursion."""
        self._agenda.append(partial(work, path))

    def settle(self) -> None:
        """Do what is left to do."""
        while self._agenda:
            self._agenda.popleft()()

    def log(self, kind: Any, path: str = "", **values: Any) -> None:
        """Make an entry, and fold it."""
        entry = Entry(kind, self.now, path, **values)
        self.entries.append(entry)
        self.progress = apply(self.progress, entry)
        if entry.data:
            self._views.clear()

    def _outgoing(self, entry: Entry) -> Outgoing:
        step, view = self.saga.step(entry.path), self.view(self.progress.branch_around(entry.path))
        if entry.kind == "issued":
            return Outgoing(entry.command_id, step.command(view), step.token_for)
        undoes = self.progress.step(entry.path).command_id
        if entry.command == cancelling(step.sends):
            return Outgoing(entry.command_id, CancelSaga(undoes))
        assert step.undo is not None
        return Outgoing(entry.command_id, step.undo(view, undoes))

    # --- what is known where

    def view(self, branch: str) -> Any:
        """Return what the functions of a branch's steps are given."""
        if branch not in self._views:
            self._views[branch] = self._made_view(branch)
        return self._views[branch]

    def _made_view(self, branch: str) -> Any:
        if not branch:
            return self.saga.load(self.progress.data)
        fork = fork_of(branch)
        around = self.view(self.progress.branch_around(fork))
        if not isinstance(self.saga.at(fork), ForEach):
            return around
        return Each(around, self._item(branch))

    def _item(self, branch: str) -> Any:
        known = self.progress.branches[branch].data
        assert known is not None
        return built(self.saga.item_types[self.saga.declared(fork_of(branch))], known["item"])

    def learned(self, branch: str, after: Any) -> Mapping[str, Any]:
        """Return the fields that are known from now on in a branch; raise ValueError for what an item may not learn."""
        holder = self.progress.holder(branch)
        if not holder:
            return self.saga.changed(self.progress.data, after)
        if not isinstance(after, Each) or after.data != self.view(holder).data:
            raise ValueError(f"workflow {self.saga.key}, {holder}: a step of a ForEach learns about its item alone")
        return {"item": plain_item(after.item)}

    def items_of(self, fork: str) -> list[Any]:
        """Return the items of a ForEach, in order, as their steps have left them."""
        found, key = list[Any](), self.fork(fork).first
        while key:
            branch = f"{fork}/{key}"
            found.append(self._item(branch))
            key = self.progress.branches[branch].following
        return found

    # --- reading

    def fork(self, path: str) -> Any:
        """Return where the branches of a Parallel or a ForEach stand together."""
        return self.progress.branch(self.progress.branch_around(path)).forks[path]

    def find(self, command_id: str) -> tuple[str, bool]:
        """Return the path of the step that sent a command, and whether to undo; LookupError for one it never sent."""
        for path, step in self._steps_knowing(command_id).items():
            if command_id in (step.command_id, step.undo_id):
                return path, command_id == step.undo_id
        raise LookupError(f"saga {self.progress.saga_id} never issued command {command_id}")

    def path_of_former(self, command_id: str) -> str | None:
        """Return the path of the step whose command was replaced by another."""
        steps = self._steps_knowing(command_id).items()
        return next((path for path, step in steps if command_id in step.former), None)

    def _steps_knowing(self, command_id: str) -> Mapping[str, StepState]:
        """Return the steps of the branch that has sent a command, or of the trunk."""
        if not command_id:
            return {}
        if not self.progress.forks or knows(self.progress.steps, command_id):
            return self.progress.steps
        branch = self.progress.branches.knowing(command_id)
        return self.progress.branches[branch].steps if branch else {}

    def awaits(self, path: str) -> bool:
        """Tell whether a step's answer is waited for."""
        if self.progress.compensating or self.progress.status in TERMINAL:
            return False
        around = self.progress.branch_around(path)
        is_open = not around or self.progress.branches[around].state == "open"
        return is_open and self.progress.step(path).status in ("issued", "failed")

    def command(self, path: str) -> str:
        """Return the name of the command that a step waits for."""
        state = self.progress.step(path)
        return state.undo if self.progress.compensating else state.command


def plain_item(item: Any) -> Any:
    """Return an item as a log keeps it."""
    return plain(item) if hasattr(item, "__dataclass_fields__") else item
