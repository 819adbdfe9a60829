"""Read the text of one setting: each function returns its value or raises ValueError, which says what is wrong."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pulsaga.errors import SettingError
from pulsaga.faults import parse_rules
from pulsaga.web.access.limits import Rate, rate_of

KEY_BYTES = 32
LONGEST_S = 3_155_760_000.0
"""Seconds of a hundred years: what is longer leads out of the calendar."""
LONGEST_TIMEOUT_S = 2_147_483
LONGEST_DATABASE_NAME = 39
"""PostgreSQL keeps 63 bytes of a name, and ours end in `_protools_saga_projector`."""
LONGEST_SOCKET_PATH = 107
DOMAIN = re.compile(r"(?=.{1,253}$)[\w-]{1,63}(\.[\w-]{1,63})*")


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


def port_or_any(value: str) -> int:
    """Read a port, or 0 for any that is free."""
    return 0 if value == "0" else port(value)


def is_loopback(host: str) -> bool:
    """Tell whether an address is one of this machine only."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def seconds(value: str) -> float:
    """Read a number of seconds, of which a calendar knows what lies so far away."""
    with suppress(ValueError):
        if abs(read := float(value)) <= LONGEST_S:
            return read
    raise ValueError(f"{value!r} is not a number of seconds")


def duration(value: str) -> float:
    """Read a number of seconds above 0, at most LONGEST_S."""
    read = seconds(value)
    if not 0 < read <= LONGEST_S:
        raise ValueError(f"{value!r} is not a number of seconds above 0 and up to {LONGEST_S:.0f}")
    return read


def timeout(value: str) -> float:
    """Read a number of seconds that PostgreSQL keeps in milliseconds, of which 0 would be no time-out at all."""
    read = duration(value)
    if read < 0.001:
        raise ValueError(f"{value!r} is less than a millisecond")
    if read > LONGEST_TIMEOUT_S:
        raise ValueError(f"{value!r} is more than the {LONGEST_TIMEOUT_S} seconds that a time-out may take")
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
        if not _is_url(value, schemes):
            raise ValueError(f"{value!r} is not a URL of {' or '.join(s + '://' for s in schemes)}")
        return value.rstrip("/")

    return parse


def _is_url(value: str, schemes: Collection[str]) -> bool:
    try:
        parts = urlsplit(value)
        place = parts.path if parts.scheme == "unix" else parts.hostname
        return parts.scheme in schemes and bool(place) and parts.port != 0 and value.isprintable() and " " not in value
    except ValueError:
        return False


def host(value: str) -> str:
    """Read a host, with a port if need be."""
    if not _is_url(f"x://{value}", ["x"]) or any(character in value for character in "/@?#"):
        raise ValueError(f"{value!r} is not a host such as db.example or db.example:5432")
    return value


def optional_url(*schemes: str) -> Callable[[str], str | None]:
    """Return what reads a URL of one of these schemes, None when it is empty."""
    return lambda value: url(*schemes)(value) if value else None


def broker(value: str) -> str:
    """Read where the broker is; a Unix socket has a short path."""
    read = url("pulsar", "pulsar+ssl", "unix")(value)
    if read.startswith("unix://") and len(read.removeprefix("unix://").encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(f"{read} is longer than the {LONGEST_SOCKET_PATH} bytes that a Unix socket's path may have")
    return read


def database(value: str) -> str:
    """Read the URL of a database, with the driver that is installed."""
    scheme, colon, rest = value.partition("://")
    if scheme == "sqlite" and rest.removeprefix("/"):
        return value
    if scheme not in ("postgresql", "postgresql+psycopg") or not _is_url(value, [scheme]):
        raise ValueError("is not a URL of postgresql:// or sqlite:///")
    return f"postgresql+psycopg{colon}{rest}"


def smtp(value: str) -> str | None:
    """Read the URL of a mail server, None when it is empty."""
    return url("smtp", "smtps", "smtp+starttls")(value) if value else None


def namespace(value: str) -> str:
    """Read a name of letters, digits, - and _."""
    if not re.fullmatch("[0-9A-Za-z_-]+", value):
        raise ValueError(f"{value!r} may hold letters, digits, - and _ only")
    return value


def database_name(value: str) -> str:
    """Read how the names of databases and roles begin."""
    if len(value) > LONGEST_DATABASE_NAME:
        raise ValueError(f"{value!r} is longer than {LONGEST_DATABASE_NAME} characters")
    return namespace(value)


def choice(*known: str) -> Callable[[str], str]:
    """Return what reads one of these words."""

    def parse(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        return value

    return parse


def optional_choice(*known: str) -> Callable[[str], str | None]:
    """Return what reads one of these words, None when it is empty."""
    return lambda value: choice(*known)(value) if value else None


def optional_share(value: str) -> float | None:
    """Read a share, 0 to 1, None when it is empty."""
    with suppress(ValueError):
        if not value or 0 <= float(value) <= 1:
            return float(value) if value else None
    raise ValueError(f"{value!r} is not a number from 0 to 1")


def is_true(value: str) -> bool:
    """Read whether something is `true`, as OpenTelemetry does: anything else is not."""
    return value.strip().lower() == "true"


def origins(value: str) -> frozenset[str]:
    """Read origins as browsers write them (RFC 6454 §6.2), separated by commas; or `*`."""
    given = frozenset(part.strip() for part in value.split(",") if part.strip())
    for origin in given - {"*"}:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc or None}".lower():
            raise ValueError(f"{origin!r} is not an origin such as https://example.test:8443")
    return given


def domain(value: str) -> str:
    """Read a domain: labels with dots between them, in any script."""
    if not DOMAIN.fullmatch(value):
        raise ValueError(f"{value!r} is not a domain such as example.test")
    return value


def domains(value: str) -> frozenset[str]:
    """Read domains, separated by commas."""
    return frozenset(domain(part.strip().lower()) for part in value.split(",") if part.strip())


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


def hmac_secret(variable: str) -> Callable[[str], bytes | None]:
    """Return what reads the secret of HS256, None when it is empty.

    It raises SettingError, naming the variable without a word of the secret, below 256 bits.
    """

    def parse(value: str) -> bytes | None:
        size = len(value.encode())
        if 0 < size < KEY_BYTES:
            problem = f"holds {size} bytes, RFC 7518 §3.2 asks for {KEY_BYTES} (openssl rand -base64 32)"
            raise SettingError(variable, problem)
        return value.encode() or None

    return parse


def jwks_url(value: str) -> str | None:
    """Read where public keys are fetched: over HTTPS, or from this machine."""
    if not value:
        return None
    parts = urlsplit(url("http", "https")(value))
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{value!r}: keys that came over plain HTTP would be anybody's")
    return value


def file(value: str) -> Path | None:
    """Read the path of a file that can be read, None when it is empty."""
    if not value:
        return None
    read = path(value)
    if not os.access(read, os.R_OK) or not read.is_file():
        raise ValueError(f"{read} is no file that can be read")
    return read


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
    try:
        return Path(value).expanduser().resolve()
    except (RuntimeError, OSError) as error:  # nobody's ~, a link to itself
        raise ValueError(f"{value!r}: {error}") from None


def folder(value: str) -> Path:
    """Read the path of a folder that is there, or can be."""
    read = path(value)
    if any(part.exists() and not part.is_dir() for part in (read, *read.parents)):
        raise ValueError(f"{read} is no folder")
    return read
