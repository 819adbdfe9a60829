"""Fold the command log of every saga, streamed in order, into what the checks compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pulsaga.broker import Wire
from pulsaga.delivery.avro import Codec, CommittedSchemas
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.tables import unpack
from pulsaga.saga.branches import Branch
from pulsaga.saga.kept import branch_id
from pulsaga.saga.log import Entry, Progress, fold
from pulsaga.saga.messages import SagaMoved
from pulsaga.saga.slots import slot_state
from pulsaga.saga.snapshots import (
    entries_of,
    load_branch,
    load_progress,
    read_branches,
    read_steps,
    snapshot_of,
    snapshot_of_branch,
)

if TYPE_CHECKING:
    from pulsaga.system import System

SUCCEEDED = ("replied", "undone", "late", "parked")
DENIED = ("refused", "failed", "to-be-retried", "undo-refused", "undo-failed")
Fact = tuple[str, tuple[Any, ...]]


@dataclass
class _Command:
    name: str
    at: float
    succeeded: int = 0
    denied: int = 0


@dataclass
class _Log:
    """What the moves of one saga say."""

    id: str
    progress: Progress | None = None
    versions: int = 0
    last_version: int = 0
    at: float = 0.0
    said: SagaMoved | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"started": 0, "ended": 0})
    commands: dict[str, _Command] = field(default_factory=dict)
    branches: dict[str, int] = field(default_factory=dict)
    """Version of the last move that told of each branch."""
    limited: set[str] = field(default_factory=set)
    """Paths of the steps that have waited for their turn under a limit."""
    late: list[Entry] = field(default_factory=list)
    trouble: str = ""
    began_by: str | None = None
    """Id of the message that began the saga."""
    actor: str | None = None
    """The caller who asked for it at the front door; None for what came another way."""


class Logs:
    """Moves of a system's sagas: `facts` takes rows (aggregate, version, id, answers, at, wire) in order."""

    def __init__(self, system: System) -> None:
        self._coordinator, self._moved = system.name, system.sagas.moved
        self._schemas = CommittedSchemas()
        self._codec = Codec()

    def facts(self, rows: Iterable[Any]) -> Iterator[Fact]:
        """Yield each move as an event, then its saga's log, commands and late successes."""
        for saga_id, moves in groupby(rows, key=lambda row: row[0]):
            log = _Log(saga_id)
            for move in moves:
                _, version, identifier, answers, at, wire = move
                kept = (saga_id, version, identifier, contract_of(self._moved).name, answers, at)
                yield "event", (self._coordinator, *kept)
                if version != log.last_version:  # a twin is reported as such; folded, it would hide what else is wrong
                    self._take(log, version, at, wire)
            yield from _facts(log)

    def _take(self, log: _Log, version: int, at: float, wire: bytes) -> None:
        log.versions, log.last_version, log.at = log.versions + 1, version, max(log.at, at)
        try:
            moved = self._decode(unpack(wire), log)
            entries = entries_of(moved)
            before = log.progress or Progress(log.id, moved.workflow)
            log.progress, log.said = fold(before, entries), moved
            log.branches |= dict.fromkeys(read_branches(moved.steps), version)
            for entry in entries:
                _note(log, entry)
        except Exception as error:  # one log that nobody can read is one defect
            log.trouble = f"move {version} cannot be folded: {type(error).__name__}: {error}"[:300]

    def _decode(self, wire: Wire, log: _Log) -> SagaMoved:
        if log.said is None:
            log.began_by, log.actor = wire.properties.get("ce_causationid"), wire.properties.get("ce_actor")
        moved = self._codec.decode(self._moved, wire.body, self._schemas[wire.properties["ce_dataschema"]])
        assert isinstance(moved, SagaMoved)
        return moved


def _note(log: _Log, entry: Entry) -> None:
    if entry.kind in log.counts:
        log.counts[entry.kind] += 1
    if entry.kind in ("issued", "undo-issued"):
        command = log.commands.setdefault(entry.command_id, _Command(entry.command, entry.at))
        command.at = entry.at
    if entry.kind == "queued":
        log.limited.add(entry.path)
    if entry.kind in ("late", "parked"):
        log.late.append(entry)
    if command_known := log.commands.get(entry.command_id):
        command_known.succeeded += entry.kind in SUCCEEDED
        command_known.denied += entry.kind in DENIED


def _facts(log: _Log) -> Iterator[Fact]:
    yield "log", _log_row(log)
    undone = _undone(log)
    awaited = {command_id for _, command_id in log.progress.awaited.values()} if log.progress else set()
    for identifier, command in log.commands.items():
        named = (identifier, log.id, command.name, command.name.partition(".")[0])
        came = (command.succeeded, command.denied, identifier in undone, identifier in awaited)
        yield "issued", (*named, command.at, *came)
    for path, branch in log.progress.branches.items() if log.progress else ():
        key, told_in = branch_id(log.id, path), log.branches.get(path)
        yield "branch_log", (key, log.id, told_in, _target(log, branch), branch.wake_at, digest_of_branch(branch))
    if log.progress:
        for path in log.limited:
            yield "slot_log", (branch_id(log.id, path), log.id, slot_state(log.progress, path))
    for entry in log.late:
        yield "late", (log.id, entry.command_id, entry.kind, entry.code)


def _undone(log: _Log) -> set[str]:
    """Return the commands that were undone, with those that they replaced: nobody needs their answers."""
    steps = log.progress.all_steps.values() if log.progress else ()
    return {id_ for step in steps if step.status == "undone" for id_ in (step.command_id, *step.former)}


def _log_row(log: _Log) -> tuple[Any, ...]:
    counted = (log.versions, log.last_version, log.counts["started"], log.counts["ended"])
    progress, moved, begun = log.progress, log.said, (log.trouble, log.began_by, log.actor)
    if progress is None or moved is None:
        return (log.id, None, 0, *counted, None, None, None, None, None, None, log.at, 0, None, 0, *begun)
    return (
        log.id,
        progress.status,
        progress.seq,
        *counted,
        moved.subject,
        progress.reason[0],
        progress.cause[0],
        _target(log, progress.branch("")),
        progress.wakes_at,
        progress.moved_at,
        log.at,
        len(progress.branches),
        digest(progress),
        _says_otherwise(moved, progress),
        *begun,
    )


def _target(log: _Log, branch: Branch) -> str | None:
    """Return whose answer a branch, or the trunk, waits for."""
    assert log.progress is not None
    waiting = branch.outstanding(compensating=log.progress.compensating)
    is_asked = waiting and branch.sent_at is not None and not log.progress.paused
    command = log.commands.get(waiting[1]) if waiting and is_asked else None
    return command.name.partition(".")[0] if command else None


def _says_otherwise(moved: SagaMoved, progress: Progress) -> bool:
    said = (moved.status, moved.reason_code, moved.moved_at, read_steps(moved.steps))
    if said != (progress.status, progress.reason[0], progress.moved_at, progress.steps):
        return True
    return any(progress.branches[path].steps != steps for path, steps in read_branches(moved.steps).items())


def digest(progress: Progress) -> bytes:
    """Shorten where a saga stands, without its branches, to what tells it from another."""
    return _digest(snapshot_of(progress))


def digest_of_branch(branch: Branch) -> bytes:
    """Shorten where a branch stands to what tells it from another."""
    return _digest(snapshot_of_branch(branch))


def _digest(snapshot: str) -> bytes:
    return hashlib.blake2b(snapshot.encode(), digest_size=16).digest()


def snapshot_facts(rows: Iterable[Any]) -> Iterator[Fact]:
    """Yield saga rows, their progress shortened; one that cannot be read equals no fold."""
    for *columns, progress in rows:
        yield "saga", (*columns, _readable(lambda text: digest(load_progress({"progress": text})), progress))


def branch_facts(rows: Iterable[Any]) -> Iterator[Fact]:
    """Yield branch rows in the same way."""
    for *columns, state in rows:
        yield "branch", (*columns, _readable(lambda text: digest_of_branch(load_branch({"state": text})), state))


def _readable(shorten: Callable[[str], bytes], kept: str) -> bytes | str:
    try:
        return shorten(kept)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
