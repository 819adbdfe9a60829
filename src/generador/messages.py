"""Say what generador understands and tells: passwords, never in plain text."""

from __future__ import annotations

from dataclasses import dataclass

from seedwork.messages import Body, CommandFailed, CommandRefused, command, event


@command("generador.generate-password")
@dataclass(frozen=True)
class GeneratePassword(Body):
    """Ask for a new password of a user who has none."""

    username: str


@command("generador.revoke-password")
@dataclass(frozen=True)
class RevokePassword(Body):
    """Undo one GeneratePassword: destroy its password, if it made one, and free the username."""

    username: str
    undoes: str
    """Command id of the GeneratePassword to undo; no other password is touched."""


@dataclass(frozen=True)
class PasswordState(Body):
    """Hold the full state of a user's password, without the secret. Times are Unix seconds; 0 is never."""

    username: str
    status: str
    """`issued`, `revealed`, `revoked` or `expired`."""
    issued_at: float
    changed_at: float


@event("generador.password-generated")
@dataclass(frozen=True)
class PasswordGenerated(PasswordState):
    """Tell that a password was generated; the reply to GeneratePassword."""

    sealed_token: str
    """The link's token, sealed under LINK_KEY (base64), for correo alone."""


@event("generador.password-revoked")
@dataclass(frozen=True)
class PasswordRevoked(PasswordState):
    """Tell that a password was destroyed; the reply to RevokePassword."""


@event("generador.nothing-to-revoke")
@dataclass(frozen=True)
class NothingToRevoke(Body):
    """Tell that the command to undo had made no password; the other reply to RevokePassword."""

    username: str
    undoes: str


@event("generador.password-revealed")
@dataclass(frozen=True)
class PasswordRevealed(PasswordState):
    """Tell that a password was shown, once, and its key destroyed."""


@event("generador.password-expired")
@dataclass(frozen=True)
class PasswordExpired(PasswordState):
    """Tell that nobody revealed a password in time, and its key was destroyed."""


@event("generador.command-refused")
class GeneradorRefused(CommandRefused):
    """Tell that generador refused a command."""


@event("generador.command-failed")
class GeneradorFailed(CommandFailed):
    """Tell that a command became a dead letter at generador."""


MESSAGES = (
    GeneratePassword,
    RevokePassword,
    PasswordGenerated,
    PasswordRevoked,
    NothingToRevoke,
    PasswordRevealed,
    PasswordExpired,
    GeneradorRefused,
    GeneradorFailed,
)
