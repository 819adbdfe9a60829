"""Where the steps of a saga stand, branch by branch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

StepStatus = Literal[
    "pending", "issued", "sleeping", "waiting", "done", "refused", "failed", "undoing", "undone", "then", "else",
    "forked", "joined", "going-back", "awaiting", "queued",
]  # fmt: skip


class StepState(NamedTuple):
    """Hold where one step stands."""

    status: StepStatus = "pending"
    command: str = ""
    command_id: str = ""
    attempts: int = 0
    undo: str = ""
    undo_id: str = ""
    undo_attempts: int = 0
    late: bool = False
    """Whether a success was noted that came after giving up."""
    undo_answer: str = ""
    """`refused` or `failed`: the answer for good that the undo got; empty while one may still come."""
    former: tuple[str, ...] = ()
    """Ids of the commands that were replaced by new ones."""
    signal: str = ""
    """Name of the signal that is waited for, or was."""


class Fork(NamedTuple):
    """Hold where the branches of a Parallel or a ForEach stand together."""

    first: str = ""
    """Key of the first branch; empty when there is none."""
    next: str = ""
    """Key of the branch that begins next, forward or back; empty when there is none."""
    open: int = 0
    """How many branches have begun and not ended."""
    cause: tuple[str, str] = ("", "")
    """Code and detail of what made a branch fail whose neighbours are waited for."""


class Branch(NamedTuple):
    """Hold where one branch stands: a sequence of steps that waits for one thing at a time."""

    steps: Mapping[str, StepState] = {}
    data: Mapping[str, Any] | None = None
    """What an item knows, or the trunk; None where that is known around the branch."""
    wake_at: float | None = None
    sent_at: float | None = None
    stuck: bool = False
    """Whether it waits for an operator."""
    state: Literal["pending", "open", "ended", "failed", "going-back", "undone"] = "open"
    following: str = ""
    """Key of the branch that begins after this one."""
    forks: Mapping[str, Fork] = {}

    def outstanding(self, *, compensating: bool) -> tuple[str, str] | None:
        """Return path and id of the command that it waits for."""
        if self.state not in ("open", "going-back"):
            return None
        for path, step in self.steps.items():
            if step.status == "undoing":
                return path, step.undo_id
        if compensating:
            return None
        waiting = ((path, step.command_id) for path, step in self.steps.items() if step.status in ("issued", "failed"))
        return next(waiting, None)

    @property
    def resting(self) -> str | None:
        """Path of the step that waits for its time, a signal or its turn, and for no answer."""
        if self.state != "open":
            return None
        resting = ("sleeping", "waiting", "awaiting", "queued")
        return next((path for path, step in self.steps.items() if step.status in resting), None)


def knows(steps: Mapping[str, StepState], command_id: str) -> bool:
    """Tell whether one of these steps has ever sent this command."""
    return any(command_id in (step.command_id, step.undo_id, *step.former) for step in steps.values())


class Kept(Protocol):
    """Where branches are kept that are not in memory."""

    def one(self, path: str) -> Branch | None:
        """Return a branch."""
        ...

    def all(self) -> Mapping[str, Branch]:
        """Return every branch."""
        ...


class Branches(Mapping[str, Branch]):
    """The branches of a saga by their paths. One is fetched when it is asked for, all when they are counted."""

    def __init__(
        self,
        changed: Mapping[str, Branch] | None = None,
        kept: Kept | None = None,
        fetched: dict[str, Branch] | None = None,
    ) -> None:
        self.changed = dict(changed or {})
        """Those that are not as they were fetched."""
        self._kept, self._fetched = kept, {} if fetched is None else fetched

    def __getitem__(self, path: str) -> Branch:
        if path in self.changed:
            return self.changed[path]
        if path not in self._fetched:
            found = self._kept.one(path) if self._kept else None
            if found is None:
                raise KeyError(path)
            self._fetched[path] = found
        return self._fetched[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Branches) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def _whole(self) -> Mapping[str, Branch]:
        if self._kept:
            self._fetched.update({**self._kept.all(), **self._fetched})
            self._kept = None
        return self._in_memory

    def fetch(self, path: str) -> None:
        """Have a branch in memory: it is the first to be asked who sent a command."""
        self[path]

    def with_all(self, changed: Mapping[str, Branch]) -> Branches:
        """Return them with some changed, or more of them."""
        return Branches({**self.changed, **changed}, self._kept, self._fetched)

    def waiting_no_more(self) -> Branches:
        """Return them with nothing that wakes one, and nobody asked to help."""
        opened = {path: one for path, one in self.items() if one.state == "open"}
        return self.with_all(
            {path: one._replace(wake_at=None, sent_at=None, stuck=False) for path, one in opened.items()}
        )

    def knowing(self, command_id: str) -> str | None:
        """Return the path of the branch that has sent a command; those in memory are asked first."""
        return next((path for path in chain(self._in_memory, self) if knows(self[path].steps, command_id)), None)

    @property
    def _in_memory(self) -> Mapping[str, Branch]:
        return {**self._fetched, **self.changed}


# --- paths


def is_branch(path: str) -> bool:
    """Tell a branch, or the trunk, from a step."""
    return not path or path.count("/") % 2 == 1


def fork_of(branch: str) -> str:
    """Return the path of the Parallel or ForEach that a branch belongs to."""
    return branch.rpartition("/")[0]


def escaped(key: str) -> str:
    """Write a key as a part of a path (RFC 6901 §3)."""
    return key.replace("~", "~0").replace("/", "~1")
