"""Keep the vault under one key: refuse a wrong one at the start, seal everything anew under the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Engine, Table, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from generador.tables import key_check, password, rotation
from pulsaga import Runtime, SettingError, seal, unseal, unseal_by_any

NAME = "VAULT_KEY"
PAGE = 200


def check_vault_key(runtime: Runtime) -> None:
    """Note at the first start under which VAULT_KEY the vault lies; raise SettingError for any other from then on."""
    keys = runtime.settings.keys(NAME)
    with runtime.write.begin() as tx:
        if _kept(tx) is None:  # a rival may note it at this very moment: the first one counts
            with suppress(IntegrityError), tx.begin_nested():
                tx.execute(insert(key_check).values(name=NAME, sealed=seal(NAME.encode(), keys[0], NAME)))
        _open(_kept(tx) or b"", keys, NAME)


def _kept(tx: Connection) -> bytes | None:
    return tx.execute(select(key_check.c.sealed).where(key_check.c.name == NAME)).scalar()


def _open(sealed: bytes, keys: tuple[bytes, ...], owner: str) -> bytes:
    try:
        return unseal_by_any(sealed, keys, owner)
    except InvalidTag:
        said = "is not the key that this vault is sealed under (nor is VAULT_KEY_OLD); nothing was changed"
        raise SettingError(NAME, said) from None


def reseal(write: Engine, keys: tuple[bytes, ...]) -> int:
    """Seal what lies under the old key anew under the first of the keys, while the system runs; return how much it was.

    Each page is a transaction, so that it may be stopped and begun again. Raise SettingError for what no key opens.
    """
    moved = sum(sum(_pages(write, table, keys)) for table in (password, rotation))
    with write.begin() as tx:
        if (kept := _kept(tx)) is not None and (anew := _anew(kept, keys, NAME)):
            tx.execute(update(key_check).where(key_check.c.name == NAME).values(sealed=anew))
    return moved


def _pages(write: Engine, table: Table, keys: tuple[bytes, ...]) -> Iterator[int]:
    sealed = select(table.c.username, table.c.sealed_key).where(table.c.sealed_key.is_not(None))
    page = sealed.order_by(table.c.username).limit(PAGE).with_for_update()
    last = ""
    while True:
        with write.begin() as tx:
            rows = tx.execute(page.where(table.c.username > last)).all()
            changes = [(row.username, anew) for row in rows if (anew := _anew(row.sealed_key, keys, row.username))]
            _write(tx, table, changes)
        if not rows:
            return
        yield len(changes)
        last = rows[-1].username


def _anew(sealed: bytes, keys: tuple[bytes, ...], owner: str) -> bytes | None:
    """Return something sealed under the first key, or None when it is so already."""
    try:
        unseal(sealed, keys[0], owner)
    except InvalidTag:
        return seal(_open(sealed, keys[1:], owner), keys[0], owner)
    return None


def _write(tx: Connection, table: Table, changes: list[tuple[str, bytes]]) -> None:
    if changes:
        row = table.c.username == bindparam("name")
        anew = update(table).where(row).values(sealed_key=bindparam("key"), revision=table.c.revision + 1)
        tx.execute(anew, [{"name": name, "key": key} for name, key in changes])
