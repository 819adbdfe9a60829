"""Verify and issue bearer tokens: JWT (RFC 7519) by the rules of RFC 8725, and the ones by which services ask services.

The key decides which algorithm is good, never the token; what a token says of keys (jku, jwk, x5u, x5c) is not read.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jwt

from pulsaga.errors import ProtoolsError, SettingError, Unavailable
from pulsaga.settings import Settings
from pulsaga.text import printable
from pulsaga.values import is_loopback
from pulsaga.web.access import jwks
from pulsaga.web.access.callers import Caller, Role, caller_of, is_scope

SEGMENT = "(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?"
"""Base64url as RFC 7515 §2 writes it: without padding, and with no bit that nobody reads (RFC 4648 §3.5)."""
SPELLING = re.compile(rf"{SEGMENT}\.{SEGMENT}\.{SEGMENT}")
LONGEST = 4096
"""Characters of the longest token that is looked at."""
LEEWAY_S = 5.0
"""Seconds by which the clock of who issues tokens may differ from ours."""
SECRET_BYTES = 32
"""RFC 7518 §3.2: a key of HS256 has at least the size of its hash."""
INTERNAL_S = 60
"""Seconds for which a service's token to another service is good."""
SOURCES = ("JWT_SECRET", "JWKS_URL", "JWKS_FILE")
NEEDED = ["exp", "sub", "aud", "iss"]

REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not-yet-valid",
    jwt.InvalidAudienceError: "wrong-audience",
    jwt.InvalidIssuerError: "wrong-issuer",
    jwt.InvalidSignatureError: "bad-signature",
    jwt.InvalidAlgorithmError: "wrong-algorithm",
    jwt.MissingRequiredClaimError: "missing-claim",
}
"""What is said, in the log, of a token that PyJWT refuses; of anything else that it is malformed."""
TOLD_CHARACTERS = 64

KeyOf = Callable[[str], jwt.PyJWK | None]


class Known(NamedTuple):
    """Hold whom a token proves, and until when (Unix seconds)."""

    caller: Caller
    until: float


class Refused(ProtoolsError):
    """Raised for a bearer that proves nobody; for the log: callers hear the same whatever the reason is.

    `said` is what it says of its issuer, audience or key, made printable.
    """

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.reason, self.said = reason, printable(said, TOLD_CHARACTERS)


Claims = dict[str, Any]


@dataclass(frozen=True)
class Verifier:
    """What verifies the tokens of one issuer."""

    issuer: str
    audience: str
    key_of: KeyOf
    caller: Callable[[Claims], Caller]
    """Claims whose signature is right → whom they name; raises Refused, or ValueError for what names nobody."""

    def verify(self, token: str) -> Known:
        """Return whom a token proves; whatever is wrong with one raises."""
        claims = self._claims(token)
        try:
            return Known(self.caller(claims), float(claims["exp"]))
        except ValueError:
            raise Refused("no-subject-or-role") from None

    def _claims(self, token: str) -> Claims:
        identifier = jwt.get_unverified_header(token).get("kid", "")
        key = self.key_of(identifier)
        if key is None:
            raise Refused("unknown-key", identifier)
        return _decoded(token, key, key.algorithm_name, self.audience, self.issuer)


class Tokens:
    """What verifies the tokens of callers: each by the rules of who issued it, which is what its `iss` says."""

    def __init__(self, first: Verifier | None, others: Sequence[Verifier] = ()) -> None:
        self._first = first
        self._others = {verifier.issuer: verifier for verifier in others}

    def verify(self, token: str) -> Known:
        """Return whom a token proves; raise Refused for one that proves nobody, whatever is wrong with it.

        Raise Unavailable while the keys to verify it with cannot be read.
        """
        with _refusing(token):
            spelled = _spelled(token)
            verifier = self._other(spelled) or self._first
            if verifier is None:
                raise Refused("wrong-issuer")
            return verifier.verify(spelled)

    def is_of_another(self, token: str) -> bool:
        """Tell whether a token says that another issuer issued it than the settings'."""
        try:
            return self._other(_spelled(token)) is not None
        except Exception:  # whatever a stranger's text makes the parsers raise
            return False

    def _other(self, token: str) -> Verifier | None:
        if not self._others:
            return None
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        return self._others.get(issuer) if isinstance(issuer, str) else None


def _spelled(token: str) -> str:
    """Return a token that is written in the one way there is."""
    if len(token) > LONGEST or not SPELLING.fullmatch(token):
        raise Refused("malformed")
    return token


def _named(reserved: Collection[str], claims: Claims) -> Caller:
    """Return whom a token of the settings' issuer names; it names nobody whom another issuer vouches for."""
    caller = caller_of(claims["sub"], claims.get("role"), claims.get("scope"))
    if any(caller.at(issuer) is not None for issuer in reserved):
        raise ValueError("another issuer's subject")
    return caller


@contextmanager
def _refusing(token: str) -> Iterator[None]:
    """Refuse a token that makes anything raise: it is a stranger's text."""
    try:
        yield
    except (Refused, Unavailable):
        raise
    except Exception as error:
        reason = next((said for kind, said in REASONS.items() if isinstance(error, kind)), "malformed")
        raise Refused(reason, _claimed(token, reason)) from None


def _claimed(token: str, reason: str) -> str:
    """Return the audience or issuer that is wrong, of a token whose signature is right."""
    name = {"wrong-audience": "aud", "wrong-issuer": "iss"}.get(reason)
    return str(jwt.decode(token, options={"verify_signature": False}).get(name)) if name else ""


def _decoded(token: str, key: jwt.PyJWK | bytes, algorithm: str, audience: str, issuer: str | None = None) -> Claims:
    return jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        audience=audience,
        issuer=issuer,
        leeway=LEEWAY_S,
        options={"require": NEEDED, "enforce_minimum_key_length": True},
    )


def _key_source(settings: Settings) -> KeyOf:
    if settings.jwt_secret:
        secret = _secret_key(settings.jwt_secret)
        return lambda _identifier: secret
    if settings.jwks_file:
        return _file_keys(settings).find
    assert settings.jwks_url
    return jwks.KeySet(jwks.from_url(settings.jwks_url)).find


def _file_keys(settings: Settings) -> jwks.KeySet:
    assert settings.jwks_file
    fetch = jwks.from_file(settings.jwks_file)
    try:
        found = jwks.keys_of(fetch())
    except Exception as error:  # whatever the text of a file makes the parsers raise
        raise SettingError("JWKS_FILE", f"{type(error).__name__}: {error}") from None
    if not found:
        raise SettingError("JWKS_FILE", f"{settings.jwks_file} holds no key with an id for RS256, ES256 or EdDSA")
    return jwks.KeySet(fetch)


def _secret_key(secret: bytes) -> jwt.PyJWK:
    encoded = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    return jwt.PyJWK({"kty": "oct", "k": encoded, "alg": "HS256"})


def authentication(settings: Settings, others: Sequence[Verifier] = ()) -> Tokens:
    """Return what verifies callers; where AUTH=none was said, on loopback, only what other issuers issued.

    Raise SettingError unless it is clear who may come in: one source of keys, or none and the word.
    """
    keys = (settings.jwt_secret, settings.jwks_url, settings.jwks_file)
    given = [name for name, value in zip(SOURCES, keys, strict=True) if value]
    if settings.auth == "none":
        _check_none(settings, given)
        return Tokens(None, others)
    if len(given) != 1:
        said = f"{' and '.join(given)} are set" if given else "nobody would be asked who they are"
        raise SettingError("AUTH", f"{said}: set one of {', '.join(SOURCES)}, or say AUTH=none on loopback")
    named = partial(_named, [other.issuer for other in others])
    return Tokens(Verifier(settings.jwt_issuer, settings.jwt_audience, _key_source(settings), named), others)


def _check_none(settings: Settings, given: list[str]) -> None:
    if given:
        raise SettingError("AUTH", f"none is said, and {given[0]} is set: take one of them away")
    for variable, host in (("BIND_HOST", settings.bind), ("OPERATORS_HOST", settings.operators_host)):
        if not is_loopback(host):
            raise SettingError("AUTH", f"none is for loopback only, and {variable} is {host}")


def issue(settings: Settings, subject: str, role: Role, lifetime_s: float, scopes: Collection[str] = ()) -> str:
    """Issue a token under JWT_SECRET; raise SettingError without it, ValueError for what is no subject or no scope."""
    if not settings.jwt_secret:
        raise SettingError("JWT_SECRET", "is needed to issue tokens; with a JWKS they come from who holds its keys")
    caller, now = caller_of(subject, role), int(time.time())
    claims = {"sub": caller.subject, "role": caller.role, "iat": now, "nbf": now, "exp": now + int(lifetime_s)}
    if wrong := [scope for scope in scopes if not is_scope(scope) or " " in scope]:
        raise ValueError(f"{wrong[0]!r} is no scope: one has a colon, as orders:write, and no space")
    about = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience} | ({"scope": " ".join(scopes)} if scopes else {})
    return jwt.encode(claims | about, settings.jwt_secret, "HS256")


def signed_claims(token: str, secret: bytes, audience: str, issuer: str) -> dict[str, Any]:
    """Return the claims of a token that was signed under a secret with HS256, whatever its header says.

    It has the audience, the issuer, a subject and an end; its times are looked at with LEEWAY_S. Raise Refused for any
    other, whatever is wrong with it.
    """
    with _refusing(token):
        return _decoded(_spelled(token), secret, "HS256", audience, issuer)


# --- between services


def service_token(key: bytes, asking: str, route: str) -> str:
    """Issue what lets one service use one route of another, `SERVICE METHOD /path`, for INTERNAL_S seconds."""
    claims = {"sub": asking, "iss": asking, "aud": route, "exp": int(time.time()) + INTERNAL_S}
    return jwt.encode(claims, key, "HS256")


def check_service_token(key: bytes, token: str, route: str) -> None:
    """Raise Refused unless a token lets its bearer use this route of ours."""
    with _refusing(token):
        _decoded(_spelled(token), key, "HS256", route)
