"""Say what correo understands and tells: one mail per command."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga.delivery.messages import Body, CommandFailed, CommandRefused, command, event


@command("correo.send-password-mail")
@dataclass(frozen=True)
class SendPasswordMail(Body):
    """Ask for one mail with the link that reveals a password."""

    username: str
    email: str
    sealed_token: str
    """The link's token, sealed under LINK_KEY (base64)."""


@event("correo.password-mail-sent")
@dataclass(frozen=True)
class PasswordMailSent(Body):
    """Tell that a mail was taken by the recipient's server; the reply to SendPasswordMail."""

    mail_id: str
    """Command id of the SendPasswordMail; the mail's `Message-ID` is made of it."""
    username: str
    email: str
    status: str
    attempts: int
    created_at: float
    sent_at: float


@event("correo.command-refused")
class CorreoRefused(CommandRefused):
    """Tell that correo refused a command."""


@event("correo.command-failed")
class CorreoFailed(CommandFailed):
    """Tell that a command became a dead letter at correo."""


MESSAGES = (SendPasswordMail, PasswordMailSent, CorreoRefused, CorreoFailed)
