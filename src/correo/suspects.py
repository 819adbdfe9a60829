"""Find out what is to blame when letters are cut off: each letter alone, the domain they go to, or the server."""

from __future__ import annotations

from correo.smtp import CutOff, Letter, Outcome, Sent

IN_A_ROW = 3
"""So many different letters cut off, and none got through: it is not the letter, but what they have in common."""
SHORTEST_REST_S = 5.0
REST_PER_LOST_S = 10.0
"""A domain rests ten times as long as its last letter held the sender up: it takes a tenth of the time at most."""
MOST_DOMAINS = 1000
"""Domains that are remembered; strangers choose them, so the oldest is forgotten."""


class Suspects:
    """Remember what was cut off, in one process. Times are seconds by the database's clock."""

    def __init__(self) -> None:
        self._row: set[str] = set()
        self._domains: dict[str, tuple[set[str], float, float]] = {}
        """By domain: its letters that were cut off, when the last of them was, and for how long it rests since."""

    def condemn_server(self, letter: Letter, outcome: Outcome) -> bool:
        """Tell whether this outcome is the last of so many in a row that the server is to blame, and begin anew."""
        if isinstance(outcome, Sent):
            self._row.clear()
        elif isinstance(outcome, CutOff):
            self._row.add(letter.id)
        if len(self._row) < IN_A_ROW:
            return False
        self._row.clear()
        return True

    def note(self, letter_id: str, domain: str, outcome: Outcome, now: float) -> None:
        """Note what came of a letter: any answer clears its domain; letter after letter cut off makes it rest."""
        letters, *_ = self._domains.pop(domain, (set[str](), 0.0, 0.0))
        if not isinstance(outcome, CutOff):
            return
        if len(letters) < IN_A_ROW:
            letters.add(letter_id)
        rests = len(letters) == IN_A_ROW
        rest_s = max(SHORTEST_REST_S, REST_PER_LOST_S * outcome.lost_s) if rests else 0.0
        self._domains[domain] = letters, now, rest_s
        if len(self._domains) > MOST_DOMAINS:
            del self._domains[next(iter(self._domains))]

    def strikes(self, domain: str) -> int:
        """Count the different letters to a domain that were cut off since one was answered."""
        return len(self._domains[domain][0]) if domain in self._domains else 0

    def rests_until(self, domain: str, now: float) -> float:
        """Return until when nothing is to be tried at a domain; a time that is over when it need not rest.

        A rest that begins later than now was meant by a clock that has been put back since: it is over.
        """
        _, since, rest_s = self._domains.get(domain, (None, 0.0, 0.0))
        return since + rest_s if since <= now else 0.0
