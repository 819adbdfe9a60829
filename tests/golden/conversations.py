"""Tell the conversations whose command logs are kept, and drive the engine through what happened in a log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from correo.messages import PasswordMailSent
from generador.messages import (
    NothingToRevoke,
    PasswordGenerated,
    PasswordRotated,
    SuccessorDropped,
    SuccessorGenerated,
)
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga.delivery.messages import contract_of
from pulsaga.records import plain
from pulsaga.saga.definition import Saga
from pulsaga.saga.engine.moves import advance, start
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
from pulsaga.saga.log import FORMAT, Entry, Progress, fold
from pulsaga.saga.messages import CancelSaga
from pulsaga.saga.snapshots import snapshot_of, snapshot_of_branch, write_entries
from pulsaga.saga.steps import hours, minutes

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "examples" / "trips"))

from trips.bookings import RoomBooked, RoomCancelled, SeatBooked, SeatCancelled  # noqa: E402 - it is not installed
from trips.desk import LetterWritten  # noqa: E402
from trips.payments import Pay, PayBack  # noqa: E402
from trips.plan_trip import PLAN_TRIP, Approve, PlanTrip, Traveller  # noqa: E402

SAGA_ID = "0190a000-0000-7000-8000-000000000000"
DATA = {"username": "ada", "email": "ada@example.test"}
TRIP = plain(PlanTrip("Rome", 5, (Traveller("ada"), Traveller("bob"))))
BEGAN = 1_800_000_000.0
REPLIES: Mapping[str, Any] = {
    "generated": PasswordGenerated("ada", "issued", BEGAN, BEGAN, "sealed"),
    "nothing": NothingToRevoke("ada", "c1"),
    "successor": SuccessorGenerated("ada", "c1", "sealed"),
    "dropped": SuccessorDropped("ada", "c1"),
    "rotated": PasswordRotated("ada", "issued", BEGAN, BEGAN),
    "room": RoomBooked(500),
    "no-room": RoomCancelled(),
    "seat": SeatBooked(80),
    "no-seat": SeatCancelled(),
    "written": LetterWritten(),
    "paid": Pay("Rome", 660),
    "paid-back": PayBack("Rome", "c6"),
    "sent": PasswordMailSent("c2", "ada", "ada@example.test", "sent", 1, BEGAN, BEGAN),
}
Said = tuple[float, str, str]
"""Seconds that passed, what happened, and to which command: `c1` is the first that was issued."""

SUCCESSOR: Said = (1.0, "successor", "c1")
GENERATED: Said = (1.0, "generated", "c1")
MAIL_REFUSED: Said = (1.0, "refused", "c2")
BOOKED: Sequence[Said] = [
    (1.0, "granted", "0/1/0/ada/0"),
    (1.0, "room", "c1"),
    (1.0, "granted", "0/1/0/bob/0"),
    (1.0, "seat", "c3"),
    (1.0, "seat", "c2"),
]
PAID: Sequence[Said] = [*BOOKED, (1.0, "written", "c4"), (1.0, "approved", ""), (1.0, "paid", "c5"), (1.0, "due", "")]

CONVERSATIONS: Mapping[str, Sequence[Said]] = {
    "completed": [GENERATED, (1.0, "sent", "c2")],
    "refused-at-the-first-step": [(1.0, "refused", "c1")],
    "refused-at-the-pivot": [GENERATED, MAIL_REFUSED, (1.0, "nothing", "c3")],
    "timed-out-before-the-pivot": [(minutes(15), "due", ""), (1.0, "nothing", "c2")],
    "late-success": [(minutes(15), "due", ""), (1.0, "generated", "c1"), (1.0, "nothing", "c2")],
    "refused-compensation-suspended": [GENERATED, MAIL_REFUSED, (1.0, "refused", "c3")],
    "failed-then-resumed": [(1.0, "failed", "c1"), GENERATED, (1.0, "sent", "c2")],
    "timed-out-at-the-pivot-then-late-success": [GENERATED, (hours(1), "due", ""), (1.0, "sent", "c2")],
    "sent-again": [(5.0, "silent", ""), (5.0, "silent", ""), GENERATED, (5.0, "silent", ""), (1.0, "sent", "c2")],
    "reply-lost-then-resumed": [(1.0, "reply-lost", "c1"), GENERATED, (1.0, "sent", "c2")],
    "answered-twice": [GENERATED, GENERATED, (1.0, "sent", "c2"), (1.0, "sent", "c2")],
    "cancelled": [(1.0, "cancelled", ""), (1.0, "nothing", "c2")],
    "cancelled-then-late-success": [(1.0, "cancelled", ""), GENERATED, (1.0, "nothing", "c2")],
    "refused-after-the-end": [GENERATED, (1.0, "sent", "c2"), (1.0, "refused", "c1")],
    "rotation-completed": [SUCCESSOR, (1.0, "sent", "c2"), (1.0, "rotated", "c3")],
    "rotation-refused-at-the-first-step": [(1.0, "refused", "c1")],
    "rotation-refused-at-the-pivot": [SUCCESSOR, MAIL_REFUSED, (1.0, "dropped", "c3")],
    "rotation-timed-out-before-the-pivot": [(minutes(15), "due", ""), (1.0, "dropped", "c2")],
    "rotation-retired-after-silence": [SUCCESSOR, (1.0, "sent", "c2"), (5.0, "silent", ""), (1.0, "rotated", "c3")],
    "trip-completed": [*PAID, (1.0, "written", "c6")],
    "trip-approved-early": [*BOOKED, (1.0, "approved", ""), (1.0, "written", "c4"), (1.0, "cancelled", "")],
    "trip-given-back": [
        *PAID,
        (1.0, "refused", "c6"),
        (1.0, "paid-back", "c7"),
        (1.0, "no-room", "c8"),
        (1.0, "no-seat", "c9"),
        (1.0, "no-seat", "c10"),
    ],
    "trip-refused-in-a-branch": [*BOOKED[:3], (1.0, "refused", "c2"), (1.0, "seat", "c3"), (1.0, "no-seat", "c5")],
    "trip-paused": [*BOOKED[:2], (1.0, "pause", ""), (60.0, "resume", ""), (1.0, "granted", "0/1/0/bob/0")],
    "rotation-not-retired": [SUCCESSOR, (1.0, "sent", "c2"), (1.0, "refused", "c3")],
}


def workflow_of(name: str) -> Saga[Any]:
    """Return which workflow a conversation is about."""
    about = {"rotation": ROTATE_PASSWORD, "trip": PLAN_TRIP}
    return about.get(name.partition("-")[0], ISSUE_PASSWORD)


def happening(what: str, command_id: str) -> Happening:
    """Make the happening of a line."""
    made: dict[str, Callable[[], Happening]] = {
        "due": Due,
        "silent": Silent,
        "cancelled": lambda: Cancelled("ada"),
        "approved": lambda: Signalled(Approve("the boss")),
        "granted": lambda: Granted(command_id),
        "pause": lambda: Operator("pause", "ada", "to see"),
        "resume": lambda: Operator("resume", "ada", "seen"),
        "refused": lambda: Refused(command_id, "no", "a business no"),
        "failed": lambda: Failed(command_id, "dead-letter", "boom"),
        "reply-lost": lambda: Failed(command_id, "reply-failed", "boom", reply_lost=True),
    }
    return made[what]() if what in made else Replied(command_id, REPLIES[what])


def told(workflow: Saga[Any], said: Sequence[Said]) -> Iterator[tuple[Progress, list[Entry], list[Any]]]:
    """Drive the engine through a conversation; yield each move: progress, entries, commands."""
    numbers, now = count(1), BEGAN
    move = start(workflow, SAGA_ID, TRIP if workflow is PLAN_TRIP else DATA, now, lambda: f"c{next(numbers)}")
    yield move
    for seconds, what, command_id in said:
        now += seconds
        move = advance(workflow, move[0], happening(what, command_id), now, lambda: f"c{next(numbers)}")
        yield move


def blank(workflow: Saga[Any]) -> Progress:
    """Return a saga of which nothing is known."""
    return Progress(SAGA_ID, workflow.key)


def folded(workflow: Saga[Any], moves: Sequence[Sequence[Entry]]) -> list[Progress]:
    """Fold a log; return the state after every happening. One that changed nothing is no move."""
    states = [blank(workflow)]
    for entries in moves:
        states.append(fold(states[-1], entries) if entries else states[-1])
    return states[1:]


def record(workflow: Saga[Any], said: Sequence[Said]) -> dict[str, Any]:
    """Return a conversation with its log and where it led, as it is kept."""
    moves = list(told(workflow, said))
    commands = [[[c.command_id, _name_of(c.body), vars(c.body)] for c in commands] for *_, commands in moves]
    entries = [json.loads(write_entries(entries)) for _, entries, _ in moves]
    document = {
        "said": said,
        "moves": entries,
        "commands": commands,
        "states": [json.loads(snapshot_of(move[0])) for move in moves],
    }
    branches = [{path: json.loads(snapshot_of_branch(one)) for path, one in move[0].branches.items()} for move in moves]
    if any(branches):
        document["branches"] = branches
    read: dict[str, Any] = json.loads(json.dumps(document))
    return read


def _name_of(body: Any) -> str:
    return "cancel-saga" if isinstance(body, CancelSaga) else contract_of(body).name


def kept(name: str, number: int = FORMAT) -> dict[str, Any]:
    """Read a conversation as it was kept in a format."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.v{number}.json").read_text())
    return document
