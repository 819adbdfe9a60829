"""Offer `protools dead-letters`, `protools sagas` and `protools incidents`.

Exit codes: 0 done, 1 refused with the reason, 2 wrong input, 3 recorded, another operator has to agree.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_args

import click
import structlog
from sqlalchemy.exc import DBAPIError

from pulsaga.errors import SettingError, Unavailable
from pulsaga.located import the_system
from pulsaga.operate import incidents, letters, replaying, sagas
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.running.runtime import Runtime, open_runtime
from pulsaga.saga.happenings import Action
from pulsaga.saga.log import Status
from pulsaga.settings import Settings
from pulsaga.text import printable
from pulsaga_program.terminal import tell, tell_json

F = TypeVar("F", bound=Callable[..., Any])
NOT_YET_AGREED = 3
BARE = ("at", "kind", "who", "action")
"""Columns that say themselves what they are."""


@contextmanager
def the_runtimes() -> Iterator[Runtimes]:
    """Reach every service of the system, each when it is first asked for."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    system, settings, opened = the_system(), Settings.read(), list[Runtime]()

    @cache
    def runtime(service: str) -> Runtime:
        opened.append(open_runtime(system, settings, service))
        return opened[-1]

    try:
        yield Runtimes(system, settings, runtime)
    except DBAPIError as error:
        raise Unavailable(f"a database does not answer as it should: {error.orig}") from error
    finally:
        for one in opened:
            one.broker.close()
            one.write.dispose()


class ServiceName(click.ParamType[str]):
    """The name of a service of the system."""

    name = "service"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        names = the_system().names
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}", param, ctx)
        return str(value)


in_service = click.option("--service", type=ServiceName(), help="Look in this service only.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def acting(command: F) -> F:
    """Ask for who and why."""
    who = click.option("--as", "who", metavar="NAME", help="Who acts; else OPERATOR, else the login name.")
    why = click.option("--why", required=True, callback=_said, help="The reason, for the audit.")
    return who(why(command))


def _said(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("a reason is needed")
    return text.strip()


def operator(settings: Settings, who: str | None, why: str) -> Signature:
    """Name who acts: as said, else OPERATOR, else the login name; raise SettingError when none of them says."""
    name = who or settings.operator
    try:
        return Signature(printable(name or getpass.getuser()), why)
    except (OSError, KeyError):
        raise SettingError("OPERATOR", "who acts? The login has no name: set it, or say --as NAME") from None


def tell_done(done: bool, what: str) -> None:
    """Say what was done, or that it waits for a second operator, and exit."""
    if not done:
        tell(f"not done yet, recorded: a second operator has to do the same ({what})")
        sys.exit(NOT_YET_AGREED)
    tell(what)


# --- dead letters


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at messages that were given up on; mend, replay or discard them."""


@dead_letters.command("list")
@in_service
@as_json
@click.option("--all", "closed", is_flag=True, help="Show those that were dealt with, too.")
def list_letters(service: str | None, as_json: bool, closed: bool) -> None:
    """List open dead letters, grouped by topic and reason, the largest group first."""
    with the_runtimes() as runtimes:
        found = letters.letters(runtimes, [service] if service else runtimes.system.names, closed=closed)
    groups = letters.grouped(found)
    if as_json:
        tell_json([_group(key, group) for key, group in groups.items()])
        return
    for (topic, reason), group in groups.items():
        tell(f"{len(group)} × {topic}: {reason}")
        for summary in (letter.summary() for letter in group):
            tell("  {at}  {service}  {id}  saga {saga_id}  {outcome}".format_map(_plain(summary)))
    tell(f"{len(found)} dead letters")


def _group(key: tuple[str, str], group: Sequence[letters.Letter]) -> dict[str, Any]:
    topic, reason = key
    return {"topic": topic, "reason": reason, "count": len(group), "letters": [letter.summary() for letter in group]}


@dead_letters.command("show")
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
    _print(shown)
    tell("saga")
    _print(log or {"saga": "there is none"}, "  ")


@dead_letters.command("edit")
@click.argument("identifier", metavar="ID")
@in_service
@click.option("--set", "pairs", multiple=True, metavar="FIELD=VALUE", help="Change one field.")
@click.option("--body", type=click.File("rb"), help="A JSON file with the whole new body; --set comes on top.")
@acting
def edit_letter(
    identifier: str, service: str | None, pairs: Sequence[str], body: Any, who: str | None, why: str
) -> None:
    """Give a dead letter another body, checked against its schema; its id stays. Then replay it."""
    if not pairs and body is None:
        raise click.UsageError("nothing to change: give --set or --body")
    with the_runtimes() as runtimes:
        schema = replaying.schema_of(runtimes, identifier, service)
        given = _whole(body) | dict(replaying.field_of(pair, schema) for pair in pairs)
        by = operator(runtimes.settings, who, why)
        after = replaying.edit(runtimes, identifier, service, by, given, whole=body is not None)
    tell_done(after is not None, f"edited {identifier}: {json.dumps(after or given)}")


def _whole(body: Any) -> dict[str, Any]:
    try:
        values = {} if body is None else json.load(body)
    except ValueError as error:
        raise click.UsageError(f"--body: {error}") from None
    if not isinstance(values, dict):
        raise click.UsageError("--body: a JSON object is expected")
    return values


@dead_letters.command("replay")
@click.argument("identifier", metavar="ID")
@in_service
@acting
def replay_letter(identifier: str, service: str | None, who: str | None, why: str) -> None:
    """Hand a message to its service again, under the same id; its saga goes on when that succeeds."""
    with the_runtimes() as runtimes:
        done = replaying.replay(runtimes, identifier, service, operator(runtimes.settings, who, why))
    tell_done(done, f"replay of {identifier}: its service takes it within a second")


@dead_letters.command("discard")
@click.argument("identifier", metavar="ID")
@in_service
@acting
def discard_letter(identifier: str, service: str | None, who: str | None, why: str) -> None:
    """Give a message up for good. It is kept; a saga that waits for it needs an operator; a beginning is refused."""
    with the_runtimes() as runtimes:
        done = replaying.discard(runtimes, identifier, service, operator(runtimes.settings, who, why))
    tell_done(done, f"discard of {identifier}")


# --- sagas


@click.group("sagas")
def sagas_group() -> None:
    """Look at sagas, and move those that cannot move by themselves."""


@sagas_group.command("list")
@click.option("--status", type=click.Choice([*get_args(Status), "ALL"], case_sensitive=False), default="SUSPENDED")
@click.option("--suspended", "status", flag_value="SUSPENDED", help="Those that need an operator (the default).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@as_json
def list_sagas(status: str, limit: int, as_json: bool) -> None:
    """List sagas, the longest unmoved first; without --status those that need an operator."""
    with the_runtimes() as runtimes:
        found = sagas.sagas(runtimes, None if status.upper() == "ALL" else status.upper(), limit)
    if as_json:
        tell_json(found)
        return
    for row in found:
        tell("{moved_at}  {id}  {status}  {workflow}  {subject}  {reason}".format_map(_plain(row)))
    tell(f"{len(found)} sagas")


@sagas_group.command("show")
@click.argument("identifier", metavar="ID")
@as_json
def show_saga(identifier: str, as_json: bool) -> None:
    """Show one saga with its log, its open incidents and what operators did."""
    with the_runtimes() as runtimes:
        shown = sagas.log_of(runtimes, identifier)
        if shown is None:
            raise click.UsageError(f"there is no saga {identifier}")
        shown["audit"] = letters.audit_of(runtimes, runtimes.system.name, identifier)
    tell_json(shown) if as_json else _print(shown)


def _action(action: Action, help_text: str) -> None:
    @sagas_group.command(action, help=help_text)
    @click.argument("identifier", metavar="ID")
    @acting
    def command(identifier: str, who: str | None, why: str) -> None:
        with the_runtimes() as runtimes:
            done = sagas.act(runtimes, identifier, action, operator(runtimes.settings, who, why))
        tell_done(done, f"{action} of saga {identifier}")


_action("resume", "Go on with a suspended saga: ask again, under the same command id, with a fresh deadline.")
_action("pause", "Let nothing happen to a saga until `resume`: its answers wait, and its deadlines begin anew then.")
_action("retry-step", "Issue anew, under a new command id, a step that was refused or failed for good.")
_action("compensate", "Give up and undo what was done, before the pivot was issued or after it came to nothing.")
_action("cancel", "Give up and undo what was done, before the pivot was issued; the front door says `cancelled`.")


# --- incidents


@click.group("incidents")
def incidents_group() -> None:
    """Look at everything that was put in front of an operator."""


@incidents_group.command("list")
@in_service
@as_json
def list_incidents(service: str | None, as_json: bool) -> None:
    """List open incidents of all services, the oldest first."""
    with the_runtimes() as runtimes:
        found = incidents.incidents(runtimes, [service] if service else runtimes.system.names)
    if as_json:
        tell_json(found)
        return
    for row in found:
        tell("{at}  {service}  {kind}  {id}  of {subject}  {code}: {detail}".format_map(_plain(row)))
    tell(f"{len(found)} incidents")


@incidents_group.command("close")
@click.argument("identifier", metavar="ID", type=click.UUID)
@in_service
@acting
def close_incident(identifier: Any, service: str | None, who: str | None, why: str) -> None:
    """Close an incident that was looked into; those of dead letters and suspended sagas end with these."""
    with the_runtimes() as runtimes:
        services = [service] if service else runtimes.system.names
        done = incidents.close(runtimes, services, str(identifier), operator(runtimes.settings, who, why))
    tell_done(done, f"close of incident {identifier}")


# --- printing


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "-" if value in (None, "") else value for name, value in row.items()}


def _print(shown: Mapping[str, Any], indent: str = "") -> None:
    """Print one value a line; a list of rows one row a line."""
    for name, value in shown.items():
        if isinstance(value, Mapping):
            tell(f"{indent}{name}")
            _print(value, indent + "  ")
        elif isinstance(value, list):
            tell(f"{indent}{name}")
            for row in value:
                told = {key: part for key, part in row.items() if part}
                tell(f"{indent}  " + "  ".join(str(v) if k in BARE else f"{k}={v}" for k, v in told.items()))
        elif value is not None:
            tell(f"{indent}{name}: {value}")
