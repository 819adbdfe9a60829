"""Read the text of one setting: each function returns its value or raises ValueError, which says what is wrong."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from seedwork.errors import SettingError
from seedwork.faults import parse_rules
from seedwork.limits import Rate, rate_of

KEY_BYTES = 32


def text(value: str) -> str:
    """Read a text; raise ValueError when it is empty."""
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def optional(value: str) -> str | None:
    """Read a text, None when it is empty."""
    return value or None


def address(value: str) -> str:
    """Read an address of this machine."""
    if value != "localhost":
        ipaddress.ip_address(value)  # its ValueError names the value
    return value


def port(value: str) -> int:
    """Read a port, 1 to 65535."""
    if not value.isascii() or not value.isdigit() or not 0 < int(value) < 65536:
        raise ValueError(f"{value!r} is not a port (1 to 65535)")
    return int(value)


def seconds(value: str) -> float:
    """Read a number of seconds."""
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number of seconds") from None


def duration(value: str) -> float:
    """Read a number of seconds above 0."""
    read = seconds(value)
    if not 0 < read < float("inf"):
        raise ValueError(f"{value!r} is not a number of seconds above 0")
    return read


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def span(value: str) -> float:
    """Read `90s`, `15m`, `2h` or `1d` as seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
    if match is None:
        raise ValueError(f"{value!r} is not a span of time such as 90s, 15m, 2h or 1d")
    return float(int(match[1]) * UNITS[match[2]])


def count(value: str) -> int:
    """Read a whole number from 1."""
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError(f"{value!r} is not a whole number from 1")
    return int(value)


def url(*schemes: str) -> Callable[[str], str]:
    """Return what reads a URL of one of these schemes."""

    def parse(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            raise ValueError(f"{value!r} is not a URL of {' or '.join(s + '://' for s in schemes)}")
        return value.rstrip("/")

    return parse


def smtp(value: str) -> str | None:
    """Read the URL of a mail server, None when it is empty."""
    return url("smtp", "smtps", "smtp+starttls")(value) if value else None


def namespace(value: str) -> str:
    """Read a name of letters, digits, - and _."""
    if not value.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{value!r} may hold letters, digits, - and _ only")
    return value


def origins(value: str) -> frozenset[str]:
    """Read origins as browsers write them (RFC 6454 §6.2), separated by commas; or `*`."""
    given = frozenset(part.strip() for part in value.split(",") if part.strip())
    for origin in given - {"*"}:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc or None}".lower():
            raise ValueError(f"{origin!r} is not an origin such as https://example.test:8443")
    return given


def domains(value: str) -> frozenset[str]:
    """Read domains, separated by commas."""
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def key(value: str) -> bytes | None:
    """Read a key in base64, None when it is empty."""
    if not value:
        return None
    try:
        decoded = base64.b64decode(value, validate=True)
    except ValueError:
        raise ValueError("is not base64") from None
    if len(decoded) != KEY_BYTES:
        raise ValueError(f"holds {len(decoded)} bytes, {KEY_BYTES} are needed")
    return decoded


def auth(value: str) -> str | None:
    """Read how callers are known: None by their tokens, `none` not at all."""
    if value not in ("", "none"):
        raise ValueError(f"{value!r} is not none; leave it out where tokens are asked for")
    return value or None


def jwt_secret(value: str) -> bytes | None:
    """Read the secret of HS256, None when it is empty; raise SettingError, without a word of it, below 256 bits."""
    size = len(value.encode())
    if 0 < size < KEY_BYTES:
        problem = f"holds {size} bytes, RFC 7518 §3.2 asks for {KEY_BYTES} (openssl rand -base64 32)"
        raise SettingError("JWT_SECRET", problem)
    return value.encode() or None


def jwks_url(value: str) -> str | None:
    """Read where public keys are fetched: over HTTPS, or from this machine."""
    if not value:
        return None
    parts = urlsplit(url("http", "https")(value))
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{value!r}: keys that came over plain HTTP would be anybody's")
    return value


def optional_path(value: str) -> Path | None:
    """Read a path, None when it is empty."""
    return path(value) if value else None


def rate(value: str) -> Rate | None:
    """Read a limit such as `50/s burst 100`; `none` is no limit."""
    return None if value == "none" else rate_of(value)


def networks(value: str) -> frozenset[IPv4Network | IPv6Network]:
    """Read addresses and networks, separated by commas."""
    return frozenset(ip_network(part.strip()) for part in value.split(",") if part.strip())


def allowed(value: str) -> bool:
    """Read `allow`, or nothing for what is not."""
    if value not in ("", "allow"):
        raise ValueError(f"{value!r} is neither `allow` nor empty")
    return value == "allow"


def faults(value: str) -> tuple[str, ...] | None:
    """Read rules of faults, None when it is empty."""
    return parse_rules(value) if value else None


def path(value: str) -> Path:
    """Read a path; ~ is the home folder."""
    return Path(value).expanduser().resolve()
