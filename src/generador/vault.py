"""Make passwords and tokens, and seal them. Pure, but for the system's randomness."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from pulsaga import seal, unseal, unseal_by_any

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"
"""56 characters without the look-alikes 0 O o 1 I l."""
UNEVEN = bytes(range(256 // len(ALPHABET) * len(ALPHABET), 256))
"""Random bytes that are drawn again: with them the first characters would come more often."""
FOLDED = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
"""The character that each random byte stands for."""
LENGTH = 25
"""25 characters of 56 carry 145 bits; 128 are promised."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Hold a secret under a key of its own, and that key under the vault's: destroying the key destroys the secret."""

    key: bytes
    secret: bytes


def new_password() -> str:
    """Draw a password, every character of the alphabet as likely as any other."""
    drawn = b""
    while len(drawn) < LENGTH:
        drawn += secrets.token_bytes(2 * LENGTH).translate(FOLDED, UNEVEN)
    return drawn[:LENGTH].decode()


def new_token() -> str:
    """Draw the 256 random bits of a link, in base64url."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Return the verifier of a token; SHA-256 suffices for 256 random bits (NIST SP 800-63B, look-up secrets)."""
    return hashlib.sha256(token.encode()).digest()


def verifier_of(password: str) -> bytes:
    """Return by what a password is known again; SHA-256 suffices for what is drawn with 145 random bits."""
    return hashlib.sha256(password.encode()).digest()


def seal_password(password: str, vault_key: bytes, username: str) -> Sealed:
    """Seal a password as the vault keeps it."""
    key = secrets.token_bytes(32)
    return Sealed(seal(key, vault_key, username), seal(password.encode(), key, username))


def open_password(sealed: Sealed, vault_keys: Sequence[bytes], username: str) -> str:
    """Read a sealed password."""
    return unseal(sealed.secret, unseal_by_any(sealed.key, vault_keys, username), username).decode()
