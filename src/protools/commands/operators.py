"""What all commands of operators share, and `protools incidents`.

Exit codes: 0 done, 1 refused with the reason, 2 wrong input, 3 recorded, another operator has to agree, 130 stopped.
"""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import click
from sqlalchemy.exc import DBAPIError

from pulsaga.errors import SettingError, Unavailable
from pulsaga.located import the_system
from pulsaga.operate import incidents
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.listing import Listing, Section, lists
from pulsaga.running.runtime import Runtime, open_runtime
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.text import printable
from pulsaga_program.terminal import SOME_ID, Time, example, tell

F = TypeVar("F", bound=Callable[..., Any])
NOT_YET_AGREED = 3
BARE = ("at", "kind", "who", "action")
"""Columns that say themselves what they are."""


@contextmanager
def the_runtimes() -> Iterator[Runtimes]:
    """Reach every service of the system, each when it is first asked for."""
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


def the_front_door() -> Service:
    """Return the front door; raise SettingError where the system has none."""
    door = the_system().door
    if door is None:
        raise SettingError("PROTOOLS_SYSTEM", "this system has no front door")
    return door


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


# --- incidents


@click.group("incidents", epilog=example("incidents list"))
def incidents_group() -> None:
    """Look at everything that was put in front of an operator."""


@incidents_group.command("list", epilog=example("incidents list --since 1h"))
@in_service
@click.option("--since", type=Time(), metavar="TIME", help="Those that have ended since, too: RFC 3339, or 1h, 1d ago.")
@lists
def list_incidents(service: str | None, since: float | None) -> Listing:
    """List open incidents of all services; those of one kind, message type and code are a group, the largest first."""
    with the_runtimes() as runtimes:
        found = incidents.incidents(runtimes, [service] if service else runtimes.system.names, since)
    groups, now = incidents.grouped(found), time.time()
    names = ("service", "kind", "topic", "code")
    counted = {key: {"count": len(group), "by_hour": incidents.by_hour(group, now)} for key, group in groups.items()}
    document = [
        {**dict(zip(names, key, strict=True)), **counted[key], "incidents": group} for key, group in groups.items()
    ]
    columns = ("at", "closed_at", "id", "subject", "detail")
    sections = [Section(_title(key, group, now), group[:SHOWN], len(group[SHOWN:])) for key, group in groups.items()]
    return Listing(columns, found, f"{len(found)} incidents", sections, document)


SHOWN = 5
"""Incidents of one group that are shown as text."""


def _title(key: incidents.Fingerprint, group: Sequence[dict[str, Any]], now: float) -> str:
    service, *about = key
    lately = incidents.by_hour(group, now)[-1]
    return f"{len(group)} × {' '.join(filter(None, about))} of {service}, {lately} of them in the last hour"


@incidents_group.command("close", epilog=example(f"incidents close {SOME_ID} --why 'looked into'"))
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


def print_all(shown: Mapping[str, Any], indent: str = "") -> None:
    """Print one value a line; a list of rows one row a line."""
    for name, value in shown.items():
        if isinstance(value, Mapping):
            tell(f"{indent}{name}")
            print_all(value, indent + "  ")
        elif isinstance(value, list):
            tell(f"{indent}{name}")
            for row in value:
                told = {key: part for key, part in row.items() if part}
                tell(f"{indent}  " + "  ".join(str(v) if k in BARE else f"{k}={v}" for k, v in told.items()))
        elif value is not None:
            tell(f"{indent}{name}: {value}")
