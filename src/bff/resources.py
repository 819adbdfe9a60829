"""Describe passwords as callers see them, field by field, in their order; `queries` makes them."""

from __future__ import annotations

from marshmallow import fields

from pulsaga.web import Shape, link, text, time

PASSWORD_STATUSES = ("issued", "revealed", "revoked", "expired")


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
