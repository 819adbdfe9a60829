"""Say what the coordinator understands and tells: workflows to run, and every move of every saga."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga.delivery.messages import Body, CommandFailed, CommandRefused, command, event


@command("protools_saga.issue-password")
@dataclass(frozen=True)
class IssuePassword(Body):
    """Ask for a password to be issued for a user and mailed; its command id is the saga's id."""

    username: str
    email: str


@command("protools_saga.cancel-saga")
@dataclass(frozen=True)
class CancelSaga(Body):
    """Ask for a saga to be given up; refused from its pivot on. Ahead of what begins the saga, it prevents that."""

    undoes: str
    """Id of the command that begins the saga."""


@command("protools_saga.rotate-password")
@dataclass(frozen=True)
class RotatePassword(Body):
    """Ask for a user's valid password to be replaced, and the next one mailed; its command id is the saga's id."""

    username: str
    email: str


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
    cancellable: bool
    """Whether a CancelSaga would be taken now."""
    steps: str
    """JSON list of `pulsaga.saga.log.StepState`: where each step stands."""
    entries: str
    """JSON list of `pulsaga.saga.log.Entry`: what this move adds to the command log."""


@event("protools_saga.command-refused")
class SagaRefused(CommandRefused):
    """Tell that the coordinator refused a command before a saga existed."""


@event("protools_saga.command-failed")
class SagaFailed(CommandFailed):
    """Tell that a command became a dead letter before a saga existed."""


MESSAGES = (IssuePassword, RotatePassword, CancelSaga, SagaMoved, SagaRefused, SagaFailed)
