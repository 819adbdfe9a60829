"""Live through the life of a secret on a running system: rotated, verified, revealed, and found nowhere else."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.canary import LOUD, forms_of, leaks, places
from tests.system.conftest import Mode
from tests.system.harness import SOURCES, System


@pytest.fixture(scope="module")
def system(embedded_mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system, as loud as it can be; each test has users of its own."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "sitecustomize.py").write_text(LOUD)
    path = f"{folder}{os.pathsep}{SOURCES}"
    with embedded_mode.running(folder, PYTHONPATH=path, PROTOOLS_FAULTS="on", FAILURE_ATTEMPTS="2") as running:
        yield running


def newest_token(system: System, recipient: str) -> str:
    """Return what the link in somebody's newest mail carries."""
    return max(system.mails_to(recipient), key=lambda mail: mail.id).token


def rotate(system: System, username: str, **body: Any) -> Any:
    """Ask for another password and wait; return the command."""
    answer = system.post("/passwords", {"username": username, "rotate": True, **body}, Prefer="wait=30")
    return system.command(answer.json.get("commandId") or answer.json["id"])


def test_a_rotation_leaves_one_password_and_its_mail_shows_it(system: System) -> None:
    """Who lost what was revealed gets another, and nobody has two."""
    system.issue("ada")
    old = system.mail_to("ada@example.test").token
    assert system.reveal(old).status == 200
    rotated = rotate(system, "ada")
    assert (rotated["type"], rotated["status"]) == ("rotate-password", "completed")
    shown = system.eventually(lambda: _at_version(system, "ada", 3))
    assert shown["status"] == "issued"
    assert system.reveal(newest_token(system, "ada@example.test")).json["username"] == "ada"
    assert system.reveal(old).json["code"] == "superseded"


def test_a_rotation_whose_mail_is_refused_changes_nothing(system: System) -> None:
    """Not even a version: to everybody who looks it did not happen."""
    system.issue("bob")
    before = system.eventually(lambda: _at_version(system, "bob", 1))
    refused = rotate(system, "bob", email=f"bob@{system.mailbox.refused}")
    assert (refused["status"], refused["reason"]["code"]) == ("refused", "mailbox-refused")
    assert system.password("bob") == before
    assert system.reveal(system.mail_to("bob@example.test").token).status == 200


def test_a_rotation_can_be_asked_for_in_xml(system: System) -> None:
    """Half of the callers speak XML, in which everything is text."""
    wish = b"<issuePassword><username>nobody-there</username><rotate>true</rotate></issuePassword>"
    answer = system.post("/passwords", wish, Accept="application/xml", Prefer="wait=30")
    assert (answer.status, answer.xml["code"]) == (409, "no-password")
    assert system.post("/passwords", {"username": "x", "rotate": "yes"}).status == 422


def test_a_password_is_verified_until_it_is_rotated(system: System) -> None:
    """What was revealed is good, what was replaced is not: that is what a rotation is for."""
    system.issue("eve")
    old = system.reveal(system.mail_to("eve@example.test").token).json["password"]
    assert verified(system, "eve", old) == 204
    rotate(system, "eve")
    new = system.reveal(newest_token(system, "eve@example.test")).json["password"]
    assert (verified(system, "eve", old), verified(system, "eve", new)) == (401, 204)


def verified(system: System, username: str, password: str) -> int:
    """Ask whether it is the password; return the status."""
    return system.post("/verifications", {"username": username, "password": password}).status


def test_a_password_that_nobody_reveals_is_gone_when_its_time_is_over(embedded_mode: Mode, tmp_path: Path) -> None:
    """Nobody has to do anything for it; and a next one may be had."""
    with embedded_mode.running(tmp_path, REVEAL_TTL="1") as system:
        system.issue("fay")
        shown = system.eventually(lambda: _at_version(system, "fay", 2))
        assert shown["status"] == "expired"
        answer = system.reveal(system.mail_to("fay@example.test").token)
        assert (answer.status, answer.json["code"]) == (410, "expired")
        assert system.issue("fay")["status"] == "completed"


# --- the canary: after all the rest


def test_no_secret_is_found_anywhere_whatever_goes_wrong(system: System) -> None:
    """Faults are when secrets get out: in a traceback, a dead letter, a problem's detail, a loud library's log."""
    with system.overhearing() as said:
        passwords = [*_shown_in_spite_of_faults(system, "gil"), *_rotated(system, "hal")]
        _send_what_was_shown_everywhere(system, passwords[0])
        _bury(system, "ida")
        topics = system.eventually(lambda: said() if b"password-rotated" in said() else b"")
    where = places(system, topics)
    for place, sign in SIGNS.items():
        assert sign in where[place], f"looked for nothing in {place}"
    tokens = [mail.token for mail in system.mailbox.mails()]
    assert (len(passwords), len(tokens) >= 3) == (3, True)
    assert leaks(where, passwords + tokens) == []


SIGNS = {
    "an answer": b"http_server_request_duration",
    "the log": b"sqlalchemy.engine",
    "a database": b"dead-letter",
    "a topic": b"password-rotated",
    "a file": b"SQLite format 3",
}
"""What shows that a place was looked at while it was full."""


def _shown_in_spite_of_faults(system: System, username: str) -> list[str]:
    """Let every process stumble over one user's password; return it."""
    with (
        system.fault(f"generador.handled action=raise match=subject={username}"),
        system.fault(f"correo.sent action=raise match=username={username}"),
    ):
        system.issue(username)
    token = system.mail_to(f"{username}@example.test").token
    with system.fault("generador.flushed action=raise match=status=revealed"):  # the news of the mail may still come
        assert system.reveal(token).status == 503
    password = system.reveal(token).json["password"]
    assert system.reveal(token).status == 410
    return [password]


def _rotated(system: System, username: str) -> list[str]:
    system.issue(username)
    shown = [system.reveal(newest_token(system, f"{username}@example.test")).json["password"]]
    rotate(system, username)
    return [*shown, system.reveal(newest_token(system, f"{username}@example.test")).json["password"]]


def _send_what_was_shown_everywhere(system: System, password: str) -> None:
    """Make a caller's mistakes with a password: the wrong user, the wrong field, a broken body, as a link."""
    assert verified(system, "gil", password) == 204
    assert verified(system, "nobody-there", password) == 401
    for body in (
        {"username": "gil", "password": password, "more": password},
        {"username": ["gil"], "password": {password: password}},
        {"username": password, "password": 1},
    ):
        assert system.post("/verifications", body).status == 422
    broken = f"<verification><password>{password}</verification>".encode()
    assert system.post("/verifications", broken).status == 400
    assert system.post("/reveals", {"token": password}).status == 404


def _bury(system: System, username: str) -> None:
    with system.fault(f"correo.handled action=raise match=subject={username} times=2"):
        suspended = system.issue(username)
    assert suspended["status"] == "suspended"


@pytest.mark.parametrize("number", range(9))
def test_a_leak_in_any_form_would_be_found(number: int) -> None:
    """The proof that the search above looks: a secret in the middle of a line, as careless code would write it."""
    secret = "hn3xVq8Rt2KdZc5Mw7PjaY4e9"
    for write in (bytes, lambda raw: raw.hex().encode(), base64.b64encode, base64.urlsafe_b64encode):
        line = b"x" * number + secret.encode() + b"y"
        assert leaks({"the log": b"before " + write(line) + b" after"}, [secret]) == ["the log"]
    assert leaks({"the log": b"before after"}, [secret]) == []
    assert len(forms_of(secret)) >= 7


def _at_version(system: System, username: str, version: int) -> Any:
    shown = system.password(username)
    return shown if shown and shown["version"] == version else None
