"""Workflows as data: a saga, who may start it, and its steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, Generic, cast

from pulsaga.errors import DefinitionError
from pulsaga.records import built, has_default, hints_of, is_optional, is_unchanging, not_kept, plain
from pulsaga.saga.functions import item_type
from pulsaga.saga.steps import D, ForEach, Node, Step, When, inside, place

NAME = re.compile("[a-z][a-z0-9_-]*")
"""How a workflow is called: it is a part of URLs, and stored as `name@version`."""
LOADED = 100
"""Sagas whose data a process has in hand as functions are given it."""
Known = Mapping[str, Any]
"""A saga's data as its log keeps it: the fields of its dataclass by name."""


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
    steps: Sequence[Node[D]]
    version: int = 1
    access: Access | None = None
    """Closed unless declared: without one it is reachable by no caller."""
    most_bytes: int = 256 * 1024
    """Bytes of JSON that what starts it may take, and the items of a ForEach; beyond them it is refused."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DefinitionError(f"workflow {self.name!r}: a name is of small letters, digits, - and _")
        for cls in (self.starts, self.data):
            if not is_dataclass(cls):
                raise DefinitionError(f"workflow {self.name}: {cls.__qualname__} is no dataclass")
        if not self.steps:
            raise DefinitionError(f"workflow {self.name} has no steps")
        pivots = [path for path, step in self.leaves if step.pivot]
        if len(pivots) > 1:
            raise DefinitionError(f"workflow {self.name} has two pivots: from the first on nothing is compensated")
        if pivots and "/" in pivots[0]:
            raise DefinitionError(f"workflow {self.name}, {place(pivots[0])}: every saga has to pass the pivot")

    def check_data(self) -> None:
        """Raise DefinitionError unless its log can keep its data and items, and what starts it gives what it must."""
        for path, item in self.item_types.items():
            if odd := not_kept(item):
                what = f"workflow {self.name}, {place(path)}: an item of {item!r}"
                raise DefinitionError(f"{what}: a saga's log cannot keep {odd!r}; make it text or a number")
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
    def leaves(self) -> tuple[tuple[str, Step[D]], ...]:
        """Every step that sends a command, with its path."""
        return tuple((path, node) for path, node in self.nodes if isinstance(node, Step))

    @cached_property
    def nodes(self) -> tuple[tuple[str, Node[D]], ...]:
        """All that it is made of, with its path; raise DefinitionError for a condition without steps."""
        return tuple(self._nodes("", self.steps))

    def _nodes(self, before: str, steps: Sequence[Node[D]]) -> Iterator[tuple[str, Node[D]]]:
        for number, node in enumerate(steps):
            path = f"{before}{number}"
            yield path, node
            if isinstance(node, When) and not node.steps:
                raise DefinitionError(f"workflow {self.name}, {place(path)}: a When without steps decides nothing")
            for name, inner in inside(node):
                yield from self._nodes(f"{path}/{name}/", inner)

    @cached_property
    def item_types(self) -> Mapping[str, Any]:
        """The type of the items of each ForEach, by its path; raise DefinitionError where nobody says it."""
        return dict(self._item_types("", self.steps, self.data))

    def _item_types(self, before: str, steps: Sequence[Node[D]], view: Any) -> Iterator[tuple[str, Any]]:
        for number, node in enumerate(steps):
            path, seen = f"{before}{number}", view
            if isinstance(node, ForEach):
                item = item_type(node.items, view)
                yield path, item
                seen = {"data": view, "item": item}
            for name, inner in inside(node):
                yield from self._item_types(f"{path}/{name}/", inner, seen)

    def declared(self, path: str) -> str:
        """Return where it is declared what stands at a path: there the key of an item is `each`."""
        if path in self._by_path:
            return path
        parts = path.split("/")
        for depth in range(1, len(parts), 2):
            if isinstance(self._by_path.get("/".join(parts[:depth])), ForEach):
                parts[depth] = "each"
        return "/".join(parts)

    def at(self, path: str) -> Node[D]:
        """Return what stands at a path; raise LookupError where nothing does."""
        found = self._by_path.get(self.declared(path))
        if found is None:
            raise LookupError(f"workflow {self.key} has nothing at {path!r}")
        return found

    def step(self, path: str) -> Step[D]:
        """Return the step at a path; raise LookupError where none is."""
        found = self.at(path)
        if not isinstance(found, Step):
            raise LookupError(f"workflow {self.key} has no command at {path!r}")
        return found

    @cached_property
    def _by_path(self) -> Mapping[str, Node[D]]:
        return dict(self.nodes)

    def after(self, path: str) -> str:
        """Return the path of what comes after; at the end of a branch that of the branch, at the end the empty one."""
        before, _, number = path.rpartition("/")
        following = f"{before}/{int(number) + 1}".lstrip("/")
        if self.declared(following) in self._by_path:
            return following
        around = before.rpartition("/")[0]
        return self.after(around) if before and isinstance(self.at(around), When) else before

    def is_undoable(self, path: str) -> bool:
        """Tell whether anything within what stands at a path can be undone."""
        return self.declared(path) in self._undoable

    @cached_property
    def _undoable(self) -> frozenset[str]:
        paths = [path.split("/") for path, step in self.leaves if step.undone_from]
        return frozenset("/".join(parts[:depth]) for parts in paths for depth in range(1, len(parts) + 1))

    @cached_property
    def is_limited(self) -> bool:
        """Whether any of its steps is under a limit."""
        return any(step.limit for _, step in self.leaves)

    @cached_property
    def pivot(self) -> int:
        """Index of the pivot among the outermost; without one, every step may be compensated."""
        pivots = (number for number, node in enumerate(self.steps) if isinstance(node, Step) and node.pivot)
        return next(pivots, len(self.steps))

    @cached_property
    def _fields(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self.data))  # type: ignore[arg-type]

    def load(self, known: Known) -> D:
        """Return a saga's data from what its log keeps; fields that the dataclass no longer has are left out.

        What cannot change is made once while the same log is in hand: a saga of many items moves as often.
        """
        kept = self._loaded.get(id(known))
        if kept is None or kept[0] is not known:
            data = cast(D, built(self.data, {name: known[name] for name in self._fields if name in known}))
            if not is_unchanging(cast(Any, self.data)):
                return data
            if len(self._loaded) >= LOADED:
                self._loaded.clear()
            kept = self._loaded[id(known)] = known, data
        return kept[1]

    @cached_property
    def _loaded(self) -> dict[int, tuple[Known, D]]:
        return {}

    def subject_of(self, known: Known) -> str:
        """Return whom or what a saga is for that knows this."""
        return str(self.subject(self.load(known)))

    def changed(self, known: Known, after: D) -> dict[str, Any]:
        """Return the fields in which data differs from what is known."""
        before = self.load(known)
        other = {name for name in self._fields if name not in known or getattr(before, name) != getattr(after, name)}
        return {name: value for name, value in plain(after).items() if name in other}
