"""Seal bytes for whoever holds a key: AES-256-GCM (NIST SP 800-38D), bound to an owner, nonce of 12 bytes first."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


def seal(plain: bytes, key: bytes, owner: str) -> bytes:
    """Encrypt under a 32-byte key, bound to its owner; the nonce stands before the ciphertext."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, owner.encode())


def unseal(sealed: bytes, key: bytes, owner: str) -> bytes:
    """Decrypt what `seal` made; raise InvalidTag for another key or owner."""
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())


def unseal_by_any(sealed: bytes, keys: Iterable[bytes], owner: str) -> bytes:
    """Decrypt by whichever key fits; raise InvalidTag when none does."""
    for key in keys:
        try:
            return unseal(sealed, key, owner)
        except InvalidTag:
            continue
    raise InvalidTag


def seal_text(text: str, key: bytes, owner: str) -> str:
    """Encrypt text, as a message or a row carries it: in base64."""
    return base64.b64encode(seal(text.encode(), key, owner)).decode()


def unseal_text(sealed: str, keys: Iterable[bytes], owner: str) -> str:
    """Decrypt what `seal_text` made, by whichever key fits; raise InvalidTag when none does."""
    return unseal_by_any(base64.b64decode(sealed), keys, owner).decode()
