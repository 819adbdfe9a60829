"""Offer `protools dead-letters`: messages that were given up on, one by one and by the hundred."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from pulsaga.operate import letters, replaying
from pulsaga.operate.acting import Runtimes
from pulsaga.operate.choosing import GivenUp, Where, grouped, shown_group
from pulsaga.operate.listing import Listing, Section, lists
from pulsaga_program.commands.bulk import Choice, carry_out, choosing, title, where_option
from pulsaga_program.commands.operators import acting, as_json, in_service, operator, print_all, the_runtimes
from pulsaga_program.terminal import SOME_ID, example, tell, tell_json

SHOWN = 10
"""Letters of a group that a list shows."""


@click.group("dead-letters", epilog=example("dead-letters list"))
def dead_letters() -> None:
    """Look at messages that were given up on; mend, replay or discard them, one or many."""


@dead_letters.command("list", epilog=example("dead-letters list --where since=2h --watch"))
@in_service
@where_option(letters.NAMES)
@click.option("--all", "closed", is_flag=True, help="Show those that were dealt with, too.")
@lists
def list_letters(service: str | None, where: Where, closed: bool) -> Listing:
    """List open dead letters, grouped by topic and reason, the largest group first."""
    with the_runtimes() as runtimes:
        found = letters.letters(runtimes, _services(runtimes, service), where, closed=closed)
    summaries = {(one.service, one.id, one.row["at"]): one.summary() for one in found}
    groups = grouped(one.given_up for one in found)
    rows = {key: [summaries[one.service, one.id, one.at] for one in group] for key, group in groups.items()}
    document = [shown_group(key, group, "topic") | {"letters": rows[key]} for key, group in groups.items()]
    sections = [Section(title(key, group), rows[key][:SHOWN], len(rows[key][SHOWN:])) for key, group in groups.items()]
    columns = ("at", "service", "id", "saga_id", "outcome")
    return Listing(columns, [], f"{len(found)} dead letters", sections, document)


def _services(runtimes: Runtimes, service: str | None) -> Sequence[str]:
    return [service] if service else runtimes.system.names


def _chosen(runtimes: Runtimes, choice: Choice, service: str | None) -> list[GivenUp]:
    if choice.identifier:
        return [letters.find(runtimes, choice.identifier, service).given_up]
    found = letters.letters(runtimes, _services(runtimes, service), choice.where)
    return [letter.given_up for letter in found]


@dead_letters.command("show", epilog=example(f"dead-letters show {SOME_ID}"))
@click.argument("identifier", metavar="ID")
@in_service
@as_json
def show_letter(identifier: str, service: str | None, as_json: bool) -> None:
    """Show one dead letter: message, attempts, error, what operators did, the log of its saga."""
    with the_runtimes() as runtimes:
        shown = letters.show(runtimes, letters.find(runtimes, identifier, service))
    if as_json:
        tell_json(shown)
        return
    log = shown.pop("saga")
    print_all(shown)
    tell("saga")
    print_all(log or {"saga": "there is none"}, "  ")


@dead_letters.command("edit", epilog=example("dead-letters edit ID --set email=ada@example.org --why typo"))
@choosing(letters.NAMES)
@in_service
@click.option("--set", "pairs", multiple=True, metavar="FIELD=VALUE", help="Change one field.")
@click.option("--body", type=click.File("rb"), help="A JSON file with the whole new body; --set comes on top.")
@acting
def edit_letters(
    choice: Choice, service: str | None, pairs: Sequence[str], body: Any, who: str | None, why: str
) -> None:
    """Give dead letters another body, each checked against its schema; their ids stay. Then replay them."""
    if not pairs and body is None:
        raise click.UsageError("nothing to change: give --set or --body")
    whole = _whole(body)
    with the_runtimes() as runtimes:
        by = operator(runtimes.settings, who, why)

        def edit(one: GivenUp) -> bool:
            schema = replaying.schema_of(runtimes, one.id, one.service)
            given = whole | dict(replaying.field_of(pair, schema) for pair in pairs)
            return replaying.edit(runtimes, one.id, one.service, by, given, whole=body is not None) is not None

        carry_out("edit", choice, _chosen(runtimes, choice, service), edit)


def _whole(body: Any) -> dict[str, Any]:
    try:
        values = {} if body is None else json.load(body)
    except ValueError as error:
        raise click.UsageError(f"--body: {error}") from None
    if not isinstance(values, dict):
        raise click.UsageError("--body: a JSON object is expected")
    return values


@dead_letters.command("replay", epilog=example("dead-letters replay --where group=3f2a90c1 --why 'disk has room'"))
@choosing(letters.NAMES)
@in_service
@acting
def replay_letters(choice: Choice, service: str | None, who: str | None, why: str) -> None:
    """Hand messages to their service again, which takes them within a second, under the same ids.

    Their sagas go on when that succeeds.
    """
    with the_runtimes() as runtimes:
        by = operator(runtimes.settings, who, why)

        def replay(one: GivenUp) -> bool:
            return replaying.replay(runtimes, one.id, one.service, by)

        carry_out("replay", choice, _chosen(runtimes, choice, service), replay)


@dead_letters.command("discard", epilog=example("dead-letters discard --where code=Undecodable --why 'a test'"))
@choosing(letters.NAMES)
@in_service
@acting
def discard_letters(choice: Choice, service: str | None, who: str | None, why: str) -> None:
    """Give messages up for good: the archive keeps them.

    A saga that waits for one needs an operator; a command that would have begun one is refused.
    """
    with the_runtimes() as runtimes:
        by = operator(runtimes.settings, who, why)

        def discard(one: GivenUp) -> bool:
            return replaying.discard(runtimes, one.id, one.service, by)

        carry_out("discard", choice, _chosen(runtimes, choice, service), discard)
