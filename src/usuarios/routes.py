"""Show users; sign them up and log them in for the front door, which must prove who it is; tell the keys of tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from flask import Response
from sqlalchemy import RowMapping, select

from pulsaga import DomainError, rfc3339
from pulsaga.web import OVERSEEING, PUBLIC, SERVICE, Problem, TooManyAttempts, allow, http, invalid
from usuarios.accounts import Accounts, Session, Wrong
from usuarios.tables import usuario_view
from usuarios.tokens import key_set

T = TypeVar("T")
STATUS = {"unknown-token": 404, "no-user": 404, "link-used": 410, "password-change-required": 403}
"""Status of a refusal; any other is a conflict."""
NAMES = ("username", "email", "first_name", "last_name", "phone", "password")
api = http.api("usuarios")


@api.get("/users/<user_id>")
@allow(OVERSEEING)
def show_user(user_id: str) -> Response:
    """Show a user, never a password."""
    query = select(usuario_view).where(usuario_view.c.user_id == http.known_id(user_id, "user"))
    with http.read_engine().connect() as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise http.not_found("user of this id")
    return http.reply("user", _resource(row))


@api.get("/.well-known/jwks.json")
@allow(PUBLIC)
def show_keys() -> Response:
    """Tell the public keys by which tokens of users are verified (RFC 7517)."""
    return http.reply("keys", key_set(http.runtime().settings))


@api.post("/internal/signups")
@allow(SERVICE)
def sign_up() -> Response:
    """Keep a new user."""
    said = _said(*NAMES)
    return _session(lambda accounts: accounts.sign_up(said))


@api.post("/internal/logins")
@allow(SERVICE)
def log_in() -> Response:
    """Log a user in."""
    said = _said("name", "password", "address", "new_password", optional=("new_password",))
    return _session(
        lambda accounts: accounts.log_in(said["name"], said["password"], said.get("new_password"), said["address"])
    )


@api.post("/internal/password-changes")
@allow(SERVICE)
def change_password() -> Response:
    """Let a user choose another password."""
    said = _said("user_id", "password", "new_password", "address")
    return _session(
        lambda accounts: accounts.change_password(
            said["user_id"], said["password"], said["new_password"], said["address"]
        )
    )


@api.post("/internal/forgotten-passwords")
@allow(SERVICE)
def forget_password() -> Response:
    """Send a link to whoever has this address, if anybody has."""
    http.kept(Accounts).forget(_said("email")["email"])
    return http.nothing()


@api.post("/internal/password-resets")
@allow(SERVICE)
def reset_password() -> Response:
    """Let whoever has a link choose another password."""
    said = _said("token", "new_password")
    return _session(lambda accounts: accounts.reset(said["token"], said["new_password"]))


@api.post("/internal/marks")
@allow(SERVICE)
def set_mark() -> Response:
    """Set or take a mark of a user."""
    said = _said("user_id", "actor", "mark", "value")
    mark: Literal["admin", "active"] = "admin" if said["mark"] == "admin" else "active"
    with _refusing():
        user = http.kept(Accounts).mark(said["user_id"], mark, said["value"] == "yes", said["actor"])
    return http.reply("user", user)


# ---


def _session(work: Callable[[Accounts], Session]) -> Response:
    with _refusing():
        user, token = work(http.kept(Accounts))
    return http.reply("session", {"user": user, "token": token})


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Wrong:
        challenge = {"WWW-Authenticate": "Bearer"}
        raise Problem(401, "wrong-password", "this is not this user's password", headers=challenge) from None
    except TooManyAttempts as early:
        raise http.too_many_attempts(early) from None
    except DomainError as no:
        raise Problem(STATUS.get(no.code, 409), no.code, no.detail) from None


def _said(*names: str, optional: Collection[str] = ()) -> dict[str, str]:
    body = http.body()
    given = body if isinstance(body, dict) else {}
    wanted = [name for name in names if name in given or name not in optional]
    if wrong := {f"/{name}": "must be text" for name in wanted if not isinstance(given.get(name), str)}:
        raise invalid(wrong)
    return {name: given[name] for name in wanted}


def _resource(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["user_id"],
        "username": row["username"],
        "firstName": row["first_name"],
        "lastName": row["last_name"],
        "phone": row["phone"],
        "email": row["email"],
        "admin": row["admin"],
        "active": row["active"],
        "version": row["version"],
        "createdAt": rfc3339(row["created_at"]),
        "changedAt": rfc3339(row["changed_at"]),
        "links": {"self": http.path("users", row["user_id"])},
    }
