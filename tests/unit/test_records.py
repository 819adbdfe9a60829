"""Turn dataclasses of every make into mappings and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from pulsaga.records import built, plain


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
