"""Handle what usuarios is asked and hears: an address is proposed, adopted or dropped; a password's mail was sent."""

from __future__ import annotations

from correo.messages import PasswordMailSent
from pulsaga import Context, DomainError, Message, UnitOfWork, printable
from usuarios.domain import UserRow, changed, email_key, is_address, state_of
from usuarios.messages import (
    AdoptEmail,
    DropProposal,
    EmailAdopted,
    EmailProposed,
    ProposalDropped,
    ProposeEmail,
)
from usuarios.tables import issued, proposal, reset, usuario


def propose_email(message: Message[ProposeEmail], uow: UnitOfWork) -> None:
    """Note an address that waits to be confirmed.

    Refuse with `no-user`, `invalid-email`, `same-email` or `email-taken`.
    """
    asked, row = message.body, _active(message.body.user_id, uow)
    if not is_address(asked.email):
        raise DomainError("invalid-email", f"{printable(asked.email)} is not a mail address")
    if asked.email == row["email"]:
        raise DomainError("same-email", "this is the user's address already")
    _check_free(asked.email, row, uow)
    uow.put(usuario, {**row, "proposed_email": asked.email, "proposed_by": message.saga_id})
    uow.put(proposal, {"id": message.saga_id, "user_id": row["id"], "email": asked.email})
    uow.reply(EmailProposed(row["id"], row["username"], asked.email, row["email"]))


def drop_proposal(message: Message[DropProposal], uow: UnitOfWork) -> None:
    """Forget an address that waits to be confirmed, if it is still this saga's."""
    row = uow.get(usuario, message.body.user_id)
    if row and row["proposed_by"] == message.saga_id:
        uow.put(usuario, {**row, "proposed_email": None})
    uow.reply(ProposalDropped(message.body.user_id))


def adopt_email(message: Message[AdoptEmail], uow: UnitOfWork) -> None:
    """Make the proposed address the user's; refuse as `propose_email` does. Links that went to the old one are over."""
    email, row = message.body.email, _active(message.body.user_id, uow)
    if row["proposed_email"] != email or row["proposed_by"] != message.saga_id:
        raise DomainError("superseded", "another address was asked for since")
    _check_free(email, row, uow)
    row = {**changed(row, uow.now), "email": email, "email_key": email_key(email), "proposed_email": None}
    for link in uow.rows_with(reset, reset.c.user_id, row["id"]):
        uow.put(reset, {**link, "expires_at": None})
    keep(row, uow)
    uow.reply(EmailAdopted(row["id"], email))


def note_mail(message: Message[PasswordMailSent], uow: UnitOfWork) -> None:
    """Note where the link of a password went; the newest counts."""
    sent = message.body
    before = uow.get(issued, sent.username)
    if before is None or before["sent_at"] < sent.sent_at:
        uow.put(
            issued,
            {
                "username": sent.username,
                "saga_id": message.saga_id,
                "email": sent.email,
                "sent_at": sent.sent_at,
                "used": False,
            },
        )


def keep(row: UserRow, uow: UnitOfWork, context: Context | None = None) -> None:
    """Keep a user's next state, and tell it to whoever shows it; without a context it follows the message in hand."""
    uow.put(usuario, row)
    uow.record(state_of(row), row["id"], row["version"], subject=row["username"], context=context)


def _active(user_id: str, uow: UnitOfWork) -> UserRow:
    row = uow.get(usuario, user_id)
    if row is None or not row["active"]:
        raise DomainError("no-user", "there is no such user")
    return row


def _check_free(email: str, row: UserRow, uow: UnitOfWork) -> None:
    holder = uow.find(usuario, usuario.c.email_key, email_key(email))
    if holder and holder["id"] != row["id"]:
        raise DomainError("email-taken", "this address is somebody else's")
