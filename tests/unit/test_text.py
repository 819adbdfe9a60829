"""Text that others chose cannot act on what it is shown or kept in."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from pulsaga.text import describe, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Zoë 東京 🎉", "plain, Zoë 東京 🎉"),
        ("a\x00b", r"a\x00b"),
        ("\x1b[2J\x9b2J", r"\x1b[2J\x9b2J"),
        ("one\ntwo\r\n\u2028three", r"one\ntwo\r\n\u2028three"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_is_not_printable_becomes_its_escape(text: str, shown: str) -> None:
    """A receiver's status line must not clear the operator's terminal, nor end the database's transaction."""
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_the_limit_holds_for_the_escapes_too() -> None:
    """A column or a line has room for so many characters, whatever stood there."""
    assert printable("\x00" * 10, 10) == r"\x00\x00\x"
    assert printable("x" * 10, 4) == "xxxx"


def test_an_error_of_a_database_does_not_tell_what_a_row_holds() -> None:
    """It is kept and shown in many places, from which nobody can be erased."""
    violation = psycopg.errors.UniqueViolation("duplicate key\nDETAIL:  Key (email)=(ada@example.test) already exists.")
    violation_of_row = IntegrityError("INSERT INTO usuario", {"email": "ada@example.test"}, violation)
    for error in (violation, violation_of_row):
        assert "duplicate key" in describe(error)
        assert "ada@" not in describe(error)
    assert describe(ValueError("one\ntwo")) == r"ValueError: one\ntwo"
