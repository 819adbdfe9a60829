"""Offer `protools projections`: look at read models, and build them anew from events.

Exit codes: 0 done, 1 refused with the reason or, of a comparison, different, 2 wrong input, 3 another operator has to
agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from pulsaga.delivery.messages import contract_of
from pulsaga.located import the_system
from pulsaga.operate.listing import Listing, lists
from pulsaga.operate.rebuilding.building import Outcome
from pulsaga.operate.rebuilding.models import ReadModel, read_model, read_models
from pulsaga.operate.rebuilding.rebuild import compare
from pulsaga.operate.rebuilding.rebuild import rebuild as rebuild_now
from pulsaga.operate.rebuilding.shadow import KINDS
from pulsaga_program.commands.operators import as_json, operator, tell_done, the_runtimes
from pulsaga_program.terminal import example, tell, tell_json

EVERY = 10_000
"""Events after which progress is told."""


@click.group(epilog=example("projections list"))
def projections() -> None:
    """Look at read models; build them anew from the events that they show."""


@projections.command("list", epilog=example("projections list"))
@lists
def list_models() -> Listing:
    """List the read models: their tables, whose events they show, and what keeps one from being built anew."""
    found = [_summary(model) for model in read_models(the_system())]
    rows = [{name: value if name == "name" else ", ".join(value) for name, value in one.items()} for one in found]
    columns = ("name", "tables", "events", "obstacles")
    return Listing(columns, rows, f"{len(found)} read models", document=found)


def _summary(model: ReadModel) -> dict[str, Any]:
    events = sorted(contract_of(cls).name for cls in model.service.projecting)
    tables = [table.name for table in model.tables]
    return {"name": model.name, "tables": tables, "events": events, "obstacles": list(model.obstacles())}


@projections.command(epilog=example("projections rebuild stock --dry-run"))
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Say how it differs, change nothing; exit 1 when it does.")
@click.option("--show", "shown", type=click.IntRange(0, 100_000), default=20, show_default=True, help="Rows per table.")
@click.option("--as", "who", metavar="NAME", help="Who acts; else OPERATOR, else the login name.")
@click.option("--why", metavar="TEXT", help="The reason, for the audit; needed unless it is a dry run.")
@as_json
def rebuild(name: str, dry_run: bool, shown: int, who: str | None, why: str | None, as_json: bool) -> None:
    """Build the read model NAME anew from events, beside the live one; say how this differs, then swap the new one in.

    NAME is a service, or one of its tables: `stock`, `stock.item`. The system goes on meanwhile. It may be stopped and
    run again.
    """
    if not (dry_run or (why or "").strip()):
        raise click.UsageError("a reason is needed: say --why, or --dry-run")
    with the_runtimes() as runtimes:
        model = read_model(runtimes.system, name)
        if dry_run:
            outcome: Outcome | None = compare(runtimes, model, _progress(), shown)
        else:
            by = operator(runtimes.settings, who, str(why).strip())
            outcome = rebuild_now(runtimes, model, by, _progress(), shown)
    if outcome is None:
        tell_done(False, f"rebuild of {name}")
        return
    tell_json(_document(outcome)) if as_json else _print(outcome, "differs" if dry_run else "differed")
    sys.exit(1 if dry_run and outcome else 0)


def _progress() -> Callable[[int], None]:
    """Return what tells on stderr how many events were read, now and then."""
    told = 0

    def tell_read(read: int) -> None:
        nonlocal told
        if read >= told + EVERY:
            told = read
            click.echo(f"{read} events read", err=True)

    return tell_read


def _document(outcome: Outcome) -> dict[str, Any]:
    tables = [
        {"table": one.table, "rows": one.rows, **one.counts, "examples": _plain(one.examples)}
        for one in outcome.differences
    ]
    return {"tables": tables, "kept": list(outcome.kept)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _print(outcome: Outcome, verb: str) -> None:
    for one in outcome.differences:
        counts = ", ".join(f"{number} {kind}" for kind, number in one.counts.items() if number)
        tell(f"{one.table}: {one.rows} rows; {f'{verb}: {counts}' if counts else 'no difference'}")
        for kind, number in one.counts.items():
            if number:
                tell(f"  {kind}: {KINDS[kind]}")
        for row in one.examples:
            tell(_line(row))
    for name in outcome.kept:
        tell(f"{name}: left as it is, for no event tells anything of it")


def _line(example: Mapping[str, Any]) -> str:
    key = "  ".join(f"{name}={value}" for name, value in example["key"].items())
    changes = "  ".join(f"{name}: {old} → {new}" for name, (old, new) in example["columns"].items())
    return f"  {example['kind']}  {key}  {changes}"
