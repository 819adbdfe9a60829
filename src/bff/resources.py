"""Describe what the front door answers with, field by field, in their order; `queries` makes them."""

from __future__ import annotations

from marshmallow import fields
from marshmallow.validate import OneOf

from pulsaga.web.contract import Shape

ID = "01976f3c-8a4e-7c3b-9f52-3d1c0b8a7e61"
MOVED_STATUSES = ("running", "completed", "refused", "suspended")
COMMAND_STATUSES = ("accepted", *MOVED_STATUSES)
PASSWORD_STATUSES = ("issued", "revealed", "revoked", "expired")


def text(description: str, example: str, *, required: bool = True, one_of: tuple[str, ...] = ()) -> fields.String:
    """Return a field of text."""
    validate = OneOf(one_of) if one_of else None
    metadata = {"description": description, "examples": [example]}
    return fields.String(required=required, validate=validate, metadata=metadata)


def time(description: str, example: str) -> fields.AwareDateTime:
    """Return a field that holds a time in UTC."""
    return fields.AwareDateTime(required=True, metadata={"description": description, "examples": [example]})


def link(description: str, example: str) -> fields.String:
    """Return a field that holds a path, percent-encoded."""
    metadata = {"description": description, "format": "uri-reference", "examples": [example]}
    return fields.String(required=True, metadata=metadata)


class Reason(Shape):
    """Say why a command was refused or is suspended."""

    root = "reason"
    code = text("Never changes; for programs.", "mailbox-refused")
    detail = text("For people.", "550 no such user")


class CommandLinks(Shape):
    """Lead from a command to itself and to its password."""

    root = "links"
    self = link("This command.", f"/commands/{ID}")
    password = link("The user's password.", "/passwords/ada")


class Command(Shape):
    """Say where a command stands."""

    root = "command"
    id = fields.UUID(required=True, metadata={"description": "A UUIDv7.", "examples": [ID]})
    type = text("What was asked for.", "issue-password", one_of=("issue-password", "rotate-password"))
    username = text("For whom.", "ada")
    status = text("`refused` means that nothing of it is left.", "completed", one_of=COMMAND_STATUSES)
    version = fields.Integer(
        metadata={"description": "Counts its moves; absent while it is only accepted.", "minimum": 0, "examples": [3]}
    )
    reason = fields.Nested(Reason, metadata={"description": "Of a command refused or suspended."})
    createdAt = time("When it was accepted.", "2026-01-31T09:26:53.589Z")
    updatedAt = time("When it last moved.", "2026-01-31T09:26:53.793Z")
    links = fields.Nested(CommandLinks, required=True)


class PasswordLinks(Shape):
    """Lead from a password to itself."""

    root = "links"
    self = link("This password.", "/passwords/ada")


class Password(Shape):
    """Say what is known of a user's password, never its secret."""

    root = "password"
    username = text("Whose it is.", "ada")
    status = text("Where it stands in its life.", "issued", one_of=PASSWORD_STATUSES)
    version = fields.Integer(
        required=True, metadata={"description": "Grows with each change.", "minimum": 1, "examples": [1]}
    )
    issuedAt = time("When it was generated.", "2026-01-31T09:26:53.612Z")
    changedAt = time("When it last changed.", "2026-01-31T09:26:53.612Z")
    links = fields.Nested(PasswordLinks, required=True)


class PageLinks(Shape):
    """Lead from a page to the next one."""

    root = "links"
    next = link("The next page.", "/passwords?limit=50&after=ada")


class Passwords(Shape):
    """Hold a page of passwords."""

    root = "passwords"
    passwords = fields.List(fields.Nested(Password), required=True, metadata={"description": "By username."})
    links = fields.Nested(PageLinks, metadata={"description": "Absent on the last page."})


class Reveal(Shape):
    """Show a password, once."""

    root = "reveal"
    username = text("Whose it is.", "ada")
    password = text("The secret itself; it cannot be had again.", "hn3x-Vq8R-t2Kd-Zc5M-w7Pj-aY4e")
