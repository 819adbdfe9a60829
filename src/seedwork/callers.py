"""Say who asks: the authenticated subject of a request, and the part that it plays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["caller", "reader", "operator", "admin"]


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
