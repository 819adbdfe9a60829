"""Offer the seams and rules of faults on the command line."""

from __future__ import annotations

import click

from pulsaga.faults import FaultRuleError, RuleBook, check_rule
from pulsaga.located import the_system
from pulsaga.operate.listing import Listing, lists
from pulsaga.settings import Settings
from pulsaga_program.terminal import example


@click.group(epilog=example("faults seams"))
def faults() -> None:
    """Let processes die, stall, fail or forget at named points (a system started with PROTOOLS_FAULTS only)."""


def _rule_book() -> RuleBook:
    file = Settings.read().fault_file
    if not file.exists():
        raise FaultRuleError("this system does not allow faults: start it with PROTOOLS_FAULTS=on, or with rules in it")
    return RuleBook(file)


@faults.command("seams", epilog=example("faults seams"))
@lists
def seams() -> Listing:
    """List every seam and what has happened when a process passes it."""
    rows = [{"seam": name, "passed_when": words} for name, words in the_system().seams.items()]
    return Listing(("seam", "passed_when"), rows, f"{len(rows)} seams")


@faults.command("add", epilog=example('faults add "stock.handled action=crash nth=1"'))
@click.argument("rule")
def add(rule: str) -> None:
    """Add a RULE, such as "stock.handled action=crash match=sku=tea nth=1 times=1"."""
    check_rule(rule, the_system().seams)
    _rule_book().add(rule)


@faults.command("list", epilog=example("faults list"))
@lists
def rules() -> Listing:
    """List the rules, how often each was matched and how often it fired."""
    columns = ("number", "passes", "fired", "text")
    rows = [{name: getattr(told, name) for name in columns} for told in _rule_book().rules()]
    return Listing(columns, rows, f"{len(rows)} rules")


@faults.command("clear", epilog=example("faults clear"))
def clear() -> None:
    """Remove all rules and forget all counts."""
    _rule_book().clear()
