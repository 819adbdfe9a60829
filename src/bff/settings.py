"""The settings of the front door's own routes."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import setting, values


@dataclass(frozen=True, kw_only=True)
class BffSettings:
    """What is assumed of callers."""

    mail_domain: str = setting("MAIL_DOMAIN", values.domain, "example.test")
    """Where a mail goes, behind the username, when no address is given."""
