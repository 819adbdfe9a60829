"""Tell a saga as a time line: what happened when, how long it took, where it stands, and what may be done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, get_args

from pulsaga.delivery.messages import new_id
from pulsaga.errors import DomainError, Unavailable
from pulsaga.operate import letters
from pulsaga.operate.acting import Runtimes
from pulsaga.operate.choosing import Where
from pulsaga.operate.sagas import Seen, look
from pulsaga.saga.engine.moves import advance
from pulsaga.saga.happenings import Action, Operator
from pulsaga.saga.log import TERMINAL, Entry, Progress
from pulsaga.saga.steps import place

ASKED = frozenset({"issued", "undo-issued", "awaiting", "sleeping", "queued"})
"""Entries after which a step waits for something."""
CAME = frozenset({
    "replied", "refused", "failed", "timed-out", "undone", "undo-refused", "undo-failed", "signalled", "woke",
    "late", "parked", "reply-lost",
})  # fmt: skip
"""Entries that tell what came of it."""
KIND_WIDTH = 12


class Moment(NamedTuple):
    """One entry of a log, the seconds since the saga started, and since its step began to wait."""

    entry: Entry
    at_s: float
    took_s: float | None


def moments(entries: Iterable[Entry]) -> Iterator[Moment]:
    """Yield each entry with its times."""
    started, asked, command = None, dict[str, float](), dict[str, str]()
    for entry in entries:
        started = entry.at if started is None else started
        since = asked.get(entry.path) if entry.kind in CAME else None
        yield Moment(
            entry._replace(command=entry.command or command.get(entry.path, "")),
            entry.at - started,
            None if since is None else entry.at - since,
        )
        if entry.kind in ASKED:
            asked[entry.path], command[entry.path] = entry.at, entry.command


def line(moment: Moment) -> str:
    """Write a moment on one line, that of a branch further to the right."""
    entry, at_s, took_s = moment
    parts = [
        place(entry.path) if entry.path else "",
        entry.command,
        f"took {took_s:.3f} s" if took_s is not None else "",
        f"attempt {entry.attempt}" if entry.attempt > 1 else "",
        f"until +{entry.wake_at - entry.at:.0f} s" if entry.wake_at is not None else "",
        ": ".join(filter(None, (entry.code, entry.detail))),
    ]
    indent = "  " * ((entry.path.count("/") + 1) // 2)
    return f"{at_s:+11.3f}  {indent}{entry.kind.ljust(KIND_WIDTH)}  {'  '.join(filter(None, parts))}".rstrip()


def timeline(runtimes: Runtimes, saga_id: str) -> list[str] | None:
    """Return the lines of a saga, or None when there is none of this id."""
    seen = look(runtimes, saga_id)
    if seen is None:
        return None
    entries = [entry for move in seen.moves for entry in move]
    return [*_head(seen), *map(line, moments(entries)), *_stand(runtimes, seen, saga_id)]


def _head(seen: Seen) -> Iterator[str]:
    yield f"{seen.summary['workflow']}  {seen.summary['subject']}  {seen.summary['id']}"


def _stand(runtimes: Runtimes, seen: Seen, saga_id: str) -> Iterator[str]:
    """Yield where it stands, what is in front of operators, and what they may do."""
    shown = seen.summary
    yield "stands: " + "  ".join(filter(None, (shown["status"], f"since {shown['moved_at']}", shown["reason"])))
    for one in seen.incidents:
        yield f"incident: {one['at']}  {one['kind']}  {one['code']}: {one['detail']}"
    if seen.progress.status in TERMINAL:
        return
    for letter in letters.letters(runtimes, runtimes.system.names, Where({"saga": frozenset({saga_id})})):
        yield f"dead letter: {letter.id} in {letter.service}  {letter.row['error']}"
        yield f"you may: protools dead-letters replay {letter.id} --why …"
    for action in ways_on(runtimes, seen.progress):
        yield f"you may: protools sagas {action} {saga_id} --why …"


def ways_on(runtimes: Runtimes, progress: Progress) -> list[Action]:
    """Return what an operator may do to a saga that stands here."""
    return [action for action in get_args(Action) if _may(runtimes, progress, action)]


def _may(runtimes: Runtimes, progress: Progress, action: Action) -> bool:
    now = time.time() + runtimes.settings.clock_offset
    try:
        advance(runtimes.system.sagas.workflow_of(progress), progress, Operator(action, "", ""), now, new_id)
    except (DomainError, Unavailable):
        return False
    return True
