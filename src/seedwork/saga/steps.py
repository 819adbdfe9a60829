"""What a workflow is made of: steps, conditions and rests; and where in it something stands."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, get_type_hints
from zlib import crc32

from pulsaga.delivery.messages import MEMORY_S, contract_of
from pulsaga.errors import DefinitionError

D = TypeVar("D")


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
    pivot: bool = False
    late: Literal["ignore", "park"] = "park"
    """What a success does that arrives after giving up on a step without compensation."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= MEMORY_S:
            raise ValueError(f"a deadline of {self.deadline:g} s: a command is good for more than 0 and {MEMORY_S:g} s")
        if isinstance(self.retryable, str) or self.tries < 1:
            raise ValueError(f"retryable {self.retryable!r}, tries {self.tries}: several codes, and 1 try or more")

    @cached_property
    def sends(self) -> type:
        """The class of its command; raise DefinitionError when the function does not say."""
        return _sent_by(self.command)

    @cached_property
    def undoes_by(self) -> type | None:
        """The class of its compensating command, or None; raise DefinitionError when the function does not say."""
        return None if self.undo is None else _sent_by(self.undo)

    @cached_property
    def unlearned(self) -> tuple[type, ...]:
        """The replies to its command that its `learn` does not take."""
        taken = None if self.learn is None else _second_parameter(self.learn)
        if taken is None:
            return ()
        return tuple(reply for reply in contract_of(self.sends).replies if not issubclass(reply, taken))


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


Node = Step[D] | When[D] | Sleep[D]
"""What a workflow is made of."""


def position(path: str) -> int:
    """Return the index of the outermost node around a path."""
    return int(path.partition("/")[0])


def place(path: str) -> str:
    """Return a path as people count: `step 2, then, step 1`."""
    return ", ".join(f"step {int(part) + 1}" if part.isdigit() else part for part in path.split("/"))


# --- what a function says that it sends and takes


def _sent_by(function: Callable[..., Any]) -> type:
    """Return the command class that a function makes: its return annotation, or the one that its code names."""
    function = _plain_function(function)
    if isinstance(function, type):
        raise DefinitionError(f"{function.__qualname__}: a step takes a function that makes its command, not a class")
    annotated = _hints_of(function).get("return")
    if isinstance(annotated, type) and hasattr(annotated, "contract"):
        return annotated
    named = list(dict.fromkeys(_commands_named(function)))
    if len(named) != 1:
        raise DefinitionError(
            f"{_where(function)}: a step's function names {len(named)} commands; annotate what it returns"
        )
    return named[0]


def _plain_function(function: Any) -> Any:
    """Return what is called in the end: the function of a partial, the `__call__` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 - wanted is the method, not whether there is one


def _commands_named(function: Any) -> Iterator[type]:
    if not hasattr(function, "__code__"):
        return
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    modules = [found for name in function.__code__.co_names if isinstance(found := scope.get(name), ModuleType)]
    for name in (*function.__code__.co_names, *function.__code__.co_freevars):
        for found in (scope.get(name), *(getattr(module, name, None) for module in modules)):
            if isinstance(found, type) and getattr(getattr(found, "contract", None), "kind", "") == "command":
                yield found


def _second_parameter(function: Callable[..., Any]) -> Any:
    """Return the annotation of a function's second parameter as `issubclass` takes it; None where it says nothing."""
    hints = _hints_of(_plain_function(function))
    names = list(inspect.signature(function).parameters)
    found = hints.get(names[1]) if len(names) > 1 else None
    return None if found is Any else found


def _hints_of(function: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(function) if getattr(function, "__annotations__", None) else {}
    except NameError as error:
        raise DefinitionError(f"{_where(function)}: {error}, and a step's function is annotated with it") from None


def _where(function: Any) -> str:
    """Return where a function was written."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{getattr(function, '__module__', function)}" + (f", line {code.co_firstlineno}" if code else "")
