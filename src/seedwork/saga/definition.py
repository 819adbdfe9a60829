"""Workflows as data: a saga and its steps, forward and back side by side."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, fields, is_dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, cast, get_type_hints

from pulsaga.delivery.messages import MEMORY_S, contract_of
from pulsaga.errors import DefinitionError
from pulsaga.records import built, has_default, hints_of, is_optional, not_kept, plain

D = TypeVar("D")
NAME = re.compile("[a-z][a-z0-9_-]*")
"""How a workflow is called: it is a part of URLs, and stored as `name@version`."""
Known = Mapping[str, Any]
"""A saga's data as its log keeps it: the fields of its dataclass by name."""


def minutes(number: float) -> float:
    """Return seconds."""
    return number * 60


def hours(number: float) -> float:
    """Return seconds."""
    return number * 3600


@dataclass(frozen=True)
class Every:
    """Seconds of silence after which a command may be sent again."""

    seconds: float


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
    pivot: bool = False
    late: Literal["ignore", "park"] = "park"
    """What a success does that arrives after giving up on a step without compensation."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= MEMORY_S:
            raise ValueError(f"a deadline of {self.deadline:g} s: a command is good for more than 0 and {MEMORY_S:g} s")

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


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may start a workflow at the front door, whose it is, and what callers give. Without it no caller may."""

    start: str | Collection[str]
    """A role, several roles, or a scope such as `orders:write` that a token lists (RFC 8693 §4.2)."""
    owner: Callable[[Any], str] | None = None
    """Starting command → the caller who alone may ask, beside operators and admins; by default whoever may start it."""
    fields: Collection[str] | None = None
    """The fields of the starting command that callers may give, by default all; the others take their defaults."""
    subject: str = "subject"
    """The name under which a command shows its subject."""


@dataclass(frozen=True)
class Saga(Generic[D]):
    """A workflow: its steps in order. A running saga finishes on the `name@version` it began with."""

    name: str
    starts: type
    """The command that starts it; its fields are the first data."""
    data: type[D]
    """A frozen dataclass: what the workflow knows. It has the fields of `starts`, the others have defaults."""
    subject: Callable[[D], str]
    """What an operator searches for."""
    steps: list[Step[D]]
    version: int = 1
    access: Access | None = None
    """Closed unless declared: without one it is reachable by no caller."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DefinitionError(f"workflow {self.name!r}: a name is of small letters, digits, - and _")
        for cls in (self.starts, self.data):
            if not is_dataclass(cls):
                raise DefinitionError(f"workflow {self.name}: {cls.__qualname__} is no dataclass")
        if not self.steps:
            raise DefinitionError(f"workflow {self.name} has no steps")
        if len([step for step in self.steps if step.pivot]) > 1:
            raise DefinitionError(f"workflow {self.name} has two pivots: from the first on nothing is compensated")

    def check_data(self) -> None:
        """Raise DefinitionError unless its log can keep its data, and what starts it gives what has no default."""
        given, known = {each.name for each in fields(self.starts)}, {each.name: each for each in fields(self.data)}  # type: ignore[arg-type]
        if missing := sorted(given - known.keys()):
            raise DefinitionError(f"workflow {self.name}: {self.data.__qualname__} has no field {', '.join(missing)}")
        hints = hints_of(cast(Any, self.data))
        for name in known:
            if odd := not_kept(hints[name]):
                what = f"workflow {self.name}: field {name} of {self.data.__qualname__}"
                raise DefinitionError(f"{what}: a saga's log cannot keep {odd!r}; make it text or a number")
        needed = (name for name, each in known.items() if not (has_default(each) or is_optional(hints[name])))
        if unset := [name for name in needed if name not in given]:
            raise DefinitionError(
                f"workflow {self.name}: {self.data.__qualname__} needs a default for {', '.join(unset)}"
            )

    @property
    def key(self) -> str:
        """Name and version, as stored with every saga."""
        return f"{self.name}@{self.version}"

    @cached_property
    def pivot(self) -> int:
        """Index of the pivot; without one, every step may be compensated."""
        return next((index for index, step in enumerate(self.steps) if step.pivot), len(self.steps))

    @cached_property
    def _fields(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self.data))  # type: ignore[arg-type]

    def load(self, known: Known) -> D:
        """Return a saga's data from what its log keeps; fields that the dataclass no longer has are left out."""
        return cast(D, built(self.data, {name: known[name] for name in self._fields if name in known}))

    def learned(self, known: Known, index: int, reply: Any) -> dict[str, Any]:
        """Return the fields that the reply to a step changes."""
        learn = self.steps[index].learn
        if learn is None:
            return {}
        after = plain(learn(self.load(known), reply))
        return {name: value for name, value in after.items() if name not in known or known[name] != value}


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
