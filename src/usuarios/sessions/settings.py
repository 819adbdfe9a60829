"""The settings of sessions, and the names that some of them also have where their process is started by itself."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from pulsaga import SettingError, Settings, setting, values
from usuarios.sessions.durations import lifetime

PORT, SECRET, LIFETIME = "SESSIONS_PORT", "SESSIONS_JWT_SECRET", "SESSIONS_JWT_EXPIRATION"


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What sessions are told; times are in seconds."""

    lifetime: float = setting(LIFETIME, lifetime, "24h")
    """For which a token is good; in the syntax of Go."""
    tls_cert: Path | None = setting("SESSIONS_TLS_CERT", values.file)
    """The server's certificate, those of its issuers behind it."""
    tls_key: Path | None = setting("SESSIONS_TLS_KEY", values.file)
    tls_client_ca: Path | None = setting("SESSIONS_TLS_CLIENT_CA", values.file)
    """Whose certificates clients must show; they count as the credential of a service."""
    reflection: bool = setting("SESSIONS_REFLECTION", values.allowed)
    """`allow`: the server tells what it offers."""


def port_of(settings: Settings, declared: int, *, alone: bool) -> int:
    """Return the port to listen on: SESSIONS_PORT, else PORT of a process that was started by itself."""
    other = settings.given("PORT", values.port) if _has_other_name(settings, PORT, alone) else None
    return other or declared


def secret_of(settings: Settings, *, alone: bool) -> bytes:
    """Return what tokens are signed under: SESSIONS_JWT_SECRET, else JWT_SECRET of a process started by itself.

    Embedded mode makes a missing one; elsewhere raise SettingError.
    """
    other = settings.jwt_secret if _has_other_name(settings, SECRET, alone) else None
    return other or settings.secret(SECRET)


def lifetime_of(settings: Settings, *, alone: bool) -> float:
    """Return for how many seconds a token is good: SESSIONS_JWT_EXPIRATION, else JWT_EXPIRATION, as above."""
    other = settings.given("JWT_EXPIRATION", lifetime) if _has_other_name(settings, LIFETIME, alone) else None
    return other or settings.of(SessionSettings).lifetime


def _has_other_name(settings: Settings, variable: str, alone: bool) -> bool:
    return alone and not settings.environment.get(variable)


def check_tls(settings: Settings) -> None:
    """Raise SettingError for a part of TLS without the others, or one that cannot be used."""
    given = settings.of(SessionSettings)
    if (given.tls_key or given.tls_client_ca) and not given.tls_cert:
        raise SettingError("SESSIONS_TLS_CERT", "is missing: SESSIONS_TLS_KEY or SESSIONS_TLS_CLIENT_CA is set")
    if given.tls_cert and not given.tls_key:
        raise SettingError("SESSIONS_TLS_KEY", "is missing: SESSIONS_TLS_CERT is set")
    if given.tls_cert and given.tls_key:
        _check_certificate(given.tls_cert, given.tls_key)
    if given.tls_client_ca:
        _check_issuers(given.tls_client_ca)


def _check_certificate(cert: Path, key: Path) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, "")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise SettingError("SESSIONS_TLS_CERT", f"{cert} with {key}: {error}") from None


def _check_issuers(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ValueError) as error:
        raise SettingError("SESSIONS_TLS_CLIENT_CA", f"{file}: {error}") from None


def check_place(settings: Settings) -> None:
    """Raise SettingError where tokens would go over a network in the clear."""
    if not settings.on_loopback and not settings.of(SessionSettings).tls_cert:
        said = f"is missing: without TLS sessions are for loopback only, and BIND_HOST is {settings.bind}"
        raise SettingError("SESSIONS_TLS_CERT", said)
