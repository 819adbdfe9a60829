"""Describe the parameters by which callers and the front door speak of passwords beside the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulsaga.web import Parameter

_WITHOUT_NUL: Mapping[str, Any] = {"type": "string", "pattern": r"^[^\u0000]*$"}
USERNAME = Parameter(name="username", place="path", description="Percent-encoded, slashes too.", example="ada")
AFTER = Parameter(
    name="after",
    place="query",
    description="The page begins behind this username.",
    schema=_WITHOUT_NUL,
    example="ada",
)
