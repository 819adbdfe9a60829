"""Start workflows from the command line, through a real front door on a real socket."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.service.rooms import Room
from tests.service.web import Serving

from pulsaga.delivery.messages import UUID7
from pulsaga.errors import Unavailable
from pulsaga.web.front_door.tables import acceptance, command
from pulsaga_program.cli import commands
from pulsaga_program.commands.starting import Client

Start = Callable[..., Result]


@pytest.fixture
def start(bff: Room, web: Serving) -> Start:
    """`protools start` against this front door."""

    def run(*arguments: str, said: str | None = None, **environment: str) -> Result:
        known = {"PUBLIC_URL": web.url, "PROTOOLS_HOME": str(bff.runtime.settings.home), "AUTH": "none", **environment}
        return CliRunner().invoke(commands, ["start", *arguments], input=said, env=known)

    return run


def test_a_workflow_is_started_as_by_any_caller_and_its_id_is_printed(bff: Room, start: Start) -> None:
    """What an operator starts has all that a caller's has: acceptance, idempotency, an end that is told."""
    done = start("issue-password", "username=ada", "email=ada@example.test")
    assert done.exit_code == 0, done.output
    (row,) = bff.rows(acceptance)
    assert (done.stdout.strip(), row["subject"]) == (row["id"], "ada")
    assert UUID7.fullmatch(done.stdout.strip())


def test_fields_are_read_by_their_kind_or_come_as_json(bff: Room, start: Start) -> None:
    """A number in a text field stays text, and what is no text is JSON; several come from a file or a pipe."""
    for more, said in ((["--json", "-"], json.dumps({"stock": 5})), (["stock=5"], None)):
        done = start("register-product", "nombre=7", *more, said=said)
        assert done.exit_code == 0, done.output
    assert len(bff.rows(acceptance)) == 2


ENDS = {
    "completed": (0, "completed"),
    "refused": (1, "refused: sold-out: none"),
    "suspended": (1, "suspended: sold-out: none"),
}


@pytest.mark.parametrize("status", ENDS)
def test_the_end_is_waited_for_and_the_exit_code_says_whether_it_completed(
    bff: Room, start: Start, status: str
) -> None:
    """A script goes on only when it is done; under a key it starts it once, however often it runs."""
    given = ("issue-password", "username=ada", "email=ada@example.test", "--key", "monday")
    begun = start(*given).stdout.strip()
    code, detail = ("", "") if status == "completed" else ("sold-out", "none")
    shown = {"id": begun, "version": 3, "type": "issue-password", "subject": "ada", "actor": "nobody", "status": status}
    told = {"reason_code": code, "reason_detail": detail, "cancellable": False, "created_at": 1.0, "updated_at": 2.0}
    bff.write_view(command, **shown, **told)
    done = start(*given, "--wait", "20")
    assert (done.exit_code, done.stdout.splitlines()) == (ENDS[status][0], [begun, ENDS[status][1]])


def test_what_does_not_end_in_time_is_said_to_go_on(bff: Room, start: Start) -> None:
    """It is accepted, and a second start would do it twice."""
    began = time.monotonic()
    done = start("issue-password", "username=ada", "email=ada@example.test", "--wait", "1")
    assert (done.exit_code, "goes on" in done.stderr) == (1, True)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such", "a=b"), "there is no workflow no-such"),
        (("issue-password", "username"), "FIELD=VALUE is expected"),
        (("issue-password", "colour=red"), "colour"),
        (("issue-password", "--json", "-"), "a JSON object is expected"),
    ],
)
def test_wrong_input_is_named_with_exit_code_2(start: Start, arguments: tuple[str, ...], said: str) -> None:
    """The front door's own words say which field."""
    done = start(*arguments, said="[]")
    assert (done.exit_code, said in done.stderr) == (2, True)


def test_a_front_door_that_does_not_run_is_told(start: Start) -> None:
    """Nothing was accepted, and nobody has to look for it."""
    done = start("issue-password", "username=ada", PUBLIC_URL="http://127.0.0.1:1")
    assert "no front door answers at http://127.0.0.1:1" in str(done.exception)


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many requests come to the front door whose answers do not come back."""
    ask, left = Client.ask, list[int]()

    def lossy(client: Client, *arguments: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        answer = ask(client, *arguments, **options)
        if left:
            left.pop()
            raise Unavailable("no answer")
        return answer

    monkeypatch.setattr(Client, "ask", lossy)
    return lambda number: left.extend(range(number))


def test_an_answer_that_is_lost_starts_nothing_twice(bff: Room, start: Start, lose: Callable[[int], None]) -> None:
    """Whoever heard nothing would start it again, under another key; so it asks itself, and then says the key."""
    given = ("issue-password", "username=ada", "email=ada@example.test")
    lose(1)
    assert start(*given).stdout.strip() == bff.rows(acceptance)[0]["id"]
    lose(2)
    (key,) = re.findall(r"--key (\S+)", str(start(*given).exception))
    assert start(*given, "--key", key).exit_code == 0
    assert len(bff.rows(acceptance)) == 2


def test_a_closed_workflow_is_said_to_be_closed(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """Who declares it says who may start it; no token changes that."""
    monkeypatch.setattr("pulsaga_program.commands.starting.entrances_of", lambda _door: [])
    done = start("issue-password", "username=ada")
    assert (done.exit_code, "is closed" in done.stderr) == (2, True)
