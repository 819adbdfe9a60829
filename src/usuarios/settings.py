"""The settings of usuarios."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import setting, values


@dataclass(frozen=True, kw_only=True)
class UsuariosSettings:
    """What is told to usuarios; times are in seconds."""

    user_token_ttl: float = setting("USER_TOKEN_TTL", values.duration, "28800")
    """For which a token is good that a log-in gives."""
    reset_ttl: float = setting("RESET_TTL", values.duration, "3600")
    """For which the link of a forgotten password is good."""
