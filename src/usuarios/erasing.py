"""Have a user erased: say what names them, and end what they do here."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from pulsaga import Context, Erasure, Person, Runtime, UnitOfWork, new_id
from usuarios.domain import UserRow, ended
from usuarios.handlers import keep
from usuarios.messages import UserChanged
from usuarios.tables import proposal, reset, usuario


def find(runtime: Runtime, user_id: str) -> Person | None:
    """Return what a user was called, and every address that was theirs or asked for; None for nobody."""
    states = runtime.told(UserChanged, user_id)
    with runtime.write.connect() as connection:
        asked = connection.execute(select(proposal.c.email).where(proposal.c.user_id == user_id)).scalars().all()
    names, addresses = {state.username for state in states}, {state.email for state in states}
    return Person(user_id, frozenset(names), frozenset(addresses | set(asked))) if states else None


def end(uow: UnitOfWork, person: Person, hide: Callable[[str], str]) -> None:
    """Let the user log in no more, and tell so without naming them."""
    uow.load([(usuario, person.id)])
    row = uow.get(usuario, person.id)
    if row is None or not row["active"] and row["username"] not in person.usernames:
        return
    for link in uow.rows_with(reset, reset.c.user_id, person.id):
        uow.remove(reset, link["id"])
    gone: UserRow = {
        **ended(row, uow.now),
        "username": hide(row["username"]),
        "email": hide(row["email"]),
        "email_key": hide(row["email"]),
        "first_name": "",
        "last_name": "",
        "phone": "",
        "admin": False,
        "active": False,
        "password_hash": None,
    }
    keep(gone, uow, Context(new_id()))


ERASURE = Erasure(find, end, named=frozenset({"username"}), blanked=frozenset({"first_name", "last_name", "phone"}))
