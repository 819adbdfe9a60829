"""The command log of a saga: its entries and their fold.

`fold` turns log entries into progress, and nothing else does: the snapshot in a saga's row is what its log says, by
construction. What happens next is decided in `pulsaga.saga.engine`.

A path says where in a workflow something stands, as a JSON Pointer (RFC 6901) does without its first slash: `1` is the
second step, `1/then/0` the first one of what the second step does if its condition holds, `2/1/0` the first one in the
second branch of the third step, `3/ada/0` that of the item whose key is `ada`. `2/1` and `3/ada` are branches; the
trunk, which every saga has, is the empty path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pulsaga.saga.branches import Branch, Branches, Fork, StepState, fork_of, is_branch
from pulsaga.saga.definition import Known

Status = Literal["RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "SUSPENDED"]

TERMINAL: frozenset[Status] = frozenset({"COMPLETED", "COMPENSATED"})
ACTIVE: frozenset[Status] = frozenset({"RUNNING", "COMPENSATING"})
FORMAT = 2
"""Of what rows and messages keep: in 1, steps stood by number in a list. `pulsaga.saga.snapshots` reads both."""


class Entry(NamedTuple):
    """Record one thing that happened or was decided: a line of the command log. `at` and `wake_at` are Unix seconds."""

    kind: Literal[
        "started", "issued", "replied", "refused", "failed", "timed-out", "compensating", "undo-issued", "undone",
        "undo-refused", "undo-failed", "reply-lost", "suspended", "resumed", "late", "parked", "operator", "ended",
        "decided", "sleeping", "woke", "to-be-retried", "forked", "joined", "going-back", "branch-began",
        "branch-ended", "branch-failed", "branch-going-back", "branch-undone", "awaiting", "signalled", "kept",
        "queued", "paused",
    ]  # fmt: skip
    at: float
    path: str = ""
    """Of the step or branch that it is about; empty when it is about the saga."""
    command: str = ""
    command_id: str = ""
    attempt: int = 0
    code: str = ""
    detail: str = ""
    wake_at: float | None = None
    data: Known = {}


class Progress(NamedTuple):
    """Hold where one saga stands: the fold of its log."""

    saga_id: str
    workflow: str
    status: Status = "RUNNING"
    seq: int = 0
    """Number of moves; the version of every event of this saga."""
    data: Known = {}
    steps: Mapping[str, StepState] = {}
    """Where each step of the trunk stands that has begun, by its path, in the order in which they began."""
    compensating: bool = False
    cause: tuple[str, str] = ("", "")
    """Code and detail of what began the compensation."""
    reason: tuple[str, str] = ("", "")
    """Code and detail behind the present status."""
    wake_at: float | None = None
    sent_at: float | None = None
    started_at: float = 0.0
    moved_at: float = 0.0
    forks: Mapping[str, Fork] = {}
    """Where the branches of each Parallel and ForEach of the trunk stand together, by its path."""
    branches: Branches = Branches()
    early: Mapping[str, Known] = {}
    """Signals that came before they were waited for, by their names."""
    stuck: int = 0
    """How many branches wait for an operator. A suspended saga that has none is stuck in its trunk, or paused."""
    paused: bool = False
    """Whether an operator wants nothing to happen to it."""

    def branch(self, path: str) -> Branch:
        """Return where a branch stands, or the trunk."""
        if path:
            return self.branches[path]
        return Branch(self.steps, self.data, self.wake_at, self.sent_at, self.is_stuck(""), forks=self.forks)

    def is_stuck(self, path: str) -> bool:
        """Tell whether a branch, or the trunk, waits for an operator."""
        stands = self.status == "SUSPENDED" and not self.stuck and not self.paused
        return self.branches[path].stuck if path else stands

    def branch_around(self, path: str) -> str:
        """Return the path of the branch that a step belongs to; empty for the trunk."""
        if "/" not in path:
            return ""
        around, steps = "", self.steps
        parts = path.split("/")
        for depth in range(1, len(parts) - 1, 2):
            node = "/".join(parts[:depth])
            if steps[node].status not in ("then", "else"):
                around = "/".join(parts[: depth + 1])
                steps = self.branches[around].steps
        return around

    def step(self, path: str) -> StepState:
        """Return where a step stands that has begun, in whichever branch."""
        around = self.branch_around(path)
        return self.branches[around].steps[path] if around else self.steps[path]

    def holder(self, branch: str) -> str:
        """Return the branch that keeps what is known in a branch: an item keeps its own, any other what is around."""
        while branch and self.branches[branch].data is None:
            branch = self.branch_around(fork_of(branch))
        return branch

    @property
    def wakes_at(self) -> float | None:
        """When something next happens of itself, in its trunk or in a branch."""
        times = [self.wake_at, *(branch.wake_at for branch in self.branches.values())]
        return min((time for time in times if time is not None), default=None) if self.status in ACTIVE else None

    @property
    def awaited(self) -> Mapping[str, tuple[str, str]]:
        """Path and command id that each branch waits for, by its path, the trunk's by the empty one."""
        branches = {"": self.branch(""), **self.branches}
        waiting = {path: one.outstanding(compensating=self.compensating) for path, one in branches.items()}
        return {path: found for path, found in waiting.items() if found}

    @property
    def all_steps(self) -> Mapping[str, StepState]:
        """Where each step of the trunk and of every branch stands that has begun."""
        return {**self.steps, **{path: state for one in self.branches.values() for path, state in one.steps.items()}}


def fold(progress: Progress, entries: Iterable[Entry]) -> Progress:
    """Apply the entries of one move; `seq` counts moves."""
    for entry in entries:
        progress = apply(progress, entry)
    return progress._replace(seq=progress.seq + 1)


def apply(progress: Progress, entry: Entry) -> Progress:
    """Return the progress after one log entry: the one place where progress changes."""
    at = entry.path if is_branch(entry.path) else progress.branch_around(entry.path)
    before: Branch | Progress = progress.branches[at] if at else progress  # a saga is its own trunk
    of_saga, of_branch = _saga_change(progress, entry), {**_step_change(before, entry), **_change(before, entry)}
    progress = _with(progress._replace(moved_at=entry.at, **of_saga), at, of_branch)
    match entry.kind:
        case "replied" | "joined" | "signalled" if entry.data:
            holder = progress.holder(at)
            known = progress.branches[holder].data if holder else progress.data
            return _with(progress, holder, {"data": {**(known or {}), **entry.data}})
        case "forked":
            return progress._replace(branches=progress.branches.with_all(_branches_of(entry)))
        case "branch-began" | "branch-ended" | "branch-failed" | "branch-going-back" | "branch-undone":
            return _counted(progress, entry)
        case "compensating" if progress.forks:
            return progress._replace(branches=progress.branches.waiting_no_more())
    return progress


def _with(progress: Progress, path: str, changes: Mapping[str, Any]) -> Progress:
    """Return the progress with changes to a branch, or to the trunk."""
    if not path:
        return progress._replace(**changes)
    branch = progress.branches[path]._replace(**changes)
    return progress._replace(branches=progress.branches.with_all({path: branch}))


def _saga_change(progress: Progress, entry: Entry) -> dict[str, Any]:
    why = entry.code, entry.detail
    match entry.kind:
        case "started":
            return {"started_at": entry.at}
        case "compensating":
            return {
                "status": "COMPENSATING",
                "compensating": True,
                "cause": why,
                "reason": why,
                "stuck": 0,
                "paused": False,
            }
        case "suspended":
            return {"status": "SUSPENDED", "reason": why, "stuck": progress.stuck + bool(entry.path)}
        case "paused":
            return {"status": "SUSPENDED", "reason": why, "paused": True}
        case "resumed":
            stuck = progress.stuck - bool(entry.path)
            status = "COMPENSATING" if progress.compensating else "RUNNING"
            return (
                {"stuck": stuck} if stuck else {"status": status, "reason": progress.cause, "stuck": 0, "paused": False}
            )
        case "kept":
            return {"early": {**progress.early, entry.code: entry.data}}
        case "signalled":
            return {"early": {name: body for name, body in progress.early.items() if name != entry.code}}
        case "ended":
            return {"status": entry.code, "reason": progress.cause}
    return {}


def _change(branch: Branch | Progress, entry: Entry) -> dict[str, Any]:
    waits_no_more = {"wake_at": None, "sent_at": None}
    match entry.kind:
        case "started":
            return {"data": entry.data}
        case "issued" | "undo-issued":
            return {"wake_at": entry.wake_at, "sent_at": entry.at}
        case "sleeping" | "to-be-retried" | "awaiting" | "queued":
            return {"wake_at": entry.wake_at, "sent_at": None}
        case "replied" | "compensating":
            return {"sent_at": None}
        case "suspended":
            return {**waits_no_more, **({"stuck": True} if entry.path else {})}
        case "resumed":
            return {"wake_at": entry.wake_at, **({"stuck": False} if entry.path else {})}
        case "ended":
            return waits_no_more
        case "forked":
            first = next(iter(entry.data["keys"]), "")
            return {**waits_no_more, "forks": {**branch.forks, entry.path: Fork(first, first)}}
        case "going-back":
            fork = branch.forks[entry.path]
            return {**waits_no_more, "forks": {**branch.forks, entry.path: fork._replace(next=fork.first, open=0)}}
        case "branch-began":
            return {"state": "open"}
        case "branch-ended" | "branch-failed" | "branch-undone" | "branch-going-back":
            return {"state": entry.kind.removeprefix("branch-"), **waits_no_more}
    return {}


def _branches_of(entry: Entry) -> dict[str, Branch]:
    """Return the branches that a fork makes, none of them begun."""
    keys, items = entry.data["keys"], entry.data.get("items")
    kept = [None] * len(keys) if items is None else [{"item": item} for item in items]
    return {
        f"{entry.path}/{key}": Branch(data=data, state="pending", following=following)
        for key, data, following in zip(keys, kept, [*keys[1:], ""], strict=False)
    }


def _counted(progress: Progress, entry: Entry) -> Progress:
    """Return the progress after the fork around a branch has noted that it began or ended."""
    path = fork_of(entry.path)
    at = progress.branch_around(path)
    forks = progress.branches[at].forks if at else progress.forks
    fork = forks[path]
    if entry.kind in ("branch-began", "branch-going-back"):
        fork = fork._replace(next=progress.branches[entry.path].following, open=fork.open + 1)
    else:
        failed = entry.kind == "branch-failed" and not fork.cause[0]
        fork = fork._replace(open=fork.open - 1, cause=(entry.code, entry.detail) if failed else fork.cause)
    return _with(progress, at, {"forks": {**forks, path: fork}})


def _step_change(branch: Branch | Progress, entry: Entry) -> dict[str, Any]:
    before = branch.steps.get(entry.path, StepState())
    match entry.kind:
        case "issued":
            named = {"command": entry.command, "command_id": entry.command_id, "attempts": entry.attempt}
            change: dict[str, Any] = {"status": "issued", **named, "former": _former(before, before.command_id, entry)}
        case "undo-issued":
            named = {"undo": entry.command, "undo_id": entry.command_id, "undo_attempts": entry.attempt}
            former = _former(before, before.undo_id, entry)
            change = {"status": "undoing", **named, "undo_answer": "", "former": former}
        case "undo-refused" | "undo-failed":
            change = {"undo_answer": entry.kind.removeprefix("undo-")}
        case "replied" | "woke":
            change = {"status": "done"}
        case "awaiting":
            change = {"status": "awaiting", "signal": entry.code}
        case "signalled":
            change = {"status": "done", "signal": entry.code}
        case "refused" | "failed" | "undone" | "sleeping" | "forked" | "joined" | "going-back" | "queued":
            change = {"status": entry.kind}
        case "to-be-retried":
            change = {"status": "waiting"}
        case "decided":
            change = {"status": entry.code}
        case "late" | "parked":
            change = {"late": True}
        case _:
            return {}
    return {"steps": {**branch.steps, entry.path: before._replace(**change)}}


def _former(before: StepState, replaced: str, entry: Entry) -> tuple[str, ...]:
    return before.former if replaced in ("", entry.command_id) else (*before.former, replaced)
