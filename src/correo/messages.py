"""Say what correo understands and tells: one mail per command."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command, event


@event("correo.password-mail-sent")
@dataclass(frozen=True)
class PasswordMailSent:
    """Tell that a mail was taken by the recipient's server; the reply to SendPasswordMail."""

    mail_id: str
    """Command id of the SendPasswordMail; the mail's `Message-ID` is made of it."""
    username: str
    email: str
    status: str
    attempts: int
    created_at: float
    sent_at: float


@command("correo.send-password-mail", replies=(PasswordMailSent,))
@dataclass(frozen=True)
class SendPasswordMail:
    """Ask for one mail with the link that reveals a password."""

    username: str
    email: str
    sealed_token: str
    """The link's token, sealed under LINK_KEY (base64)."""


@event("correo.mail-sent")
@dataclass(frozen=True)
class MailSent:
    """Tell that a mail of another kind was taken by the recipient's server; the reply to SendMail."""

    mail_id: str
    kind: str
    username: str
    email: str
    attempts: int
    created_at: float
    sent_at: float


@command("correo.send-mail", replies=(MailSent,))
@dataclass(frozen=True)
class SendMail:
    """Ask for one mail of a kind that correo has a text for."""

    kind: str
    username: str
    email: str
    sealed_token: str = ""
    """Of the mail's link, if it has one, sealed under TOKEN_KEY for the saga (base64)."""
