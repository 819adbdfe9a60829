"""Describe the parameters by which callers and the front door speak of passwords beside the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulsaga.web import Parameter

_WITHOUT_NUL: Mapping[str, Any] = {"type": "string", "pattern": r"^[^\u0000]*$"}
_UUID: Mapping[str, Any] = {"type": "string", "format": "uuid"}
ID = "01976f3c-8a4e-7c3b-9f52-3d1c0b8a7e61"
USERNAME = Parameter(name="username", place="path", description="Percent-encoded, slashes too.", example="ada")
AFTER = Parameter(
    name="after",
    place="query",
    description="The page begins behind this username.",
    schema=_WITHOUT_NUL,
    example="ada",
)


def id_in_path(name: str, description: str) -> Parameter:
    """Return a parameter of the path that is an id."""
    return Parameter(name=name, place="path", description=description, schema=_UUID, example=ID)


def page_behind(what: str) -> Parameter:
    """Return the parameter by which a page of things begins behind one of them, by its id."""
    description = f"The page begins behind this {what}."
    return Parameter(name="after", place="query", description=description, schema=_UUID, example=ID)
