"""Offer `protools start`: start a workflow at the front door, as any caller does, and wait for its end."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import click
import urllib3
from marshmallow import fields

from pulsaga.errors import DomainError, Unavailable
from pulsaga.located import the_system
from pulsaga.settings import Settings
from pulsaga.text import DETAIL_CHARACTERS, printable
from pulsaga.web.front_door.door import Entrance, FrontDoor
from pulsaga.web.front_door.starting import entrances_of
from pulsaga_program.commands.operators import the_front_door
from pulsaga_program.terminal import example, tell

WAIT_S = "30"
POLL_S = 2.0
"""Seconds for which one request waits at most; then it is seen, too, whether the saga was suspended."""
MARGIN_S = 10.0
"""Seconds for an answer, beside those for which it waits."""
OVER = ("completed", "refused", "suspended")
IN_PATH = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")
WRONG_INPUT = (400, 404, 413, 415, 422)


@dataclass(frozen=True)
class Client:
    """Ask a front door at its address, with a token if there is one."""

    address: str
    token: str | None
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, wait_s: float = 0.0
    ) -> tuple[int, dict[str, Any]]:
        """Return status and document; raise Unavailable where nobody answers as a front door does."""
        sent = {"Accept": "application/json", **(headers or {})}
        sent |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        sent |= {"Prefer": f"wait={wait_s:.0f}"} if wait_s else {}
        try:
            answer = self.pool.request(
                method, f"{self.address}{path}", json=body, headers=sent, timeout=wait_s + MARGIN_S
            )
            document = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            said = printable(str(error), DETAIL_CHARACTERS)
            raise Unavailable(f"no front door answers at {self.address}: is it running? ({said})") from None
        return answer.status, document if isinstance(document, dict) else {}


@click.command(epilog=example("start place-order order_id=o-1 sku=tea quantity=2 card=4242 --wait"))
@click.argument("workflow")
@click.argument("values", metavar="[FIELD=VALUE]...", nargs=-1)
@click.option("--json", "file", type=click.File("rb"), help="A file with the fields as a JSON object, or -.")
@click.option(
    "--wait",
    "wait_s",
    is_flag=False,
    flag_value=WAIT_S,
    type=click.FloatRange(min=1),
    metavar="[SECONDS]",
    help=f"Stay for its end, at most SECONDS ({WAIT_S}); exit 1 unless it has completed by then.",
)
@click.option("--key", metavar="TEXT", help="Idempotency key: the same start under the same key is not a second one.")
@click.option("--token", help="By which the front door knows you; better set PROTOOLS_TOKEN, which no `ps` shows.")
def command(
    workflow: str, values: Sequence[str], file: Any, wait_s: float | None, key: str | None, token: str | None
) -> None:
    """Start WORKFLOW at the front door, and print the id of its command, which is the saga's.

    A field that is no text is read as JSON.
    """
    settings = Settings.read()
    entrance = _entrance(workflow)
    given = _whole(file) | dict(_value(entrance, text) for text in values)
    client = Client(the_system().public_url(settings).rstrip("/"), token or settings.token)
    begun = _start(client, entrance, given, key or str(uuid.uuid4()))
    if "id" not in begun:
        tell("accepted; this path tells no id")
        return
    click.echo(printable(str(begun["id"])))
    if wait_s is not None:
        _tell_end(_end_of(client, begun, time.monotonic() + wait_s), wait_s)


def _entrance(workflow: str) -> Entrance:
    """Return the path by which callers start a workflow; raise UsageError for one that has none."""
    system, declared = the_system(), the_front_door()
    door = FrontDoor(system, declared.entrances() if declared.entrances else ())
    if workflow not in door.by_name:
        raise click.UsageError(f"there is no workflow {workflow}: {', '.join(sorted(door.by_name))}")
    found = [entrance for entrance in entrances_of(door) if workflow in entrance.workflows]
    if not found:
        raise click.UsageError(f"{workflow} is closed: nobody may start it at the front door (`Access` says who may)")
    return found[0]


def _whole(file: Any) -> dict[str, Any]:
    try:
        found = {} if file is None else json.load(file)
    except ValueError as error:
        raise click.UsageError(f"--json: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError("--json: a JSON object is expected")
    return found


def _value(entrance: Entrance, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text}: FIELD=VALUE is expected")
    declared = entrance.takes.fields.get(name) if entrance.takes else None
    if declared is None or isinstance(declared, fields.String):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _start(client: Client, entrance: Entrance, given: Mapping[str, Any], key: str) -> dict[str, Any]:
    in_path = set(IN_PATH.findall(entrance.path))
    if missing := sorted(in_path - given.keys()):
        raise click.UsageError(f"{', '.join(missing)}: missing")
    path = IN_PATH.sub(lambda found: quote(str(given[found[1]]), safe=""), entrance.path)
    body = {name: value for name, value in given.items() if name not in in_path} if entrance.takes else None
    return _checked(*_asked_twice(client, entrance.method, path, body, key))


def _asked_twice(client: Client, method: str, path: str, body: Any, key: str) -> tuple[int, dict[str, Any]]:
    """Ask once more under the same key where no answer comes: the first request may have been accepted all the same."""
    headers = {"Idempotency-Key": key}
    with suppress(Unavailable):
        return client.ask(method, path, body, headers)
    try:
        return client.ask(method, path, body, headers)
    except Unavailable as error:
        again = f"it may have started all the same; with --key {shlex.quote(key)} it does not start twice"
        raise Unavailable(f"{error}; {again}") from None


def _checked(status: int, document: dict[str, Any]) -> dict[str, Any]:
    """Return a good answer; raise UsageError for a field that is wrong, DomainError for any other refusal."""
    if status < 400:
        return document
    said = str(document.get("detail") or document.get("title") or f"answered {status}")
    if status in WRONG_INPUT:
        raise click.UsageError(printable(said))
    raise DomainError(str(document.get("code", status)), said)


def _end_of(client: Client, command: dict[str, Any], until: float) -> dict[str, Any]:
    """Look at a command until it has ended, somebody has to act, or the time is over."""
    while command.get("status") not in OVER and (left_s := until - time.monotonic()) > 0:
        command = _checked(*client.ask("GET", f"/commands/{command['id']}", wait_s=max(1.0, min(left_s, POLL_S))))
    return command


def _tell_end(command: dict[str, Any], wait_s: float) -> None:
    status, reason = command.get("status"), command.get("reason") or {}
    if status not in OVER:
        tell(f"{status}: it has not ended within {wait_s:g} s, and goes on", err=True)
    else:
        tell(": ".join(filter(None, (str(status), str(reason.get("code", "")), str(reason.get("detail", ""))))))
    sys.exit(0 if status == "completed" else 1)
