"""Look after a consumer that hears nothing: it joins anew, soon at first, ever more seldom in a long silence."""

from __future__ import annotations

import pulsar
import pytest

from seedwork.broker.pulsar import REJOIN_AFTER, REOPEN_AFTER, SELDOM, _Consumer


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


class Listener:
    """Our consumer over such stubs, with the receives counted after which it joined anew."""

    def __init__(self, *, connected: bool = True) -> None:
        self.opened: list[Stub] = []

        def join() -> Stub:
            self.opened.append(Stub(connected=connected))
            return self.opened[-1]

        self.consumer = _Consumer(join)

    def joins(self, receives: int) -> list[int]:
        """Receive so often; return after which of them it joined anew."""
        joined = []
        for number in range(1, receives + 1):
            before = len(self.opened)
            assert self.consumer.receive(1, 0.001) == []
            if len(self.opened) > before:
                joined.append(number)
        return joined


def test_in_a_silence_it_joins_anew_ever_more_seldom() -> None:
    """A stalled subscription is set going by it within ten seconds; an idle system must not do it all night."""
    assert (REJOIN_AFTER, SELDOM) == (10, 60)
    assert Listener().joins(200) == [10, 30, 70, 130, 190]


def test_a_message_makes_it_join_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall comes while there is work: then nobody is to wait for a minute."""
    monkeypatch.setattr("seedwork.broker.pulsar._delivery", lambda message, _names: message)
    listener = Listener()
    listener.joins(100)
    listener.opened[-1].message = "heard"  # type: ignore[assignment]
    assert listener.consumer.receive(1, 0.001) == ["heard"]
    assert listener.joins(30) == [10, 30]


def test_cut_off_it_joins_anew_at_once_each_time() -> None:
    """The client itself may wait a minute between two attempts."""
    assert Listener(connected=False).joins(9) == [REOPEN_AFTER, 2 * REOPEN_AFTER, 3 * REOPEN_AFTER]
