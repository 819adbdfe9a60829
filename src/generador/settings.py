"""The settings of generador."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import setting, values


@dataclass(frozen=True, kw_only=True)
class GeneradorSettings:
    """What the vault is told; times are in seconds."""

    reveal_ttl: float = setting("REVEAL_TTL", values.duration, "86400")
    """After which a password that nobody revealed is destroyed."""
