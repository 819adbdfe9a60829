"""What the functions of a workflow say that they send, take and return."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any, cast, get_args, get_type_hints

from pulsaga.errors import DefinitionError
from pulsaga.records import hints_of


def sent_by(function: Callable[..., Any]) -> type:
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


def is_taken_by(function: Callable[..., Any], message: type) -> bool:
    """Tell whether a function's second parameter takes a message, as far as it says."""
    taken = _second_parameter(function)
    return taken is None or issubclass(message, taken)


def item_type(items: Callable[..., Any], view: Any) -> Any:
    """Return the type of what a function lists: by its return annotation, or the field that its code names.

    `view` is the type of what the function takes: a dataclass, or types by the names of fields.
    """
    function = _plain_function(items)
    annotated = get_args(_hints_of(function).get("return"))
    found = annotated[0] if annotated else _named_in(function, view)
    if found is None:
        raise DefinitionError(f"{_where(function)}: of what type the items are is not said; annotate what it returns")
    return found


def _named_in(function: Any, view: Any) -> Any:
    """Return the type of the items in the field that a function such as `lambda order: order.lines` leads to."""
    for name in function.__code__.co_names:
        known: Mapping[str, Any] = {}
        if isinstance(view, Mapping):
            known = view
        elif is_dataclass(view):
            known = hints_of(cast(Any, view))
        if name not in known:
            return None
        view = known[name]
    return next(iter(get_args(view)), None)
