"""The command log of a saga: its entries, the happenings that cause them, and their fold.

`fold` turns log entries into progress, and nothing else does: the snapshot in a saga's row is what its log says, by
construction. What happens next is decided in `pulsaga.saga.engine`.

A path says where in a workflow something stands, as a JSON Pointer (RFC 6901) does without its first slash: `1` is the
second step, `1/then/0` the first one of what the second step does if its condition holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pulsaga.saga.definition import Known

Status = Literal["RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "SUSPENDED"]
StepStatus = Literal[
    "pending", "issued", "sleeping", "waiting", "done", "refused", "failed", "undoing", "undone", "then", "else"
]

TERMINAL: frozenset[Status] = frozenset({"COMPLETED", "COMPENSATED"})
ACTIVE: frozenset[Status] = frozenset({"RUNNING", "COMPENSATING"})
FORMAT = 2
"""Of what rows and messages keep: in 1, steps stood by number in a list. `pulsaga.saga.snapshots` reads both."""


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


class Entry(NamedTuple):
    """Record one thing that happened or was decided: a line of the command log. `at` and `wake_at` are Unix seconds."""

    kind: Literal[
        "started", "issued", "replied", "refused", "failed", "timed-out", "compensating", "undo-issued", "undone",
        "undo-refused", "undo-failed", "reply-lost", "suspended", "resumed", "late", "parked", "operator", "ended",
        "decided", "sleeping", "woke", "to-be-retried",
    ]  # fmt: skip
    at: float
    path: str = ""
    """Of the step that it is about; empty when it is about the saga."""
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
    """Where each step stands that has begun, by its path, in the order in which they began."""
    compensating: bool = False
    cause: tuple[str, str] = ("", "")
    """Code and detail of what began the compensation."""
    reason: tuple[str, str] = ("", "")
    """Code and detail behind the present status."""
    wake_at: float | None = None
    sent_at: float | None = None
    started_at: float = 0.0
    moved_at: float = 0.0

    @property
    def outstanding(self) -> tuple[str, str] | None:
        """Path and command id that the saga waits for."""
        for path, step in self.steps.items():
            if step.status == "undoing":
                return path, step.undo_id
        if self.compensating:
            return None
        waiting = ((path, step.command_id) for path, step in self.steps.items() if step.status in ("issued", "failed"))
        return next(waiting, None)

    @property
    def resting(self) -> str | None:
        """Path of the step that goes on when its time has come, whatever anybody answers."""
        if self.compensating:
            return None
        return next((path for path, step in self.steps.items() if step.status in ("sleeping", "waiting")), None)


@dataclass(frozen=True)
class Outgoing:
    """Ask for a command to be sent under this id; a re-sent command keeps its id."""

    command_id: str
    body: Any


@dataclass(frozen=True)
class Replied:
    """Happening: the command was done."""

    command_id: str
    body: Any


@dataclass(frozen=True)
class Refused:
    """Happening: the receiver said no, and did nothing."""

    command_id: str
    code: str
    detail: str


@dataclass(frozen=True)
class Failed:
    """Happening: the command became a dead letter at its receiver, or its reply at the coordinator (`reply_lost`)."""

    command_id: str
    code: str
    detail: str
    reply_lost: bool = False


@dataclass(frozen=True)
class Due:
    """Happening: the saga's `wake_at` has passed."""


@dataclass(frozen=True)
class Silent:
    """Happening: the outstanding command may be sent again."""


Action = Literal["resume", "retry-step", "compensate", "cancel"]


@dataclass(frozen=True)
class Operator:
    """Happening: somebody who answers for it wants the saga moved."""

    action: Action
    who: str
    why: str


@dataclass(frozen=True)
class Cancelled:
    """Happening: what was asked for is wanted no more."""

    who: str


Happening = Replied | Refused | Failed | Due | Silent | Operator | Cancelled


def fold(progress: Progress, entries: Iterable[Entry]) -> Progress:
    """Apply the entries of one move; `seq` counts moves."""
    for entry in entries:
        progress = apply(progress, entry)
    return progress._replace(seq=progress.seq + 1)


def apply(progress: Progress, entry: Entry) -> Progress:
    """Return the progress after one log entry: the one place where progress changes."""
    return progress._replace(moved_at=entry.at, **_step_change(progress, entry), **_change(progress, entry))


def _change(progress: Progress, entry: Entry) -> dict[str, Any]:
    why, waits_no_more = (entry.code, entry.detail), {"wake_at": None, "sent_at": None}
    match entry.kind:
        case "started":
            return {"data": entry.data, "started_at": entry.at}
        case "issued" | "undo-issued":
            return {"wake_at": entry.wake_at, "sent_at": entry.at}
        case "sleeping" | "to-be-retried":
            return {"wake_at": entry.wake_at, "sent_at": None}
        case "replied":
            return {"data": {**progress.data, **entry.data}, "sent_at": None}
        case "compensating":
            return {"status": "COMPENSATING", "compensating": True, "cause": why, "reason": why, "sent_at": None}
        case "suspended":
            return {"status": "SUSPENDED", "reason": why, **waits_no_more}
        case "resumed":
            status = "COMPENSATING" if progress.compensating else "RUNNING"
            return {"status": status, "reason": progress.cause, "wake_at": entry.wake_at}
        case "ended":
            return {"status": entry.code, "reason": progress.cause, **waits_no_more}
    return {}


def _step_change(progress: Progress, entry: Entry) -> dict[str, Any]:
    before = progress.steps.get(entry.path, StepState())
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
        case "refused" | "failed" | "undone" | "sleeping":
            change = {"status": entry.kind}
        case "to-be-retried":
            change = {"status": "waiting"}
        case "decided":
            change = {"status": entry.code}
        case "late" | "parked":
            change = {"late": True}
        case _:
            return {}
    return {"steps": {**progress.steps, entry.path: before._replace(**change)}}


def _former(before: StepState, replaced: str, entry: Entry) -> tuple[str, ...]:
    return before.former if replaced in ("", entry.command_id) else (*before.former, replaced)
