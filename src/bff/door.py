"""Declare the front door: passwords are issued and rotated by a path of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bff.schemas import ISSUE_PASSWORD, email_of
from bff.settings import BffSettings
from protools_saga.messages import IssuePassword, RotatePassword
from pulsaga import Settings
from pulsaga.web import Entrance, Link, http


def begin(asked: Mapping[str, Any], settings: Settings) -> IssuePassword | RotatePassword:
    """Return the command for a wish: without an email the mail goes to `<username>@<MAIL_DOMAIN>`."""
    command = RotatePassword if asked.get("rotate") else IssuePassword
    return command(username=asked["username"], email=email_of(asked, settings.of(BffSettings).mail_domain))


PASSWORD = Link(
    name="password",
    path=partial(http.path, "passwords"),
    description="The user's password.",
    example="/passwords/ada",
    view="show_password",
    parameter="username",
)
PASSWORDS = Entrance(
    path="/passwords",
    name="issue_password",
    about="Accept a wish for a password; `Prefer: wait` stays for its end.",
    takes=ISSUE_PASSWORD,
    begin=begin,
    workflows=("issue-password", "rotate-password"),
    links=(PASSWORD,),
)


ENTRANCES = (PASSWORDS,)
