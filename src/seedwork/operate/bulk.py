"""Do one thing to many, each by itself: one that is refused does not take its neighbours along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import click

from pulsaga.delivery.blame import verdict
from pulsaga.errors import DomainError, SchemaIncompatible, Stale
from pulsaga.operate.choosing import GivenUp
from pulsaga.text import describe

ASKED_BEFORE = "same-operator"
"""Code by which an operator's second wish of the same thing is refused."""


@dataclass
class Tally:
    """How far it has come with so many."""

    number: int
    done: int = 0
    recorded: int = 0
    """How many wait for another operator to agree."""
    refused: list[tuple[GivenUp, str]] = field(default_factory=list)

    @property
    def looked_at(self) -> int:
        """How many it has come to."""
        return self.done + self.recorded + len(self.refused)


def one_by_one(
    chosen: Sequence[GivenUp], act: Callable[[GivenUp], bool], is_stopped: Callable[[], bool]
) -> Iterator[Tally]:
    """Act on each, which returns False where another operator has to agree, until it is stopped.

    Yield how far it has come, before the first one and after each. Run again it goes on where it stood: what was dealt
    with is no longer among those that are chosen.
    """
    tally = Tally(len(chosen))
    yield tally
    for one in chosen:
        if is_stopped():
            return
        _act(one, act, tally)
        yield tally


def _act(one: GivenUp, act: Callable[[GivenUp], bool], tally: Tally) -> None:
    try:
        agreed = act(one)
    except DomainError as no:
        if no.code == ASKED_BEFORE:
            agreed = False
        else:
            tally.refused.append((one, str(no)))
            return
    except click.UsageError as wrong:
        tally.refused.append((one, wrong.message))
        return
    except Exception as error:
        if not _is_of_this_one(error):
            raise
        tally.refused.append((one, describe(error)))
        return
    tally.done += agreed
    tally.recorded += not agreed


def _is_of_this_one(error: Exception) -> bool:
    """Tell whether the next one may succeed: nothing is down, and it is this one that is odd, or in other hands."""
    return isinstance(error, SchemaIncompatible | Stale) or verdict(error) in ("item", "locked")
