"""Look after a consumer that hears nothing: it joins anew, soon at first, ever more seldom in a long silence."""

from __future__ import annotations

import pulsar
import pytest

from pulsaga.broker.pulsar import REOPEN_AFTER, _Consumer

CLOCK = "pulsaga.broker.pulsar.monotonic"


class Stub:
    """A consumer of the client that hears nothing, until it is given a message."""

    def __init__(self, *, connected: bool = True) -> None:
        self.connected, self.message = connected, None

    def is_connected(self) -> bool:
        return self.connected

    def receive(self, timeout_millis: int) -> object:
        message, self.message = self.message, None
        if message is None:
            raise pulsar.Timeout
        return message

    def close(self) -> None: ...


class Ear:
    """Our consumer over such stubs, by a clock that a receive moves on by a second."""

    def __init__(self, patch: pytest.MonkeyPatch, *, connected: bool = True, rejoins: bool = True) -> None:
        self.opened: list[Stub] = []
        self.now = 0.0
        patch.setattr(CLOCK, lambda: self.now)
        patch.setattr("pulsaga.broker.pulsar._delivery", lambda message, _names: message)

        def join() -> Stub:
            self.opened.append(Stub(connected=connected))
            return self.opened[-1]

        self.consumer = _Consumer(join, rejoins=rejoins)

    def joins(self, seconds: int) -> list[int]:
        """Hear nothing for so long; return after how many seconds it joined anew."""
        joined = []
        for second in range(1, seconds + 1):
            before, self.now = len(self.opened), self.now + 1
            assert self.consumer.receive(1, 0.001) == []
            if len(self.opened) > before:
                joined.append(second)
        return joined


def test_in_a_silence_it_joins_anew_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stalled subscription is set going by it within ten seconds; an idle system must not do it all night."""
    assert Ear(monkeypatch).joins(200) == [10, 30, 70, 130, 190]


def test_a_message_makes_it_join_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall comes while there is work: then nobody is to wait for a minute."""
    ear = Ear(monkeypatch)
    ear.joins(100)
    ear.opened[-1].message = "heard"  # type: ignore[assignment]
    assert ear.consumer.receive(1, 0.001) == ["heard"]
    assert ear.joins(30) == [10, 30]


def test_whoever_asks_often_does_not_join_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was counted in receives once: who waits 20 ms for each joined anew five times a second."""
    ear = Ear(monkeypatch)
    for _ in range(100):
        ear.consumer.receive(1, 0.001)
    assert len(ear.opened) == 1


def test_a_listener_does_not_join_anew_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broadcast while it joins would be lost, and only shared subscriptions stall."""
    assert Ear(monkeypatch, rejoins=False).joins(200) == []


def test_after_an_outage_it_joins_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that was killed is when subscriptions stall."""
    ear = Ear(monkeypatch, connected=False)
    ear.joins(3 * REOPEN_AFTER)
    ear.opened[-1].connected = True
    assert ear.joins(10) == [10]


def test_cut_off_it_joins_anew_at_once_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client itself may wait a minute between two attempts."""
    for rejoins in (True, False):
        ear = Ear(monkeypatch, connected=False, rejoins=rejoins)
        assert ear.joins(9) == [REOPEN_AFTER, 2 * REOPEN_AFTER, 3 * REOPEN_AFTER]
