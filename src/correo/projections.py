"""Project sent mails, and the addresses of users, into correo's read database."""

from __future__ import annotations

from collections.abc import Iterable

from correo.messages import MailSent, PasswordMailSent
from correo.tables import MailViewRow, address, mail_view
from pulsaga import Message, Row, Rows
from usuarios.messages import UserChanged


def project_mail(
    message: Message[PasswordMailSent] | Message[MailSent],
) -> Iterable[tuple[Rows[MailViewRow], MailViewRow]]:
    """Show one mail that was sent."""
    sent = message.body
    row: MailViewRow = {
        "id": sent.mail_id,
        "version": message.version,
        "kind": sent.kind if isinstance(sent, MailSent) else "password",
        "username": sent.username,
        "recipient": sent.email,
        "status": "sent",
        "attempts": sent.attempts,
        "created_at": sent.created_at,
        "sent_at": sent.sent_at,
    }
    return ((mail_view, row),)


def project_address(message: Message[UserChanged]) -> Iterable[tuple[Rows[Row], Row]]:
    """Keep the address that a user has."""
    user = message.body
    row = {"user_id": user.user_id, "version": message.version, "username": user.username, "email": user.email}
    return ((address, row),)
