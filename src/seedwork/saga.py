"""Decide what a saga does next: a workflow is data, `start` and `advance` are pure.

Each move is a list of log entries; `fold` turns entries into progress, and nothing else does. The snapshot in the
saga's row is therefore what its log says, by construction. Time and ids come in as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Status = Literal["RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "SUSPENDED"]
StepStatus = Literal["pending", "issued", "done", "refused", "failed", "undoing", "undone"]
Data = Mapping[str, Any]

TERMINAL: frozenset[Status] = frozenset({"COMPLETED", "COMPENSATED"})
ACTIVE: frozenset[Status] = frozenset({"RUNNING", "COMPENSATING"})


def minutes(number: float) -> float:
    """Return seconds."""
    return number * 60


def hours(number: float) -> float:
    """Return seconds."""
    return number * 3600


@dataclass(frozen=True)
class Every:
    """Say after how many seconds of silence a command may be sent again."""

    seconds: float


def _learn_nothing(_reply: Any) -> Data:
    return {}


@dataclass(frozen=True, kw_only=True)
class Step:
    """Describe one step, forward and back side by side."""

    command: Callable[[Data], Any]
    """Saga data → body of the command."""
    learn: Callable[[Any], Data] = _learn_nothing
    """Body of the reply → what is added to the saga's data."""
    compensation: Callable[[Data, str], Any] | None = None
    """Saga data and the id of the command to undo → body of the compensating command."""
    retry: Every = Every(seconds=5)
    deadline: float
    """Seconds from issuing; before the pivot it compensates, from the pivot on it suspends."""
    pivot: bool = False
    late: Literal["ignore", "park"] = "park"
    """What a success does that arrives after giving up on a step without compensation."""


@dataclass(frozen=True, kw_only=True)
class Saga:
    """Name a workflow and its steps in order. A running saga finishes on the `name@version` it began with."""

    name: str
    steps: list[Step]
    version: int = 1

    @property
    def key(self) -> str:
        """Name and version, as stored with every saga."""
        return f"{self.name}@{self.version}"

    @property
    def pivot(self) -> int:
        """Index of the pivot; without one, every step may be compensated."""
        return next((index for index, step in enumerate(self.steps) if step.pivot), len(self.steps))


@dataclass(frozen=True)
class StepState:
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


@dataclass(frozen=True)
class Entry:
    """Record one thing that happened or was decided: a line of the command log. `at` and `wake_at` are Unix seconds."""

    kind: Literal[
        "started", "issued", "replied", "refused", "failed", "timed-out", "compensating", "undo-issued", "undone",
        "undo-refused", "undo-failed", "reply-lost", "suspended", "resumed", "late", "parked", "ended",
    ]  # fmt: skip
    at: float
    step: int = -1
    command: str = ""
    command_id: str = ""
    attempt: int = 0
    code: str = ""
    detail: str = ""
    wake_at: float | None = None
    data: Data = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Hold where one saga stands: the fold of its log."""

    saga_id: str
    workflow: str
    status: Status = "RUNNING"
    seq: int = 0
    """Number of moves; the version of every event of this saga."""
    data: Data = field(default_factory=dict)
    steps: tuple[StepState, ...] = ()
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
    def outstanding(self) -> tuple[int, str] | None:
        """Step and command id that the saga waits for."""
        for index, step in enumerate(self.steps):
            if step.status == "undoing":
                return index, step.undo_id
        if self.compensating:
            return None
        waiting = (index for index, step in enumerate(self.steps) if step.status in ("issued", "failed"))
        return next(((index, self.steps[index].command_id) for index in waiting), None)


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


Happening = Replied | Refused | Failed | Due | Silent
Move = tuple[Progress, list[Entry], list[Outgoing]]


def start(saga: Saga, saga_id: str, data: Data, now: float, new_id: Callable[[], str]) -> Move:
    """Begin: return progress, log entries and the first command."""
    progress = Progress(saga_id, saga.key, steps=tuple(StepState() for _ in saga.steps))
    return _Turn(saga, progress, now, new_id).started(data).move()


def advance(saga: Saga, progress: Progress, happening: Happening, now: float, new_id: Callable[[], str]) -> Move:
    """Take one happening: return the next progress, the log entries and the commands to send.

    No entries means that nothing changed (a duplicate, or a happening that no longer matters).
    """
    turn = _Turn(saga, progress, now, new_id)
    match happening:
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
    return turn.move()


class _Turn:
    """Collect the entries of one move, folding each as it is made."""

    def __init__(self, saga: Saga, progress: Progress, now: float, new_id: Callable[[], str]) -> None:
        self.saga, self.progress, self.now, self.new_id = saga, progress, now, new_id
        self.entries: list[Entry] = []

    def move(self) -> Move:
        if not self.entries:
            return self.progress, [], []
        progress = replace(self.progress, seq=self.progress.seq + 1)
        return progress, self.entries, [self._outgoing(e) for e in self.entries if e.kind in ("issued", "undo-issued")]

    def _outgoing(self, entry: Entry) -> Outgoing:
        step, data = self.saga.steps[entry.step], self.progress.data
        if entry.kind == "issued":
            return Outgoing(entry.command_id, step.command(data))
        assert step.compensation is not None
        return Outgoing(entry.command_id, step.compensation(data, self.progress.steps[entry.step].command_id))

    def log(self, kind: Any, step: int = -1, **values: Any) -> None:
        entry = Entry(kind, self.now, step, **values)
        self.entries.append(entry)
        self.progress = apply(self.progress, entry)

    # --- forward

    def started(self, data: Data) -> _Turn:
        self.log("started", data=dict(data))
        self.issue(0)
        return self

    def issue(self, index: int) -> None:
        if index == len(self.saga.steps):
            self.log("ended", code="COMPLETED")
            return
        step = self.saga.steps[index]
        name = step.command(self.progress.data).contract.name
        self.log("issued", index, command=name, command_id=self.new_id(), attempt=1, wake_at=self.now + step.deadline)

    def replied(self, reply: Replied) -> None:
        index, undo = self._find(reply.command_id)
        if undo:
            self._undone(index)
        elif self._awaits(index):
            self._resume()
            self.log("replied", index, command_id=reply.command_id, data=dict(self.saga.steps[index].learn(reply.body)))
            self.issue(index + 1)
        elif self.progress.steps[index].status != "done" and not self.progress.steps[index].late:
            self._late(index, reply.command_id)

    def _late(self, index: int, command_id: str) -> None:
        step, state = self.saga.steps[index], self.progress.steps[index]
        undoable = step.compensation is not None and state.status != "refused"
        policy = "compensate" if undoable else step.late
        self.log("parked" if policy == "park" else "late", index, command_id=command_id, code=policy)

    def refused(self, no: Refused) -> None:
        index, undo = self._find(no.command_id)
        named: dict[str, Any] = {"command_id": no.command_id, "code": no.code, "detail": no.detail}
        if undo:
            if self.progress.steps[index].status == "undoing" and self.progress.status != "SUSPENDED":
                self.log("undo-refused", index, **named)
                self._suspend(no.code, no.detail)
        elif self._awaits(index):
            self._resume()
            self.log("refused", index, **named)
            if index > self.saga.pivot:
                self._suspend(no.code, no.detail)
            else:
                self._give_up(no.code, no.detail)

    # --- trouble

    def failed(self, failure: Failed) -> None:
        index, undo = self._find(failure.command_id)
        waiting = self.progress.steps[index].status == "undoing" if undo else self._awaits(index)
        if not waiting or self.progress.status not in ACTIVE:
            return
        kind = "reply-lost" if failure.reply_lost else "undo-failed" if undo else "failed"
        self.log(kind, index, command_id=failure.command_id, code=failure.code, detail=failure.detail)
        self._suspend(failure.code, failure.detail)

    def due(self) -> None:
        waiting = self.progress.outstanding
        if self.progress.status not in ACTIVE or waiting is None or (self.progress.wake_at or 0) > self.now:
            return
        index, command_id = waiting
        detail = f"no answer to {self._command(index)} within its deadline"
        self.log("timed-out", index, command_id=command_id)
        if self.progress.compensating or index >= self.saga.pivot:
            self._suspend("timed-out", detail)
        else:
            self._give_up("timed-out", detail)

    def silent(self) -> None:
        waiting = self.progress.outstanding
        if self.progress.status not in ACTIVE or waiting is None:
            return
        index, command_id = waiting
        state = self.progress.steps[index]
        kind, attempt = (
            ("undo-issued", state.undo_attempts) if self.progress.compensating else ("issued", state.attempts)
        )
        self.log(
            kind,
            index,
            command=self._command(index),
            command_id=command_id,
            attempt=attempt + 1,
            wake_at=self.progress.wake_at,
        )

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
        for index in reversed(range(len(self.saga.steps))):
            step, state = self.saga.steps[index], self.progress.steps[index]
            if step.compensation is not None and state.status in ("issued", "done", "failed"):
                name = step.compensation(self.progress.data, state.command_id).contract.name
                wake_at = self.now + step.deadline
                self.log("undo-issued", index, command=name, command_id=self.new_id(), attempt=1, wake_at=wake_at)
                return
        self.log("ended", code="COMPENSATED")

    def _undone(self, index: int) -> None:
        if self.progress.steps[index].status == "undoing":
            self._resume()
            self.log("undone", index, command_id=self.progress.steps[index].undo_id)
            self._undo_next()

    # --- reading

    def _find(self, command_id: str) -> tuple[int, bool]:
        for index, step in enumerate(self.progress.steps):
            if command_id and command_id in (step.command_id, step.undo_id):
                return index, command_id == step.undo_id
        raise LookupError(f"saga {self.progress.saga_id} never issued command {command_id}")

    def _awaits(self, index: int) -> bool:
        waiting = not self.progress.compensating and self.progress.status not in TERMINAL
        return waiting and self.progress.steps[index].status in ("issued", "failed")

    def _command(self, index: int) -> str:
        state = self.progress.steps[index]
        return state.undo if self.progress.compensating else state.command


def fold(progress: Progress, entries: Iterable[Entry]) -> Progress:
    """Apply the entries of one move; `seq` counts moves."""
    for entry in entries:
        progress = apply(progress, entry)
    return replace(progress, seq=progress.seq + 1)


def apply(progress: Progress, entry: Entry) -> Progress:
    """Return the progress after one log entry: the one place where progress changes."""
    return replace(progress, moved_at=entry.at, **_step_change(progress, entry), **_change(progress, entry))


def _change(progress: Progress, entry: Entry) -> dict[str, Any]:
    why, waits_no_more = (entry.code, entry.detail), {"wake_at": None, "sent_at": None}
    match entry.kind:
        case "started":
            return {"data": entry.data, "started_at": entry.at}
        case "issued" | "undo-issued":
            return {"wake_at": entry.wake_at, "sent_at": entry.at}
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
    match entry.kind:
        case "issued":
            named = {"command": entry.command, "command_id": entry.command_id, "attempts": entry.attempt}
            change: dict[str, Any] = {"status": "issued", **named}
        case "undo-issued":
            named = {"undo": entry.command, "undo_id": entry.command_id, "undo_attempts": entry.attempt}
            change = {"status": "undoing", **named}
        case "replied":
            change = {"status": "done"}
        case "refused" | "failed" | "undone":
            change = {"status": entry.kind}
        case "late" | "parked":
            change = {"late": True}
        case _:
            return {}
    steps = list(progress.steps)
    steps[entry.step] = replace(steps[entry.step], **change)
    return {"steps": tuple(steps)}
