"""Choose among what was given up on by what it has in common, as `--where NAME=VALUE` says."""

from __future__ import annotations

import hashlib
import re
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pulsaga.operate.verify.scope import time_of

WORDS = 5
"""Words of an error that make its reason, beside its first one."""
STATUS = re.compile("[2-5][0-9][0-9]")
"""What a server of HTTP or SMTP answers: it stays in a reason, while other numbers differ from case to case."""


@dataclass(frozen=True)
class GivenUp:
    """Something that was given up on: a message or a call. `at` is in Unix seconds."""

    service: str
    id: str
    about: str
    """Its topic, or who was called: with the reason it makes the group."""
    error: str
    at: float
    more: Mapping[str, str] = field(default_factory=dict)
    """What else it is found by: the name of `about` first."""

    @cached_property
    def reason(self) -> str:
        """The error's class and first words, without what differs from one to the next."""
        said = re.sub(r"\s*\([^()]*:\d+\)$", "", self.error.replace(f"{self.about}: ", ""))
        return " ".join(map(_without_number, said.split()[: WORDS + 1]))

    @property
    def code(self) -> str:
        """The class of its error, or what the error begins with."""
        return self.error.partition(":")[0]

    @property
    def group(self) -> str:
        """A short id of all that have the same topic, or receiver, and reason."""
        return hashlib.sha256(f"{self.about}\n{self.reason}".encode()).hexdigest()[:8]

    def fact(self, name: str) -> str:
        """Return what `--where` compares."""
        own = {"service": self.service, "id": self.id, "code": self.code, "group": self.group}
        return self.more[name] if name in self.more else own[name]


def _without_number(word: str) -> str:
    """Return a word, or a mark in the place of one with a number that is no status, as `404:` and `status=404` are."""
    value = word.rpartition("=")[2].strip(string.punctuation)
    return "…" if re.search(r"\d", word) and not STATUS.fullmatch(value) else word


@dataclass(frozen=True)
class Where:
    """Conditions: one of the values of each name. `since` is in Unix seconds."""

    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    since: float = 0.0

    @classmethod
    def read(cls, conditions: Iterable[str], names: Sequence[str]) -> Where:
        """Read `NAME=VALUE` of these names, or `since=TIME`; raise ValueError, which says what is wrong."""
        values: dict[str, set[str]] = defaultdict(set)
        since = 0.0
        for text in conditions:
            name, equals, value = text.partition("=")
            if not equals or name not in (*names, "since"):
                raise ValueError(f"{text}: NAME=VALUE is expected, of {', '.join(names)} or since")
            if name == "since":
                since = max(since, time_of(value))
            else:
                values[name].add(value)
        return cls({name: frozenset(found) for name, found in values.items()}, since)

    def holds(self, one: GivenUp) -> bool:
        """Tell whether everything that is asked for is so."""
        return one.at >= self.since and all(one.fact(name) in known for name, known in self.values.items())


EVERYTHING = Where()


def grouped(found: Iterable[GivenUp]) -> dict[str, list[GivenUp]]:
    """Put what was given up on for one reason together, by the id of the group; the largest group first."""
    groups: dict[str, list[GivenUp]] = defaultdict(list)
    for one in found:
        groups[one.group].append(one)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def shown_group(key: str, group: Sequence[GivenUp], about: str) -> dict[str, Any]:
    """Return what its members have in common, and how many there are."""
    first = group[0]
    return {"group": key, about: first.about, "code": first.code, "reason": first.reason, "count": len(group)}
