"""Project sent mails into correo's read database."""

from __future__ import annotations

from collections.abc import Iterable

from correo.messages import PasswordMailSent
from correo.tables import MailViewRow, mail_view
from pulsaga import Message, Rows


def project_mail(message: Message[PasswordMailSent]) -> Iterable[tuple[Rows[MailViewRow], MailViewRow]]:
    """Show one mail that was sent."""
    sent = message.body
    row: MailViewRow = {
        "id": sent.mail_id,
        "version": message.version,
        "username": sent.username,
        "recipient": sent.email,
        "status": sent.status,
        "attempts": sent.attempts,
        "created_at": sent.created_at,
        "sent_at": sent.sent_at,
    }
    return ((mail_view, row),)
