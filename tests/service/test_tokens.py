"""Attack the bearer tokens as RFC 8725 and OWASP's cheat sheet on JWT say that others will: every forgery is a 401."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import jwt
import pytest
import urllib3
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, eventually, room
from tests.service.web import serving

from pulsaga.errors import SettingError, Unavailable
from pulsaga.settings import Settings
from pulsaga.web.access import gatekeeper, jwks, keys, tokens
from pulsaga.web.access.tokens import LONGEST, Refused, authentication, issue
from pulsaga.web.front_door.tables import acceptance

SECRET = "correct horse battery staple, 32 bytes and more"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SIGNERS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
DAY_S = 24 * 3600
"""Longer than the suite runs: what is told here is told when it is collected."""
REFUSED = 'Bearer realm="protools", error="invalid_token"'


def claims(**changed: Any) -> dict[str, Any]:
    """Return claims that are good, but for what is changed; None leaves a claim out."""
    now = int(time.time())
    good = {"sub": "shop", "role": "caller", "aud": "protools", "iss": "protools", "nbf": now, "exp": now + 60}
    return {name: value for name, value in (good | changed).items() if value is not None}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def spelled(header: Any, body: Any, signature: bytes = b"") -> str:
    """Write a token of any parts."""
    return ".".join((b64(json.dumps(header).encode()), b64(json.dumps(body).encode()), b64(signature)))


def hmac_signed(header: dict[str, Any], key: bytes, digest: Any = hashlib.sha256) -> str:
    """Sign with HMAC whatever the header says."""
    unsigned = spelled(header, claims()).rpartition(".")[0]
    return f"{unsigned}.{b64(hmac.new(key, unsigned.encode(), digest).digest())}"


def public_pem(key: Any) -> bytes:
    """Write a public key as everybody may read it."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    written: bytes = key.public_key().public_bytes(encoding, form)
    return written


def public_jwk(algorithm: str, **more: str) -> dict[str, Any]:
    """Write a public key as a JWK Set holds it."""
    key = SIGNERS[algorithm].public_key()
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)  # type: ignore[call-overload]
    return {**made, "kid": algorithm, "use": "sig", **more}


KEY_SET = {"keys": [*map(public_jwk, SIGNERS), {"kty": "oct", "kid": "oct", "k": b64(SECRET.encode()), "alg": "HS256"}]}


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Room]:
    """A front door that believes JWT_SECRET."""
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET)
    yield made
    made.close()


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Room]:
    """A front door that believes the public keys of a file."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(KEY_SET))
    made = room("bff", tmp_path, AUTH="", JWKS_FILE=str(file))
    yield made
    made.close()


def asked(door: Room, token: str) -> Any:
    """Ask for a password with a token."""
    return door.http.post("/passwords", json={"username": "ada"}, headers={"Authorization": f"Bearer {token}"})


def test_a_good_token_is_believed(shared: Room) -> None:
    """Without this, a door that refuses everybody would pass every other test here."""
    assert asked(shared, issue(shared.runtime.settings, "shop", "caller", 60)).status_code == 202
    assert shared.rows(acceptance)[0]["actor"] == "shop"


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_token_of_each_kind_of_public_key_is_believed(public: Room, algorithm: str) -> None:
    """What identity providers issue."""
    token = jwt.encode(claims(), SIGNERS[algorithm], algorithm, headers={"kid": algorithm})  # type: ignore[arg-type]
    assert asked(public, token).status_code == 202


NONES = ["none", "None", "NONE", "nOnE", "", None]
OTHER_KEY = b"another secret that is long enough, too"
FORGED_SHARED: dict[str, Callable[[], str]] = {
    **{f"alg {alg}": lambda alg=alg: spelled({"alg": alg, "typ": "JWT"}, claims()) for alg in NONES},  # type: ignore[misc]
    "alg none, signed": lambda: hmac_signed({"alg": "none"}, SECRET.encode()),
    "no alg": lambda: hmac_signed({"typ": "JWT"}, SECRET.encode()),
    "another hash": lambda: hmac_signed({"alg": "HS512"}, SECRET.encode(), hashlib.sha512),
    "another key": lambda: hmac_signed({"alg": "HS256"}, OTHER_KEY),
    "empty key": lambda: hmac_signed({"alg": "HS256"}, b""),
    "public key of nobody": lambda: jwt.encode(claims(), RSA_KEY, "RS256"),
    "embedded jwk": lambda: hmac_signed({"alg": "HS256", "jwk": {"kty": "oct", "k": b64(OTHER_KEY)}}, OTHER_KEY),
    "embedded x5c": lambda: hmac_signed({"alg": "HS256", "x5c": [b64(OTHER_KEY)]}, OTHER_KEY),
    "critical header": lambda: hmac_signed({"alg": "HS256", "crit": ["exp"], "exp": 1}, SECRET.encode()),
    "unencoded payload": lambda: hmac_signed({"alg": "HS256", "crit": ["b64"], "b64": False}, SECRET.encode()),
    "header is a list": lambda: spelled(["HS256"], claims(), b"x" * 32),
    "deep header": lambda: f"{b64(b'[' * 2000)}.e30.e30",
    "two parts": lambda: spelled({"alg": "HS256"}, claims()).rpartition(".")[0],
    "four parts": lambda: issued() + ".e30",
    "five parts, a JWE": lambda: "e30.e30.e30.e30.e30",
    "nonsense": lambda: "nonsense",
    "spaces": lambda: f" {issued()}",
    "two tokens": lambda: f"{issued()}, Bearer {issued()}",
    "oversized": lambda: issued(more="x" * LONGEST),
    "a key of machines that nobody made": lambda: "ptk_" + "A" * 43,
    "not ASCII": lambda: issued() + "é",
}


def issued(**changed: Any) -> str:
    """Sign claims as JWT_SECRET does."""
    return jwt.encode(claims(**changed), SECRET, "HS256")


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": int(time.time()) - 60},
    "not yet valid": {"nbf": int(time.time()) + DAY_S},
    "issued in the future": {"iat": int(time.time()) + DAY_S},
    "another audience": {"aud": "somebody-else"},
    "other audiences": {"aud": ["a", "b"]},
    "audience is a prefix": {"aud": "proto"},
    "another issuer": {"iss": "somebody-else"},
    **{f"no {name}": {name: None} for name in ("exp", "sub", "aud", "iss", "role")},
    "unknown role": {"role": "root"},
    "role is a list": {"role": ["caller", "admin"]},
    "subject is a number": {"sub": 7},
    "empty subject": {"sub": ""},
    "long subject": {"sub": "x" * 256},
    "subject with a line break": {"sub": "shop\nadmin"},
    "exp is text": {"exp": "tomorrow"},
    "exp has no end": {"exp": float("inf")},
}


@pytest.mark.parametrize("forge", FORGED_SHARED.values(), ids=FORGED_SHARED)
def test_a_forged_token_opens_nothing(shared: Room, forge: Callable[[], str]) -> None:
    """RFC 8725 §2.1, §3.1, §3.2, §3.3, §3.10; the answer tells nothing but that."""
    refused(shared, forge())


@pytest.mark.parametrize("changed", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_a_token_with_wrong_claims_opens_nothing(shared: Room, changed: dict[str, Any]) -> None:
    """RFC 8725 §3.8, §3.9: a token for somebody else, or for another time, is none for us."""
    refused(shared, issued(**changed))


def refused(door: Room, token: str) -> None:
    """Hold the refusal to what it may say."""
    answer = asked(door, token)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, REFUSED)
    assert answer.json["detail"] == "this token is not accepted here"
    assert door.rows(acceptance) == []


def test_a_token_that_differs_in_one_character_opens_nothing(shared: Room) -> None:
    """Signatures that are malleated, and second spellings of the same bytes: one token has one spelling."""
    token = issued()
    other = {name: "B" if name == "A" else "A" for name in token}
    verify = tokens.authentication(shared.runtime.settings).verify
    wrong = [f"{token[:at]}{other[token[at]]}{token[at + 1 :]}" for at in range(len(token)) if token[at] != "."]
    last = [token[:-1] + end for end in ALPHABET if end != token[-1]]
    for each in wrong + last:
        with pytest.raises(Refused):
            verify(each)
    assert verify(token)


def good(algorithm: str) -> str:
    """Issue a token of one kind."""
    key = SIGNERS.get(algorithm, SECRET)
    return jwt.encode(claims(), key, algorithm, headers={"kid": algorithm})  # type: ignore[arg-type]


def respelled(token: str) -> Iterator[str]:
    """Write a token in other ways that decode to the same bytes somewhere."""
    parts = token.split(".")
    for at in range(3):
        for odd in ("=", "==", "===", " ", "\n", "\r\n", "\t", "\x00", "\u200b", "%3D"):
            for part in (parts[at] + odd, odd + parts[at], parts[at][:4] + odd + parts[at][4:]):
                yield ".".join((*parts[:at], part, *parts[at + 1 :]))
        for end in ALPHABET:
            if end != parts[at][-1] and b64(base64.urlsafe_b64decode(parts[at][:-1] + end + "==")) == parts[at]:
                yield ".".join((*parts[:at], parts[at][:-1] + end, *parts[at + 1 :]))
    if "-" in token or "_" in token:
        yield token.replace("-", "+").replace("_", "/")
    yield token.translate({ord("A"): "\uff21"})
    yield f"{token}."


@pytest.mark.parametrize("algorithm", ["HS256", *SIGNERS])
def test_one_token_has_one_spelling(shared: Room, public: Room, algorithm: str) -> None:
    """RFC 7515 §2: no padding, nothing else either, and no bits that nobody reads: what is told apart must be apart."""
    verify = tokens.authentication((shared if algorithm == "HS256" else public).runtime.settings).verify
    token = good(algorithm)
    assert verify(token).caller.subject == "shop"
    for other in set(respelled(token)) - {token}:
        with pytest.raises(Refused, match="malformed"):
            verify(other)


@pytest.mark.parametrize("padded", [(1, 0), (0, 1), (1, 1)])
def test_not_even_its_issuer_spells_a_token_in_another_way(shared: Room, padded: tuple[int, int]) -> None:
    """Some pad what they sign (AWS ALB); what is signed so is no JWS."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "HS256"}, claims())]
    parts = [part if keep else part.rstrip("=") for part, keep in zip(parts, padded, strict=True)]
    assert "=" in "".join(parts)
    unsigned = ".".join(parts)
    refused(shared, f"{unsigned}.{b64(hmac.new(SECRET.encode(), unsigned.encode(), hashlib.sha256).digest())}")


@pytest.mark.parametrize("pad", ["=", "==", " "])
def test_tokens_of_services_have_one_spelling_too(shared: Room, pad: str) -> None:
    """The same door."""
    key = shared.runtime.settings.key("INTERNAL_TOKEN")
    token = tokens.service_token(key, "bff", "x POST /y")
    tokens.check_service_token(key, token, "x POST /y")
    with pytest.raises(Refused, match="malformed"):
        tokens.check_service_token(key, token + pad, "x POST /y")


FORGED_PUBLIC: dict[str, Callable[[], str]] = {
    **{
        f"HS256 with the public key of {algorithm}": lambda key=key, algorithm=algorithm: hmac_signed(  # type: ignore[misc]
            {"alg": "HS256", "kid": algorithm}, public_pem(key)
        )
        for algorithm, key in SIGNERS.items()
    },
    "HS256 with the JWK's text": lambda: hmac_signed(
        {"alg": "HS256", "kid": "RS256"}, json.dumps(public_jwk("RS256")).encode()
    ),
    "the set's symmetric key": lambda: hmac_signed({"alg": "HS256", "kid": "oct"}, SECRET.encode()),
    "another algorithm of the same key": lambda: jwt.encode(claims(), RSA_KEY, "PS256", headers={"kid": "RS256"}),
    "longer hash": lambda: jwt.encode(claims(), RSA_KEY, "RS512", headers={"kid": "RS256"}),
    "another key's id": lambda: jwt.encode(claims(), EC_KEY, "ES256", headers={"kid": "RS256"}),
    "no kid": lambda: jwt.encode(claims(), RSA_KEY, "RS256"),
    **{
        f"kid {kid!r}": lambda kid=kid: hmac_signed({"alg": "HS256", "kid": kid}, b"")  # type: ignore[misc]
        for kid in (
            "../../dev/null",
            "/dev/null",
            "x' UNION SELECT 'key",
            "; sleep 9",
            "\x00",
            "RS256\x00",
            7,
            ["RS256"],
            {},
        )
    },
    "jku": lambda: jwt.encode(
        claims(), rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "RS256", "jku": "http://127.0.0.1:1/"}
    ),
    "x5u": lambda: jwt.encode(
        claims(), rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "RS256", "x5u": "http://127.0.0.1:1/"}
    ),
    "none": lambda: spelled({"alg": "none", "kid": "RS256"}, claims()),
    "psychic signature": lambda: spelled({"alg": "ES256", "kid": "ES256"}, claims(), bytes(64)),
}


@pytest.mark.parametrize("forge", FORGED_PUBLIC.values(), ids=FORGED_PUBLIC)
def test_a_token_that_plays_with_public_keys_opens_nothing(public: Room, forge: Callable[[], str]) -> None:
    """Key confusion, injection by kid, keys that come with the token (RFC 8725 §2.1, §2.6, §3.10), CVE-2022-21449."""
    refused(public, forge())


def test_a_token_in_the_query_opens_nothing(shared: Room) -> None:
    """Addresses stand in logs and histories. Without any credential the answer asks for one (RFC 6750 §3.1)."""
    answer = shared.http.post(f"/passwords?access_token={issued()}", json={"username": "ada"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="protools"')


@pytest.mark.parametrize("given", ["Basic c2hvcDpzaG9w", "Bearer", "bearer", "Bearer ", "Negotiate x", ""])
def test_another_scheme_opens_nothing(shared: Room, given: str) -> None:
    """There is one way in."""
    answer = shared.http.post("/passwords", json={"username": "ada"}, headers={"Authorization": given})
    assert answer.status_code == 401


def test_two_authorization_headers_open_nothing(shared: Room, client: urllib3.PoolManager) -> None:
    """A proxy may have read the first one, and we the second."""
    with serving(shared.app) as web, web.connect() as sock:
        header = f"Authorization: Bearer {issued()}\r\n"
        sock.sendall(f"GET /passwords HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header * 2}\r\n".encode())
        assert sock.recv(65536).split(b" ")[1] in (b"400", b"401")


def test_a_token_is_believed_no_longer_than_it_says(shared: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified is kept for some seconds; that must not add a second to a token's life."""
    monkeypatch.setattr(tokens, "LEEWAY_S", 0.0)
    monkeypatch.setattr(gatekeeper, "KEPT_S", 60.0)
    headers = {"Authorization": f"Bearer {issued(exp=int(time.time()) + 2)}"}
    assert shared.http.get("/passwords", headers=headers).status_code == 200
    eventually(lambda: shared.http.get("/passwords", headers=headers).status_code == 401)


# --- keys that change


def test_an_unknown_key_makes_the_set_be_read_again_but_seldom() -> None:
    """A new key is believed soon; ids that strangers think of must not become requests to somebody else."""
    now, sets = [0.0], [{"keys": [public_jwk("RS256")]}]
    fetched: list[float] = []

    def fetch() -> bytes:
        fetched.append(now[0])
        return json.dumps(sets[0]).encode()

    keys = jwks.KeySet(fetch, lambda: now[0])
    assert keys.find("RS256")
    assert [keys.find(f"guess-{number}") for number in range(100)] == [None] * 100
    sets[0] = KEY_SET
    now[0] += jwks.PAUSE_S + 1
    assert keys.find("ES256")
    now[0] += jwks.KEPT_S + 1
    assert keys.find("ES256")
    assert len(fetched) == 3


class Published:
    """Publish what a test says, and pass time."""

    def __init__(self, document: bytes | Exception) -> None:
        self.document, self.now = document, 0.0
        self.keys = jwks.KeySet(self.fetch, lambda: self.now)

    def fetch(self) -> bytes:
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def then(self, document: bytes | Exception, after_s: float = jwks.KEPT_S + 1) -> jwks.KeySet:
        """Publish something else, and let it become due."""
        self.document, self.now = document, self.now + after_s
        return self.keys


GOOD_SET = json.dumps(KEY_SET).encode()


def test_while_keys_cannot_be_read_the_old_ones_stay_good_for_an_hour() -> None:
    """An issuer that is down must not shut the door, and who cuts us off must not keep a stolen key good for ever."""
    issuer = Published(GOOD_SET)
    assert issuer.keys.find("RS256")
    down = OSError("down")
    assert issuer.then(down).find("RS256")
    assert issuer.then(down, jwks.GOOD_S - jwks.KEPT_S - 1).find("RS256")
    for _ in range(2):
        with pytest.raises(Unavailable):
            issuer.then(down).find("RS256")
    assert issuer.then(GOOD_SET, jwks.PAUSE_S + 1).find("RS256")


def test_keys_never_read_are_unavailable_not_unknown() -> None:
    """503, not 401: nobody can tell yet."""
    with pytest.raises(Unavailable):
        Published(OSError("down")).keys.find("RS256")


WITHDRAWN = [{"keys": []}, {"keys": [{"kty": "oct", "kid": "oct", "k": "AAAA"}]}, {"keys": [None, {}, {"kty": []}]}]


@pytest.mark.parametrize("emptied", WITHDRAWN)
def test_a_set_that_was_read_and_holds_no_key_withdraws_all(emptied: object) -> None:
    """The last resort of an issuer that lost its keys; it is an answer (401), not a fault of ours."""
    issuer = Published(GOOD_SET)
    assert issuer.keys.find("RS256")
    assert issuer.then(json.dumps(emptied).encode()).find("RS256") is None
    assert issuer.then(GOOD_SET, jwks.PAUSE_S + 1).find("RS256")


NO_SETS = [
    b"",
    b"\xff\xfe",
    b"<html>",
    b"null",
    b"7",
    b"[]",
    b"{}",
    b'"keys"',
    b'{"keys": null}',
    b'{"keys": {}}',
    b'{"keys": {"kty": "RSA"}}',
    b'{"keys": "RS256"}',
    b'{"keys": 7}',
    b'{"keys": ' + b"[" * 200_000,
    b'{"keys": [' + b"9" * 5000 + b"]}",
    RuntimeError("whatever"),
]


@pytest.mark.parametrize("document", NO_SETS, ids=[repr(each)[:30] for each in NO_SETS])
def test_what_is_no_key_set_was_not_read(document: bytes | Exception) -> None:
    """A page of a proxy in the place of the set must neither withdraw keys nor be an error of ours."""
    issuer = Published(GOOD_SET)
    assert issuer.keys.find("RS256")
    assert issuer.then(document).find("RS256")


RSA_JWK, EC_JWK, ED_JWK = map(public_jwk, SIGNERS)
NO_KEYS: list[Any] = [
    None,
    7,
    "RS256",
    [],
    {},
    {"kty": []},
    {"kty": "RSA", "kid": "x"},
    *({**RSA_JWK, name: odd} for name in ("kty", "n", "e", "alg", "kid") for odd in ([], {}, 7, True, "é", [[]])),
    *({**EC_JWK, name: odd} for name in ("crv", "x", "y") for odd in ([], {}, 7, "AA", "P-512")),
    *({**ED_JWK, name: odd} for name in ("crv", "x") for odd in ([], {}, 7, "AA", "Ed448")),
    {**RSA_JWK, "kid": ""},
    {**RSA_JWK, "kid": None},
    {**RSA_JWK, "use": ["sig"]},
    {**RSA_JWK, "use": "enc"},
    {**RSA_JWK, "alg": "RSA-OAEP"},
    {**RSA_JWK, "n": "A" * 100_000},
    json.loads("[" * 500 + "]" * 500),
]


@pytest.mark.parametrize("odd", NO_KEYS, ids=[json.dumps(each)[:60] for each in NO_KEYS])
def test_one_bad_key_leaves_only_itself_out(odd: Any) -> None:
    """Whichever side of the good ones it stands on; else an issuer's one mistake would shut the door."""
    known = jwks.keys_of(json.dumps({"keys": [odd, {**ED_JWK, "kid": "good"}, odd]}).encode())
    assert {"good"} <= known.keys() <= {"good", "é"}


def test_a_key_that_is_left_out_is_not_written_down() -> None:
    """By mistake it may be a private one; what raises may quote it."""
    with capture_logs() as lines:
        jwks.keys_of(json.dumps({"keys": [{"kid": "x", "d": "hunter2"}, {"kty": "hunter2"}]}).encode())
    assert len(lines) == 2
    assert "hunter2" not in repr(lines)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["RS256", "EdDSA", "RSA"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("kty", "kid", "alg", "use", "crv", "n", "e", "x", "y", "k", "d", "key_ops")
ODD_KEYS = st.lists(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON | st.text(ALPHABET)), max_size=4)
bounded = hypothesis.settings(max_examples=150, deadline=None, database=None)


@bounded
@given(ODD_KEYS)
def test_no_set_of_odd_keys_takes_the_good_one_along(odd: list[Any]) -> None:
    """Parsers of others' bytes may raise anything: nothing is enumerated."""
    document = json.dumps({"keys": [*odd, {**ED_JWK, "kid": "a good one"}]}).encode()
    assert "a good one" in jwks.keys_of(document)


@bounded
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_document_is_an_error_of_ours(document: bytes) -> None:
    """What was read before stays, whatever comes."""
    issuer = Published(GOOD_SET)
    assert issuer.keys.find("RS256")
    assert issuer.then(document).find("RS256")


CLAIMS = st.dictionaries(st.sampled_from(["sub", "role", "exp", "aud", "iss", "nbf", "iat", "jti"]), JSON)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c"]), JSON)


@bounded
@given(headers=HEADERS, changed=CLAIMS, text=st.text() | st.none())
def test_whatever_a_token_holds_it_is_refused_or_believed(
    headers: dict[str, Any], changed: dict[str, Any], text: str | None
) -> None:
    """Signed by the key, so that everything behind the signature is reached, too."""
    unsigned = spelled({"alg": "HS256", **headers}, {**claims(), **changed}).rpartition(".")[0]
    signature = b64(hmac.new(SECRET.encode(), unsigned.encode(), hashlib.sha256).digest())
    try:
        known = SHARED.verify(f"{unsigned}.{signature}" if text is None else text)
    except Refused:
        return
    assert isinstance(known.caller.subject, str)
    assert isinstance(known.until, float)


SHARED = tokens.authentication(Settings.read({"JWT_SECRET": SECRET}))


class Exploding:
    """Raise whatever a parser might."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [UnsupportedAlgorithm("x"), AttributeError(), KeyError(), RecursionError(), MemoryError(), InvalidTag()]
)
@pytest.mark.parametrize("place", ["decode", "get_unverified_header"])
def test_whatever_reading_a_token_raises_it_is_refused(
    shared: Room, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    """The next release of a library raises something else."""
    monkeypatch.setattr(jwt, place, Exploding(error))
    refused(shared, issued())


class Issuer(BaseHTTPRequestHandler):
    """Publish the key set."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/jwks.json" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(KEY_SET).encode())

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def published_by(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run an issuer's web server; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as issuer:
        threading.Thread(target=issuer.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{issuer.server_port}"
        finally:
            issuer.shutdown()


def test_keys_are_fetched_over_http(tmp_path: Path) -> None:
    """JWKS_URL, against a real server; what it answers elsewhere is no key set, whatever it holds."""
    with published_by(Issuer) as url:
        statuses = []
        for path in ("jwks.json", "elsewhere"):
            made = room("bff", tmp_path, AUTH="", JWKS_URL=f"{url}/{path}")
            token = jwt.encode(claims(), EC_KEY, "ES256", headers={"kid": "ES256"})
            statuses.append(asked(made, token).status_code)
            made.close()
    assert statuses == [202, 503]


class Endless(BaseHTTPRequestHandler):
    """Send what is no end of a set: a byte at a time for seconds, or megabytes at once."""

    cut = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(500):
                self.wfile.write(b" " if self.path == "/drips" else b" " * 65536)
                self.cut.wait(0.01 if self.path == "/drips" else 0)
        except OSError:
            self.cut.set()

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize(("path", "timeout_s"), [("drips", 0.5), ("floods", PATIENCE_S)])
def test_a_set_that_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, path: str, timeout_s: float
) -> None:
    """A time limit of each read alone is none; the connection is given up as well."""
    monkeypatch.setattr(jwks, "TIMEOUT_S", timeout_s)
    Endless.cut.clear()
    with published_by(Endless) as url:
        with pytest.raises(ValueError, match="not done"):
            jwks.from_url(f"{url}/{path}")()
        assert Endless.cut.wait(PATIENCE_S)


def test_a_weak_key_in_the_set_is_not_used() -> None:
    """RFC 8725 §3.5: an RSA key of 1,024 bits can be broken, whoever published it."""
    weak = rsa.generate_private_key(65537, 1024)
    made = jwt.get_algorithm_by_name("RS256").to_jwk(weak.public_key(), as_dict=True)  # type: ignore[call-overload]
    key = jwks.keys_of(json.dumps({"keys": [{**made, "kid": "weak"}]}).encode())["weak"]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(claims(), weak, "RS256", headers={"kid": "weak"})
    with pytest.raises(jwt.InvalidKeyError):
        tokens._decoded(token, key, "RS256", "protools", "protools")


# --- what is written down of a refusal

TOLD: dict[str, tuple[Callable[[], str], str]] = {
    "expired": (lambda: issued(exp=int(time.time()) - 60), ""),
    "not-yet-valid": (lambda: issued(nbf=int(time.time()) + DAY_S), ""),
    "wrong-audience": (lambda: issued(aud="else\n\x1b[2J" + "x" * 100), "else\\n\\x1b[2J" + "x" * 51),
    "wrong-issuer": (lambda: issued(iss="rival"), "rival"),
    "bad-signature": (lambda: hmac_signed({"alg": "HS256"}, OTHER_KEY), ""),
    "wrong-algorithm": (lambda: spelled({"alg": "none"}, claims(), b"xx"), ""),
    "missing-claim": (lambda: issued(exp=None), ""),
    "no-subject-or-role": (lambda: issued(role="root"), ""),
    "malformed": (lambda: "nonsense", ""),
    "unknown-machine-key": (lambda: "ptk_" + "A" * 43, ""),
}


def refusals(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "bearer refused"]


@pytest.mark.parametrize(("reason", "case"), TOLD.items(), ids=TOLD)
def test_the_log_says_why_a_bearer_was_refused(shared: Room, reason: str, case: tuple[Callable[[], str], str]) -> None:
    """Callers hear the same whatever it is; who runs this must find the wrong clock, audience or key. On one line."""
    forge, said = case
    token = forge()
    with capture_logs() as lines:
        answer = asked(shared, token)
    (line,) = refusals(lines)
    assert answer.status_code == 401
    assert answer.get_json()["detail"] == "this token is not accepted here"
    assert reason not in f"{answer.headers}{answer.get_data(as_text=True)}"
    assert (line["reason"], line["address"], line["route"]) == (reason, "127.0.0.1", "/passwords")
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line.get("said", "") == said
    assert str(line).isprintable()
    assert not any(part in repr(lines) for part in token.split("."))
    assert f'protools_refused_bearers_total{{reason="{reason}"}} 1.0' in metrics(shared)


def metrics(door: Room) -> str:
    return generate_latest(door.app.extensions["registry"]).decode()


def test_the_log_says_which_key_is_unknown(public: Room) -> None:
    """A stranger chose it: one line, bounded."""
    token = jwt.encode(claims(), RSA_KEY, "RS256", headers={"kid": "new\nkey \u202e" + "x" * 2000})
    with capture_logs() as lines:
        asked(public, token)
    (line,) = refusals(lines)
    assert (line["reason"], line["said"][:15]) == ("unknown-key", "new\\nkey \\u202e"[:15])
    assert len(line["said"]) == 64


def test_the_log_says_when_a_key_was_revoked(shared: Room) -> None:
    """Somebody still uses it: whose it was is what one wants to know."""
    with shared.runtime.write.begin() as tx:
        identifier, key = keys.create(tx, "shop", "caller", 1.0)
        keys.revoke(tx, identifier, 2.0)
    with capture_logs() as lines:
        assert asked(shared, key).status_code == 401
    (line,) = refusals(lines)
    assert (line["reason"], line["said"]) == ("revoked-machine-key", "shop")
    assert key not in repr(lines)


def test_the_log_says_why_a_service_was_refused(shared: Room, tmp_path: Path) -> None:
    """A wrong INTERNAL_TOKEN on one side is found by it."""
    vault = room("generador", tmp_path / "vault")
    with capture_logs() as lines:
        assert vault.http.post("/internal/reveals", headers={"Authorization": f"Bearer {issued()}"}).status_code == 401
    assert [line["reason"] for line in refusals(lines)] == ["bad-signature"]
    vault.close()


def test_strangers_do_not_fill_the_log(shared: Room) -> None:
    """Of each reason some lines and then one a second, with how many were left out; other reasons keep their place."""
    with capture_logs() as lines:
        for _ in range(300):
            asked(shared, "nonsense")
        asked(shared, issued(exp=1))
    told = [line for line in refusals(lines) if line["reason"] == "malformed"]
    assert 10 <= len(told) < 300
    assert [line["reason"] for line in refusals(lines)][-1] == "expired"
    assert 'reason="malformed"} 300.0' in metrics(shared)


def test_how_many_lines_were_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who reads the log believes that it was ten."""
    now = [0.0]
    monkeypatch.setattr(gatekeeper, "time", SimpleNamespace(monotonic=lambda: now[0]))
    refusals_of = gatekeeper.Refusals(CollectorRegistry())
    with capture_logs() as lines:
        for _ in range(25):
            refusals_of.note(Refused("expired"))
        now[0] += 60
        refusals_of.note(Refused("expired"))
        refusals_of.note(Refused("expired"))
    assert [line.get("left_out") for line in lines] == [None] * 10 + [15, None]


def test_a_clock_that_is_set_back_keeps_no_key_good(shared: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified is believed for seconds of a clock that only goes on."""
    with shared.runtime.write.begin() as tx:
        identifier, key = keys.create(tx, "shop", "reader", 1.0)
    headers = {"Authorization": f"Bearer {key}"}
    assert shared.http.get("/passwords", headers=headers).status_code == 200
    later = time.monotonic() + gatekeeper.KEPT_S + 1
    monkeypatch.setattr(gatekeeper, "time", SimpleNamespace(time=lambda: 0.0, monotonic=lambda: later))
    with shared.runtime.write.begin() as tx:
        keys.revoke(tx, identifier, 2.0)
    assert shared.http.get("/passwords", headers=headers).status_code == 401


# --- what must be said


UNCLEAR = [
    ({}, "AUTH"),
    ({"AUTH": "none", "JWT_SECRET": SECRET}, "AUTH"),
    ({"AUTH": "none", "BIND_HOST": "0.0.0.0"}, "AUTH"),
    ({"JWT_SECRET": SECRET, "JWKS_URL": "https://issuer.example/jwks"}, "AUTH"),
    ({"JWT_SECRET": "x" * 31}, "JWT_SECRET"),
    ({"JWKS_URL": "http://issuer.example/jwks"}, "JWKS_URL"),
    ({"JWKS_FILE": "/no/such/file"}, "JWKS_FILE"),
]


@pytest.mark.parametrize(("given", "variable"), UNCLEAR)
def test_unless_it_is_clear_who_may_come_in_nothing_starts(given: dict[str, str], variable: str) -> None:
    """A door that is open by mistake is found by others first. A secret is not shown."""
    with pytest.raises(SettingError, match=variable) as error:
        authentication(Settings.read(given))
    assert "x" * 31 not in str(error.value)


@pytest.mark.parametrize("service", ["bff", "protools_saga", "generador", "correo"])
def test_every_web_process_refuses_to_start_without_the_word(tmp_path: Path, service: str) -> None:
    """Each of them has a port."""
    with pytest.raises(SettingError, match="AUTH"):
        room(service, tmp_path, AUTH="")
