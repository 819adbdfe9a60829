"""Stand in for the mail server: take mails, put them off, refuse them for good, be down, hang up too early."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable
from typing import Literal

from tests.simulation.broker import Weather

from correo.smtp import CutOff, Delayed, Letter, Outcome, RefusedForGood, Sent
from pulsaga.errors import Unavailable

Mood = Literal["up", "down", "busy"]
PATIENCE_S = 30.0


class MailServer:
    """A postman whose server the schedule rules; `refused` are the addresses that it never takes."""

    def __init__(self, weather: Weather, refused: frozenset[str]) -> None:
        self._weather, self._refused = weather, refused
        self.mood: Mood = "up"
        self.taken: dict[str, list[bytes]] = defaultdict(list)
        """By mail id: every copy that reached the recipient."""

    def deliver(self, letters: Iterable[Letter]) -> Generator[tuple[Letter, Outcome]]:
        """Yield what comes of each letter, up to one that is cut off."""
        for letter in letters:
            began = self._weather.now
            self._weather.seam("mail")
            if self._weather.now > began + PATIENCE_S:
                raise Unavailable("the server has closed the session of a client that was silent")
            outcome = self._outcome(letter)
            yield letter, outcome
            if isinstance(outcome, CutOff):
                return

    def _outcome(self, letter: Letter) -> Outcome:
        if self.mood == "down":
            raise Unavailable("the mail server is down")
        if letter.recipient in self._refused:
            return RefusedForGood("mailbox-refused", "550 no such mailbox")
        if self.mood == "busy" and self._weather.random.random() < 0.5:
            return Delayed("451 try again later")
        self.taken[letter.id].append(letter.content)
        self._weather.seam("mail taken")
        if self._weather.strikes("hang-up"):
            return CutOff("the connection was lost after the mail was taken")
        return Sent()
