"""Let in who may use a route, on Flask: within the limits, known by token or key, in a role that the table names."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from math import ceil

import structlog
from flask import Flask, Response, current_app, g, has_request_context, request
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Counted

from pulsaga.settings import Settings
from pulsaga.web import conventions
from pulsaga.web.access.callers import NOBODY, Caller, is_scope
from pulsaga.web.access.limits import Buckets, Rate, Taken
from pulsaga.web.access.rights import PUBLIC, SERVICE, right_to
from pulsaga.web.access.tokens import Known, Refused, Verifier, authentication, check_service_token
from pulsaga.web.formats import Problem

log = structlog.get_logger()

KEPT_S = 5.0
"""Seconds for which a bearer that was verified is believed without another look: so long a revoked key still opens."""
KEPT = 10_000
LINES = Rate(interval_s=1.0, burst=10)
"""Lines of the log about bearers refused for one reason: strangers must not fill it."""
KEY_PREFIX = "ptk_"
NETWORK_BITS = 64
"""Of an IPv6 address: whoever has one address has the network."""
FORWARDED_CHARACTERS = 1024
"""Read of X-Forwarded-For, from its end: what proxies of ours wrote stands there, the rest is anybody's."""
PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]+|\[(?P<v6>[^]]+)\](?::[0-9]+)?")
"""How some proxies write an address: with its port, an IPv6 address in brackets."""
UNLIMITED = frozenset({"/livez", "/readyz", "/health"})
CHALLENGE = 'Bearer realm="protools"'

Networks = frozenset[IPv4Network | IPv6Network]
FindKey = Callable[[str], Caller]
"""Look a machine's key up; raise Refused for one that opens nothing."""


class Refusals:
    """Count the bearers that were refused, by reason, and log why: never a bearer, nor what it could be made from."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counted = Counted("protools_refused_bearers", "Tokens and keys refused.", ["reason"], registry=registry)
        self._lines, self._left_out = Buckets(LINES), Counter[str]()

    def note(self, refused: Refused) -> None:
        """Count one; log it, while there is room for its reason, with how many were left out since."""
        reason = refused.reason
        self._counted.labels(reason).inc()
        if self._lines.take(reason, time.monotonic()).wait_s:
            self._left_out[reason] += 1
            return
        left_out = {"left_out": count} if (count := self._left_out.pop(reason, 0)) else {}
        said = {"said": refused.said} if refused.said else {}
        log.warning("bearer refused", reason=reason, **said, **_whose(), **left_out)


def _whose() -> dict[str, str]:
    """Name the request in hand as its answer will name it."""
    if not has_request_context():
        return {}
    g.request_id = conventions.request_id(request.headers.get(conventions.REQUEST_ID, ""))
    return {"address": g.address, "route": str(request.url_rule), "request_id": g.request_id}


class Gatekeeper:
    """Hold what one web process knows of who may come in. `admit` runs before a request's body is read."""

    def __init__(
        self, service: str, settings: Settings, find_key: FindKey | None = None, others: Sequence[Verifier] = ()
    ) -> None:
        self._service, self._settings, self._find_key = service, settings, find_key
        self._tokens = authentication(settings, others)
        self._known: dict[bytes, Known] = {}
        rate = settings.rate_limit
        self._addresses = Buckets(rate) if rate else None
        self._callers = Buckets(rate) if rate else None
        if settings.auth == "none":
            log.warning("AUTH=none: nobody is asked who they are")

    def guard(self, app: Flask) -> None:
        """Stand before every route of an app."""
        self._refusals = Refusals(app.extensions["registry"])
        app.before_request(self.admit)
        app.after_request(_tell_limits)

    def admit(self) -> None:
        """Find out who asks (`http.caller`); raise the Problem 429, 401 or 403. Unknown addresses are left to Flask."""
        if request.path in UNLIMITED:
            return
        g.address = address_of(self._settings.trusted_proxies)
        view = current_app.view_functions.get(request.endpoint or "")
        right = right_to(view, request.method) if request.url_rule else PUBLIC
        if right == SERVICE:
            self._require_service(f"{self._service} {request.method} {request.path}")
            return
        self._limit("address", self._addresses, g.address)
        if isinstance(right, frozenset):
            self._require_caller(right)

    def _require_caller(self, right: frozenset[str]) -> None:
        token = self._bearer()
        g.caller = caller = self._identify(token) if token else NOBODY
        g.recheck = partial(self._recheck, token)
        self._limit("caller", self._callers, caller.subject)
        if not caller.has(right):
            raise _forbidden(caller, right)

    def _bearer(self) -> str:
        """Return the token of who asks; nothing where nobody is asked, and nobody says so whom another issuer knows."""
        if self._settings.auth != "none":
            return bearer()
        given = request.headers.get("Authorization", "").partition(" ")[2]
        return given if self._tokens.is_of_another(given) else ""

    def _identify(self, token: str) -> Caller:
        digest, now = hashlib.sha256(token.encode()).digest(), time.monotonic()
        known = self._known.get(digest)
        if known is None or known.until <= now:
            known = self._verified(token)
            kept_s = min(KEPT_S, known.until - time.time())  # by a clock that nobody sets back
            self._remember(digest, known._replace(until=now + kept_s))
        return known.caller

    def _recheck(self, token: str) -> None:
        """Raise the Problem 401 when a token that was good is good no longer; not while that cannot be asked."""
        try:
            if token:
                self._identify(token)
        except Problem:
            raise
        except Exception as down:
            log.warning("cannot look who asks", error=str(down).partition("\n")[0])

    def _verified(self, token: str) -> Known:
        try:
            if token.startswith(KEY_PREFIX):
                return Known(self._holder(token), float("inf"))
            return self._tokens.verify(token)
        except Refused as refused:
            raise self._refusal(refused) from None

    def _refusal(self, no: Refused | Problem) -> Problem:
        if isinstance(no, Problem):
            return no
        self._refusals.note(no)
        return _not_accepted()

    def _holder(self, key: str) -> Caller:
        if self._find_key is None:
            raise Refused("no-keys-here")
        return self._find_key(key)

    def _remember(self, digest: bytes, known: Known) -> None:
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[digest] = known

    def _require_service(self, route: str) -> None:
        """Let a service through, unlimited: it asks for everybody, each of whom is limited where it is known."""
        try:
            check_service_token(self._settings.key("INTERNAL_TOKEN"), bearer(), route)
        except (Refused, Problem) as no:
            self._limit("address", self._addresses, g.address)
            raise self._refusal(no) from None

    def _limit(self, name: str, buckets: Buckets | None, who: str) -> None:
        if buckets is None:
            return
        taken = buckets.take(who, time.monotonic())
        if taken.wait_s:
            headers = limit_headers(name, buckets, taken) | {"Retry-After": str(ceil(taken.wait_s))}
            raise Problem(429, "too-many-requests", f"too many requests from one {name}", headers=headers)
        if taken.left < buckets.rate.burst // 2:
            g.limits = limit_headers(name, buckets, taken)


def _forbidden(caller: Caller, right: frozenset[str]) -> Problem:
    """Make the Problem 403, which names the scopes of which one would do (RFC 6750 §3.1)."""
    scopes = " ".join(sorted(filter(is_scope, right)))
    challenge = f'{CHALLENGE}, error="insufficient_scope"' + (f', scope="{scopes}"' if scopes else "")
    needed = f"; a token for {scopes} is needed" if scopes else ""
    detail = f"this is not for the role {caller.role}{needed}"
    return Problem(403, "forbidden", detail, headers={"WWW-Authenticate": challenge})


def bearer() -> str:
    """Return the token of the Authorization header (RFC 6750 §2.1); raise the Problem 401 where there is none."""
    given = request.headers.get("Authorization")
    if given is None:
        headers = {"WWW-Authenticate": CHALLENGE}
        raise Problem(401, "unauthorized", "say who you are: Authorization: Bearer <token>", headers=headers)
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _not_accepted()
    return token


def _not_accepted() -> Problem:
    headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
    if has_request_context() and "request_id" in g:
        headers[conventions.REQUEST_ID] = g.request_id
    return Problem(401, "unauthorized", "this token is not accepted here", headers=headers)


# --- limits


def limit_headers(name: str, buckets: Buckets, taken: Taken) -> dict[str, str]:
    """Write what is left of a limit (draft-ietf-httpapi-ratelimit-headers-10)."""
    burst, window_s = buckets.rate.burst, ceil(buckets.rate.burst * buckets.rate.interval_s)
    left = f'"{name}";r={taken.left};t={ceil(taken.full_s)}'
    return {"RateLimit-Policy": f'"{name}";q={burst};w={window_s}', "RateLimit": left}


def _tell_limits(response: Response) -> Response:
    """Tell who has used half of what is allowed at once how much is left."""
    for name, value in g.get("limits", {}).items():
        response.headers.setdefault(name, value)
    return response


def address_of(trusted: Networks) -> str:
    """Name where a request comes from; behind a trusted proxy, what that one says (the last address not trusted)."""
    forwarded = request.headers.get("X-Forwarded-For", "")[-FORWARDED_CHARACTERS:] if trusted else ""
    return _address(request.remote_addr or "", forwarded, trusted)


@lru_cache(4096)
def _address(peer: str, forwarded: str, trusted: Networks) -> str:
    hops = [*(_without_port(part.strip()) for part in forwarded.split(",") if part.strip()), peer]
    while len(hops) > 1 and _is_trusted(hops[-1], trusted):
        hops.pop()
    return _network(hops[-1])


def _without_port(hop: str) -> str:
    match = PORT.fullmatch(hop)
    return (match["v4"] or match["v6"]) if match else hop


def _is_trusted(hop: str, trusted: Networks) -> bool:
    try:
        return any(ip_address(hop) in network for network in trusted)
    except ValueError:
        return False


def _network(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return "unknown"
    mapped = getattr(address, "ipv4_mapped", None)
    if address.version == 4 or mapped:
        return str(mapped or address)
    return str(IPv6Network((address, NETWORK_BITS), strict=False))
