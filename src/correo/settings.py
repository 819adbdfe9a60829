"""The settings of correo."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import setting, values


@dataclass(frozen=True, kw_only=True)
class CorreoSettings:
    """How mails are sent; times are in seconds."""

    mail_from: str = setting("MAIL_FROM", values.text, "Protools <no-reply@example.test>")
    mail_refused_domains: frozenset[str] = setting("MAIL_REFUSED_DOMAINS", values.domains, "refused.test")
    smtp_url: str | None = setting("SMTP_URL", values.smtp, secret=True)
    mail_claim: float = setting("MAIL_CLAIM", values.duration, "60")
    """For which claimed mails are left alone by other senders; a killed sender's mails wait as long."""
