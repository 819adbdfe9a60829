"""What a coordinator concludes from the heartbeats that it hears, and how a service's silence is judged."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace

import pytest

from pulsaga.running.heartbeat import ALIVE_S, Beat, read_beat
from pulsaga.running.watch import FORGOTTEN_AFTER_S, RESTARTS, Count, Register
from pulsaga.saga.silence import SHORTEST_S, Usual
from pulsaga.telemetry.vitals import Vitals

OWN = Beat(id="own", service="saga", kind="worker", replica="a:1", version="1", started_at=0.0)
STOCK = Beat(id="s1", service="stock", kind="worker", replica="b:2", version="1", started_at=0.0, beat_at=50.0)
WANTED = {("saga", "worker"): 1, ("stock", "worker"): 1}
LATER = 100.0


def heard(*beats: Beat, at: float = LATER) -> Register:
    """Return a register that has listened from 0 on, and has heard these, and its own, at a time."""
    register = Register("own", since=0.0)
    for beat in (OWN, *beats):
        register.hear(beat, at)
    register.since = 0.0  # as if it had heard itself all the time
    return register


def keep_beating(register: Register, begun: float, seconds: float) -> float:
    """Let the watch hear itself for so long; return the time then."""
    for second in range(int(seconds) + 1):
        register.hear(OWN, begun + second)
    register.hear(OWN, begun + seconds)
    return begun + seconds


def found(register: Register, now: float = LATER) -> dict[tuple[str, str], tuple[str, str]]:
    """Return what is wrong now."""
    return dict(register.problems(WANTED, now))


def test_while_all_are_heard_nothing_is_wrong() -> None:
    """An alarm that rings by itself is turned off."""
    assert found(heard(STOCK)) == {}


def test_a_process_that_is_heard_no_more_is_missed_after_a_while() -> None:
    """A restart takes some seconds, and is nobody's concern; a dead worker is."""
    register = heard(STOCK, at=LATER - ALIVE_S)
    register.hear(OWN, LATER)
    assert found(register) == {}
    register.hear(OWN, LATER + 1)
    code, detail = found(register, LATER + 1)["process-missing", "stock worker"]
    assert (code, detail) == ("too-few", "0 of 1 run; b:2 was last heard at 1970-01-01T00:00:50.000Z")


def test_a_process_that_said_its_end_is_missed_when_no_other_came() -> None:
    """A deployment ends one and starts another; one that only ends was a mistake."""
    ended = replace(STOCK, ended_at=50.0)
    register = heard(ended)
    assert found(register) == {}
    now = keep_beating(register, LATER, ALIVE_S + 1)
    _, detail = found(register, now)["process-missing", "stock worker"]
    assert detail == "0 of 1 run; b:2 ended at 1970-01-01T00:00:50.000Z"
    register.hear(replace(STOCK, id="s2"), now)
    assert found(register, now) == {}


def test_one_of_several_is_missed_and_more_than_enough_are_not() -> None:
    """Half of what was asked for is half of the work."""
    register = heard(STOCK)
    assert (
        dict(register.problems({("stock", "worker"): 2}, LATER))["process-missing", "stock worker"][1][:10]
        == "1 of 2 run"
    )
    assert dict(register.problems({}, LATER)) == {}


def test_what_does_not_run_is_counted_at_once_and_missed_after_a_while() -> None:
    """Metrics show each deployment, and page nobody for it."""
    register = heard(replace(STOCK, ended_at=50.0))
    assert [*register.counts({("stock", "worker"): 2}, LATER)] == [Count("stock", "worker", 2, 0, 0)]
    later = LATER + ALIVE_S + 1
    register.hear(replace(STOCK, id="s2"), later)
    assert [*register.counts({("stock", "worker"): 2}, later)] == [Count("stock", "worker", 2, 1, 1)]


def test_whoever_does_not_hear_itself_is_deaf() -> None:
    """With the broker down nobody is heard: incidents about processes that run would hide the one that counts."""
    register = heard(STOCK)
    assert not register.is_deaf(LATER)
    assert register.is_deaf(LATER + ALIVE_S + 1)


def test_a_process_that_dies_again_and_again_is_named_though_it_is_heard() -> None:
    """A bad deployment beats once and dies: there is always one that was heard a moment ago."""
    register, now = heard(STOCK), LATER
    for number in range(RESTARTS + 2):
        now = keep_beating(register, now, 6)
        register.hear(replace(STOCK, id=f"again-{number}", ended_at=now), now)
        register.hear(replace(STOCK, id="now"), now)
    assert found(register, now)["process-restarts", "stock worker"] == (
        "again-and-again",
        "8 have ended within 10 minutes",
    )
    assert ("process-missing", "stock worker") not in found(register, now)


def test_a_deployment_of_all_is_no_crash_loop() -> None:
    """Two within ten minutes are a deployment that was taken back."""
    register = heard()
    for number in range(4):
        register.hear(replace(STOCK, id=f"old-{number}", ended_at=50.0), LATER)
        register.hear(replace(STOCK, id=f"new-{number}"), LATER)
    assert dict(register.problems({("stock", "worker"): 2}, LATER)) == {}


def test_when_the_broker_is_back_the_others_have_their_time_to_be_heard() -> None:
    """The first to hear itself again must not take all others for dead."""
    register, later = heard(STOCK), LATER + 60
    register.hear(OWN, later)
    assert found(register, later) == {}
    now = keep_beating(register, later, ALIVE_S + 1)
    assert [*found(register, now)] == [("process-missing", "stock worker")]


def test_a_process_that_waits_for_long_is_named_with_what_it_waits_for() -> None:
    """It lives, its database does not: only by the broker can it say so."""
    waits = replace(STOCK, waits_for="OperationalError: connection refused", waits_since=50.0 - ALIVE_S)
    assert found(heard(waits)) == {
        ("process-waits", "stock worker b:2"): ("OperationalError", "OperationalError: connection refused")
    }
    assert found(heard(replace(waits, waits_since=49.0))) == {}


def test_who_is_gone_for_long_is_forgotten() -> None:
    """A watch runs for months, and processes come and go."""
    register = heard(STOCK)
    register.hear(OWN, LATER + FORGOTTEN_AFTER_S + 1)
    assert [*register.heard] == ["own"]


def test_a_beat_is_read_as_it_was_written() -> None:
    """The coordinator may be of another release than who beats; what is no beat is refused, whatever it holds."""
    assert read_beat(json.dumps(asdict(STOCK)).encode()) == STOCK
    more = {**asdict(STOCK), "what a later release says": [1]}
    assert read_beat(json.dumps(more).encode()) == STOCK
    for nonsense in (b"{", b"[]", b'{"id": 1}', json.dumps({**asdict(STOCK), "beat_at": "now"}).encode()):
        with pytest.raises(ValueError, match="."):
            read_beat(nonsense)


def test_what_is_usual_follows_the_answers_and_one_late_answer_changes_little() -> None:
    """After an outage everything is answered late; the next silence must still be noticed."""
    usual = Usual()
    assert usual.patience_s == SHORTEST_S
    for _ in range(50):
        usual.learn(0.2)
    assert usual.mean_s == pytest.approx(0.2)
    usual.learn(3600.0)
    assert usual.patience_s < 3 * SHORTEST_S
    for _ in range(100):
        usual.learn(60.0)
    assert usual.mean_s == pytest.approx(60.0, rel=0.1)
    assert usual.patience_s >= 60.0


def test_a_thread_hangs_that_is_at_work_and_shows_no_progress() -> None:
    """One that waits for messages is not at work, and one that commits moves."""
    vitals = Vitals()
    assert vitals.hanging(0.0) == []
    with vitals.at_work():
        name = threading.current_thread().name
        assert vitals.hanging(60.0) == []
        assert vitals.hanging(-1.0) == [name]
    assert vitals.hanging(-1.0) == []


def test_the_longest_wait_is_told_until_its_thread_goes_on() -> None:
    """Several threads of a process wait for the same database; the first to notice tells since when."""
    vitals = Vitals()
    vitals.waits("the database")
    first = vitals.longest_wait()
    vitals.waits("still the database")
    assert first is not None
    assert vitals.longest_wait() == first._replace(what="still the database")
    vitals.goes_on()
    assert vitals.longest_wait() is None
