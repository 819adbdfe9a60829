"""Have a person erased: destroy what the vault keeps under their names, while it can be opened under these alone."""

from __future__ import annotations

from collections.abc import Callable

from generador.domain import VALID, PasswordRow, context_of, destroyed, state_of
from generador.messages import PasswordRevoked
from generador.tables import password, rotation
from pulsaga import Erasure, Person, UnitOfWork


def end(uow: UnitOfWork, person: Person, _hide: Callable[[str], str]) -> None:
    """Revoke the passwords of a person, and drop what waits beside them."""
    names = sorted(person.usernames)
    uow.load((table, name) for table in (password, rotation) for name in names)
    for name in names:
        row, beside = uow.get(password, name), uow.get(rotation, name)
        if beside:
            uow.put(rotation, {**beside, **destroyed(beside["status"], uow.now)})
        if row and row["status"] in VALID:
            gone: PasswordRow = {**row, **destroyed("revoked", uow.now), "version": row["version"] + 1}
            uow.put(password, gone)
            uow.record(PasswordRevoked(**state_of(gone)), name, gone["version"], context=context_of(gone))


ERASURE = Erasure(end=end, named=frozenset({"username"}))
