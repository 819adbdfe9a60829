"""Issue the tokens by which users are known (RFC 7519), signed with Ed25519 (RFC 8037)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pulsaga import Settings
from usuarios.settings import UsuariosSettings

SIGNING_KEY = "SIGNING_KEY"
"""32 bytes: the private key itself (RFC 8032 §5.1.5)."""
ISSUER, AUDIENCE = "usuarios", "users"


def issue(settings: Settings, user_id: str, now: float) -> str:
    """Issue a token for a user; `iat` is in Unix seconds with their fraction, by the clock that ends sessions."""
    lifetime_s = settings.of(UsuariosSettings).user_token_ttl
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "iat": now, "nbf": int(now), "exp": int(now + lifetime_s)}
    key = Ed25519PrivateKey.from_private_bytes(settings.key(SIGNING_KEY))
    return jwt.encode(claims, key, "EdDSA", headers={"kid": _public(key)["kid"]})


def key_set(settings: Settings) -> dict[str, Any]:
    """Return the public keys (RFC 7517): of the key in force, and of the one before as long as it is given."""
    keys = map(Ed25519PrivateKey.from_private_bytes, settings.keys(SIGNING_KEY))
    return {"keys": [{**_public(key), "use": "sig", "alg": "EdDSA"} for key in keys]}


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    """Return a public key with its thumbprint as id (RFC 7638)."""
    shown = {"crv": "Ed25519", "kty": "OKP", "x": _base64(key.public_key().public_bytes_raw())}
    return {**shown, "kid": _base64(hashlib.sha256(orjson.dumps(shown)).digest())}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
