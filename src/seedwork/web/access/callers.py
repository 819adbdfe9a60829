"""Say who asks: the authenticated subject of a request, and the part that it plays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["caller", "reader", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SUBJECT_LENGTH = 255
APART = "~"
"""Between an issuer and its subject, in the name of a caller that another issuer vouches for than the settings'."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and in which role; `subject` travels as `ce_actor` through every message of what is asked."""

    subject: str
    role: Role
    scopes: frozenset[str] = frozenset()
    """What its token says that it is for (RFC 8693 §4.2)."""

    @property
    def sees_only(self) -> str | None:
        """The actor of all that this caller may see: its own subject, or None for everybody's."""
        return self.subject if self.role == "caller" else None

    def at(self, issuer: str) -> str | None:
        """Return the subject by which an issuer knows this caller; None for a caller of another's."""
        return self.subject.removeprefix(f"{issuer}{APART}") if self.subject.startswith(f"{issuer}{APART}") else None

    def has(self, right: Collection[str]) -> bool:
        """Tell whether this caller has one of these roles and scopes; nobody in particular has them all."""
        return self is NOBODY or self.role in right or not self.scopes.isdisjoint(right)


NOBODY = Caller("nobody", "admin")
"""Who asks where nobody is asked who they are (AUTH=none): one and the same, with every right."""


def caller_of(subject: object, role: object, scope: object = "") -> Caller:
    """Check what a token or a key says of its bearer; raise ValueError for what is no subject or no role.

    `scope` lists scopes, a space between them. Of what it lists only names with a colon count: none of them is a role.
    """
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH or not subject.isprintable():
        raise ValueError(f"a subject has 1 to {SUBJECT_LENGTH} printable characters")
    if role not in ROLES:
        raise ValueError(f"a role is one of {', '.join(ROLES)}")
    listed = scope.split(" ") if isinstance(scope, str) else ()
    return Caller(subject, role, frozenset(filter(is_scope, listed)))


def is_scope(name: str) -> bool:
    """Tell whether a name is one of a scope: it has a colon, as `orders:write`, and so is no role that is misspelt."""
    return ":" in name
