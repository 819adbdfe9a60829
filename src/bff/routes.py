"""Answer callers about passwords in JSON and XML: show them, reveal one once, verify one."""

from __future__ import annotations

import unicodedata

from flask import Response

from bff import queries, resources
from bff.parameters import AFTER, USERNAME
from bff.schemas import REVEAL_REQUEST, VERIFICATION
from bff.vault import Vault
from pulsaga.web import ASKING, LIMIT, NEXT, PUBLIC, SEEING, Answer, allow, http, operation

api = http.api("passwords", __name__)


@api.get("/passwords")
@allow(SEEING)
@operation(
    parameters=(LIMIT, AFTER),
    answers={200: Answer(description="A page of passwords.", shape=resources.Passwords, headers=(NEXT,))},
)
def list_passwords() -> Response:
    """List the passwords that the caller may see by username, a page at a time."""
    after, limit, actor = http.argument("after"), http.page_limit(), http.caller().sees_only
    return http.reply("passwords", queries.list_passwords(http.read_engine(), after, limit, actor))


@api.get("/passwords/<whole:username>")
@allow(SEEING)
@operation(
    parameters=(USERNAME,),
    answers={200: Answer(description="The user's password.", shape=resources.Password)},
    problems={404: "This user has no password."},
)
def show_password(username: str) -> Response:
    """Show a user's password, never its secret."""
    name = unicodedata.normalize("NFC", username)
    found = None if "\x00" in name else queries.find_password(http.read_engine(), name, http.caller().sees_only)
    if found is None:
        raise http.not_found("password of this user")
    return http.reply("password", found)


@api.post("/reveals")
@allow(PUBLIC)  # the token of the link is the right
@operation(
    takes=REVEAL_REQUEST,
    answers={200: Answer(description="The password; it cannot be had again.", shape=resources.Reveal)},
    problems={404: "No link has this token.", 410: "It was revealed before, or it is gone."},
)
def reveal(body: dict[str, str]) -> Response:
    """Reveal a password once, for the token of its link."""
    return http.reply("reveal", http.kept(Vault).reveal(body["token"]))


@api.post("/verifications")
@allow(ASKING)
@operation(
    takes=VERIFICATION,
    answers={204: Answer(description="It is the user's valid password.")},
    problems={
        401: "It is not, or there is no such user: `wrong-password`. Or nobody says who asks.",
        429: "Too many attempts with this name or from this address failed; come back after Retry-After.",
    },
)
def verify_password(body: dict[str, str]) -> Response:
    """Tell whether this is a user's valid password; for a user who does not exist it takes as long to say no."""
    http.kept(Vault).verify(body["username"], body["password"], http.address(), http.caller().subject)
    return http.nothing()
