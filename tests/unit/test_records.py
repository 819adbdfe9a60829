"""Turn dataclasses of every make into mappings and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pytest

from pulsaga.records import built, is_unchanging, plain


@dataclass(frozen=True)
class Flat:
    """As most are."""

    number: int


@dataclass(frozen=True, slots=True)
class Slotted:
    """Without a `__dict__`."""

    number: int


@dataclass(frozen=True)
class Working(Flat):
    """With a value that is worked out once, and kept in its `__dict__`."""

    @cached_property
    def twice(self) -> int:
        """Return twice the number."""
        return 2 * self.number


@pytest.mark.parametrize("cls", [Flat, Slotted, Working])
def test_a_record_is_its_fields_whatever_it_is_made_of(cls: Any) -> None:
    """A message with slots could be sent by nobody; what was worked out went into the saga's log."""
    record = cls(5)
    assert getattr(record, "twice", 10) == 10
    assert plain(record) == {"number": 5}
    assert built(cls, plain(record)) == record


@dataclass
class Thawed:
    """Not frozen."""

    number: int


@dataclass(frozen=True)
class Tree:
    """One that holds others of its kind."""

    name: str
    boughs: tuple[Tree, ...] = ()


@dataclass(frozen=True)
class Listed:
    """One that holds a list, deep inside."""

    within: tuple[Flat | None, ...] = ()
    names: tuple[list[str], ...] = ()


@pytest.mark.parametrize(
    ("hint", "is_so"),
    [
        (Flat, True),
        (Tree, True),
        (str | None, True),
        (Literal["a", "b"], True),
        (tuple[Flat, ...], True),
        (Thawed, False),
        (Listed, False),
        (list[int], False),
        (dict[str, int], False),
        (Any, False),
    ],
)
def test_what_holds_nothing_that_can_change_may_be_shared(hint: Any, is_so: bool) -> None:
    """What a careless function changes in place must be its own."""
    assert is_unchanging(hint) is is_so


def test_a_tree_is_built_as_deep_as_it_is() -> None:
    """And what stands in it as it is."""
    kept = {"name": "oak", "boughs": [{"name": "left", "boughs": [{"name": "twig"}]}, {"name": "right"}]}
    assert built(Tree, kept) == Tree("oak", (Tree("left", (Tree("twig"),)), Tree("right")))
    assert built(tuple[Flat | None, ...], [{"number": 1}, None]) == (Flat(1), None)
    assert built(list[str], ("a", "b")) == ["a", "b"]
