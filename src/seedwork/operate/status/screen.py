"""Show a survey: as lines for a terminal, as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pulsaga.delivery.dispatch.pausing import EVERYTHING
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.operate.status.findings import STANDING_KINDS, Finding, alive, is_to_run, running
from pulsaga.operate.status.survey import Picture, Write


def lines(picture: Picture, found: list[Finding]) -> Iterator[str]:
    """Yield the screen line by line: what to look at first, then how everything is."""
    said = f"{len(found)} to look at" if found else "all is well"
    yield f"{picture.system} at {rfc3339(picture.at)}: {said}"
    for one in found:
        yield f"! {one.subject}: {one.detail}"
    for look in dict.fromkeys(one.look for one in found if one.look):
        yield f"  see: {look}"
    yield from _paused(picture)
    yield from _over(picture)
    yield ""
    yield from _services(picture)
    yield from _sagas(picture)
    yield from _owed(picture)


def _paused(picture: Picture) -> Iterator[str]:
    for service, write in picture.write.items():
        for row in write.pauses:
            about = service if row["topic"] == EVERYTHING else f"{row['topic']} of {service}"
            yield f"  paused: {about}, by {row['who']} at {_time(row['at'])}: {row['why']}"


def _over(picture: Picture) -> Iterator[str]:
    pairs = ((service, row) for service, write in picture.write.items() for row in write.incidents)
    over = [(service, row) for service, row in pairs if row["closed_at"] is not None and row["kind"] in STANDING_KINDS]
    for service, row in sorted(over, key=lambda pair: float(pair[1]["closed_at"]))[-SHOWN_OVER:]:
        lasted = f"{_time(row['at'])} to {_time(row['closed_at'])}"
        yield f"  over: {service}: {row['kind']} {row['subject']}, {lasted}"


SHOWN_OVER = 10
"""Incidents that are over and are shown, the last ones."""


def _time(at: float) -> str:
    return rfc3339(at)[11:19]


COLUMNS = "{0:<16} {1:<34} {2:>8} {3:>9} {4:>6}  {5}"


def _services(picture: Picture) -> Iterator[str]:
    yield COLUMNS.format("service", "runs / to run", "outbox", "failures", "dead", "waits").rstrip()
    for service, write in picture.write.items():
        if write.down:
            runs = "" if is_to_run(picture, service) else "is not to run"
            yield f"{service:<16} {runs or write.down}"
            continue
        failures, *own = write.waiting
        waits = ", ".join(f"{one.waiting} {one.name}" for one in own if one.waiting)
        dead = sum(group.count for group in write.letters)
        row = (service, _runs(picture, service, write), write.outbox.waiting, failures.waiting, dead, waits)
        yield COLUMNS.format(*row).rstrip()


def _runs(picture: Picture, service: str, write: Write) -> str:
    wanted = {kind: count for (name, kind), (count, _) in picture.sagas.expected.items() if name == service}
    kinds = dict.fromkeys([*wanted, *(beat["kind"] for beat in write.beats)])
    counts = [(kind, running(picture, service, kind), wanted.get(kind, 0)) for kind in kinds]
    return ", ".join(f"{kind} {runs}/{count}" for kind, runs, count in counts if runs or count)


def _sagas(picture: Picture) -> Iterator[str]:
    if not picture.sagas.live:
        return
    yield ""
    yield f"{'sagas':<40} {'status':<14} {'count':>8}  oldest move"
    for workflow, status, count, at in picture.sagas.live:
        yield f"{workflow:<40} {status:<14} {count:>8}  {picture.sagas.now - at:.0f} s ago"
    for one in picture.sagas.silences:
        yield f"  {one.target}: {one.said}"


def _owed(picture: Picture) -> Iterator[str]:
    owed = [one for one in picture.broker.owed if one.messages]
    if not owed:
        return
    yield ""
    yield f"{'topic':<50} {'subscription':<26} {'messages':>8} {'consumers':>9}"
    for one in sorted(owed, key=lambda one: -one.messages)[:SHOWN]:
        yield f"{one.topic:<50} {one.subscription:<26} {one.messages:>8} {one.consumers:>9}"


SHOWN = 20
"""Subscriptions with a backlog that are shown, the longest first."""


def document(picture: Picture, found: list[Finding]) -> dict[str, Any]:
    """Return all of it as JSON takes it."""
    return {
        "system": picture.system,
        "at": rfc3339(picture.at),
        "findings": [asdict(one) for one in found],
        "services": {service: _service(picture, service, write) for service, write in picture.write.items()},
        "sagas": [
            {"workflow": workflow, "status": status, "count": count, "unmoved_s": round(picture.sagas.now - at, 1)}
            for workflow, status, count, at in picture.sagas.live
        ],
        "unanswered": [
            {
                "target": one.target,
                "commands": one.unanswered,
                "oldest_s": round(one.oldest_s, 1),
                "usually_s": one.usual.mean_s,
            }
            for one in picture.sagas.silences
        ],
        "broker": {"down": picture.broker.down, "owed": [one._asdict() for one in picture.broker.owed]},
    }


def _service(picture: Picture, service: str, write: Write) -> dict[str, Any]:
    read = picture.read.get(service)
    wanted = {kind: count for (name, kind), (count, _) in picture.sagas.expected.items() if name == service}
    return {
        "write_database": write.down or "ok",
        "read_database": (read.down or "ok") if read else None,
        "expected": wanted,
        "processes": [_process(beat) for beat in write.beats if alive([beat], beat["kind"], write.now)],
        "outbox": write.outbox._asdict(),
        "waiting": [one._asdict() for one in (*write.waiting, *([read.unprojected] if read else []))],
        "pauses": [{**row, "at": rfc3339(row["at"])} for row in write.pauses],
        "dead_letters": [asdict(group) for group in write.letters],
    }


def _process(beat: Row) -> dict[str, Any]:
    at = {
        name: beat[name] and rfc3339(beat[name]) for name in ("started_at", "beat_at", "last_batch_at", "waits_since")
    }
    return {name: beat[name] for name in ("kind", "replica", "version", "address", "waits_for", "last_error")} | at
