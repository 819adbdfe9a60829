"""Look for a secret in everything that a system wrote, in every form that a careless line would give it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.system.harness import System

from system import SYSTEM

LOUD = """
import logging
logging.basicConfig(level=logging.DEBUG, force=True)
logging.getLogger("sqlalchemy").setLevel(logging.DEBUG)
"""
"""What Python runs before the program: every library logs all that it can."""


def forms_of(secret: str) -> set[bytes]:
    """Return a secret as it is, backwards, in hex and in base64, wherever in a longer text it may stand."""
    raw = secret.encode()
    return {raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode(), *_in_base64(raw)}


def _in_base64(raw: bytes) -> Iterator[bytes]:
    for before in range(3):
        padded = bytes(before) + raw
        whole = padded[: len(padded) // 3 * 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(whole)[4 if before else 0 :]


def places(system: System, topics: bytes) -> Mapping[str, bytes]:
    """Return all that a system said and stored, but for the mails: their links are there on purpose."""
    for service in (one.name for one in SYSTEM.all if system.children("run", one.name, "web")):
        for path in ("/metrics", "/health"):
            system.get(path, service)
    return {
        "an answer": b"\n".join(system.answers),
        "the log": system.log.read_bytes(),
        "a database": system.everything_stored(),
        "a topic": topics,
        "a file": b"\n".join(_every_file(system.home)),
    }


def _every_file(home: Path) -> Iterator[bytes]:
    """Yield the bytes of all files but the mails: what was deleted may still lie in a database's free pages."""
    return (path.read_bytes() for path in home.rglob("*") if path.is_file() and "mail" not in path.parts)


def leaks(where: Mapping[str, bytes], secrets: Iterable[str]) -> list[str]:
    """Name every place that holds one of the secrets in some form."""
    forms = {form for secret in secrets for form in forms_of(secret)}
    return [place for place, content in where.items() if any(form in content for form in forms)]
