"""Live through the life of a secret on a running system: rotated, verified, revealed, and found nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.system.conftest import Mode
from tests.system.harness import System


@pytest.fixture(scope="module")
def system(embedded_mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system; each test has users of its own."""
    with embedded_mode.running(tmp_path_factory.mktemp("secrets")) as running:
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


def _at_version(system: System, username: str, version: int) -> Any:
    shown = system.password(username)
    return shown if shown and shown["version"] == version else None
