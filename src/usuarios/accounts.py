"""Sign people up and log them in: what is asked over internal HTTP, because a password must not cross the broker.

Every log-in that is tried costs the same work, whoever is named; `pulsaga.web.Guesses` says how many may be wrong.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from pulsaga import Context, DomainError, ProtoolsError, Runtime, Stale, UnitOfWork, new_id, seal_text
from pulsaga.web import Guesses, Peer, Problem
from usuarios.domain import UserRow, email_key, ended, with_password
from usuarios.handlers import keep
from usuarios.messages import ResetIssued
from usuarios.passwords import hash_of, is_password
from usuarios.settings import UsuariosSettings
from usuarios.tables import guess_budget, issued, reset, usuario
from usuarios.tokens import ISSUER, issue

T = TypeVar("T")
GUESSES = Guesses(guess_budget)
VERIFICATIONS = "/internal/verifications"
AGAIN_S = 60.0
"""Seconds in which a second link for a forgotten password is not sent."""
TRIES = 3


class Wrong(ProtoolsError):
    """Raised for a password that is not the user's, or a user who is not."""


class Session(NamedTuple):
    """A user who is logged in."""

    user: dict[str, Any]
    token: str


class Accounts:
    """The users of one process's write database."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._vault = Peer(runtime, "generador")

    # --- sign-up

    def sign_up(self, said: Mapping[str, str]) -> Session:
        """Keep a new user; raise DomainError `username-taken` or `email-taken`."""
        password_hash = hash_of(said["password"])
        return self._run(lambda uow: self._new_user(said, password_hash, uow))

    def _new_user(self, said: Mapping[str, str], password_hash: str, uow: UnitOfWork) -> Session:
        names = ((usuario.c.username, said["username"]), (usuario.c.email_key, email_key(said["email"])))
        uow.load(names)
        for (column, value), code in zip(names, ("username-taken", "email-taken"), strict=True):
            if uow.find(usuario, column, value):
                raise DomainError(code, "somebody else has this name" if column is usuario.c.username else TAKEN)
        row: UserRow = {
            "id": new_id(),
            "version": 1,
            "username": said["username"],
            "email": said["email"],
            "email_key": email_key(said["email"]),
            "first_name": said["first_name"],
            "last_name": said["last_name"],
            "phone": said["phone"],
            "admin": False,
            "active": True,
            "password_hash": password_hash,
            "sessions_not_before": 0.0,
            "proposed_email": None,
            "proposed_by": None,
            "created_at": uow.now,
            "changed_at": uow.now,
        }
        uow.load([(usuario, row["id"])])
        self._keep(row, uow)
        return self._session(row, uow)

    # --- log-in

    def log_in(
        self, name: str, password: str, new_password: str | None, address: str, *, change: bool = False
    ) -> Session:
        """Return a session for a username or an address of mail, and its password.

        A password that was issued and mailed is good once, with the `new_password` that takes its place; without one
        raise DomainError `password-change-required`, and it stays good. With `change` the new one takes the place of
        any. Raise Wrong, or TooManyAttempts.
        """
        found = self._find(name)
        known = found["username"] if found else name
        self._look(known, address)
        right = is_password(password, found["password_hash"] if found else None)
        by_mail, doubt = (None, None) if right else self._issued_to(found, password, address)
        if by_mail and new_password is None:
            raise DomainError("password-change-required", "choose another password with this log-in: newPassword")
        chosen = hash_of(new_password) if new_password is not None and (by_mail or (right and change)) else None
        good = found if right or by_mail else None

        def work(uow: UnitOfWork) -> Session | None:
            if good:  # locked before the clock is read: no session that is older than the row is younger than its time
                uow.load([(usuario, good["id"]), (issued, good["username"])])
            user = GUESSES.attempt(uow, known, ("", address), lambda: good)
            return self._entered(user, by_mail, chosen, uow) if user else None

        session = self._run(work)
        if session is None:
            raise doubt or Wrong
        return session

    def _entered(self, user: UserRow, by_mail: str | None, chosen: str | None, uow: UnitOfWork) -> Session:
        """Let in who gave the right password, if it still is; with another one in its place where one was chosen."""
        row, mailed = uow.get(usuario, user["id"]), uow.get(issued, user["username"])
        if row is None or not row["active"] or row["password_hash"] != user["password_hash"]:
            raise Wrong
        if by_mail:
            if mailed is None or mailed["used"] or mailed["saga_id"] != by_mail or mailed["email"] != row["email"]:
                raise Wrong
            uow.put(issued, {**mailed, "used": True})
        if chosen:
            row = self._keep(with_password(row, chosen, uow.now), uow)
        return self._session(row, uow)

    def _issued_to(self, user: UserRow | None, password: str, address: str) -> tuple[str | None, Problem | None]:
        """Return the saga that issued this password, if its link went where the user's mail goes, and it is unused.

        Where the vault does not tell, return why: the guess counts all the same.
        """
        if user is None:
            return None, None
        query = select(issued.c.saga_id).where(
            issued.c.username == user["username"], issued.c.email == user["email"], issued.c.used.is_(False)
        )
        with self._runtime.write.connect() as connection:
            expected = connection.execute(query).scalar()
        if expected is None:
            return None, None
        question = {"username": user["username"], "password": password, "address": address, "caller": ISSUER}
        try:
            answer = self._vault.ask(VERIFICATIONS, question, "issued passwords cannot be verified for now")
        except Problem as down:
            return None, down
        is_right = answer.status == 200 and answer.document.get("issuedBy") == expected
        return expected if is_right else None, answer.problem() if answer.status == 429 else None

    def change_password(self, user_id: str, password: str, new_password: str, address: str) -> Session:
        """Let a user who knows the password choose another one; raise Wrong, or TooManyAttempts."""
        with self._runtime.write.connect() as connection:
            username = connection.execute(select(usuario.c.username).where(usuario.c.id == user_id)).scalar()
        return self.log_in(username or "", password, new_password, address, change=True)

    # --- a forgotten password

    def forget(self, email: str) -> None:
        """Send a link by which another password may be chosen, if this is a user's address; tell nobody whether."""
        token = secrets.token_urlsafe(32)
        found = self._find(email)

        def work(uow: UnitOfWork) -> None:
            whose, identifier = found["id"] if found else new_id(), _digest(token)
            uow.load([(usuario, whose), (reset, identifier)])
            now, user = uow.now, uow.get(usuario, whose)
            recent = select(reset.c.id).where(reset.c.user_id == whose, reset.c.created_at > now - AGAIN_S)
            if uow.values(recent) or user is None or user["email_key"] != email_key(email):
                return
            expires_at = now + self._runtime.settings.of(UsuariosSettings).reset_ttl
            uow.put(reset, {"id": identifier, "user_id": whose, "created_at": now, "expires_at": expires_at})
            sealed = seal_text(token, uow.key("RESET_KEY"), user["username"])
            body = ResetIssued(whose, user["username"], user["email"], sealed, expires_at)
            uow.record(body, identifier, 1, subject=user["username"], context=_own(whose))

        self._run(work)

    def reset(self, token: str, new_password: str) -> Session:
        """Choose another password by the token of a link; raise DomainError `unknown-token` or `link-used`."""
        password_hash = hash_of(new_password)

        def work(uow: UnitOfWork) -> Session:
            uow.load([(reset, _digest(token))])
            link = uow.get(reset, _digest(token))
            if link is None:
                raise DomainError("unknown-token", "no user may choose a password by this link")
            uow.load([(usuario, link["user_id"])])
            row = uow.get(usuario, link["user_id"])
            is_over = link["expires_at"] is None or link["expires_at"] < uow.now
            if row is None or not row["active"] or is_over or link["created_at"] < row["sessions_not_before"]:
                raise DomainError("link-used", "this link was used, has expired, or another password was chosen since")
            uow.put(reset, {**link, "expires_at": None})
            row = self._keep(with_password(row, password_hash, uow.now), uow)
            return self._session(row, uow)

        return self._run(work)

    # --- administration

    def mark(self, user_id: str, mark: Literal["admin", "active"], value: bool, actor: str) -> dict[str, Any]:
        """Set or take a mark of a user, and end their sessions; raise DomainError `no-user`."""

        def work(uow: UnitOfWork) -> dict[str, Any]:
            uow.load([(usuario, user_id)])
            row = uow.get(usuario, user_id)
            if row is None:
                raise DomainError("no-user", "there is no such user")
            if row[mark] != value:
                marked: Any = {**ended(row, uow.now), mark: value}
                row = self._keep(marked, uow, actor)
            return _shown(row)

        return self._run(work)

    # ---

    def _keep(self, row: UserRow, uow: UnitOfWork, actor: str | None = None) -> UserRow:
        keep(row, uow, _own(row["id"], actor))
        return row

    def _session(self, row: UserRow, uow: UnitOfWork) -> Session:
        return Session(_shown(row), issue(self._runtime.settings, row["id"], uow.now))

    def _find(self, name: str) -> UserRow | None:
        """Look for an active user by username, else by address of mail."""
        query = select(usuario).where(
            usuario.c.active.is_(True), (usuario.c.username == name) | (usuario.c.email_key == email_key(name))
        )
        with self._runtime.write.connect() as connection:
            rows: list[Any] = [dict(row) for row in connection.execute(query).mappings()]
        return min(rows, key=lambda row: bool(row["username"] != name), default=None)

    def _look(self, username: str, address: str) -> None:
        self._runtime.transactions.run(lambda uow: GUESSES.look(uow, username, ("", address)))

    def _run(self, work: Callable[[UnitOfWork], T]) -> T:
        """Commit some work, and publish it later; once more where a rival was in its way."""
        for _ in range(TRIES - 1):
            with suppress(Stale, IntegrityError):
                return self._commit(work)
        return self._commit(work)

    def _commit(self, work: Callable[[UnitOfWork], T]) -> T:
        done, outgoing = self._runtime.transactions.commit(work)
        self._runtime.transactions.outbox.publish_later(outgoing)
        return done


TAKEN = "somebody else has this address"


def _own(user_id: str, actor: str | None = None) -> Context:
    """Return the context of what a user does without any saga."""
    return Context(new_id(), actor=actor or f"{ISSUER}~{user_id}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _shown(row: UserRow) -> dict[str, Any]:
    shown = ("id", "username", "first_name", "last_name", "phone", "email", "admin", "active", "created_at")
    return {name: row[name] for name in shown}  # type: ignore[literal-required]
