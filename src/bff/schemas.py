"""Check what callers send; both faces load through these schemas."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import Email, Length

from pulsaga.web import NOT_XML, Shape, callback_field, invalid

USERNAME_LENGTH = 254
USERNAME_PATTERN = r"^(?!\s|\.{1,2}$)[^\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]*(?<!\s)$"
"""What the rules of a user name say of its characters, as a pattern of ECMA-262."""
EMAIL_LENGTH = 254
"""RFC 5321 §4.5.3.1.3: a path of 256 characters with its brackets."""
LOCAL_PART_LENGTH = 64
"""RFC 5321 §4.5.3.1.1."""
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, surrogates, line and paragraph separators."""


class Username(fields.String):
    """A name in NFC, 1 to 254 characters, without control characters or spaces around it; nor one character more."""

    def __init__(self, description: str, *, without: str = "") -> None:
        self._without = without
        pattern = f"^(?!.*{without}){USERNAME_PATTERN[1:]}" if without else USERNAME_PATTERN
        limits = {"minLength": 1, "maxLength": USERNAME_LENGTH, "pattern": pattern}
        super().__init__(required=True, metadata={"description": description, **limits, "examples": ["ada"]})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = unicodedata.normalize("NFC", super()._deserialize(value, attr, data, **kwargs))
        if self._without and self._without in name:
            raise ValidationError(f"must not hold {self._without}")
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


class _Flag(fields.Boolean):
    """True or false; what XML has as text."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false") and not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return super()._deserialize(value, attr, data, **kwargs)


class IssuePassword(Shape):
    """Describe the body of `POST /passwords`."""

    root = "issuePassword"
    username = Username("Who gets the password: normalized to NFC, no control characters, no space at either end.")
    email = fields.String(
        validate=check_email,
        metadata={
            "description": "Where the link goes, ASCII only; by default <username>@<MAIL_DOMAIN>, if that is one.",
            "format": "email",
            "maxLength": EMAIL_LENGTH,
            "examples": ["ada@example.test"],
        },
    )
    rotate = _Flag(
        metadata={
            "description": "Replace the valid password, which stays valid until the next one's mail is out.",
            "examples": [False],
        },
    )
    callback = callback_field("https://caller.example/hooks/passwords")


class RevealRequest(Shape):
    """Describe the body of `POST /reveals`."""

    root = "revealRequest"
    token = fields.String(
        required=True,
        validate=Length(min=1, max=512),
        metadata={
            "description": "What stands behind the # of the mail's link.",
            "examples": ["iGrA5cmZ8xZ1VJQ7ZSt1d4yYl0rHqXw3yqkU6f0pM0E"],
        },
    )


class Verification(Shape):
    """Describe the body of `POST /verifications`."""

    root = "verification"
    username = Username("Whose password it may be.")
    password = fields.String(
        required=True,
        validate=Length(min=1, max=512),
        metadata={"description": "What was given as the password.", "examples": ["hn3xVq8Rt2KdZc5Mw7PjaY4e9"]},
    )


ISSUE_PASSWORD = IssuePassword()
REVEAL_REQUEST = RevealRequest()
VERIFICATION = Verification()


def email_of(asked: Mapping[str, Any], mail_domain: str) -> str:
    """Return where the mail of a loaded wish goes; without an email that is `<username>@<mail_domain>`."""
    return asked.get("email") or _default_email(asked["username"], mail_domain)


def _default_email(username: str, mail_domain: str) -> str:
    address = f"{username}@{mail_domain}"
    try:
        check_email(address)
    except ValidationError:
        raise invalid({"/email": f"is needed, for {address!r} is not a mail address"}) from None
    return address
