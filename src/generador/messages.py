"""Say what generador understands and tells: passwords, never in plain text."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command, event


@dataclass(frozen=True)
class PasswordState:
    """Hold the full state of a user's password, without the secret. Times are Unix seconds; 0 is never."""

    username: str
    status: str
    """`issued`, `revealed`, `revoked` or `expired`; that a password was superseded is told by its successor's state."""
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
class NothingToRevoke:
    """Tell that the password of the command to undo is not there any more; the other reply to RevokePassword."""

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


@event("generador.successor-generated")
@dataclass(frozen=True)
class SuccessorGenerated:
    """Tell that a next password waits beside the valid one; the reply to GenerateSuccessor."""

    username: str
    successor: str
    """Command id of the GenerateSuccessor."""
    sealed_token: str
    """The link's token, sealed under LINK_KEY (base64), for correo alone."""


@event("generador.successor-dropped")
@dataclass(frozen=True)
class SuccessorDropped:
    """Tell that the successor of one command is gone; the reply to DropSuccessor."""

    username: str
    undoes: str


@event("generador.password-rotated")
@dataclass(frozen=True)
class PasswordRotated(PasswordState):
    """Tell that the successor is valid now and the password before it destroyed; the reply to RetirePassword."""


@command("generador.generate-password", replies=(PasswordGenerated,))
@dataclass(frozen=True)
class GeneratePassword:
    """Ask for a new password of a user who has none."""

    username: str


@command("generador.revoke-password", replies=(PasswordRevoked, NothingToRevoke))
@dataclass(frozen=True)
class RevokePassword:
    """Undo one GeneratePassword: destroy its password, if it made one, and free the username."""

    username: str
    undoes: str
    """Command id of the GeneratePassword to undo; no other password is touched."""


@command("generador.generate-successor", replies=(SuccessorGenerated,))
@dataclass(frozen=True)
class GenerateSuccessor:
    """Ask for a next password of a user beside the valid one, which stays as it is."""

    username: str


@command("generador.drop-successor", replies=(SuccessorDropped,))
@dataclass(frozen=True)
class DropSuccessor:
    """Undo one GenerateSuccessor: destroy what it made; the valid password stays as it is."""

    username: str
    undoes: str
    """Command id of the GenerateSuccessor to undo; nothing else is touched."""


@command("generador.retire-password", replies=(PasswordRotated,))
@dataclass(frozen=True)
class RetirePassword:
    """Ask for the successor to become the valid password, and for the one before it to be destroyed."""

    username: str
    successor: str
    """Command id of the GenerateSuccessor that made it."""
