"""Sign people up, log them in, show them to themselves and to administrators; JSON and XML."""

from __future__ import annotations

import unicodedata

from flask import Response

from bff.users import queries, shapes
from bff.users.accounts import Accounts
from bff.users.door import USER_ID, USER_PAGE
from bff.users.queries import ISSUER
from pulsaga.web import ASKING, LIMIT, NEXT, PUBLIC, SEEING, Answer, allow, http, operation

api = http.api("users", __name__)
ADMIN = frozenset({"admin"})
OPERATOR = frozenset({"operator"})
"""Who alone makes administrators of users."""
SESSION = Answer(description="The user is logged in.", shape=shapes.Session)
TOO_MANY = "Too many attempts with this name or from this address failed; come back after Retry-After."
WRONG = "This is not the user's password, or there is no such user: `wrong-password`."


@api.post("/signup")
@allow(PUBLIC)
@operation(
    takes=shapes.SIGN_UP,
    answers={201: SESSION},
    problems={409: "The name or the address is somebody's: `username-taken`, `email-taken`."},
)
def sign_up(body: dict[str, str]) -> Response:
    """Sign up, and be logged in."""
    said = {"first_name": body["firstName"], "last_name": body["lastName"]}
    said |= {name: body[name] for name in ("username", "phone", "email", "password")}
    return http.reply("session", http.kept(Accounts).session("/internal/signups", said), 201)


@api.post("/login")
@allow(PUBLIC)
@operation(
    takes=shapes.LOG_IN,
    answers={200: SESSION},
    problems={
        401: WRONG,
        403: "The password was issued, and is good with `newPassword` only: `password-change-required`.",
        429: TOO_MANY,
    },
)
def log_in(body: dict[str, str]) -> Response:
    """Log in, by username or address, and the password."""
    name = unicodedata.normalize("NFC", body.get("username") or body["email"])
    said = {"name": name, "password": body["password"], "address": http.address()}
    if "newPassword" in body:
        said["new_password"] = body["newPassword"]
    return http.reply("session", http.kept(Accounts).session("/internal/logins", said))


@api.post("/forgotten-passwords")
@allow(PUBLIC)
@operation(
    takes=shapes.FORGOTTEN,
    answers={204: Answer(description="A link was sent to whoever has this address, if anybody has.")},
)
def forget_password(body: dict[str, str]) -> Response:
    """Ask for a link by which another password may be chosen."""
    http.kept(Accounts).forget(body["email"])
    return http.nothing()


@api.post("/password-resets")
@allow(PUBLIC)  # the token of the link is the right
@operation(
    takes=shapes.RESET,
    answers={200: SESSION},
    problems={404: "No link has this token.", 410: "It was used, or has expired."},
)
def reset_password(body: dict[str, str]) -> Response:
    """Choose another password by the token of a link; whoever was logged in as this user is so no more."""
    said = {"token": body["token"], "new_password": body["password"]}
    return http.reply("session", http.kept(Accounts).session("/internal/password-resets", said))


@api.put("/users/me/password")
@allow(ASKING)
@operation(
    takes=shapes.CHANGE,
    answers={200: SESSION},
    problems={401: f"{WRONG} Or nobody says who asks.", 404: "The caller is no user.", 429: TOO_MANY},
)
def change_password(body: dict[str, str]) -> Response:
    """Choose another password; whoever was logged in as this user is so no more."""
    user_id = http.caller().at(ISSUER)
    if user_id is None:
        raise http.not_found("user who is logged in so")
    said = {"user_id": user_id, "password": body["currentPassword"], "new_password": body["password"]}
    session = http.kept(Accounts).session("/internal/password-changes", {**said, "address": http.address()})
    return http.reply("session", session)


# --- who is shown to whom


@api.get("/users")
@allow(ADMIN)
@operation(
    parameters=(LIMIT, USER_PAGE),
    answers={200: Answer(description="A page of users.", shape=shapes.USERS, headers=(NEXT,))},
)
def list_users() -> Response:
    """List the users, the oldest first, a page at a time."""
    after, limit = http.argument_id("after"), http.page_limit()
    return http.reply("users", queries.list_users(http.read_engine(), after, limit))


@api.get("/users/<user_id>")
@allow(SEEING)
@operation(
    parameters=(USER_ID,),
    answers={200: Answer(description="What is known of the user.", shape=shapes.User)},
    problems={404: "The caller may not see a user of this id, or it is not known yet."},
)
def show_user(user_id: str) -> Response:
    """Show a user: to themself, or to who may see everything."""
    found = queries.find_user(http.read_engine(), _own(user_id))
    if found is None:
        raise http.not_found("user of this id")
    return http.reply("user", found)


@api.get("/users/<user_id>/emails")
@allow(SEEING)
@operation(
    parameters=(USER_ID,),
    answers={200: Answer(description="The addresses there were.", shape=shapes.Emails)},
    problems={404: "The caller may not see a user of this id."},
)
def list_emails(user_id: str) -> Response:
    """List the addresses that a user has had: to themself, or to who may see everything."""
    return http.reply("emails", queries.list_emails(http.read_engine(), _own(user_id)))


@api.put("/users/<user_id>/active")
@allow(ADMIN)
@operation(
    takes=shapes.MARK,
    parameters=(USER_ID,),
    answers={200: Answer(description="The user as it is now.", shape=shapes.User)},
    problems={404: "There is no user of this id."},
)
def set_active(body: dict[str, bool], user_id: str) -> Response:
    """Let a user log in, or not any more: then every token of theirs is good no longer."""
    return _marked(user_id, "active", body["value"])


@api.put("/users/<user_id>/admin")
@allow(OPERATOR)
@operation(
    takes=shapes.MARK,
    parameters=(USER_ID,),
    answers={200: Answer(description="The user as it is now.", shape=shapes.User)},
    problems={404: "There is no user of this id."},
)
def set_admin(body: dict[str, bool], user_id: str) -> Response:
    """Make a user an administrator, or not any more."""
    return _marked(user_id, "admin", body["value"])


def _marked(user_id: str, mark: str, value: bool) -> Response:
    known = http.known_id(user_id, "user")
    return http.reply("user", http.kept(Accounts).mark(known, mark, value, http.caller().subject))


def _own(user_id: str) -> str:
    """Return the id of a user whom the caller may see; raise the Problem 404 for any other."""
    known, caller = http.known_id(user_id, "user"), http.caller()
    if caller.sees_only and caller.at(ISSUER) != known:
        raise http.not_found("user of this id")
    return known
