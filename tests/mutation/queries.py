"""Mutate the checks of `protools verify`, which are SQL and so nothing that a mutation tool for Python sees.

All mutants of a check are asked beside it, in one run of its tests, about the same facts. One that names other ids, or
is no SQL any more, is dead: each of these tests compares the ids that are reported. Details are left alone.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff

import pulsaga.operate.verify
from pulsaga.operate.verify import Finding
from pulsaga.operate.verify.check import Check
from pulsaga.operate.verify.checks import CHECKS
from pulsaga.operate.verify.facts import DERIVED, Facts

SWAPS = (
    (r"(?<![<>|])=", ("<>",)),
    (r"<>", ("=",)),
    (r"<=", (">",)),
    (r">=", ("<",)),
    (r"<(?![>=])", (">=",)),
    (r"(?<!<)>(?!=)", ("<=",)),
    (r"\bAND\b(?! :| c\.now)", ("OR",)),
    (r"\bOR\b(?! IGNORE)", ("AND",)),
    (r"\bIS NOT\b", ("IS",)),
    (r"\bIS\b(?! NOT)", ("IS NOT",)),
    (r"\bNOT (?=EXISTS|IN|LIKE|o\.)", ("",)),
    (r"(?<!NOT )\b(?=EXISTS|IN \(|LIKE)", ("NOT ",)),
    (r"\bLEFT JOIN\b", ("JOIN",)),
    (r"\bUNION ALL\b", ("EXCEPT", "INTERSECT")),
    (r"(?<=[+/<>-] )\d+\b", ("9",)),
    (r"(?<=[-+] ):bound", ("0", "9 * :bound")),
    (r"(?:(?<=[=>] )|(?<=LIKE )|(?<=IN \()|(?<=', )|(?<=THEN )|(?<=ELSE ))'[^' ]*'", ("'other'",)),
)
"""What is replaced, wherever it stands, one place at a time."""


def mutants(sql: str) -> Iterator[str]:
    """Yield the query with one place changed."""
    for pattern, others in SWAPS:
        for place in re.finditer(pattern, sql):
            yield from (sql[: place.start()] + other + sql[place.end() :] for other in others)


@dataclass
class Trial:
    """Be a pytest plugin that asks the mutants beside each check, and forgets those that were found out."""

    alive: dict[str, set[str]] = field(default_factory=dict)
    """Mutants of each check and view that no test has told from it, by its name."""
    originals: dict[str, str] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)
    made: int = 0

    def pytest_sessionstart(self) -> None:
        for check in CHECKS:
            self._make(_name(check), check.sql)
        for statement in re.findall(r"CREATE VIEW .*?;", DERIVED, re.DOTALL):
            self.views.append(statement.split()[2])
            self._make(self.views[-1], statement)
        pulsaga.operate.verify._run = self.ask

    def _make(self, name: str, sql: str) -> None:
        self.originals[name], self.alive[name] = sql, set(mutants(sql)) - {sql}
        self.made += len(self.alive[name])

    def ask(self, check: Check, facts: Facts) -> Finding:
        """Stand in for `pulsaga.operate.verify._run`."""
        expected = _ids(facts, check.sql)
        alive = self.alive[_name(check)]
        alive -= {sql for sql in alive if _ids(facts, sql) != expected}
        for view in self.views:
            if re.search(rf"\b{view}\b", check.sql):
                self._ask_through(view, check, facts, expected)
        return Finding(check, [(str(row[0]), str(row[1])) for row in facts.ask(check.sql)])

    def _ask_through(self, view: str, check: Check, facts: Facts, expected: list[str] | None) -> None:
        for mutant in list(self.alive[view]):
            facts.ask(f"DROP VIEW {view}")
            with suppress(sqlite3.Error):
                facts.ask(mutant)
            if _ids(facts, check.sql) != expected:
                self.alive[view].discard(mutant)
            facts.ask(f"DROP VIEW IF EXISTS {view}")
            facts.ask(self.originals[view])

    def survivors(self) -> Iterator[str]:
        """Show what differs in each mutant that is still alive."""
        for name, alive in self.alive.items():
            for mutant in sorted(alive):
                lines = unified_diff(self.originals[name].split("\n"), mutant.split("\n"), n=0, lineterm="")
                changed = [line for line in lines if line[:2] in ("- ", "+ ", "-C", "+C")]
                yield "\n".join([f"{name}: survived", *changed])


def _name(check: Check) -> str:
    return f"{check.kind}/{check.name}"


def _ids(facts: Facts, sql: str) -> list[str] | None:
    try:
        return sorted(str(row[0]) for row in facts.ask(sql))
    except sqlite3.Error:
        return None
