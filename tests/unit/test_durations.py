"""Read durations as Go does: what it takes and what it refuses, checked against its own answers."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usuarios.sessions.durations import LONGEST_NS, go_duration, lifetime

NANOSECONDS = {
    "0": 0,
    "+0": 0,
    "-0": 0,
    "0s": 0,
    "1ns": 1,
    "1.9ns": 1,
    "1us": 1_000,
    "1µs": 1_000,
    "1μs": 1_000,
    "300ms": 300_000_000,
    "1.5h": 5_400_000_000_000,
    "1h30m": 5_400_000_000_000,
    "-1m": -60_000_000_000,
    "-1m30s": -90_000_000_000,
    "+5s": 5_000_000_000,
    "5.s": 5_000_000_000,
    ".5s": 500_000_000,
    "1s1s": 2_000_000_000,
    "1h0.5m3ms": 3_630_003_000_000,
    "100h0m0s": 360_000_000_000_000,
    "9223372036854775807ns": 9_223_372_036_854_775_807,
    "2562047h47m16.854775807s": 9_223_372_036_854_775_807,
}
"""What `time.ParseDuration` of Go 1.26 answers."""
REFUSED = [
    *(
        "",
        "3",
        "-",
        "+",
        "s",
        ".",
        "-.",
        ".s",
        "+.s",
        "1",
        "00",
        "0.0",
        "1d",
        "1w",
        "1e3s",
        "1 h",
        " 1h",
        "1h ",
        "1h,30m",
    ),
    *("--1m", "1h-30m", "1..5h", "0x1s", "1H", "1_000s", "٣s", "NaN", "inf", "9223372036854775808ns", "3000000h"),
    "9" * 5000 + "s",
]
"""What it refuses."""
SIZES = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
PARTS = st.tuples(st.integers(0, 10**6), st.none() | st.text("0123456789", max_size=9), st.sampled_from(sorted(SIZES)))


@pytest.mark.parametrize(("text", "nanoseconds"), NANOSECONDS.items())
def test_what_go_takes_is_taken(text: str, nanoseconds: int) -> None:
    """The original's own settings are carried over as they are."""
    assert go_duration(text) == nanoseconds / 10**9


@pytest.mark.parametrize("text", REFUSED)
def test_what_go_refuses_is_refused(text: str) -> None:
    """A misspelt duration must not become another one."""
    with pytest.raises(ValueError, match="duration|digits"):
        go_duration(text)


@given(st.sampled_from(["", "+", "-"]), st.lists(PARTS, min_size=1, max_size=5))
def test_a_duration_is_the_sum_of_its_parts(sign: str, parts: list[tuple[int, str | None, str]]) -> None:
    """In any order, with any decimals, to the nanosecond."""
    written = [(f"{whole}" if decimals is None else f"{whole}.{decimals}", unit) for whole, decimals, unit in parts]
    values = [Fraction(whole) + Fraction(int(decimals or 0), 10 ** len(decimals or "")) for whole, decimals, _ in parts]
    expected = sum(int(value * SIZES[unit]) for value, (*_, unit) in zip(values, parts, strict=True))
    text = sign + "".join(number + unit for number, unit in written)
    if expected > LONGEST_NS:
        with pytest.raises(ValueError, match="290 years"):
            go_duration(text)
    else:
        assert go_duration(text) == (-expected if sign == "-" else expected) / 10**9


@given(st.text("0123456789.hmsnuµ+- ", max_size=12))
def test_whatever_is_no_duration_is_a_value_error(text: str) -> None:
    """Anything else would end the program with a stack trace."""
    with suppress(ValueError):
        assert isinstance(go_duration(text), float)


@pytest.mark.parametrize("text", ["0", "-1h", "999ms", "-0.5s", "2000000h"])
def test_a_session_lasts_a_second_or_longer(text: str) -> None:
    """One that is over before it begins would lock everybody out, and none of a hundred years can be counted."""
    with pytest.raises(ValueError, match="not a duration from 1s"):
        lifetime(text)
