"""Check on live data that nothing was lost, doubled or stuck: join every service's tables for every command.

A system is checked from its declarations. `extract` streams what is needed into one temporary SQLite file, so memory is
bounded; each check is one query over it. A service adds checks of its own effects with `Checks`.
"""

from pulsaga.operate.verify.check import Check, Checks, FactTable, Floor

__all__ = ["Check", "Checks", "FactTable", "Floor"]
