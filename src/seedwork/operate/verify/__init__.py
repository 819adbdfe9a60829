"""Check on live data that nothing was lost, doubled or stuck: join every service's tables for every command.

`extract` streams what is needed into one temporary SQLite file, so memory is bounded; each check is one query over it.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulsaga.operate.verify.check import Check
from pulsaga.operate.verify.checks import CHECKS
from pulsaga.operate.verify.extract import extract
from pulsaga.operate.verify.facts import Facts
from pulsaga.operate.verify.scope import Scope
from pulsaga.settings import Settings
from pulsaga.system import System

SHOWN = 3
"""Ids of one check that the table names; `--json` gives all."""


@dataclass(frozen=True)
class Finding:
    """Hold what one check found: the ids, each with a detail."""

    check: Check
    ids: list[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """Hold what was found among how many sagas, in how many seconds."""

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
    """Look at every database, read-only, and report; raise Unavailable when one cannot be read."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="protools-verify-") as folder,
        closing(sqlite3.connect(Path(folder) / "facts.sqlite", isolation_level=None)) as file,
    ):
        facts = Facts(file)
        sagas = extract(system, settings, facts, scope)
        findings = judge(facts)
    return Report(findings, sagas, time.monotonic() - began)


def judge(facts: Facts) -> list[Finding]:
    """Run every check over what was read; return those that found something."""
    return [found for check in CHECKS if (found := _run(check, facts)).ids]


def _run(check: Check, facts: Facts) -> Finding:
    return Finding(check, [(str(row[0]), str(row[1])) for row in facts.ask(check.sql)])


def _document(finding: Finding) -> dict[str, Any]:
    check = finding.check
    ids = [{"id": identifier, "detail": detail} for identifier, detail in finding.ids]
    named = {"class": check.kind, "check": check.name, "says": check.says, "isDefect": check.is_defect}
    return {**named, "count": len(ids), "ids": ids}
