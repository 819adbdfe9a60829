"""Declare whose tokens are taken, and the path by which a user asks for another address."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bff.parameters import ID, id_in_path, page_behind
from bff.users.queries import ISSUER, standing
from bff.users.shapes import NEW_EMAIL
from protools_saga.messages import ChangeEmail
from pulsaga import Settings
from pulsaga.web import Entrance, Issuer, Link, http

USER_ID, USER_PAGE = id_in_path("user_id", "The user's id."), page_behind("user")
USERS = Issuer(
    name=ISSUER,
    audience="users",
    keys_at=lambda runtime: f"{runtime.url_of(ISSUER)}/.well-known/jwks.json",
    standing=standing,
)
"""Users are callers, whatever their tokens say, and administrators by the mark that usuarios keeps."""


def change_email(asked: Mapping[str, Any], _settings: Settings) -> ChangeEmail:
    """Return the command for another address."""
    return ChangeEmail(http.known_id(asked["user_id"], "user"), asked["email"])


THE_USER = Link(
    name="user",
    path=partial(http.path, "users"),
    description="The user.",
    example=f"/users/{ID}",
    view="show_user",
    parameter="user_id",
)
ENTRANCES = (
    Entrance(
        path="/users/<user_id>/email",
        name="change_email",
        about="Accept another address of a user; it is theirs once the link is used that is mailed there.",
        takes=NEW_EMAIL,
        begin=change_email,
        workflows=("change-email",),
        links=(THE_USER,),
        method="PUT",
        parameters=(USER_ID,),
        problems={404: "No user can have this id."},
        scope="change-email",
    ),
)
