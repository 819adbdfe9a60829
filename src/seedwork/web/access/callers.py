"""Say who asks: the authenticated subject of a request, and the part that it plays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["caller", "reader", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SUBJECT_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Caller:
    """Hold who asks and in which role; `subject` travels as `ce_actor` through every message of what is asked."""

    subject: str
    role: Role

    @property
    def scope(self) -> str | None:
        """Whose commands and passwords this caller may see: its own by its subject, or None for everybody's."""
        return self.subject if self.role == "caller" else None


NOBODY = Caller("nobody", "admin")
"""Who asks where nobody is asked who they are (AUTH=none): one and the same, with every right."""


def caller_of(subject: object, role: object) -> Caller:
    """Check what a token or a key says of its bearer; raise ValueError for what is no subject or no role."""
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH or not subject.isprintable():
        raise ValueError(f"a subject has 1 to {SUBJECT_LENGTH} printable characters")
    if role not in ROLES:
        raise ValueError(f"a role is one of {', '.join(ROLES)}")
    return Caller(subject, role)
