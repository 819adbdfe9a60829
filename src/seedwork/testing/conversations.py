"""Conversations with a workflow: what it is given, what it sends, what comes back, how it ends.

    saga = given(PLACE_ORDER, PlaceOrder("o-1", "tea", 2, "4000-0002"))
    reserved = saga.sends(ReserveStock("tea", 2)).replies(StockReserved(2))
    saga.sends(ChargeCard("4000-0002", "o-1")).refuses("declined")
    saga.sends(ReleaseStock("tea", undoes=reserved.command_id)).replies(StockReleased())
    saga.ends("COMPENSATED", reason="declined")

The real engine runs; time passes only by `passes`, and under a limit it is a step's turn at once. An expectation that
is not met is an AssertionError that shows both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from pulsaga.records import plain
from pulsaga.saga.definition import Saga
from pulsaga.saga.engine.moves import advance, start
from pulsaga.saga.engine.turn import Move
from pulsaga.saga.happenings import Cancelled, Due, Failed, Granted, Happening, Outgoing, Refused, Replied, Signalled
from pulsaga.saga.log import Progress, Status


def given(workflow: Saga[Any], command: Any, now: float = 0.0) -> Conversation:
    """Start a saga by its starting command at a time in Unix seconds."""
    return Conversation(workflow, command, now)


class Conversation:
    """A saga that is being talked with."""

    def __init__(self, workflow: Saga[Any], command: Any, now: float) -> None:
        self._workflow, self._now = workflow, now
        self._numbers = count(1)
        self._sent: list[Outgoing] = []
        self._take(start(workflow, "saga", plain(command), now, self._new_id))

    @property
    def data(self) -> Any:
        """What the saga knows now."""
        return self._workflow.load(self._progress.data)

    def sends(self, body: Any) -> Sent:
        """Expect this command next; of branches whose turn it is, in any order."""
        sent = next((sent for sent in self._sent if sent.body == body), None)
        assert sent, f"sent {[sent.body for sent in self._sent] or 'nothing more'}; expected {body}"
        self._sent.remove(sent)
        return Sent(self, sent.command_id)

    def passes(self, seconds: float) -> Conversation:
        """Let time pass; a deadline that is over by then happens."""
        self._now += seconds
        return self.hears(Due(("", *self._progress.branches)))

    def signals(self, body: Any) -> Conversation:
        """Send a signal; raise DomainError where it is not waited for."""
        return self.hears(Signalled(body))

    def cancel(self, who: str = "nobody") -> Conversation:
        """Ask for the saga to be given up; raise DomainError where it cannot be any more."""
        return self.hears(Cancelled(who))

    def hears(self, happening: Happening) -> Conversation:
        """Let something happen to the saga."""
        self._take(advance(self._workflow, self._progress, happening, self._now, self._new_id))
        return self

    def stands(self, status: Status, reason: str = "") -> Conversation:
        """Expect the saga in this status, by the code of its reason."""
        now = self._progress.status, self._progress.reason[0]
        assert now == (status, reason), f"it stands at {now}; expected {(status, reason)}"
        return self

    def ends(self, status: Status, reason: str = "") -> None:
        """Expect the saga to have ended so, with nothing left to send."""
        self.stands(status, reason)
        assert not self._sent, f"also sent: {[sent.body for sent in self._sent]}"

    def _new_id(self) -> str:
        return f"command-{next(self._numbers)}"

    def _take(self, move: Move) -> None:
        progress, entries, commands = move
        self._progress: Progress = progress
        self._sent.extend(commands)
        queued = [entry.path for entry in entries if entry.kind == "queued"]
        for path in queued:
            self.hears(Granted(path))


@dataclass(frozen=True)
class Sent:
    """A command that a saga has sent."""

    saga: Conversation
    command_id: str

    def replies(self, body: Any) -> Sent:
        """Answer it with a success."""
        return self._hears(Replied(self.command_id, body))

    def refuses(self, code: str, detail: str = "") -> Sent:
        """Answer it with a business no."""
        return self._hears(Refused(self.command_id, code, detail))

    def fails(self, code: str = "dead-letter", detail: str = "") -> Sent:
        """Let it become a dead letter at its receiver."""
        return self._hears(Failed(self.command_id, code, detail))

    def _hears(self, happening: Happening) -> Sent:
        self.saga.hears(happening)
        return self
