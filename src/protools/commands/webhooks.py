"""Offer `protools webhooks`: calls that callers have asked for and never took."""

from __future__ import annotations

from typing import Any

import click

from pulsaga.delivery import database
from pulsaga.delivery.messages import UUID7
from pulsaga.delivery.transaction.unit_of_work import rfc3339
from pulsaga.operate.acting import Act, Runtimes, Signature
from pulsaga.operate.acting import carry_out as write_down
from pulsaga.operate.choosing import GivenUp, Where, grouped, shown_group
from pulsaga.operate.listing import Listing, Section, lists
from pulsaga.web.front_door.callbacks import given_up
from pulsaga_program.commands.bulk import Choice, carry_out, choosing, title, where_option
from pulsaga_program.commands.operators import acting, operator, the_front_door, the_runtimes
from pulsaga_program.terminal import example

NAMES = ("receiver", "actor", "code", "group")
COLUMNS = ("at", "id", "actor", "receiver", "attempts", "error")


@click.group("webhooks", epilog=example("webhooks list"))
def webhooks() -> None:
    """Look at calls that callers have asked for, and make anew those that were given up on."""


@webhooks.command("list", epilog=example("webhooks list --where receiver=shop.example:443"))
@where_option(NAMES)
@click.option("--waiting", is_flag=True, help="Those still to be made, with their next attempt and last error.")
@lists
def list_webhooks(where: Where, waiting: bool) -> Listing:
    """List the calls that were given up on, grouped by receiver and reason, the largest group first."""
    with the_runtimes() as runtimes, runtimes.runtime(the_front_door().name).write.connect() as connection:
        rows = given_up.waiting(connection) if waiting else given_up.given_up(connection)
    calls = {row["id"]: row for row in rows}
    found = [one for one in map(_case, rows) if where.holds(one)]
    shown = {one.id: _shown(calls[one.id]) for one in found}
    groups = grouped(found)
    document = [
        shown_group(key, group, "receiver") | {"webhooks": [shown[one.id] for one in group]}
        for key, group in groups.items()
    ]
    sections = [Section(title(key, group), [shown[one.id] for one in group]) for key, group in groups.items()]
    return Listing(COLUMNS, [], f"{len(found)} webhooks", sections, document)


def _case(row: dict[str, Any]) -> GivenUp:
    more = {"receiver": row["receiver"], "actor": row["actor"]}
    at = row["ended_at"] or row["created_at"]
    return GivenUp(the_front_door().name, row["id"], row["receiver"], row["error"], at, more)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "actor", "receiver", "status", "attempts", "error")
    times = {name: row[name] and rfc3339(row[name]) for name in ("created_at", "due_at", "ended_at")}
    return {"at": times["due_at"] or times["ended_at"], **{name: row[name] for name in names}, **times}


@webhooks.command("replay", epilog=example("webhooks replay --where receiver=shop.example:443 --why 'they are back'"))
@choosing(NAMES)
@acting
def replay_webhooks(choice: Choice, who: str | None, why: str) -> None:
    """Make calls anew that were given up on, with all their attempts ahead of them."""
    with the_runtimes() as runtimes:
        by = operator(runtimes.settings, who, why)
        carry_out("replay", choice, _chosen(runtimes, choice), lambda one: _replay(runtimes, one.id, by))


def _chosen(runtimes: Runtimes, choice: Choice) -> list[GivenUp]:
    with runtimes.runtime(the_front_door().name).write.connect() as connection:
        if choice.identifier is None:
            return [one for one in map(_case, given_up.given_up(connection)) if choice.where.holds(one)]
        row = given_up.find(connection, choice.identifier) if UUID7.fullmatch(choice.identifier) else None
    if row is None:
        raise click.UsageError(f"nobody has asked for a call about {choice.identifier}")
    return [_case(row)]


def _replay(runtimes: Runtimes, command_id: str, by: Signature) -> bool:
    """Return False where another operator has to agree; raise DomainError for a call that was not given up on."""
    with runtimes.runtime(the_front_door().name).write.begin() as tx:
        row = given_up.find(tx, command_id)
        assert row is not None, "no call is ever deleted"
        given_up.check_dead(row)
        now = database.now(tx, runtimes.settings.clock_offset)
        agreed = write_down(runtimes, tx, Act(by, "replay-webhook", command_id, {"error": row["error"]}), now)
        if agreed:
            given_up.call_again(tx, row, now)
    return agreed
