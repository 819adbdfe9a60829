"""What somebody should look at, concluded from a survey. Pure: nothing is asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pulsaga.delivery.dispatch.pausing import EVERYTHING
from pulsaga.delivery.transaction.rows import Row
from pulsaga.delivery.waiting import UNPUBLISHED_AFTER_S
from pulsaga.operate.status.survey import Picture, Write, is_alive
from pulsaga.running.heartbeat import ALIVE_S, BEAT_S, STANDING, WAITS_S
from pulsaga.running.watch import FORGOTTEN_AFTER_S, RESTARTS, WATCHED
from pulsaga.saga import silence

DOCTOR, SAGAS = "protools doctor", "protools sagas list"
LETTERS, INCIDENTS = "protools dead-letters list", "protools incidents list"
"""Commands that show more."""
STANDING_KINDS = frozenset({*WATCHED, *STANDING, silence.KIND})
"""Kinds of incident that open and close by themselves."""
LIVE = STANDING_KINDS | {"dead-letter", "suspended"}
"""Kinds of incident about what a survey sees for itself."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to look at: what kind of thing, where, in words, and the command that shows more."""

    kind: str
    service: str
    subject: str
    detail: str
    look: str = ""


def findings(picture: Picture) -> list[Finding]:
    """Return everything to look at; what is down comes first, then what follows from that."""
    return [
        *_down(picture),
        *_processes(picture),
        *_silent(picture),
        *_work(picture),
        *_unread(picture),
        *_letters(picture),
        *_suspended(picture),
        *_incidents(picture),
    ]


def _down(picture: Picture) -> Iterator[Finding]:
    for service, why in picture.unreached.items():
        if is_to_run(picture, service):
            yield Finding(kind="unreached", service=service, subject=service, detail=why)
    if picture.broker.down and picture.system not in picture.unreached:
        yield Finding(kind="broker-down", service="", subject="broker", detail=picture.broker.down, look=DOCTOR)
    for side, known in (("write", picture.write), ("read", picture.read)):
        for service, asked in known.items():
            if asked.down and service not in picture.unreached:
                about = f"{side} database of {service}"
                yield Finding(kind="database-down", service=service, subject=about, detail=asked.down, look=DOCTOR)


def is_to_run(picture: Picture, service: str) -> bool:
    """Tell whether processes of a service are to run, as far as that is known."""
    counts = [count for (name, _), (count, _) in picture.sagas.expected.items() if name == service]
    return sum(counts) > 0 or not counts


def alive(beats: Sequence[Row], kind: str, now: float) -> list[Row]:
    """Return the heartbeats of processes of a kind that run."""
    return [beat for beat in beats if beat["kind"] == kind and is_alive(beat, now)]


def running(picture: Picture, service: str, kind: str) -> int:
    """Return how many processes of a kind run, by their rows or as the coordinator hears them: either may be stale."""
    write = picture.write[service]
    return max(len(alive(write.beats, kind, write.now)), picture.sagas.hears.get(f"{service} {kind}", 0))


def _processes(picture: Picture) -> Iterator[Finding]:
    for (service, kind), (count, since) in picture.sagas.expected.items():
        write = picture.write.get(service)
        if write is None or write.down:
            continue
        if (runs := running(picture, service, kind)) < count and (away_s := _away_s(write, kind, since)) > ALIVE_S:
            detail = f"{runs} of {count} run, for {away_s:.0f} s"
            yield Finding(kind="process-missing", service=service, subject=f"{service} {kind}", detail=detail)
        if (ended := _ended(write, kind)) >= RESTARTS + 2 * count:
            detail = f"{ended} have ended within {FORGOTTEN_AFTER_S / 60:.0f} minutes"
            yield Finding(kind="process-restarts", service=service, subject=f"{service} {kind}", detail=detail)
    yield from _waiting(picture)


def _ended(write: Write, kind: str) -> int:
    """Count the processes of a kind that ended, or were killed, lately."""
    return sum(write.now - FORGOTTEN_AFTER_S < at < write.now - BEAT_S for at in _gone(write, kind))


def _gone(write: Write, kind: str) -> list[float]:
    """Return when those were last seen that run no more."""
    here = {beat["id"] for beat in alive(write.beats, kind, write.now)}
    return [b["ended_at"] or b["beat_at"] for b in write.beats if b["kind"] == kind and b["id"] not in here]


def _waiting(picture: Picture) -> Iterator[Finding]:
    """Yield the processes that wait: as they write themselves, and as the coordinator heard those that cannot."""
    told = dict[str, tuple[str, str]]()
    for service, write in picture.write.items():
        for beat in (b for kind in {b["kind"] for b in write.beats} for b in alive(write.beats, kind, write.now)):
            machine_time = beat["beat_at"] + (beat["clock_ahead_s"] or 0.0)
            if beat["waits_for"] and machine_time - beat["waits_since"] >= WAITS_S:
                told[f"{service} {beat['kind']} {beat['replica']}"] = service, beat["waits_for"]
    for row in picture.write[picture.system].incidents if picture.system in picture.write else ():
        if row["kind"] == "process-waits" and row["closed_at"] is None:
            told.setdefault(row["subject"], (row["subject"].partition(" ")[0], row["detail"]))
    for subject, (service, detail) in told.items():
        yield Finding(kind="process-waits", service=service, subject=subject, detail=detail)


def _away_s(write: Write, kind: str, since: float) -> float:
    """Return for how long too few have run: since the last of those that are gone, or since they are expected."""
    return float(write.now - max([since, *_gone(write, kind)]))


def pauses(picture: Picture, service: str, topic: str | None = None) -> list[Row]:
    """Return what is paused of a service, or what keeps one topic of it from being taken."""
    known = picture.write[service].pauses if service in picture.write else ()
    return [row for row in known if topic is None or row["topic"] in (EVERYTHING, topic)]


def _silent(picture: Picture) -> Iterator[Finding]:
    for one in picture.sagas.silences:
        if one.is_unusual and not pauses(picture, one.target):
            yield Finding(
                kind="silent",
                service=one.target,
                subject=one.target,
                detail=one.said,
                look=f"{SAGAS} --status RUNNING",
            )


def _work(picture: Picture) -> Iterator[Finding]:
    for service, write in picture.write.items():
        for one in write.waiting:
            if one.is_stuck:
                detail = f"{one.failing} of {one.waiting} fail, the oldest for {one.failing_s:.0f} s: {one.error}"
                yield Finding(kind="work-fails", service=service, subject=f"{one.name} of {service}", detail=detail)
        if write.outbox.oldest_s >= UNPUBLISHED_AFTER_S:
            detail = (
                f"{write.outbox.waiting} messages wait for the broker, the oldest for {write.outbox.oldest_s:.0f} s"
            )
            yield Finding(kind="unpublished", service=service, subject=f"outbox of {service}", detail=detail)
    for service, read in picture.read.items():
        if read.unprojected.is_stuck:
            one = read.unprojected
            detail = f"{one.failing} events, the oldest for {one.failing_s:.0f} s: {one.error}"
            yield Finding(kind="work-fails", service=service, subject=f"projections of {service}", detail=detail)


def _unread(picture: Picture) -> Iterator[Finding]:
    unread: Counter[str] = Counter()
    for one in picture.broker.owed:
        if one.messages and not one.consumers and not pauses(picture, one.subscription, one.topic):
            unread[one.subscription] += one.messages
    for subscription, messages in unread.items():
        detail = f"{messages} messages, and nobody takes them"
        service = subscription.removesuffix("-projector")
        if not is_to_run(picture, service):
            continue  # what is sent to it waits
        yield Finding(kind="unread", service=service, subject=f"subscription {subscription}", detail=detail)


def _letters(picture: Picture) -> Iterator[Finding]:
    for service, write in picture.write.items():
        for group in write.letters:
            detail = f"{group.count} × {group.topic}: {group.reason}, the oldest for {group.oldest_s:.0f} s"
            subject = f"dead letters of {service}"
            yield Finding(kind="dead-letters", service=service, subject=subject, detail=detail, look=LETTERS)


def _suspended(picture: Picture) -> Iterator[Finding]:
    for workflow, status, count, at in picture.sagas.live:
        if status == "SUSPENDED":
            detail = f"{count} × {workflow} need an operator, the oldest for {picture.sagas.now - at:.0f} s"
            yield Finding(kind="suspended", service=picture.system, subject="sagas", detail=detail, look=SAGAS)


def _incidents(picture: Picture) -> Iterator[Finding]:
    """Yield the other open incidents, those of one fingerprint together."""
    for service, write in picture.write.items():
        groups: Mapping[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in write.incidents:
            if row["closed_at"] is None and row["kind"] not in LIVE:
                groups[row["kind"], row["topic"] or "", row["code"]].append(row)
        for (kind, topic, code), rows in groups.items():
            first = rows[0]
            many = f"{len(rows)} × " if len(rows) > 1 else ""
            detail = f"{many}{' '.join(filter(None, (topic, code)))}: {first['detail']}"
            yield Finding(kind=kind, service=service, subject=first["subject"], detail=detail, look=INCIDENTS)
