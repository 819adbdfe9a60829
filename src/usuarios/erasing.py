"""Have a user erased: say what names them, and end what they do here."""

from __future__ import annotations

from collections.abc import Callable

from pulsaga import Context, Erasure, Person, Runtime, UnitOfWork, new_id
from usuarios.domain import UserRow, changed, state_of
from usuarios.messages import UserChanged
from usuarios.tables import reset, usuario


def find(runtime: Runtime, user_id: str) -> Person | None:
    """Return what names a user, addresses of before too; None for nobody."""
    states = runtime.told(UserChanged, user_id)
    names = {name for state in states for name in (state.username, state.email)}
    words = {word for state in states for word in (state.first_name, state.last_name, state.phone)}
    return Person(frozenset(names), frozenset(words)) if states else None


def end(uow: UnitOfWork, user_id: str, hide: Callable[[str], str]) -> None:
    """Let the user log in no more, and tell so; what names them is hidden in what is told."""
    uow.load([(usuario, user_id)])
    row = uow.get(usuario, user_id)
    if row is None:
        return
    for link in uow.rows_with(reset, reset.c.user_id, user_id):
        uow.remove(reset, link["id"])
    gone: UserRow = {
        **changed(row, uow.now),
        "username": hide(row["username"]),
        "email": hide(row["email"]),
        "email_key": hide(row["email"]),
        "first_name": "",
        "last_name": "",
        "phone": "",
        "admin": False,
        "active": False,
        "password_hash": None,
        "sessions_not_before": uow.now,
        "proposed_email": None,
    }
    uow.put(usuario, gone)
    uow.record(state_of(gone), user_id, gone["version"], subject=gone["username"], context=Context(new_id()))


ERASURE = Erasure(find, end)
