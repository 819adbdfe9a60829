"""Describe what people say who sign up and log in, and users as callers see them."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, Regexp

from bff.parameters import ID
from bff.schemas import EMAIL_LENGTH, Username, check_email
from pulsaga.web import Shape, link, page_of, text, time

PASSWORD_LENGTHS = {"minLength": 8, "maxLength": 256}
"""NIST SP 800-63B §5.1.1.2: at least 8 characters, and no rules about which."""
NAME_LENGTH = 100


def email(description: str) -> fields.String:
    """Return a field that is an address of mail."""
    about = {"description": description, "format": "email", "maxLength": EMAIL_LENGTH, "examples": ["ada@example.test"]}
    return fields.String(required=True, validate=check_email, metadata=about)


def chosen(description: str, *, required: bool = True) -> fields.String:
    """Return a field that is a password of somebody's choice."""
    limits = Length(PASSWORD_LENGTHS["minLength"], PASSWORD_LENGTHS["maxLength"])
    about = {"description": description, **PASSWORD_LENGTHS, "examples": ["correct horse battery staple"]}
    return fields.String(required=required, validate=limits, metadata=about)


def given(description: str) -> fields.String:
    """Return a field that is a password as it was given."""
    about = {"description": description, "minLength": 1, "maxLength": 512, "examples": ["correct horse battery staple"]}
    return fields.String(required=True, validate=Length(1, 512), metadata=about)


def _name(description: str, example: str) -> fields.String:
    about = {"description": description, "maxLength": NAME_LENGTH, "pattern": PRINTABLE, "examples": [example]}
    limits = [Length(max=NAME_LENGTH), Regexp(PRINTABLE, error="must not hold control characters")]
    return fields.String(load_default="", validate=limits, metadata=about)


def _who(description: str, example: str | None) -> fields.String:
    limits = {"minLength": 1, "maxLength": 254, "pattern": PRINTABLE}
    about = {"description": description, **limits, "examples": [example]}
    checks = [Length(1, 254), Regexp(PRINTABLE, error="must not hold control characters")]
    return fields.String(validate=checks, metadata=about)


PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]*$"


class _Confirmed(Shape):
    """A body with a password that is said twice."""

    class Meta:
        """Refuse unknown fields."""

        unknown = "raise"

    @validates_schema
    def _same(self, said: dict[str, Any], **_: Any) -> None:
        if said.get("password") != said.get("passwordConfirm"):
            raise ValidationError("must be the same as password", "passwordConfirm")


class SignUp(_Confirmed):
    """Describe the body of `POST /signup`."""

    root = "signUp"
    username = Username("What the user is called; no @.", without="@")
    firstName = _name("Given name.", "Ada")
    lastName = _name("Family name.", "Lovelace")
    phone = _name("For people.", "+44 20 7946 0000")
    email = email("Where mails go.")
    password = chosen("What the user will log in with.")
    passwordConfirm = given("The same again.")


class LogIn(Shape):
    """Describe the body of `POST /login`."""

    root = "logIn"
    username = _who("Who; or `email`.", "ada")
    email = _who("Whose mails go there; or `username`.", None)
    password = given("The user's, or one that was issued and mailed.")
    newPassword = chosen("Takes the place of an issued one, which is good for one log-in.", required=False)

    @validates_schema
    def _one(self, said: dict[str, Any], **_: Any) -> None:
        if ("username" in said) == ("email" in said):
            raise ValidationError("one of username and email is needed", "username")


class Forgotten(Shape):
    """Describe the body of `POST /forgotten-passwords`."""

    root = "forgottenPassword"
    email = email("Whose password it was.")


class Reset(_Confirmed):
    """Describe the body of `POST /password-resets`."""

    root = "passwordReset"
    token = fields.String(
        required=True,
        validate=Length(min=1, max=512),
        metadata={"description": "What stands behind the # of the mail's link.", "examples": [43 * "x"]},
    )
    password = chosen("What the user will log in with.")
    passwordConfirm = given("The same again.")


class PasswordChange(_Confirmed):
    """Describe the body of `PUT /users/me/password`."""

    root = "passwordChange"
    currentPassword = given("The one until now.")
    password = chosen("The one from now on.")
    passwordConfirm = given("The same again.")


class NewEmail(Shape):
    """Describe the body of `PUT /users/{id}/email`."""

    root = "newEmail"
    email = email("Where mails are to go.")


class Mark(Shape):
    """Describe the body of what gives or takes a mark."""

    root = "mark"
    value = fields.Boolean(
        required=True,
        truthy={True, "true"},
        falsy={False, "false"},
        metadata={"description": "Give it, or take it.", "examples": [True]},
    )


SIGN_UP, LOG_IN, FORGOTTEN, RESET, CHANGE, NEW_EMAIL, MARK = (
    SignUp(),
    LogIn(),
    Forgotten(),
    Reset(),
    PasswordChange(),
    NewEmail(),
    Mark(),
)


class UserLinks(Shape):
    """Lead from a user to themself."""

    root = "links"
    self = link("This user.", f"/users/{ID}")


class User(Shape):
    """Say what is known of a user, never a password."""

    root = "user"
    _id = text("Never changes.", ID)
    username = text("What the user is called.", "ada")
    firstName = text("Given name.", "Ada")
    lastName = text("Family name.", "Lovelace")
    phone = text("For people.", "+44 20 7946 0000")
    email = text("Where mails go.", "ada@example.test")
    role = text("What the user may do.", "user", one_of=("user", "admin"))
    active = fields.Boolean(required=True, metadata={"description": "Whether they may log in.", "examples": [True]})
    createdAt = time("When they signed up.", "2026-01-31T09:26:53.589Z")
    links = fields.Nested(UserLinks, required=True)


class SessionData(Shape):
    """Hold the user of a session."""

    root = "data"
    user = fields.Nested(User, required=True)


class Session(Shape):
    """Say that a user is logged in, and by which token."""

    root = "session"
    status = text("That it worked.", "success", one_of=("success",))
    token = text("For `Authorization: Bearer`.", "eyJhbGciOiJFZERTQSJ9.e30.c2ln")
    data = fields.Nested(SessionData, required=True)


class Email(Shape):
    """An address that a user had, or has."""

    root = "email"
    email = text("The address.", "ada@example.test")
    actor = text("Who changed it.", f"usuarios~{ID}", required=False)
    at = time("Since when.", "2026-01-31T09:26:53.589Z")


class Emails(Shape):
    """List the addresses that a user has had."""

    root = "emails"
    emails = fields.List(fields.Nested(Email), required=True, metadata={"description": "The first one first."})


USERS = page_of("users", User, f"/users?limit=50&after={ID}")
