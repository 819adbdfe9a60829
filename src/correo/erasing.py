"""Have a person erased: what waits to be sent to them is not sent any more."""

from __future__ import annotations

from collections.abc import Callable

from correo.handlers import report
from correo.smtp import RefusedForGood
from correo.tables import mail
from pulsaga import Erasure, Person, UnitOfWork


def end(uow: UnitOfWork, person: Person, _hide: Callable[[str], str]) -> None:
    """Refuse the mails that wait for a person; a saga that asked for one has ended, and hears so in vain."""
    for name in sorted(person.usernames):
        for row in uow.rows_with(mail, mail.c.username, name):
            if row["status"] == "waiting":
                report(uow, row, RefusedForGood("erased", "whom it is for was erased"))


ERASURE = Erasure(end=end, named=frozenset({"username"}))
