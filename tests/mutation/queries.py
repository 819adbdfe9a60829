"""Mutate the checks of `protools verify`, which are SQL and so nothing that a mutation tool for Python sees.

All mutants of a check are asked beside it, in one run of its tests, about the same facts. One that names other ids, or
is no SQL any more, is dead: each of these tests compares the ids that are reported. Details are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from typing import Any

from pulsaga.operate.verify import report
from pulsaga.operate.verify.catalogue import Catalogue, Question
from pulsaga.operate.verify.facts import Facts, written_out
from pulsaga.operate.verify.report import Finding
from pulsaga.settings import Settings
from system import SYSTEM

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
    views: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each view knows by name."""
    made: int = 0

    def pytest_sessionstart(self) -> None:
        catalogue = Catalogue(SYSTEM, Settings.read({}))
        for question in catalogue.questions:
            self._make(question.name, question.check.sql)
        for script, parameters in catalogue.derived:
            for statement in re.findall(r"CREATE VIEW .*?;", script, re.DOTALL):
                name = statement.split()[2]
                self.views[name] = parameters
                self._make(name, statement)
        report._run = self.ask

    def _make(self, name: str, sql: str) -> None:
        self.originals[name], self.alive[name] = sql, set(mutants(sql)) - {sql}
        self.made += len(self.alive[name])

    def ask(self, question: Question, facts: Facts) -> Finding:
        """Stand in for `pulsaga.operate.verify.report._run`."""
        sql, known = question.check.sql, question.parameters
        expected = _ids(facts, sql, known)
        alive = self.alive.get(question.name, set())
        alive -= {mutant for mutant in alive if _ids(facts, mutant, known) != expected}
        for view in self.views:
            if re.search(rf"\b{view}\b", sql):
                self._ask_through(view, question, facts, expected)
        return Finding(question.check, [(str(row[0]), str(row[1])) for row in facts.ask(sql, known, question.name)])

    def _ask_through(self, view: str, question: Question, facts: Facts, expected: list[str] | None) -> None:
        for mutant in list(self.alive[view]):
            facts.ask(f"DROP VIEW {view}")
            with suppress(ValueError):
                facts.ask(written_out(mutant, self.views[view]))
            if _ids(facts, question.check.sql, question.parameters) != expected:
                self.alive[view].discard(mutant)
            facts.ask(f"DROP VIEW IF EXISTS {view}")
            facts.ask(written_out(self.originals[view], self.views[view]))

    def survivors(self) -> Iterator[str]:
        """Show what differs in each mutant that is still alive."""
        for name, alive in self.alive.items():
            for mutant in sorted(alive):
                lines = unified_diff(self.originals[name].split("\n"), mutant.split("\n"), n=0, lineterm="")
                changed = [line for line in lines if line[:2] in ("- ", "+ ", "-C", "+C")]
                yield "\n".join([f"{name}: survived", *changed])


def _ids(facts: Facts, sql: str, known: Mapping[str, Any]) -> list[str] | None:
    try:
        return sorted(str(row[0]) for row in facts.ask(sql, known))
    except ValueError:
        return None
