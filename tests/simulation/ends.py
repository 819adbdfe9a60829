"""Say what must hold at the end: everything accepted has ended once, nothing is left over, both sides agree."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.simulation.broker import Memory
from tests.simulation.disks import Disks
from tests.simulation.mails import MailServer

from pulsaga.saga.log import TERMINAL
from pulsaga.web.front_door.commands.projections import STATUS
from system import SYSTEM

DUE = {
    "protools_saga": ("saga.wake_at", "saga.resend_at", "target.probe_at"),
    "correo": ("mail.due_at",),
}
MOVES = "SELECT id, count(*), max(version) FROM command_move WHERE version > 0 GROUP BY id"
EVERYWHERE = ("outbox.due_at", "failure.due_at")


def unfinished(disks: Disks, memory: Memory) -> dict[str, int]:
    """Count what still waits, by what it is."""
    counts = Counter[str]()
    for service in SYSTEM.names:
        for table in ("outbox", "failure"):
            counts[f"{service}.{table}"] = _count(disks, service, table)
    counts["mails"] = _count(disks, "correo", "mail WHERE status = 'waiting' OR due_at IS NOT NULL")
    counts["sagas"] = _count(disks, "protools_saga", "saga WHERE wake_at IS NOT NULL")
    counts["messages"] = sum(len(lane) for feed in memory.feeds.values() for lane in feed.lanes.values())
    return {name: number for name, number in counts.items() if number}


def _count(disks: Disks, service: str, what: str) -> int:
    ((number,),) = disks.of(service).rows(f"SELECT count(*) FROM {what}")
    return int(number)


def next_due(disks: Disks, now: float) -> float:
    """Return the next time at which anything wants its turn."""
    times = [at for service in SYSTEM.names for at in _times(disks, service, now)]
    return min(times, default=now + 5.0) + 0.001


def _times(disks: Disks, service: str, now: float) -> list[float]:
    names = [name.split(".") for name in (*EVERYWHERE, *DUE.get(service, ()))]
    queries = [f"SELECT min({column}) FROM {table} WHERE {column} > {now!r}" for table, column in names]
    return [at for query in queries for (at,) in disks.of(service).rows(query) if at is not None]


def check_ends(disks: Disks, memory: Memory, mails: MailServer) -> None:
    """Raise AssertionError for the first promise that does not hold."""
    _check_answers(disks, mails)
    _check_views(disks)
    for service in SYSTEM.names:
        lost = [i for (i,) in disks.of(service).rows("SELECT id FROM event") if i not in memory.bodies]
        assert not lost, f"{service} never said {lost}"
        ((failed,),) = disks.of(service, "read").rows("SELECT count(*) FROM failure")
        assert not failed, f"{failed} events could not be projected by {service}"


def _check_answers(disks: Disks, mails: MailServer) -> None:
    coordinator = disks.of("protools_saga")
    sagas = {row[0]: row[1:] for row in coordinator.rows("SELECT id, status, subject FROM saga")}
    buried = {row[0] for row in coordinator.rows("SELECT saga_id FROM dead_letter WHERE topic LIKE '%issue-password'")}
    incidents = {row[0] for row in coordinator.rows("SELECT subject FROM incident")}
    accepted = disks.of("bff").rows("SELECT id, subject, idempotency_key FROM acceptance")
    assert len({key for *_, key in accepted}) == len(accepted) == 4, "a command was not accepted once"
    assert sagas.keys() <= {identifier for identifier, *_ in accepted}, "there are sagas that nobody asked for"
    cancelled = {row[0] for row in disks.of("bff").rows("SELECT id FROM cancellation")}
    refused = {row[0] for row in coordinator.rows("SELECT answers FROM event WHERE type LIKE '%command-refused'")}
    for saga_id, asked_for, _ in accepted:
        if saga_id not in sagas:
            assert saga_id in (buried & incidents) | (cancelled & refused), f"{saga_id} is lost"
            continue
        status, subject = sagas[saga_id]
        assert subject == asked_for, f"{saga_id} is for somebody else"
        assert status in TERMINAL or saga_id in incidents, f"{saga_id} is {status} and nobody knows"
        _check_effects(disks, mails, saga_id, status)


def _check_effects(disks: Disks, mails: MailServer, saga_id: str, status: str) -> None:
    query = "SELECT username FROM password WHERE saga_id = ? AND status = 'issued'"
    passwords = disks.of("generador").rows(query, saga_id)
    own = [i for i, c in disks.of("correo").rows("SELECT id, context FROM mail") if saga_id in c]
    sent = {letter for identifier in own for letter in mails.taken.get(identifier, ())}
    assert len(own) <= 1, f"{saga_id} has {len(own)} mails"
    assert len(sent) <= 1, f"{saga_id} sent {len(sent)} different mails"
    if status == "COMPLETED":
        assert (len(passwords), len(sent)) == (1, 1), f"{saga_id} is COMPLETED: {passwords}, {len(sent)} mails"
    if status == "COMPENSATED":
        assert not passwords, f"{saga_id} is COMPENSATED and has a password"


def _check_views(disks: Disks) -> None:
    """Compare each read model with the write side."""
    same = (
        ("protools_saga", "SELECT id, seq, status, moved_at FROM saga", "protools_saga",
         "SELECT id, version, status, moved_at FROM saga_view"),
        ("protools_saga", "SELECT aggregate, version FROM event WHERE type LIKE '%saga-moved'", "protools_saga",
         "SELECT id, version FROM saga_move"),
        ("generador", "SELECT username, version, status, changed_at FROM password", "generador",
         "SELECT username, version, status, changed_at FROM password_view"),
        ("generador", "SELECT username, version, status, changed_at FROM password", "bff",
         "SELECT username, version, status, changed_at FROM password"),
        ("correo", "SELECT id, attempts, ended_at FROM mail WHERE status = 'sent'", "correo",
         "SELECT id, attempts, sent_at FROM mail_view"),
    )  # fmt: skip
    for owner, write, reader, read in same:
        left, right = _set(disks, owner, write, "write"), _set(disks, reader, read, "read")
        assert left == right, f"{reader} shows {right - left} where {owner} has {left - right}"
    shown = disks.of("bff", "read")
    kept = {row[0]: row[1:] for row in shown.rows(MOVES)}
    for saga_id, seq in disks.of("protools_saga").rows("SELECT id, seq FROM saga"):
        assert kept.get(saga_id) == (seq, seq), f"the front door knows {kept.get(saga_id)} of {seq} moves of {saga_id}"
    told = {row[0]: row[1] for row in disks.of("bff", "read").rows("SELECT id, status FROM command")}
    for saga_id, status in disks.of("protools_saga").rows("SELECT id, status FROM saga"):
        assert told.get(saga_id) == STATUS[status], f"the front door shows {told.get(saga_id)} for {status}"
    for (saga_id,) in disks.of("bff").rows("SELECT id FROM acceptance"):
        assert saga_id in told, f"the front door knows nothing of {saga_id}"


def _set(disks: Disks, service: str, query: str, side: Any) -> set[Any]:
    return set(disks.of(service, side).rows(query))
