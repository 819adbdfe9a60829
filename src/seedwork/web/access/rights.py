"""Rights: every route says who may use it, beside its view; a route that says nothing is nobody's.

A `caller` sees and cancels only its own commands, wherever it is let in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, TypeVar

from pulsaga.errors import DefinitionError
from pulsaga.web.access.callers import ROLES, is_scope

F = TypeVar("F", bound=Callable[..., Any])
Right = frozenset[str] | Literal["public", "service"]
"""Roles and scopes, one of which is needed; or nobody is asked; or only other services are let in."""

PUBLIC: Right = "public"
"""Nobody is asked who they are."""
SERVICE: Right = "service"
"""Only services of this installation, by a token for this very route."""
ASKING: Right = frozenset({"caller", "operator", "admin"})
"""Who may ask for something to be done."""
SEEING: Right = frozenset({"caller", "reader", "operator", "admin"})
"""Who may see what is theirs, or everything."""
OVERSEEING: Right = frozenset({"reader", "operator", "admin"})
"""Who may see everything."""
NOBODYS: Right = frozenset()


def allow(right: Right) -> Callable[[F], F]:
    """Declare who may use the route of a view."""

    def mark(view: F) -> F:
        view.right = right  # type: ignore[attr-defined]
        return view

    return mark


def right_of(start: str | Collection[str]) -> Right:
    """Return the right to start a workflow; raise DefinitionError for what is neither a role nor a scope."""
    named = frozenset([start] if isinstance(start, str) else start)
    if not named:
        raise DefinitionError("nobody may start it: name a role or a scope, or leave `access` out")
    if wrong := sorted(name for name in named if name not in ROLES and not is_scope(name)):
        raise DefinitionError(f"{', '.join(wrong)}: a role is one of {', '.join(ROLES)}; a scope has a colon")
    return named


def right_to(view: object, method: str) -> Right:
    """Return who may use a view; OPTIONS shows only what is public."""
    if method == "OPTIONS":
        return PUBLIC
    right: Right = getattr(view, "right", NOBODYS)
    return right
