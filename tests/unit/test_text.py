"""Text that others chose cannot act on what it is shown or kept in."""

from __future__ import annotations

import pytest

from pulsaga.text import printable


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
