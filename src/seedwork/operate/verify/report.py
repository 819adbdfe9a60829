"""Verify a system and report what was found."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pulsaga.operate.verify.catalogue import Catalogue, Question
from pulsaga.operate.verify.check import Check
from pulsaga.operate.verify.extract import extract
from pulsaga.operate.verify.facts import Facts
from pulsaga.operate.verify.scope import Scope
from pulsaga.settings import Settings

if TYPE_CHECKING:
    from pulsaga.system import System

SHOWN = 3
"""Ids of one check that the table names; `--json` gives all."""


@dataclass(frozen=True)
class Finding:
    """What one check found: the ids, each with a detail."""

    check: Check
    ids: list[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """What was found among how many sagas, in how many seconds."""

    findings: list[Finding]
    sagas: int
    seconds: float

    @property
    def defects(self) -> int:
        """Count what must not be; what is told for information is left out."""
        return sum(len(finding.ids) for finding in self.findings if finding.check.is_defect)

    def document(self) -> dict[str, Any]:
        """Return everything for `--json`."""
        return {
            "sagas": self.sagas,
            "seconds": round(self.seconds, 3),
            "sagasPerSecond": round(self._rate, 1),
            "defects": self.defects,
            "findings": [_document(finding) for finding in self.findings],
        }

    def lines(self) -> Iterator[str]:
        """Write the table: class, check, count, the first ids with their details; then the figures."""
        for finding in self.findings:
            check = finding.check
            mark = "" if check.is_defect else " (no defect)"
            yield f"{check.kind:<9} {check.name:<28} {len(finding.ids):>7}  {check.says}{mark}"
            for identifier, detail in finding.ids[:SHOWN]:
                yield f"{'':<20}{identifier}  {detail}"
        said = f"{self.defects} defect{'s' * (self.defects > 1)}" if self.defects else "nothing lost, doubled or stuck"
        yield f"{said}; {self.sagas} sagas in {self.seconds:.1f} s, {self._rate:.0f} sagas/s"

    @property
    def _rate(self) -> float:
        return self.sagas / self.seconds if self.seconds else 0.0


def verify(system: System, settings: Settings, scope: Scope) -> Report:
    """Look at every database, read-only, and report.

    Raise Unavailable when one cannot be read, ValueError for a check of a service that cannot be asked.
    """
    began, catalogue = time.monotonic(), Catalogue(system, settings)
    with (
        tempfile.TemporaryDirectory(prefix="protools-verify-") as folder,
        closing(sqlite3.connect(Path(folder) / "facts.sqlite", isolation_level=None)) as file,
    ):
        facts = Facts(file, catalogue)
        sagas = extract(settings, catalogue, facts, scope)
        findings = judge(catalogue, facts)
    return Report(findings, sagas, time.monotonic() - began)


def judge(catalogue: Catalogue, facts: Facts) -> list[Finding]:
    """Run every check over what was read; return those that found something."""
    return [found for found in _without_twice_told([_run(each, facts) for each in catalogue.questions]) if found.ids]


def _run(question: Question, facts: Facts) -> Finding:
    rows = facts.ask(question.check.sql, question.parameters, question.name)
    return Finding(question.check, [(str(row[0]), str(row[1])) for row in rows])


def _without_twice_told(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Leave out of a general finding what a narrower one names."""
    told = {(found.check.narrows, identifier) for found in findings for identifier, _ in found.ids}
    for found in findings:
        yield replace(found, ids=[one for one in found.ids if (found.check.path, one[0]) not in told])


def _document(finding: Finding) -> dict[str, Any]:
    check = finding.check
    ids = [{"id": identifier, "detail": detail} for identifier, detail in finding.ids]
    named = {"class": check.kind, "check": check.name, "says": check.says, "isDefect": check.is_defect}
    return {**named, "count": len(ids), "ids": ids}
