"""Keep the public keys of whoever issues tokens (RFC 7517), by their ids; read them again when an id is unknown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
import urllib3
from jwt import PyJWK, PyJWKSet, PyJWTError

from seedwork.errors import Unavailable

log = structlog.get_logger()

ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
"""What a public key may be for; each key is good for the one algorithm that it says, or that its type implies."""
PAUSE_S = 10.0
"""Seconds between two readings, whatever ids strangers think of."""
KEPT_S = 300.0
"""Seconds after which the set is read again though nobody asks for an unknown key: a key may have been withdrawn."""
TIMEOUT_S = 3.0
LIMIT_BYTES = 256 * 1024


class KeySet:
    """Hold the keys that `fetch` reads. Thread-safe; while they cannot be read anew, the old ones stay good."""

    def __init__(self, fetch: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: dict[str, PyJWK] = {}
        self._tried_at = float("-inf")
        self._lock = threading.Lock()

    def find(self, identifier: str) -> PyJWK | None:
        """Return the key of this id, or None; raise Unavailable while no key was ever read."""
        if self._is_due(identifier) and self._lock.acquire(blocking=not self._keys):
            try:
                self._read_if_due(identifier)
            finally:
                self._lock.release()
        if not self._keys:
            raise Unavailable("the keys of who issues tokens cannot be read")
        return self._keys.get(identifier)

    def _is_due(self, identifier: str) -> bool:
        return self._clock() - self._tried_at > (KEPT_S if identifier in self._keys else PAUSE_S)

    def _read_if_due(self, identifier: str) -> None:
        if not self._is_due(identifier):
            return  # another thread has just read them
        try:
            self._keys = keys_of(self._fetch()) or self._keys
        except (OSError, ValueError, PyJWTError, urllib3.exceptions.HTTPError) as error:
            log.warning("the keys of who issues tokens were not read", error=str(error))
        self._tried_at = self._clock()


def keys_of(document: bytes) -> dict[str, PyJWK]:
    """Read a JWK Set; leave out what has no id, is not for signatures, or is for an algorithm that is not ours."""
    keys = PyJWKSet.from_json(document.decode()).keys
    return {key.key_id: key for key in keys if key.key_id and _is_for_signatures(key)}


def _is_for_signatures(key: PyJWK) -> bool:
    return key.public_key_use in (None, "sig") and key.algorithm_name in ALGORITHMS


def from_file(path: Path) -> Callable[[], bytes]:
    """Return what reads a file."""
    return path.read_bytes


def from_url(url: str) -> Callable[[], bytes]:
    """Return what fetches a URL: one try, no redirects, a bounded answer."""
    pool = urllib3.PoolManager(timeout=TIMEOUT_S, retries=False)

    def fetch() -> bytes:
        answer = pool.request("GET", url, redirect=False, preload_content=False)
        try:
            document: bytes = answer.read(LIMIT_BYTES)
        finally:
            answer.release_conn()
        if answer.status != 200:
            raise ValueError(f"{url} answers {answer.status}")
        return document

    return fetch
