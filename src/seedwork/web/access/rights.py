"""Rights: every route says who may use it, beside its view; a route that says nothing is nobody's.

A `caller` sees and cancels only its own commands, wherever it is let in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pulsaga.web.access.callers import Role

F = TypeVar("F", bound=Callable[..., Any])
Right = frozenset[Role] | Literal["public", "service"]

PUBLIC: Right = "public"
"""Nobody is asked who they are."""
SERVICE: Right = "service"
"""Only services of this installation, by a token for this very route."""
ASKING: Right = frozenset({"caller", "operator", "admin"})
SEEING: Right = frozenset({"caller", "reader", "operator", "admin"})
OVERSEEING: Right = frozenset({"reader", "operator", "admin"})
NOBODYS: Right = frozenset()


def allow(right: Right) -> Callable[[F], F]:
    """Declare who may use the route of a view."""

    def mark(view: F) -> F:
        view.right = right  # type: ignore[attr-defined]
        return view

    return mark


def right_to(view: object, method: str) -> Right:
    """Return who may use a view; OPTIONS shows only what is public."""
    if method == "OPTIONS":
        return PUBLIC
    right: Right = getattr(view, "right", NOBODYS)
    return right
