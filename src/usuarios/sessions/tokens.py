"""Sign and read the tokens of sessions: JWT (RFC 7519) under one secret, by the rules of RFC 8725."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

import jwt

from pulsaga.web import Refused, signed_claims

ALGORITHM = "HS256"
AUDIENCE = "user"
ISSUER = "session-server"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""RFC 9562 §4, in small letters."""


class Session(NamedTuple):
    """What a token tells of a session; times are Unix seconds."""

    jti: str
    user_id: str
    issued_at: int
    expires_at: int


def sign(session: Session, secret: bytes) -> str:
    """Return the token of a session."""
    claims = {
        "aud": AUDIENCE,
        "iss": ISSUER,
        "sub": session.user_id,
        "jti": session.jti,
        "iat": session.issued_at,
        "nbf": session.issued_at,
        "exp": session.expires_at,
    }
    return jwt.encode(claims, secret, ALGORITHM)


def read(token: str, secret: bytes) -> Session:
    """Return the session that a token tells of; raise Refused for one that is forged, over or not ours."""
    claims = signed_claims(token, secret, AUDIENCE, ISSUER)
    jti, user_id, times = claims.get("jti"), claims["sub"], [claims.get(name) for name in ("iat", "nbf", "exp")]
    if not (isinstance(jti, str) and UUID.fullmatch(jti) and UUID.fullmatch(user_id)):
        raise Refused("no-session")
    issued_at, not_before, expires_at = (each if type(each) is int else -1 for each in times)
    if claims["aud"] != AUDIENCE or min(issued_at, not_before) < 0:
        raise Refused("malformed")
    if expires_at <= time.time():  # to the second: who issues and who reads is one and the same
        raise Refused("expired")
    return Session(jti, user_id, issued_at, expires_at)
