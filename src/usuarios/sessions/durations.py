"""Read durations as Go writes them (package time, ParseDuration)."""

from __future__ import annotations

import re
from fractions import Fraction

from pulsaga import values

UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # the sign of micro
    "μs": 10**3,  # the Greek letter
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
WHOLE = re.compile(rf"[-+]?(?:0|(?:{PART})+)")
LONGEST_NS = 2**63 - 1
SHORTEST_LIFETIME_S = 1.0
"""A token tells its times in whole seconds."""


def go_duration(value: str) -> float:
    """Read `300ms`, `1.5h`, `-1m` or `1h30m` as seconds; raise ValueError for anything else.

    Numbers with units follow each other, one sign stands before all of them, and `0` needs no unit. Parts of a
    nanosecond are cut off, and more nanoseconds than 63 bits hold are refused.
    """
    if not WHOLE.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration such as 300ms, 1.5h or 1h30m")
    nanoseconds = sum(int(Fraction(number) * UNITS_NS[unit]) for number, unit in re.findall(PART, value))
    if nanoseconds > LONGEST_NS:
        raise ValueError(f"{value!r} is longer than the 290 years that a duration may take")
    return (-nanoseconds if value.startswith("-") else nanoseconds) / 10**9


def lifetime(value: str) -> float:
    """Read for how long a session is good, in seconds, from one second to a hundred years."""
    read = go_duration(value)
    if not SHORTEST_LIFETIME_S <= read <= values.LONGEST_S:
        raise ValueError(f"{value!r} is not a duration from 1s to a hundred years")
    return read
