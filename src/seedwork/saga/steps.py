"""What a workflow is made of: steps, conditions, rests and branches; and where in it something stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar
from zlib import crc32

from pulsaga.delivery.messages import MEMORY_S, contract_of
from pulsaga.saga.functions import is_taken_by, sent_by

D = TypeVar("D")
T = TypeVar("T")


def minutes(number: float) -> float:
    """Return seconds."""
    return number * 60


def hours(number: float) -> float:
    """Return seconds."""
    return number * 3600


@dataclass(frozen=True)
class Every:
    """Seconds of silence after which a command may be sent again, and of rest before a refused one is tried again.

    `Every(5)` is always the same; `Every(1, growth=2, at_most=300, jitter=0.2)` waits twice as long each time,
    up to five minutes, each a fifth more or less.
    """

    seconds: float
    _: KW_ONLY
    growth: float = 1.0
    at_most: float = math.inf
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.seconds <= self.at_most and self.growth >= 1 and 0 <= self.jitter < 1):
            raise ValueError(
                f"{self}: seconds above 0 and within at_most, growth of 1 or more, jitter from 0 to below 1"
            )
        if self.growth > 1 and self.at_most == math.inf:
            raise ValueError(f"{self}: what grows needs at_most, or it is never tried again")

    def after(self, attempt: int, salt: str) -> float:
        """Return the seconds after an attempt, counted from 1; the same salt strays in the same way."""
        grown = self.seconds * self.growth ** min(attempt - 1, 1000) if self.growth > 1 else self.seconds
        strays = crc32(f"{salt} {attempt}".encode()) / 2**31 - 1
        return min(grown, self.at_most) * (1 + self.jitter * strays)

    @property
    def longest(self) -> float:
        """The most seconds that it can be."""
        return (self.at_most if self.growth > 1 else self.seconds) * (1 + self.jitter)


@dataclass(frozen=True)
class Limit:
    """How many commands under one key may be under way at once, in all sagas and with any number of coordinators."""

    key: str
    at_most: int
    wait: float = 3600.0
    """Seconds that a step waits for its turn, beside its deadline; then it is as if its deadline had passed."""

    def __post_init__(self) -> None:
        if not self.key or self.at_most < 1 or not 0 < self.wait < math.inf:
            raise ValueError(f"{self}: a key, at_most of 1 or more, and a wait of more than 0 and not for ever")


@dataclass(frozen=True)
class Step(Generic[D]):
    """A step of a workflow, forward and back side by side.

    `command` and `undo` say by their return annotation, or as a lambda by the class that they call, what they send.
    """

    command: Callable[[D], Any]
    """Saga data → body of the command."""
    _: KW_ONLY
    undo: Callable[[D, str], Any] | None = None
    """Saga data and the id of the command to undo → body of the compensating command."""
    learn: Callable[[D, Any], D] | None = None
    """Saga data and the body of the reply → the data from then on."""
    retry: Every = Every(seconds=5)
    deadline: float
    """Seconds from issuing; before the pivot it compensates, from the pivot on it suspends."""
    retryable: Collection[str] = ()
    """Codes of refusals after which the step is tried again, as a new command; any other refusal is final."""
    tries: int = 5
    """How many commands a step may send in all because of that."""
    limit: Limit | None = None
    """Under which limit its command is sent, first come first served."""
    token_for: type | None = None
    """The signal that may be sent by whoever bears the token that its command brings, sealed in `sealed_token`."""
    pivot: bool = False
    late: Literal["ignore", "park"] = "park"
    """What a success does that arrives after giving up on a step without compensation."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= MEMORY_S:
            raise ValueError(f"a deadline of {self.deadline:g} s: a command is good for more than 0 and {MEMORY_S:g} s")
        if isinstance(self.retryable, str) or self.tries < 1:
            raise ValueError(f"retryable {self.retryable!r}, tries {self.tries}: several codes, and 1 try or more")

    @property
    def longest(self) -> float:
        """The most seconds that it can wait for anything."""
        return max(self.deadline, self.retry.longest, self.limit.wait if self.limit else 0.0)

    @cached_property
    def sends(self) -> type:
        """The class of its command; raise DefinitionError when the function does not say."""
        return sent_by(self.command)

    @cached_property
    def undoes_by(self) -> type | None:
        """The class of its compensating command, or None; raise DefinitionError when the function does not say."""
        return None if self.undo is None else sent_by(self.undo)

    @property
    def undone_from(self) -> Collection[str]:
        """The statuses from which it is undone on the way back; none where it is passed over."""
        return ("issued", "done", "failed") if self.undo else ()

    @cached_property
    def unlearned(self) -> tuple[type, ...]:
        """The replies to its command that its `learn` does not take."""
        replies = contract_of(self.sends).replies
        return tuple(reply for reply in replies if self.learn and not is_taken_by(self.learn, reply))


@dataclass(frozen=True)
class Child(Step[D]):
    """Another workflow of the system as a step: `command` starts it, and its end is the answer.

    `learn` takes the data that the child has ended with. On the way back a child that still runs is cancelled; one that
    has completed is undone by the workflow that `undo` starts, given its id, or follows `late`.
    """

    _: KW_ONLY
    retry: Every = Every(60, growth=2, at_most=3600)

    @property
    def undone_from(self) -> Collection[str]:
        """As a step's; one that still runs is cancelled, whatever becomes of it once it has completed."""
        return ("issued", "failed", *(("done",) if self.undo else ()))


@dataclass(frozen=True)
class When(Generic[D]):
    """Steps that a saga takes if a condition holds when it gets there: that is decided once, and kept in the log."""

    condition: Callable[[D], bool]
    """Saga data → whether `steps` are taken."""
    steps: Sequence[Node[D]]
    _: KW_ONLY
    otherwise: Sequence[Node[D]] = ()
    """What is taken instead."""

    def branch(self, name: str) -> Sequence[Node[D]]:
        """Return the steps of a decision, `then` or `else`."""
        return self.steps if name == "then" else self.otherwise


@dataclass(frozen=True)
class Sleep(Generic[D]):
    """Rest for so many seconds, or until a time that the saga knows."""

    seconds: float | None = None
    _: KW_ONLY
    until: Callable[[D], float] | None = None
    """Saga data → Unix seconds."""
    at_most: float = 366 * 24 * 3600.0
    """Seconds after which it wakes though `until` says later: nothing waits for ever."""

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("a Sleep has either seconds or `until`")
        if not 0 < self.longest < math.inf:
            raise ValueError(f"a Sleep of {self.longest:g} s: more than 0, and not for ever")

    @property
    def longest(self) -> float:
        """The most seconds that it can take."""
        return self.at_most if self.seconds is None else self.seconds

    def wake_at(self, data: D, now: float) -> float:
        """Return when it is over, in Unix seconds."""
        until = now + self.longest if self.until is None else self.until(data)
        return max(now, min(until, now + self.longest))


OWNER = "owner"
"""The caller who asked for a saga, and whoever may ask for everybody."""
BEARER = "bearer"
"""Whoever bears a token that a command of the saga brought: a step with `token_for`."""


@dataclass(frozen=True)
class Await(Generic[D]):
    """Wait for a signal from outside: a command that callers may send to a saga, or an event of another service.

    The same signal twice counts once. One that comes before anybody waits for it is refused, unless `early`.
    """

    signal: type
    """The class of the message; a command is the system's own."""
    _: KW_ONLY
    deadline: float
    """Seconds from when the saga gets there; as a `Step`'s."""
    learn: Callable[[D, Any], D] | None = None
    """Saga data and the signal → the data from then on."""
    by: str | Collection[str] | None = None
    """Which callers may send it: a role, several, or a scope; OWNER for who asked for the saga; BEARER for whoever
    bears a token that the saga gave out; by default none."""
    early: bool = False
    """Whether one that comes early is kept until the saga gets there."""
    late: Literal["ignore", "park"] = "park"
    """What one does that comes after the saga has given up on it."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline < math.inf:
            raise ValueError(f"an Await of {self.deadline:g} s: more than 0, and not for ever")

    @property
    def longest(self) -> float:
        """The most seconds that it can take."""
        return self.deadline

    @property
    def name(self) -> str:
        """How the signal is called."""
        return contract_of(self.signal).name


@dataclass(frozen=True)
class Each(Generic[D, T]):
    """What the steps of a `ForEach` are given: what is known around them, and the item in hand."""

    data: D
    item: T


Fail = Literal["fast", "wait"]
"""When a branch fails: the saga is given up at once, or once its neighbours that have begun have ended."""


@dataclass(frozen=True, init=False)
class Parallel(Generic[D]):
    """Branches that are taken at once, each a step or several; what comes next waits for all of them.

    They share what the saga knows: what two branches learn should be two fields.
    """

    branches: Sequence[Sequence[Node[D]]]
    fail: Fail

    def __init__(self, *branches: Node[D] | Sequence[Node[D]], fail: Fail = "fast") -> None:
        """Take these branches; raise ValueError for fewer than two, or one without steps."""
        sequences = tuple(tuple(one) if isinstance(one, Sequence) else (one,) for one in branches)
        object.__setattr__(self, "branches", sequences)
        object.__setattr__(self, "fail", fail)
        if len(self.branches) < 2 or not all(self.branches):
            raise ValueError("a Parallel has two branches or more, each of one step or more")


@dataclass(frozen=True)
class ForEach(Generic[D, T]):
    """Steps that are taken for each of several items: what comes next waits for all of them.

    An item knows itself: its steps take `Each(data, item)`, and `learn` returns one with another item.
    """

    items: Callable[[D], Sequence[T]]
    """Saga data → the items; what it says when the saga gets there is kept in the log. The start is refused where it
    says then already what cannot be taken."""
    key: Callable[[T], str]
    """Item → its name in the log, of its own among the items."""
    steps: Sequence[Node[Any]]
    _: KW_ONLY
    learn: Callable[[D, Sequence[T]], D] | None = None
    """Saga data and the items, as their steps have left them → the data from then on."""
    at_most: int = 100
    """How many items may be in hand at once, forward and back."""
    fail: Fail = "fast"
    most: int = 1000
    """How many items there may be; a saga that has more does not start, or cannot go on."""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a ForEach without steps does nothing")
        if self.at_most < 1 or self.most < 1:
            raise ValueError(f"at_most {self.at_most}, most {self.most}: 1 or more")


Node = Step[D] | When[D] | Sleep[D] | Await[D] | Parallel[D] | ForEach[D, Any]
"""What a workflow is made of."""


def inside(node: Node[D]) -> Iterator[tuple[str, Sequence[Node[D]]]]:
    """Yield the sequences of steps that stand inside one, by what their paths call them."""
    match node:
        case When():
            yield "then", node.steps
            yield "else", node.otherwise
        case Parallel():
            yield from ((str(number), branch) for number, branch in enumerate(node.branches))
        case ForEach():
            yield "each", node.steps


def position(path: str) -> int:
    """Return the index of the outermost node around a path."""
    return int(path.partition("/")[0])


def place(path: str) -> str:
    """Return a path as it is declared, as people count: `step 2, then, step 1`."""
    words = ("step", "branch")
    parts = enumerate(path.split("/"))
    return ", ".join(f"{words[depth % 2]} {int(part) + 1}" if part.isdigit() else part for depth, part in parts)
