"""Attack the bearer tokens as RFC 8725 and OWASP's cheat sheet on JWT say that others will: every forgery is a 401."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.service.rooms import Room, eventually, room
from tests.service.web import serving

from bff.tables import acceptance
from seedwork import gatekeeper, jwks, tokens
from seedwork.errors import SettingError, Unavailable
from seedwork.settings import Settings
from seedwork.tokens import LONGEST, authentication, issue

SECRET = "correct horse battery staple, 32 bytes and more"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SIGNERS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
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
    verify = tokens.Tokens(shared.runtime.settings).verify
    wrong = [f"{token[:at]}{other[token[at]]}{token[at + 1 :]}" for at in range(len(token)) if token[at] != "."]
    last = [
        token[:-1] + end
        for end in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        if end != token[-1]
    ]
    assert [verify(each) for each in wrong + last] == [None] * len(wrong + last)
    assert verify(token)


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


def test_while_keys_cannot_be_read_the_old_ones_stay_good() -> None:
    """An identity provider that is down for a minute must not shut the door; one never heard of is 503, not 401."""
    now, answers = [0.0], [json.dumps(KEY_SET).encode()]

    def fetch() -> bytes:
        if not answers:
            raise OSError("down")
        return answers.pop()

    keys = jwks.KeySet(fetch, lambda: now[0])
    assert keys.find("RS256")
    now[0] += jwks.KEPT_S + 1
    assert keys.find("RS256")
    with pytest.raises(Unavailable):
        jwks.KeySet(fetch).find("RS256")


class Issuer(BaseHTTPRequestHandler):
    """Publish the key set."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/jwks.json" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(KEY_SET).encode())

    def log_message(self, *_: Any) -> None: ...


def test_keys_are_fetched_over_http(tmp_path: Path) -> None:
    """JWKS_URL, against a real server; what it answers elsewhere is no key set, whatever it holds."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Issuer) as issuer:
        threading.Thread(target=issuer.serve_forever).start()
        statuses = []
        for path in ("jwks.json", "elsewhere"):
            made = room("bff", tmp_path, AUTH="", JWKS_URL=f"http://127.0.0.1:{issuer.server_port}/{path}")
            token = jwt.encode(claims(), EC_KEY, "ES256", headers={"kid": "ES256"})
            statuses.append(asked(made, token).status_code)
            made.close()
        issuer.shutdown()
    assert statuses == [202, 503]


def test_a_weak_key_in_the_set_is_not_used() -> None:
    """RFC 8725 §3.5: an RSA key of 1,024 bits can be broken, whoever published it."""
    weak = rsa.generate_private_key(65537, 1024)
    made = jwt.get_algorithm_by_name("RS256").to_jwk(weak.public_key(), as_dict=True)  # type: ignore[call-overload]
    key = jwks.keys_of(json.dumps({"keys": [{**made, "kid": "weak"}]}).encode())["weak"]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(claims(), weak, "RS256", headers={"kid": "weak"})
    with pytest.raises(jwt.InvalidKeyError):
        tokens._decoded(token, key, "RS256", "protools", "protools")


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
