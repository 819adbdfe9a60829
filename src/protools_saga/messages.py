"""Say what the coordinator understands and tells: workflows to run, and every move of every saga."""

from __future__ import annotations

from dataclasses import dataclass

from seedwork.messages import Body, CommandFailed, CommandRefused, command, event


@command("protools_saga.issue-password")
@dataclass(frozen=True)
class IssuePassword(Body):
    """Ask for a password to be issued for a user and mailed; its command id is the saga's id."""

    username: str
    email: str


@dataclass(frozen=True)
class StepView:
    """Show where one step stands."""

    command: str
    status: str
    command_id: str
    attempts: int
    undo: str
    undo_id: str
    undo_attempts: int
    late: bool
    """Whether a success came after giving up."""


@dataclass(frozen=True)
class LogEntry:
    """Show one line of the command log; `data` is JSON text, `at` and `wake_at` are Unix seconds."""

    kind: str
    at: float
    step: int
    command: str
    command_id: str
    attempt: int
    code: str
    detail: str
    wake_at: float | None
    data: str


@event("protools_saga.saga-moved")
@dataclass(frozen=True)
class SagaMoved(Body):
    """Tell one move of a saga: its full state and the log entries that led there."""

    saga_id: str
    workflow: str
    subject: str
    """Whom the workflow is for: the username."""
    status: str
    reason_code: str
    reason_detail: str
    started_at: float
    moved_at: float
    steps: tuple[StepView, ...]
    entries: tuple[LogEntry, ...]


@event("protools_saga.command-refused")
class SagaRefused(CommandRefused):
    """Tell that the coordinator refused a command before a saga existed."""


@event("protools_saga.command-failed")
class SagaFailed(CommandFailed):
    """Tell that a command became a dead letter before a saga existed."""


MESSAGES = (IssuePassword, SagaMoved, SagaRefused, SagaFailed)
