"""Tokens that let their bearers send a signal: each follows from the key and from the command that brings it.

So a command that is sent again brings the same token, and nobody has to keep one. Only its SHA-256 is ever stored or
told; it suffices for 256 bits that nobody can guess (NIST SP 800-63B, look-up secrets).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

TOKEN_KEY = "TOKEN_KEY"
FIELD = "sealed_token"
"""Of a command that brings a token: what it is in, sealed under TOKEN_KEY for the saga (`unseal_text`)."""
BORNE = "bearer:"
"""Before the digest of a token, it names who sent a signal: the message's actor."""


def token_of(key: bytes, command_id: str) -> str:
    """Return the token that a command brings, 256 bits in base64url."""
    own = hmac.digest(key, b"token of a signal", "sha256")  # the key itself seals
    return base64.urlsafe_b64encode(hmac.digest(own, command_id.encode(), "sha256")).rstrip(b"=").decode()


def digest_of(token: str) -> str:
    """Return by what a token is known again, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_borne(actor: str | None, keys: Iterable[bytes], command_ids: Iterable[str]) -> bool:
    """Tell whether who sent a signal bears the token of one of these commands."""
    ids = list(command_ids)
    borne = {f"{BORNE}{digest_of(token_of(key, command_id))}" for key in keys for command_id in ids}
    return actor in borne
