"""What every coordinator understands and tells: each system has classes of its own of these (`owned`)."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga.delivery.messages import contract_of


@dataclass(frozen=True)
class CancelSaga:
    """Ask for a saga to be given up; refused from its pivot on. Ahead of what begins the saga, it prevents that."""

    undoes: str
    """Id of the command that begins the saga."""


def cancelling(starting: type) -> str:
    """Return the name of the command that cancels what a command starts."""
    return f"{contract_of(starting).owner}.cancel-saga"


@dataclass(frozen=True)
class ChildEnded:
    """The end of a saga that another one has started."""

    child_id: str
    workflow: str
    status: str
    """COMPLETED or COMPENSATED."""
    reason_code: str
    reason_detail: str
    data: str
    """JSON of what it knew in the end."""


@dataclass(frozen=True)
class SagaMoved:
    """One move of a saga: its full state and the log entries that led there."""

    saga_id: str
    workflow: str
    subject: str
    """Whom or what the workflow is for."""
    status: str
    reason_code: str
    reason_detail: str
    started_at: float
    moved_at: float
    cancellable: bool
    """Whether a CancelSaga would be taken now."""
    steps: str
    """JSON of `pulsaga.saga.log.StepState`, written by `pulsaga.saga.snapshots`: where each step stands."""
    entries: str
    """JSON of `pulsaga.saga.log.Entry`, written by `pulsaga.saga.snapshots`: what this move adds to the command log."""
