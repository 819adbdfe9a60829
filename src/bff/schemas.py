"""Check what callers send; both faces load through these schemas."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields
from marshmallow.validate import Email, Length

from seedwork.formats import NOT_XML, invalid

USERNAME_LENGTH = 254
EMAIL_LENGTH = 254
"""RFC 5321 §4.5.3.1.3: a path of 256 characters with its brackets."""
LOCAL_PART_LENGTH = 64
"""RFC 5321 §4.5.3.1.1."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, surrogates, line and paragraph separators."""


@dataclass(frozen=True)
class Wish:
    """Hold what a caller asks for: `asked` is what was said, `email` where the mail goes."""

    username: str
    email: str
    asked: dict[str, str]


class _Username(fields.String):
    """A name in NFC, 1 to 254 characters, without control characters or spaces around it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = unicodedata.normalize("NFC", super()._deserialize(value, attr, data, **kwargs))
        for broken, detail in _username_rules(name):
            if broken:
                raise ValidationError(detail)
        return name


def _username_rules(name: str) -> Iterator[tuple[bool, str]]:
    yield not 1 <= len(name) <= USERNAME_LENGTH, f"must have 1 to {USERNAME_LENGTH} characters"
    yield any(unicodedata.category(c) in UNPRINTABLE for c in name), "must not hold control characters"
    yield NOT_XML.search(name) is not None, "must not hold noncharacters"
    yield name != name.strip(), "must not begin or end with a space"
    yield name in (".", ".."), "must not be a relative path"


def check_email(address: str) -> None:
    """Raise ValidationError unless mail can be sent to this address as it stands (ASCII, unquoted)."""
    if not address.isascii() or not address.isprintable() or '"' in address or " " in address:
        raise ValidationError("must be an address of plain ASCII, unquoted")
    if len(address) > EMAIL_LENGTH or len(address.rpartition("@")[0]) > LOCAL_PART_LENGTH:
        raise ValidationError(f"must have at most {LOCAL_PART_LENGTH} characters before the @, {EMAIL_LENGTH} in all")
    Email(error="must be a mail address")(address)


class IssuePasswordSchema(Schema):
    """Describe the body of `POST /passwords`."""

    class Meta:
        """Refuse unknown fields."""

        unknown = RAISE

    username = _Username(required=True)
    email = fields.String(validate=check_email)


class RevealSchema(Schema):
    """Describe the body of `POST /reveals`."""

    class Meta:
        """Refuse unknown fields."""

        unknown = RAISE

    token = fields.String(required=True, validate=Length(min=1, max=512))


ISSUE_PASSWORD = IssuePasswordSchema()
REVEAL = RevealSchema()


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """Load a body; raise the Problem 422 with a pointer to each wrong field."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise invalid(dict(_pointers(error.messages, ""))) from None
    return loaded


def _pointers(messages: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(messages, dict):
        for name, inner in messages.items():
            step = "" if name == "_schema" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _pointers(inner, pointer + step)
    else:
        yield pointer, " ".join(messages)


def wish_of(data: Any, mail_domain: str) -> Wish:
    """Read a wish for a password; without an email the mail goes to `<username>@<mail_domain>`."""
    asked = load(ISSUE_PASSWORD, data)
    return Wish(asked["username"], asked.get("email") or _default_email(asked["username"], mail_domain), asked)


def _default_email(username: str, mail_domain: str) -> str:
    address = f"{username}@{mail_domain}"
    try:
        check_email(address)
    except ValidationError:
        raise invalid({"/email": f"is needed, for {address!r} is not a mail address"}) from None
    return address
