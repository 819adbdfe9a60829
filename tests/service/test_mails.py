"""Show operators the mails that wait, and why: a mail server that says no for now is seen before anybody complains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.service.desk import KEYS
from tests.service.rooms import Room, room

from correo.tables import mail
from pulsaga.delivery.messages import new_id
from pulsaga_program.cli import commands

BUSY = "450 4.2.0 mailbox busy"


@pytest.fixture
def correo(tmp_path: Path) -> Iterator[Room]:
    """A mail that was tried in vain, one that is new, one that was refused, one that was sent."""
    made = room("correo", tmp_path, **KEYS)
    kept = [
        {"username": "ada", "status": "waiting", "attempts": 3, "due_at": 200.0, "error": BUSY},
        {"username": "bob", "status": "waiting", "attempts": 0, "due_at": 100.0, "error": ""},
        {"username": "eve", "status": "refused", "attempts": 1, "due_at": None, "error": "550 nobody here"},
        {"username": "zoe", "status": "sent", "attempts": 1, "due_at": None, "error": ""},
    ]
    with made.runtime.write.begin() as tx:
        tx.execute(mail.insert(), [_row(**one) for one in kept])
    yield made
    made.close()


def _row(**given: Any) -> dict[str, Any]:
    about = {"id": new_id(), "revision": 1, "kind": "password", "recipient": f"{given['username']}@example.test"}
    return (
        about | {"sealed_token": "SECRET", "context": "{}", "claim": None, "created_at": 1.0, "ended_at": 2.0} | given
    )


@pytest.fixture
def listed(correo: Room) -> Callable[..., Result]:
    """`protools mails list`, in this process."""
    environment = {"PROTOOLS_HOME": str(correo.runtime.settings.home), "PROTOOLS_SYSTEM": "system:SYSTEM"}
    return lambda *arguments: CliRunner().invoke(commands, ["mails", "list", *arguments], env=environment)


def test_mails_that_wait_are_listed_with_their_last_error_and_next_try(listed: Callable[..., Result]) -> None:
    """`450` was in a table that nobody looks at."""
    found = json.loads(listed("--json").stdout)
    assert [(row["username"], row["due_at"], row["error"]) for row in found] == [
        ("bob", "1970-01-01T00:01:40.000Z", ""),
        ("ada", "1970-01-01T00:03:20.000Z", BUSY),
    ]


def test_those_that_fail_and_those_that_were_refused_are_told_apart(listed: Callable[..., Result]) -> None:
    """The one kind is tried again by itself, the other never."""
    assert [row["username"] for row in json.loads(listed("--failing", "--json").stdout)] == ["ada"]
    assert [row["username"] for row in json.loads(listed("--refused", "--json").stdout)] == ["eve"]
    assert listed("--failing", "--refused").exit_code == 2


def test_no_secret_of_a_mail_is_shown(listed: Callable[..., Result]) -> None:
    """The sealed token of its link is an operator's no more than anybody else's."""
    assert "SECRET" not in listed().stdout + listed("--json").stdout
