"""Describe what the front door answers with, field by field, in their order; `queries` makes them.

What a command shows beside what all of them have is declared by the workflows, so its shape is derived.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from marshmallow import fields
from marshmallow.validate import OneOf

from pulsaga.errors import DefinitionError
from pulsaga.web.contract import Shape, named
from pulsaga.web.front_door.door import CommandView, Link

ID = "01976f3c-8a4e-7c3b-9f52-3d1c0b8a7e61"
MOVED_STATUSES = ("running", "completed", "refused", "suspended")
COMMAND_STATUSES = ("accepted", *MOVED_STATUSES)
VERSION = {"description": "Counts its moves; absent while it is only accepted.", "minimum": 0, "examples": [3]}


def text(description: str, example: str, *, required: bool = True, one_of: tuple[str, ...] = ()) -> fields.String:
    """Return a field of text."""
    validate = OneOf(one_of) if one_of else None
    metadata = {"description": description, "examples": [example]}
    return fields.String(required=required, validate=validate, metadata=metadata)


def time(description: str, example: str) -> fields.AwareDateTime:
    """Return a field that holds a time in UTC."""
    return fields.AwareDateTime(required=True, metadata={"description": description, "examples": [example]})


def link(description: str, example: str, *, required: bool = True) -> fields.String:
    """Return a field that holds a path, percent-encoded."""
    metadata = {"description": description, "format": "uri-reference", "examples": [example]}
    return fields.String(required=required, metadata=metadata)


def page_of(root: str, items: type[Shape], example: str) -> type[Shape]:
    """Return the shape of a page of resources; `example` is the path of a next page."""
    following: dict[str, fields.Field[Any]] = {"next": link("The next page.", example)}
    links = named(Shape.from_dict(following, name=f"{items.__name__}PageLinks"), "links", "Lead to the next page.")
    members: dict[str, fields.Field[Any]] = {
        root: fields.List(fields.Nested(items), required=True, metadata={"description": "By their ids."}),
        "links": fields.Nested(links, metadata={"description": "Absent on the last page."}),
    }
    return named(Shape.from_dict(members, name=f"{items.__name__}Page"), root, f"Hold a page of {root}.")


class Reason(Shape):
    """Say why a command was refused or is suspended."""

    root = "reason"
    code = text("Never changes; for programs.", "mailbox-refused")
    detail = text("For people.", "550 no such user")


MEMBERS = ("id", "type", "status", "version", "reason", "createdAt", "updatedAt", "links")
"""What every command shows."""
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def command_shape(views: Collection[CommandView]) -> type[Shape]:
    """Return the shape of commands that are shown in these ways; what only some of them show is optional.

    Raise DefinitionError for a subject under a name that every command uses, or that XML cannot write.
    """
    for view in views:
        if view.subject in MEMBERS or not NAME.fullmatch(view.subject):
            raise DefinitionError(f"workflow {view.type}: a command can not show its subject as {view.subject!r}")
    links = {one.name: one for view in views for one in view.links}
    subjects = dict.fromkeys(view.subject for view in views)
    types = tuple(dict.fromkeys(view.type for view in views)) or ("none",)
    members: dict[str, fields.Field[Any]] = {
        "id": fields.UUID(required=True, metadata={"description": "A UUIDv7.", "examples": [ID]}),
        "type": text("What was asked for.", types[0], one_of=types),
        **{name: text("For whom.", "ada", required=len(subjects) == 1) for name in subjects},
        "status": text("`refused` means that nothing of it is left.", "completed", one_of=COMMAND_STATUSES),
        "version": fields.Integer(metadata=VERSION),
        "reason": fields.Nested(Reason, metadata={"description": "Of a command refused or suspended."}),
        "createdAt": time("When it was accepted.", "2026-01-31T09:26:53.589Z"),
        "updatedAt": time("When it last moved.", "2026-01-31T09:26:53.793Z"),
        "links": fields.Nested(_links_shape([*links.values()], views), required=True),
    }
    return named(Shape.from_dict(members, name="Command"), "command", "Say where a command stands.")


def _links_shape(links: Collection[Link], views: Collection[CommandView]) -> type[Shape]:
    members: dict[str, fields.Field[Any]] = {"self": link("This command.", f"/commands/{ID}")}
    for one in links:
        members[one.name] = link(one.description, one.example, required=all(one in view.links for view in views))
    about = "Lead from a command to itself and to what it is about."
    return named(Shape.from_dict(members, name="CommandLinks"), "links", about)
