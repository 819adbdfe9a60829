"""Declare the front door: passwords are issued and rotated by a path of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bff.schemas import ISSUE_PASSWORD, email_of
from bff.settings import BffSettings
from bff.users import queries as users
from protools_saga.messages import IssuePassword, RotatePassword
from pulsaga import Settings
from pulsaga.web import Entrance, Link, Problem, http, invalid


def begin(asked: Mapping[str, Any], settings: Settings) -> IssuePassword | RotatePassword:
    """Return the command for a wish: without an email the mail goes to `<username>@<MAIL_DOMAIN>`."""
    command = RotatePassword if asked.get("rotate") else IssuePassword
    return command(username=asked["username"], email=email_of(asked, settings.of(BffSettings).mail_domain))


def begin_for_user(asked: Mapping[str, Any], settings: Settings) -> IssuePassword | RotatePassword:
    """Return the command for a wish; of a user it is theirs or an administrator's, and goes to their address."""
    holder = users.holder_of(http.read_engine(), asked["username"])
    return begin({**asked, "email": _held(asked, *holder)} if holder else asked, settings)


def _held(asked: Mapping[str, Any], user_id: str, email: str) -> str:
    """Return where a user's mails go; raise the Problem 403 or 422 for who asks for more than that."""
    caller = http.caller()
    if caller.role != "admin" and caller.at(users.ISSUER) != user_id:
        raise Problem(403, "forbidden", "this is a user's name: only they and administrators may ask for this")
    if "email" in asked:
        raise invalid({"/email": "must be absent: the mail goes to the address that the user has"})
    return email


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
    begin=begin_for_user,
    workflows=("issue-password", "rotate-password"),
    links=(PASSWORD,),
)


ENTRANCES = (PASSWORDS,)
