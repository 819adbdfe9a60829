"""What `protools status` concludes from what everything said."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from pulsaga.broker import Owed
from pulsaga.delivery.waiting import Backlog
from pulsaga.operate.status.findings import findings
from pulsaga.operate.status.screen import document, lines
from pulsaga.operate.status.survey import Broker, Letters, Picture, Read, Sagas, Write, at_once
from pulsaga.saga.silence import Silence, Usual

NOW = 1000.0
BEAT: dict[str, Any] = {
    "id": "1",
    "kind": "worker",
    "replica": "a:1",
    "version": "1.0.0",
    "address": None,
    "started_at": NOW - 500,
    "beat_at": NOW - 3,
    "ended_at": None,
    "last_batch_at": None,
    "last_error": None,
    "waits_since": None,
    "waits_for": None,
    "clock_ahead_s": 0.0,
}
INCIDENT = {
    "id": "i",
    "kind": "conflict",
    "subject": "m1",
    "code": "same-id-other-body",
    "detail": "refused, nothing changed",
    "at": NOW - 100,
    "closed_at": None,
    "topic": "stock.reserve",
}
WELL = Write(now=NOW, beats=[BEAT], waiting=[Backlog("failures"), Backlog("mails", waiting=3, oldest_s=2.0)])
PICTURE = Picture(
    system="shop",
    at=NOW,
    write={"stock": WELL},
    read={"stock": Read()},
    sagas=Sagas(now=NOW, expected={("stock", "worker"): (1, NOW - 500)}, live=[("order@1", "RUNNING", 7, NOW - 2)]),
    broker=Broker(owed=[Owed("stock.reserve", "stock", 0, 1)]),
)


def with_write(**changes: Any) -> Picture:
    """Change what the one service's write database said."""
    return replace(PICTURE, write={"stock": replace(WELL, **changes)})


def with_sagas(**changes: Any) -> Picture:
    """Change what the coordinator's write database said."""
    return replace(PICTURE, sagas=replace(PICTURE.sagas, **changes))


def test_a_system_that_is_well_says_so() -> None:
    """Work that waits, a moment's failure and running sagas are what a system is for."""
    failing = Backlog("mails", waiting=3, oldest_s=9.0, failing=1, failing_s=9.0, error="450 try again later")
    picture = with_write(waiting=[Backlog("failures"), failing])
    assert findings(picture) == []
    shown = list(lines(picture, []))
    assert shown[0] == "shop at 1970-01-01T00:16:40.000Z: all is well"
    assert "stock            worker 1/1                                0         0      0  3 mails" in shown


WAITS = {**BEAT, "waits_for": "OperationalError: refused", "waits_since": NOW - 60}
STUCK = Backlog("mails", waiting=3, oldest_s=40.0, failing=2, failing_s=40.0, error="450 try again later")
GREY = Usual(mean_s=0.3, spread_s=0.1)


@pytest.mark.parametrize(
    ("picture", "kind", "subject", "detail"),
    [
        (replace(PICTURE, broker=Broker(down="refused")), "broker-down", "broker", "refused"),
        (
            replace(PICTURE, write={"stock": Write(down="refused")}),
            "database-down",
            "write database of stock",
            "refused",
        ),
        (replace(PICTURE, read={"stock": Read(down="refused")}), "database-down", "read database of stock", "refused"),
        (
            with_write(beats=[{**BEAT, "beat_at": NOW - 34}]),
            "process-missing",
            "stock worker",
            "0 of 1 run, for 34 s",
        ),
        (with_write(beats=[WAITS]), "process-waits", "stock worker a:1", "OperationalError: refused"),
        (
            with_sagas(silences=[Silence("stock", 12, 41.0, GREY)]),
            "silent",
            "stock",
            "12 commands are unanswered, the oldest for 41 s (usually 0.3 s)",
        ),
        (
            with_write(waiting=[STUCK]),
            "work-fails",
            "mails of stock",
            "2 of 3 fail, the oldest for 40 s: 450 try again later",
        ),
        (
            with_write(outbox=Backlog("unpublished", waiting=9, oldest_s=31.0)),
            "unpublished",
            "outbox of stock",
            "9 messages wait for the broker, the oldest for 31 s",
        ),
        (
            replace(PICTURE, read={"stock": Read(unprojected=STUCK)}),
            "work-fails",
            "projections of stock",
            "2 events, the oldest for 40 s: 450 try again later",
        ),
        (
            replace(PICTURE, broker=Broker(owed=[Owed("stock.reserve", "stock", 4, 0), Owed("b", "stock", 1, 0)])),
            "unread",
            "subscription stock",
            "5 messages, and nobody takes them",
        ),
        (
            with_write(letters=[Letters(topic="stock.reserve", reason="KeyError", count=500, oldest_s=60.0)]),
            "dead-letters",
            "dead letters of stock",
            "500 × stock.reserve: KeyError, the oldest for 60 s",
        ),
        (
            with_sagas(live=[("order@1", "SUSPENDED", 2, NOW - 60)]),
            "suspended",
            "sagas",
            "2 × order@1 need an operator, the oldest for 60 s",
        ),
        (
            with_write(incidents=[INCIDENT, {**INCIDENT, "id": "j", "subject": "m2"}]),
            "conflict",
            "m1",
            "2 × stock.reserve same-id-other-body: refused, nothing changed",
        ),
    ],
)
def test_what_somebody_should_look_at_is_named(picture: Picture, kind: str, subject: str, detail: str) -> None:
    """Each once, with where it is and in words that say how bad it is."""
    found = findings(picture)
    assert [(one.kind, one.subject, one.detail) for one in found] == [(kind, subject, detail)]
    assert f"! {subject}: {detail}" in list(lines(picture, found))
    assert document(picture, found)["findings"][0]["kind"] == kind


def test_what_is_not_to_run_is_not_missed() -> None:
    """A part of a system may be left out on purpose: what is sent to it waits."""
    left_out = with_sagas(expected={("stock", "worker"): (0, NOW - 500)})
    picture = replace(
        left_out, write={"stock": replace(WELL, beats=[])}, broker=Broker(owed=[Owed("t", "stock", 4, 0)])
    )
    assert findings(picture) == []


def test_a_process_that_is_to_run_has_a_moment_to_start() -> None:
    """Right after bootstrap nobody runs yet."""
    young = with_sagas(expected={("stock", "worker"): (1, NOW - 5)})
    assert findings(replace(young, write={"stock": replace(WELL, beats=[])})) == []


def test_what_is_paused_is_shown_and_blamed_for_nothing() -> None:
    """Somebody said so, and why: its silence and its backlog are no news."""
    paused = {"topic": "stock.reserve", "who": "ada", "why": "the warehouse counts", "at": NOW - 60}
    owed = Broker(owed=[Owed("stock.reserve", "stock", 4, 0)])
    silent = replace(PICTURE.sagas, silences=[Silence("stock", 12, 41.0, GREY)])
    picture = replace(with_write(pauses=[paused]), broker=owed, sagas=silent)
    assert findings(picture) == []
    assert "  paused: stock.reserve of stock, by ada at 00:15:40: the warehouse counts" in list(lines(picture, []))
    other = replace(picture, broker=Broker(owed=[Owed("stock.release", "stock", 4, 0)]))
    assert [one.kind for one in findings(other)] == ["unread"]


def test_what_is_over_is_shown_for_a_while() -> None:
    """Whoever was woken wants to know whether it still is so."""
    over = {**INCIDENT, "kind": "silent", "subject": "stock", "closed_at": NOW - 50}
    picture = with_write(incidents=[over])
    assert findings(picture) == []
    assert "  over: stock: silent stock, 00:15:00 to 00:15:50" in list(lines(picture, []))


def test_what_does_not_answer_holds_up_nothing_else() -> None:
    """One database that hangs must not keep the screen from showing all others."""

    def hang() -> Broker:
        threading.Event().wait(30)
        return Broker()

    def refuse() -> Broker:
        raise OSError("no\x1b[31m route\nto host")

    said, down = at_once({"hangs": hang, "refuses": refuse, "answers": Broker}, 0.2)
    assert down == {"hangs": "no answer within 0.2 s", "refuses": "OSError: no\\x1b[31m route"}
    assert said == {"answers": Broker()}
