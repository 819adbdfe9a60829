"""Keep the public keys of whoever issues tokens (RFC 7517), by their ids; read them again when an id is unknown.

What is read is another's: it may hold anything, and parsing it may raise anything. A set that cannot be read leaves the
one before in force, for an hour; a key that cannot be read leaves itself out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import urllib3
from jwt import PyJWK

from pulsaga.errors import Unavailable
from pulsaga.text import DETAIL_CHARACTERS, printable

log = structlog.get_logger()

ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
"""What a public key may be for; each key is good for the one algorithm that it says, or that its type implies."""
PAUSE_S = 10.0
"""Seconds between two readings, whatever ids strangers think of."""
KEPT_S = 300.0
"""Seconds after which the set is read again though nobody asks for an unknown key: a key may have been withdrawn."""
GOOD_S = 3600.0
"""Seconds for which a set is good that cannot be read anew: who keeps us from reading it must not keep a key in force
that was withdrawn; and an issuer that is down so long issues no tokens, while those of before have mostly ended."""
TIMEOUT_S = 3.0
LIMIT_BYTES = 256 * 1024
CHUNK_BYTES = 16 * 1024


class KeySet:
    """Hold the keys that `fetch` reads, good for GOOD_S while they cannot be read anew. Thread-safe."""

    def __init__(self, fetch: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: dict[str, PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._lock = threading.Lock()

    def find(self, identifier: str) -> PyJWK | None:
        """Return the key of this id, or None; raise Unavailable when no set was read within GOOD_S."""
        if self._is_due(identifier) and self._lock.acquire(blocking=self._read_at < 0):
            try:
                self._read_if_due(identifier)
            finally:
                self._lock.release()
        if not self._is_good:
            raise Unavailable("the keys of who issues tokens cannot be read")
        return self._keys.get(identifier)

    @property
    def _is_good(self) -> bool:
        return self._clock() - self._read_at <= GOOD_S

    def _is_due(self, identifier: str) -> bool:
        is_known = self._is_good and identifier in self._keys
        return self._clock() - self._tried_at > (KEPT_S if is_known else PAUSE_S)

    def _read_if_due(self, identifier: str) -> None:
        if not self._is_due(identifier):
            return  # another thread has just read them
        try:
            self._keys, self._read_at = keys_of(self._fetch()), self._clock()
        except Exception as error:  # whatever another's answer makes the parsers raise
            said = printable(f"{type(error).__name__}: {error}", DETAIL_CHARACTERS)
            log.warning("the keys of who issues tokens were not read", error=said)
        self._tried_at = self._clock()


def keys_of(document: bytes) -> dict[str, PyJWK]:
    """Read a JWK Set, which may be empty; leave out what is no key for signatures by an algorithm of ours, with an id.

    Raise ValueError, or whatever parsing raises, for what is no JWK Set.
    """
    entries = json.loads(document)["keys"]
    if not isinstance(entries, list):
        raise ValueError("`keys` is no list")
    return {key.key_id: key for key in map(_key, entries) if key}  # type: ignore[misc] # its id is a text


def _key(entry: Any) -> PyJWK | None:
    """Read one key of a set; None for one that is for something else, or that cannot be read."""
    try:
        key = PyJWK(entry) if _is_for_signatures(entry) else None
    except Exception as error:  # its text may hold the key, whichever it is
        log.warning("a key of the set is left out", error=type(error).__name__)
        return None
    return key if key and key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str) and key.key_id else None


def _is_for_signatures(entry: Any) -> bool:
    return entry.get("use") in (None, "sig") and entry.get("alg") in (None, *ALGORITHMS)


def from_file(path: Path) -> Callable[[], bytes]:
    """Return what reads a file."""
    return path.read_bytes


def from_url(url: str) -> Callable[[], bytes]:
    """Return what fetches a URL: one try, no redirects, an answer of bounded size within a bounded time."""
    pool = urllib3.PoolManager(timeout=TIMEOUT_S, retries=False)

    def fetch() -> bytes:
        deadline = time.monotonic() + TIMEOUT_S
        answer = pool.request("GET", url, redirect=False, preload_content=False)
        try:
            if answer.status != 200:
                raise ValueError(f"it answers {answer.status}")
            return _whole(answer, deadline)
        finally:
            answer.close()

    return fetch


def _whole(answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """Read a body, a piece as it comes; raise ValueError for one that is too large or too slow."""
    document = b""
    while piece := answer.read1(CHUNK_BYTES):
        document += piece
        if len(document) > LIMIT_BYTES or time.monotonic() > deadline:
            raise ValueError(f"it sends more than {LIMIT_BYTES} bytes, or is not done after {TIMEOUT_S:.0f} s")
    return document
