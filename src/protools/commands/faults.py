"""Offer the seams and rules of faults on the command line."""

from __future__ import annotations

import click

from pulsaga.faults import FaultRuleError, RuleBook, check_rule
from pulsaga.located import the_system
from pulsaga.settings import Settings
from pulsaga_program.terminal import tell


@click.group()
def faults() -> None:
    """Let processes die, stall, fail or forget at named points (a system started with PROTOOLS_FAULTS only)."""


def _rule_book() -> RuleBook:
    file = Settings.read().fault_file
    if not file.exists():
        raise FaultRuleError("this system does not allow faults: start it with PROTOOLS_FAULTS=on, or with rules in it")
    return RuleBook(file)


@faults.command("seams")
def seams() -> None:
    """List every seam and what has happened when a process passes it."""
    known = the_system().seams
    width = max(map(len, known))
    for name, words in known.items():
        click.echo(f"{name.ljust(width)}  {words}")


@faults.command("add")
@click.argument("rule")
def add(rule: str) -> None:
    """Add a RULE, such as "stock.handled action=crash match=sku=tea nth=1 times=1"."""
    check_rule(rule, the_system().seams)
    _rule_book().add(rule)


@faults.command("list")
def rules() -> None:
    """List the rules, how often each was matched and how often it fired."""
    for told in _rule_book().rules():
        tell(f"{told.number}  passes={told.passes} fired={told.fired}  {told.text}")


@faults.command("clear")
def clear() -> None:
    """Remove all rules and forget all counts."""
    _rule_book().clear()
