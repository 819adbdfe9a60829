"""Say what usuarios understands and tells: who the users are, and how an address of theirs changes."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command, event


@event("usuarios.user-changed")
@dataclass(frozen=True)
class UserChanged:
    """The full state of a user, after each change."""

    user_id: str
    username: str
    first_name: str
    last_name: str
    phone: str
    email: str
    admin: bool
    active: bool
    sessions_not_before: float
    """Unix seconds; tokens that were issued before are good no more."""
    created_at: float
    changed_at: float


@event("usuarios.reset-issued")
@dataclass(frozen=True)
class ResetIssued:
    """A user may choose another password, with the token of a link."""

    user_id: str
    username: str
    email: str
    sealed_token: str
    """The link's token, sealed under RESET_KEY (base64)."""
    expires_at: float


# --- another address


@event("usuarios.email-proposed")
@dataclass(frozen=True)
class EmailProposed:
    """An address waits to be confirmed; the reply to ProposeEmail."""

    user_id: str
    username: str
    email: str
    old_email: str


@command("usuarios.propose-email", replies=(EmailProposed,), latest_by="user_id")
@dataclass(frozen=True)
class ProposeEmail:
    """Ask whether an address can become a user's."""

    user_id: str
    email: str


@event("usuarios.proposal-dropped")
@dataclass(frozen=True)
class ProposalDropped:
    """An address is not waited for any more; the reply to DropProposal."""

    user_id: str


@command("usuarios.drop-proposal", replies=(ProposalDropped,))
@dataclass(frozen=True)
class DropProposal:
    """Forget what one ProposeEmail proposed."""

    user_id: str
    undoes: str


@event("usuarios.email-adopted")
@dataclass(frozen=True)
class EmailAdopted:
    """A user has another address; the reply to AdoptEmail."""

    user_id: str
    email: str


@command("usuarios.adopt-email", replies=(EmailAdopted,), latest_by="user_id")
@dataclass(frozen=True)
class AdoptEmail:
    """Make the address that was proposed the user's."""

    user_id: str
    email: str
