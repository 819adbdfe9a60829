"""Decide what a saga does next; pure: time and ids come in as arguments, entries and commands go out.

Each move is a list of log entries, folded one by one as they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pulsaga.errors import Unavailable
from pulsaga.saga.definition import Known, Saga
from pulsaga.saga.engine.by_hand import ByHand
from pulsaga.saga.engine.turn import Move
from pulsaga.saga.happenings import (
    Cancelled,
    Due,
    Failed,
    Granted,
    Happening,
    Operator,
    Refused,
    Replied,
    Signalled,
    Silent,
)
from pulsaga.saga.log import Progress


def start(saga: Saga[Any], saga_id: str, data: Known, now: float, new_id: Callable[[], str]) -> Move:
    """Begin: return progress, log entries and the first commands; raise DomainError for items that cannot be taken."""
    turn = ByHand(saga, Progress(saga_id, saga.key), now, new_id)
    turn.log("started", data=dict(data))
    turn.refuse_items()
    turn.take_up("0")
    return turn.move()


def advance(saga: Saga[Any], progress: Progress, happening: Happening, now: float, new_id: Callable[[], str]) -> Move:
    """Take one happening: return the next progress, the log entries and the commands to send.

    No entries means that nothing changed (a duplicate, or a happening that no longer matters). Raise DomainError for
    what somebody wants and the saga cannot do, Unavailable for what has to wait while it is paused.
    """
    if progress.paused and not isinstance(happening, Operator | Cancelled):
        raise Unavailable(f"saga {progress.saga_id} is paused")
    turn = ByHand(saga, progress, now, new_id)
    match happening:
        case Replied() | Refused() | Failed() if turn.path_of_former(happening.command_id):
            turn.answered_too_late(happening)
        case Replied():
            turn.replied(happening)
        case Refused():
            turn.refused(happening)
        case Failed():
            turn.failed(happening)
        case Due():
            turn.due(happening)
        case Silent():
            turn.silent(happening)
        case Granted():
            turn.granted(happening)
        case Signalled():
            turn.signalled(happening)
        case Operator():
            turn.operator(happening)
        case Cancelled():
            turn.cancelled(happening)
    return turn.move()
