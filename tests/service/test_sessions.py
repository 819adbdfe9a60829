"""Open and look up sessions over gRPC, on a real server: forged tokens, strangers, a database that is down."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from sqlalchemy import Engine, create_engine, func, insert, select, text, update
from structlog.testing import capture_logs
from tests.patience import PATIENCE_S
from tests.service.certificates import make_certificate
from tests.service.fakes import FakeBroker
from tests.service.rooms import eventually, room
from tests.service.stage import BOTH, POSTGRESQL, settings_on

from pulsaga import SettingError, forget_after
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.running.process import Process
from pulsaga.running.runtime import Runtime, runtime_of
from pulsaga.settings import Settings
from pulsaga.web.access.tokens import issue, service_token
from pulsaga_program.databases import prepare_databases
from pulsaga_program.local.process import free_ports
from pulsaga_program.preflight import check_values
from system import SYSTEM
from usuarios.accounts import Accounts
from usuarios.sessions import process as serving
from usuarios.sessions import sessions_pb2
from usuarios.sessions.answers import Bounded, Denied, left_s
from usuarios.sessions.process import MOST_REQUESTS, NAME
from usuarios.sessions.server import ROUTE
from usuarios.sessions.sessions_pb2_grpc import SessionsStub
from usuarios.sessions.tables import SESSIONS_KEPT_S, sesion

SECRET = "the secret of sessions, long enough for whichever of HS256, HS384 and HS512 somebody tries"
USER = "0190b5a8-3c5e-7c3a-8f2e-0123456789ab"
Code = grpc.StatusCode


@dataclass
class Served:
    """A running server of sessions: its database, and a client of it."""

    runtime: Runtime
    port: int
    process: Process
    credentials: grpc.ChannelCredentials | None = None
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = self.connect(self.credentials)

    def connect(self, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
        address = f"127.0.0.1:{self.port}"
        return grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)

    @property
    def badge(self) -> tuple[tuple[str, str], ...]:
        """The metadata by which a service is known."""
        key = self.runtime.settings.key("INTERNAL_TOKEN")
        return (("authorization", f"Bearer {service_token(key, 'bff', ROUTE)}"),)

    def create(self, user_id: str = USER, metadata: Any = None, timeout: float | None = PATIENCE_S) -> Any:
        request = sessions_pb2.CreateRequest(user_id=user_id)
        given = self.badge if metadata is None else metadata
        return SessionsStub(self.channel).Create(request, metadata=given, timeout=timeout, wait_for_ready=True)

    def validate(self, token: str, timeout: float | None = PATIENCE_S) -> Any:
        request = sessions_pb2.ValidateRequest(token=token)
        return SessionsStub(self.channel).Validate(request, timeout=timeout, wait_for_ready=True)

    def health(self, service: str = "") -> Any:
        return HealthStub(self.channel).Check(HealthCheckRequest(service=service), timeout=PATIENCE_S).status

    def count(self) -> int:
        with self.runtime.write.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(sesion)).scalar_one())


@contextmanager
def served(
    settings: Settings,
    alone: bool = False,
    credentials: grpc.ChannelCredentials | None = None,
) -> Iterator[Served]:
    """Run the process of sessions, as it is assembled, in a thread of this one."""
    prepare_databases(SYSTEM, settings, SYSTEM["usuarios"])
    write = open_database(settings, "usuarios", "write", "owner")
    runtime, process = runtime_of(SYSTEM, settings, "usuarios", FakeBroker(), write), Process(alone=alone)
    check_values(SYSTEM, settings)
    closing = serving.add(process, runtime)
    thread = threading.Thread(target=process.run, kwargs={"signals": False})
    thread.start()
    port = settings.environment["PORT" if alone else "SESSIONS_PORT"]
    running = Served(runtime, int(port), process, credentials)
    try:
        yield running
    finally:
        running.channel.close()
        process.end()
        thread.join(PATIENCE_S)
        for close in [*closing, write.dispose]:
            close()
        assert not thread.is_alive()


def settings_for(request: pytest.FixtureRequest, home: Path, **environment: str) -> Settings:
    given = {"SESSIONS_JWT_SECRET": SECRET, "SESSIONS_PORT": str(free_ports(1)[0]), "JWT_SECRET": SECRET}
    return settings_on(request, home, **(given | environment))


def on_sqlite(home: Path, **environment: str) -> Settings:
    return settings_for(SimpleNamespace(param="sqlite"), home, **environment)  # type: ignore[arg-type]


@pytest.fixture(params=BOTH)
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    with served(settings_for(request, tmp_path)) as running:
        yield running


@pytest.fixture(params=[POSTGRESQL])
def on_postgresql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    with served(settings_for(request, tmp_path, LOCK_TIMEOUT="600")) as running:
        yield running


@pytest.fixture
def alone_on_sqlite(tmp_path: Path) -> Iterator[Served]:
    with served(on_sqlite(tmp_path)) as running:
        yield running


@contextmanager
def denied(*codes: grpc.StatusCode) -> Iterator[Callable[[], str]]:
    """Expect a call to be answered by one of these statuses; the function returns what it says."""
    with pytest.raises(grpc.RpcError) as raised:
        yield lambda: str(raised.value.details())  # type: ignore[attr-defined]
    assert raised.value.code() in codes, raised.value  # type: ignore[attr-defined]


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """Keep every other transaction from writing sessions (and on PostgreSQL from reading them) while the block runs."""
    with engine.begin() as tx:
        if engine.dialect.name == "postgresql":
            tx.execute(text("LOCK TABLE sesion IN ACCESS EXCLUSIVE MODE"))
        yield


def at_rest(engine: Engine) -> bool:
    """Tell whether no transaction of a process is under way."""
    return engine.pool.checkedout() == 0  # type: ignore[attr-defined]


# --- what is good


def test_a_session_is_opened_and_its_token_is_good_until_its_end(sessions: Served) -> None:
    """What every log-in does, and every request after it."""
    before = int(time.time())
    opened = sessions.create()
    looked_up = sessions.validate(opened.token)
    assert looked_up == opened
    assert opened.valid
    assert before <= opened.issued_at.seconds <= time.time()
    assert 86399 <= opened.expired_at.seconds - opened.issued_at.seconds <= 86401


def test_a_token_says_what_others_rely_on(alone_on_sqlite: Served) -> None:
    """Others may read it, and it is told apart from every other kind of token."""
    opened = alone_on_sqlite.create(USER.upper())
    assert jwt.get_unverified_header(opened.token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(opened.token, SECRET, ["HS256"], audience="user", issuer="session-server")
    assert claims.keys() == {"aud", "iss", "sub", "jti", "iat", "nbf", "exp"}
    assert (claims["aud"], claims["sub"], claims["iat"]) == ("user", USER, claims["nbf"])
    assert (opened.issued_at.seconds, opened.expired_at.seconds) == (claims["iat"], claims["exp"])
    assert alone_on_sqlite.create().token != opened.token


@pytest.mark.parametrize(
    "user_id", ["", "ada", USER[:-1], USER + "0", f"{{{USER}}}", f"urn:uuid:{USER}", USER.replace("-", ""), f" {USER}"]
)
def test_a_user_is_a_uuid_as_it_is_usually_written(alone_on_sqlite: Served, user_id: str) -> None:
    """One user under two spellings would be two."""
    with denied(Code.INVALID_ARGUMENT) as said:
        alone_on_sqlite.create(user_id)
    assert said() == "user_id is no UUID"
    assert alone_on_sqlite.count() == 0


# --- who may open a session


def forged_badges() -> dict[str, tuple[tuple[str, str | bytes], ...]]:
    key = base64.b64decode("aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk=")
    good, other = service_token(key, "bff", ROUTE), service_token(b"x" * 32, "bff", ROUTE)
    late = {"sub": "bff", "iss": "bff", "aud": ROUTE, "exp": int(time.time()) - 60}
    return {
        "none": (),
        "empty": (("authorization", ""),),
        "no scheme": (("authorization", good),),
        "another scheme": (("authorization", f"Basic {good}"),),
        "another key": (("authorization", f"Bearer {other}"),),
        "another route": (
            ("authorization", f"Bearer {service_token(key, 'bff', ROUTE.replace('Create', 'Validate'))}"),
        ),
        "run out": (("authorization", f"Bearer {jwt.encode(late, key, 'HS256')}"),),
        "two at once": (("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")),
        "a space behind": (("authorization", f"Bearer {good} x"),),
        "another header": (("x-authorization", f"Bearer {good}"),),
        "huge": (("authorization", f"Bearer {'a' * 5000}"),),
    }


@pytest.mark.parametrize("name", forged_badges())
def test_only_services_open_sessions(alone_on_sqlite: Served, name: str) -> None:
    """Whoever could open one would be any user."""
    with denied(Code.UNAUTHENTICATED) as said:
        alone_on_sqlite.create(metadata=forged_badges()[name])
    assert said() == "only services may open sessions"
    assert alone_on_sqlite.count() == 0


def test_a_users_token_is_no_credential_of_a_service(alone_on_sqlite: Served) -> None:
    """Nor is one that the front door takes."""
    opened = alone_on_sqlite.create()
    for token in (opened.token, issue(alone_on_sqlite.runtime.settings, "root", "admin", 60)):
        with denied(Code.UNAUTHENTICATED):
            alone_on_sqlite.create(metadata=(("authorization", f"Bearer {token}"),))


# --- forged tokens


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def spelled(header: Any, claims: Any, signature: bytes = b"") -> str:
    return ".".join((b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), b64(signature)))


def signed(claims: Any, secret: str | bytes = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims, secret, algorithm, headers=header)


def confused(claims: Any) -> str:
    """Sign with the text of a public key as if it were a secret, and say RS256."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = spelled({"alg": "RS256", "typ": "JWT"}, claims).rpartition(".")[0]
    return f"{unsigned}.{b64(hmac.new(pem, unsigned.encode(), hashlib.sha256).digest())}"


def mislabelled(claims: Any, algorithm: str) -> str:
    """Sign with the right secret by HS256, and say another algorithm."""
    unsigned = spelled({"alg": algorithm, "typ": "JWT"}, claims).rpartition(".")[0]
    return f"{unsigned}.{b64(hmac.new(SECRET.encode(), unsigned.encode(), hashlib.sha256).digest())}"


def by_rsa(claims: Any) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(claims, key, "RS256")


def changed(token: str, **claims: Any) -> str:
    """Change the payload under the same signature."""
    header, _, signature = token.split(".")
    kept = jwt.decode(token, options={"verify_signature": False})
    return f"{header}.{b64(json.dumps(kept | claims).encode())}.{signature}"


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


NOW = int(time.time())
Forge = Callable[[str, dict[str, Any]], str]
FORGED: dict[str, Forge] = {
    "empty": lambda _t, _c: "",
    "no token": lambda _t, _c: "nonsense",
    "two dots": lambda _t, _c: "..",
    "none": lambda _t, c: spelled({"alg": "none", "typ": "JWT"}, c),
    "nOnE": lambda _t, c: spelled({"alg": "nOnE", "typ": "JWT"}, c),
    "no algorithm": lambda _t, c: spelled({"typ": "JWT"}, c),
    "none under the right signature": lambda t, c: spelled({"alg": "none"}, c) + t.rpartition(".")[2],
    "no signature": lambda t, _c: t.rpartition(".")[0] + ".",
    "RS256 by a public key as secret": lambda _t, c: confused(c),
    "RS256 by a key of its own": lambda _t, c: by_rsa(c),
    "said RS256": lambda _t, c: mislabelled(c, "RS256"),
    "said HS512": lambda _t, c: mislabelled(c, "HS512"),
    "HS384": lambda _t, c: signed(c, SECRET, "HS384"),
    "HS512": lambda _t, c: signed(c, SECRET, "HS512"),
    "another secret": lambda _t, c: signed(c, "another secret, of 32 bytes and more"),
    "a key that it brings": lambda _t, c: signed(c, "a" * 32, jwk={"kty": "oct", "k": b64(b"a" * 32)}),
    "a key to be fetched": lambda _t, c: signed(c, "a" * 32, jku="http://127.0.0.1:1/keys", kid="../../dev/null"),
    "another audience": lambda _t, c: signed(c | {"aud": "protools"}),
    "several audiences": lambda _t, c: signed(c | {"aud": ["user", "protools"]}),
    "no audience": lambda _t, c: signed(without(c, "aud")),
    "another issuer": lambda _t, c: signed(c | {"iss": "protools"}),
    "no issuer": lambda _t, c: signed(without(c, "iss")),
    "no end": lambda _t, c: signed(without(c, "exp")),
    "no beginning": lambda _t, c: signed(without(c, "nbf")),
    "no time of issue": lambda _t, c: signed(without(c, "iat")),
    "no id": lambda _t, c: signed(without(c, "jti")),
    "no subject": lambda _t, c: signed(without(c, "sub")),
    "expired": lambda _t, c: signed(c | {"exp": NOW - 60}),
    "expired this second": lambda _t, c: signed(c | {"exp": int(time.time())}),
    "an end that is text": lambda _t, c: signed(c | {"exp": str(NOW + 600)}),
    "an end that is true": lambda _t, c: signed(c | {"exp": True}),
    "an end with decimals": lambda _t, c: signed(c | {"exp": NOW + 600.5}),
    "an end out of the calendar": lambda _t, c: spelled({"alg": "HS256"}, c | {"exp": float("inf")}),
    "not yet": lambda _t, c: signed(c | {"nbf": NOW + 3600}),
    "issued in the future": lambda _t, c: signed(c | {"iat": NOW + 3600}),
    "another's session": lambda _t, c: signed(c | {"sub": new_id()}),
    "an id that nobody has": lambda _t, c: signed(c | {"jti": new_id()}),
    "an id that is no UUID": lambda _t, c: signed(c | {"jti": "' OR 1=1 --"}),
    "an id that is a number": lambda _t, c: signed(c | {"jti": 7}),
    "a subject that is a number": lambda _t, c: signed(c | {"sub": 7}),
    "an altered subject": lambda t, _c: changed(t, sub=new_id()),
    "an altered end": lambda t, _c: changed(t, exp=NOW + 10**6),
    "claims that are a list": lambda _t, _c: spelled({"alg": "HS256"}, []),
    "a space before": lambda t, _c: f" {t}",
    "a space behind": lambda t, _c: f"{t} ",
    "a line behind": lambda t, _c: f"{t}\n",
    "NUL behind": lambda t, _c: f"{t}\0",
    "padding": lambda t, _c: f"{t}=",
    "padding inside": lambda t, _c: t.replace(".", "=.", 1),
    "a scheme": lambda t, _c: f"Bearer {t}",
    "four parts": lambda t, _c: f"{t}.{t.rpartition('.')[2]}",
    "a letter of another alphabet": lambda t, _c: t.replace(".", ".\u0430", 1),
    "a bit that nobody reads": lambda t, _c: t[:-1] + chr(ord(t[-1]) + 1),
    "more than is looked at": lambda _t, c: signed(c | {"x": "a" * 4096}),
}
"""Each makes a bad token of a good one and its claims."""


@pytest.fixture(scope="module", params=BOTH)
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(settings_for(request, tmp_path_factory.mktemp("attacked"))) as running:
        yield running


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused_without_a_reason(attacked: Served, name: str) -> None:
    """Whoever tries them learns nothing from the answer, and the log says what it was."""
    token = attacked.create().token
    claims = jwt.decode(token, options={"verify_signature": False})
    with capture_logs() as logs, denied(Code.UNAUTHENTICATED) as said:
        attacked.validate(FORGED[name](token, claims))
    assert said() == "the token is not good"
    assert [entry for entry in logs if entry["event"] == "token refused" and entry["reason"]]
    assert attacked.validate(token).valid, "the one that it was made of is good"


def test_a_huge_message_is_not_read(attacked: Served) -> None:
    """Megabytes of token would be memory and time before the first look at it."""
    with denied(Code.RESOURCE_EXHAUSTED):
        attacked.validate("a" * 100_000)


def test_a_token_of_the_front_door_is_not_good_here(attacked: Served) -> None:
    """Though both are signed under one secret."""
    for role in ("caller", "admin"):
        with denied(Code.UNAUTHENTICATED):
            attacked.validate(issue(attacked.runtime.settings, USER, role, 60))  # type: ignore[arg-type]
    with denied(Code.UNAUTHENTICATED):
        attacked.validate(str(attacked.badge[0][1]).partition(" ")[2])


@pytest.mark.parametrize("misled", [{}, {"JWT_AUDIENCE": "user", "JWT_ISSUER": "session-server"}])
def test_a_token_of_a_session_opens_nothing_at_the_front_door(
    attacked: Served, tmp_path: Path, misled: dict[str, str]
) -> None:
    """Though both are signed under one secret, and even if somebody named the same audience and issuer there."""
    door = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET, **misled)
    headers = {"Authorization": f"Bearer {attacked.create().token}"}
    rules = [(rule, method) for rule in door.app.url_map.iter_rules() for method in rule.methods or ()]
    paths = {(rule.build(dict.fromkeys(rule.arguments, "x")), method) for rule, method in rules}

    def is_closed(path: str, method: str, **headers: str) -> bool:
        with door.http.open(path, method=method, headers=headers) as answer:
            return answer.status_code == 401

    try:
        closed = [(built[1], method) for built, method in paths if built and is_closed(built[1], method)]
        assert len(closed) > 20
        assert [place for place in closed if not is_closed(*place, **headers)] == []
    finally:
        door.close()


def test_a_session_that_was_revoked_is_over(sessions: Served) -> None:
    """A log-out must not wait for the token's end."""
    kept, revoked = sessions.create(), sessions.create()
    jti = jwt.decode(revoked.token, options={"verify_signature": False})["jti"]
    with sessions.runtime.write.begin() as tx:
        tx.execute(update(sesion).where(sesion.c.jti == jti).values(revoked_at=time.time()))
    with denied(Code.UNAUTHENTICATED) as said:
        sessions.validate(revoked.token)
    assert said() == "the token is not good"
    assert sessions.validate(kept.token).valid


@pytest.mark.parametrize("ended", ["active", "password"])
def test_a_session_that_its_user_has_ended_is_over(tmp_path: Path, ended: str) -> None:
    """Whoever may not log in is let in nowhere; another password ends what was opened before, and only that."""
    with served(on_sqlite(tmp_path)) as running:
        accounts = Accounts(running.runtime)
        said = dict.fromkeys(("first_name", "last_name", "phone"), "")
        user = accounts.sign_up({**said, "username": "ada", "email": "ada@example.test", "password": "correct horse"})
        opened = running.create(user.user["id"])
        assert running.validate(opened.token).valid
        if ended == "active":
            accounts.mark(user.user["id"], "active", False, "boss")
        else:
            accounts.change_password(user.user["id"], "correct horse", "another horse", "10.1.1.1")
        with denied(Code.UNAUTHENTICATED):
            running.validate(opened.token)
        if ended == "password":
            assert running.validate(running.create(user.user["id"]).token).valid


def test_a_token_ends_with_its_lifetime(tmp_path: Path) -> None:
    """Its end is to the second: who issues and who reads it is one and the same, so no clock differs."""
    with served(on_sqlite(tmp_path, SESSIONS_JWT_EXPIRATION="1.5s")) as running:
        opened = running.create()
        assert opened.expired_at.seconds - opened.issued_at.seconds in (1, 2)

        def is_over() -> bool:
            try:
                assert running.validate(opened.token).valid
            except grpc.RpcError:
                return time.time() >= opened.expired_at.seconds
            assert time.time() < opened.expired_at.seconds + 1
            return False

        eventually(is_over, PATIENCE_S)


# --- when the database is down, slow or in the hands of others


@contextmanager
def shut(running: Served) -> Iterator[None]:
    """Let PostgreSQL refuse this database to everybody while the block runs."""
    url = running.runtime.write.url
    administrator = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false'))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
        try:
            yield
        finally:
            connection.execute(text(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true'))
    administrator.dispose()


def test_without_its_database_nothing_is_said_of_a_token(on_postgresql: Served) -> None:
    """Neither good nor bad: callers try again. What is forged is refused all the same."""
    token = on_postgresql.create().token
    eventually(lambda: on_postgresql.health() == HealthCheckResponse.SERVING)
    with shut(on_postgresql):
        for ask in (on_postgresql.create, lambda: on_postgresql.validate(token)):
            with denied(Code.UNAVAILABLE) as said:
                ask()
            assert said() == "the database does not answer: try again later"
        with denied(Code.UNAUTHENTICATED):
            on_postgresql.validate(token + "=")
        for service in ("", NAME):
            eventually(lambda name=service: on_postgresql.health(name) == HealthCheckResponse.NOT_SERVING, PATIENCE_S)  # type: ignore[misc]
    eventually(lambda: on_postgresql.health() == HealthCheckResponse.SERVING, PATIENCE_S)
    assert on_postgresql.validate(token).valid


def test_a_database_that_hangs_is_waited_for_a_moment_only(sessions: Served) -> None:
    """A caller without a deadline would wait for ever, and its thread with it."""
    with held(sessions.runtime.write), denied(Code.UNAVAILABLE):
        sessions.create(timeout=None)
    eventually(lambda: at_rest(sessions.runtime.write), PATIENCE_S)
    assert sessions.count() == 0, "what was answered as not done was not done later"


def test_looking_up_waits_for_a_moment_only(on_postgresql: Served) -> None:
    """Nor does the statement go on: the few connections would soon be taken by what nobody waits for."""
    token, waits = on_postgresql.create().token, "datname = current_database() AND wait_event_type = 'Lock'"
    with held(on_postgresql.runtime.write):
        for ask in (on_postgresql.create, lambda **given: on_postgresql.validate(token, **given)):
            with denied(Code.UNAVAILABLE):
                ask(timeout=None)

        def waiting() -> int:
            with on_postgresql.runtime.write.connect() as connection:
                connection.execute(text("SET LOCAL ROLE NONE"))  # the login sees what its sessions wait for
                found = connection.execute(text(f"SELECT count(*) FROM pg_stat_activity WHERE {waits}"))
                return int(found.scalar_one())

        eventually(lambda: waiting() == 0)


def test_looking_up_waits_for_no_writer_of_sqlite(alone_on_sqlite: Served) -> None:
    """One lock for all writers must not be one for all readers."""
    token = alone_on_sqlite.create().token
    with held(alone_on_sqlite.runtime.write):
        assert alone_on_sqlite.validate(token).valid


def test_looking_up_has_no_right_to_write(sessions: Served) -> None:
    """Every stranger's token comes this far."""
    reader = open_database(sessions.runtime.settings, "usuarios", "write", "reader")
    row = {"jti": new_id(), "revision": 1, "user_id": USER, "issued_at": 1.0, "expires_at": 2.0}
    with pytest.raises(Exception, match="readonly|permission denied"), reader.begin() as tx:
        tx.execute(insert(sesion).values(row))
    reader.dispose()


def test_a_session_is_not_opened_for_a_caller_who_has_gone(sessions: Served) -> None:
    """It waited behind a lock for longer than its deadline: nobody is there to take the token."""
    with held(sessions.runtime.write):
        over_at = time.monotonic() + 0.5
        with denied(Code.DEADLINE_EXCEEDED):
            sessions.create(timeout=0.3)
        eventually(lambda: time.monotonic() > over_at)  # the server counts from when the request came
    eventually(lambda: at_rest(sessions.runtime.write), PATIENCE_S)
    assert sessions.create().valid
    assert sessions.count() == 1


@dataclass
class Call:
    """What a server is told of a call."""

    remaining: float | None
    active: bool = True

    def time_remaining(self) -> float | None:
        return self.remaining

    def is_active(self) -> bool:
        return self.active


def test_a_request_whose_deadline_is_over_does_no_work() -> None:
    """When its turn comes at last, its caller has long gone."""
    database, done = Bounded(1), threading.Event()
    for call in (Call(0.0), Call(5.0, active=False)):
        with pytest.raises(Denied) as refused:
            database.ask(call, lambda _until: done.set())  # type: ignore[arg-type]
        assert refused.value.status is Code.DEADLINE_EXCEEDED
    assert not done.is_set()
    assert left_s(Call(None)) == left_s(Call(60.0)) == 2.0  # type: ignore[arg-type]
    assert left_s(Call(0.5)) == 0.5  # type: ignore[arg-type]
    database.close()


def test_what_waits_behind_something_that_hangs_is_not_begun_after_its_time() -> None:
    """The rest of a storm must not be worked off for nobody."""
    database, hanging, begun = Bounded(1), threading.Event(), []
    with pytest.raises(Denied, match="the deadline is over"):
        database.ask(Call(0.05), lambda _until: hanging.wait(PATIENCE_S))  # type: ignore[arg-type]
    with pytest.raises(Denied, match="the deadline is over"):
        database.ask(Call(0.05), begun.append)  # type: ignore[arg-type]
    hanging.set()
    database.ask(Call(5.0), lambda _until: None)  # type: ignore[arg-type]
    assert begun == []
    database.close()


def test_what_is_more_than_the_server_takes_is_refused_at_once(alone_on_sqlite: Served) -> None:
    """A queue without an end is an outage that goes on after its cause."""
    request, stub = sessions_pb2.CreateRequest(user_id=USER), SessionsStub(alone_on_sqlite.channel)
    alone_on_sqlite.create()
    with held(alone_on_sqlite.runtime.write):
        calls = [stub.Create.future(request, metadata=alone_on_sqlite.badge) for _ in range(MOST_REQUESTS + 20)]
        codes = [call.code() for call in calls]
    assert codes.count(Code.RESOURCE_EXHAUSTED) >= 20
    assert set(codes) == {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}
    eventually(lambda: at_rest(alone_on_sqlite.runtime.write), PATIENCE_S)
    assert alone_on_sqlite.create().valid, "and afterwards it is as before"


def test_an_error_of_ours_is_logged_and_not_shown(alone_on_sqlite: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text may name tables, files and users."""

    def broken(*_: Any) -> Any:
        raise KeyError("secret place")

    monkeypatch.setattr("usuarios.sessions.server.sign", broken)
    with capture_logs() as logs, denied(Code.INTERNAL) as said:
        alone_on_sqlite.create()
    assert "secret" not in said()
    assert [entry for entry in logs if entry["event"] == "request broke"]


def test_who_is_served_at_the_end_is_served_to_the_end(sessions: Served) -> None:
    """A restart is no outage: what is in hand is finished, nothing new is begun."""
    sessions.create()
    stub, request = SessionsStub(sessions.channel), sessions_pb2.CreateRequest(user_id=USER)
    with held(sessions.runtime.write):
        call = stub.Create.future(request, metadata=sessions.badge, timeout=PATIENCE_S)
        eventually(lambda: not at_rest(sessions.runtime.write) and sessions.runtime.write.pool.checkedout() > 1)  # type: ignore[attr-defined]
        sessions.process.end()
        with sessions.connect(None) as fresh:

            def is_closed() -> bool:
                try:
                    SessionsStub(fresh).Validate(sessions_pb2.ValidateRequest(), timeout=PATIENCE_S)
                except grpc.RpcError as error:
                    return bool(error.code() is Code.UNAVAILABLE)  # type: ignore[attr-defined]
                return False

            eventually(is_closed)
    assert call.result().valid


# --- where it listens, and what it tells


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
def test_without_tls_it_listens_on_loopback_only(tmp_path: Path, bind: str) -> None:
    """Tokens would go over the network in the clear, and whoever reads one is its user."""
    with (
        pytest.raises(SettingError, match=f"^SESSIONS_TLS_CERT: .*BIND_HOST is {bind}"),
        served(on_sqlite(tmp_path, BIND_HOST=bind)),
    ):
        pass


def test_it_listens_on_the_loopback_of_ipv6(tmp_path: Path) -> None:
    """Its addresses are written in brackets before a port."""
    with (
        served(on_sqlite(tmp_path, BIND_HOST="::1")) as running,
        grpc.insecure_channel(f"[::1]:{running.port}") as channel,
        denied(Code.UNAUTHENTICATED),
    ):
        SessionsStub(channel).Validate(sessions_pb2.ValidateRequest(), timeout=PATIENCE_S, wait_for_ready=True)


def test_a_taken_port_is_refused_by_name(tmp_path: Path) -> None:
    """A process that serves nobody and says `ready` is worse than one that ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = on_sqlite(tmp_path, SESSIONS_PORT=str(port))
        with pytest.raises(SettingError, match=f"^SESSIONS_PORT: port {port} of 127.0.0.1 "), served(settings):
            pass


def secured(folder: Path, **environment: str) -> tuple[Settings, bytes]:
    """Return settings with TLS, and the certificate of the server."""
    file = make_certificate(folder).file
    given = {"SESSIONS_TLS_CERT": str(file), "SESSIONS_TLS_KEY": str(file), "BIND_HOST": "0.0.0.0"}
    return on_sqlite(folder, **given, **environment), file.read_bytes()


def made(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return make_certificate(folder / name).file


def test_with_tls_it_listens_on_a_network_and_asks_for_the_token_of_a_service(tmp_path: Path) -> None:
    """A certificate of the server's proves who it is, not who asks."""
    settings, certificate = secured(tmp_path)
    with served(settings, credentials=grpc.ssl_channel_credentials(certificate)) as running:
        assert running.validate(running.create().token).valid
        with denied(Code.UNAUTHENTICATED):
            running.create(metadata=())
        with running.connect(None) as plain, denied(Code.UNAVAILABLE):
            SessionsStub(plain).Validate(sessions_pb2.ValidateRequest(), timeout=PATIENCE_S)


def test_a_verified_certificate_is_the_credential_of_a_service(tmp_path: Path) -> None:
    """And whoever shows none, or another, is not let in at all."""
    ours, stranger = made(tmp_path, "ours").read_bytes(), made(tmp_path, "stranger").read_bytes()
    settings, root = secured(tmp_path, SESSIONS_TLS_CLIENT_CA=str(tmp_path / "ours" / "server.pem"))
    with served(settings, credentials=grpc.ssl_channel_credentials(root, ours, ours)) as running:
        assert running.validate(running.create(metadata=()).token).valid
        for pair in ((stranger, stranger), (None, None)):
            with running.connect(grpc.ssl_channel_credentials(root, *pair)) as channel, denied(Code.UNAVAILABLE):
                SessionsStub(channel).Create(sessions_pb2.CreateRequest(user_id=USER), timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("names", "variable"),
    [
        (("SESSIONS_TLS_CERT",), "SESSIONS_TLS_KEY"),
        (("SESSIONS_TLS_KEY",), "SESSIONS_TLS_CERT"),
        (("SESSIONS_TLS_CLIENT_CA",), "SESSIONS_TLS_CERT"),
    ],
)
def test_a_part_of_tls_without_the_others_is_refused(tmp_path: Path, names: tuple[str, ...], variable: str) -> None:
    """Somebody thinks that it is on."""
    file = str(make_certificate(tmp_path).file)
    with pytest.raises(SettingError, match=f"^{variable}: is missing"):
        check_values(SYSTEM, on_sqlite(tmp_path, **dict.fromkeys(names, file)))


@pytest.mark.parametrize("wrong", ["SESSIONS_TLS_CERT", "SESSIONS_TLS_CLIENT_CA"])
def test_a_certificate_that_is_none_is_refused_by_name(tmp_path: Path, wrong: str) -> None:
    """The library that would read it later says neither which file nor why."""
    file, nonsense = make_certificate(tmp_path).file, tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    given = {"SESSIONS_TLS_CERT": str(file), "SESSIONS_TLS_KEY": str(file), wrong: str(nonsense)}
    with pytest.raises(SettingError, match=f"^{wrong}: .*nonsense.pem"):
        check_values(SYSTEM, on_sqlite(tmp_path, **given))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    """Half a renewal is a server that nobody can connect to."""
    cert, key = made(tmp_path, "one"), made(tmp_path, "other")
    with pytest.raises(SettingError, match="^SESSIONS_TLS_CERT: "):
        check_values(SYSTEM, on_sqlite(tmp_path, SESSIONS_TLS_CERT=str(cert), SESSIONS_TLS_KEY=str(key)))


def test_what_it_offers_is_told_only_where_that_is_allowed(alone_on_sqlite: Served, tmp_path: Path) -> None:
    """A list of methods is for people at a desk."""
    with pytest.raises(grpc.RpcError) as raised:
        ProtoReflectionDescriptorDatabase(alone_on_sqlite.channel).get_services()
    assert raised.value.code() is Code.UNIMPLEMENTED  # type: ignore[attr-defined]
    with served(on_sqlite(tmp_path / "other", SESSIONS_REFLECTION="allow")) as running:
        assert NAME in ProtoReflectionDescriptorDatabase(running.channel).get_services()


# --- what it is told


def test_where_it_is_started_alone_the_names_of_the_original_count(tmp_path: Path) -> None:
    """Its deployments go on as they are."""
    (port,) = free_ports(1)
    given = {"PORT": str(port), "JWT_SECRET": "s" * 40, "JWT_EXPIRATION": "90m"}
    with served(on_sqlite(tmp_path, SESSIONS_JWT_SECRET="", SESSIONS_PORT="", **given), alone=True) as running:
        opened = running.create()
        assert 5399 <= opened.expired_at.seconds - opened.issued_at.seconds <= 5401
        assert jwt.decode(opened.token, "s" * 40, ["HS256"], audience="user")["sub"] == USER


@contextmanager
def as_told(settings: Settings, *, alone: bool) -> Iterator[tuple[int, bytes, float]]:
    """Give what a process would take: its port, its secret, the lifetime of its tokens."""
    from usuarios.sessions.settings import lifetime_of, port_of, secret_of

    port = SYSTEM.port_of(settings, "sessions")
    yield (
        port_of(settings, port, alone=alone),
        secret_of(settings, alone=alone),
        lifetime_of(settings, alone=alone),
    )


def test_names_of_its_own_go_first_and_elsewhere_the_others_do_not_count(tmp_path: Path) -> None:
    """JWT_SECRET is the front door's, and PORT may be anybody's."""
    others = {"PORT": "7001", "JWT_SECRET": "s" * 40, "JWT_EXPIRATION": "90m"}
    own = {"SESSIONS_PORT": "7002", "SESSIONS_JWT_SECRET": SECRET, "SESSIONS_JWT_EXPIRATION": "2h"}
    with as_told(on_sqlite(tmp_path, **others, **own), alone=True) as told:
        assert told == (7002, SECRET.encode(), 7200.0)
    none = {"SESSIONS_PORT": "", "SESSIONS_JWT_SECRET": ""}
    with as_told(on_sqlite(tmp_path, **others, **none), alone=False) as told:
        port, secret, lifetime_s = told
    assert (port, lifetime_s) == (3123, 86400.0)
    assert secret not in (b"", b"s" * 40), "embedded mode makes one"


@pytest.mark.parametrize(
    ("variable", "value"), [("PORT", "http"), ("PORT", "0"), ("JWT_EXPIRATION", "1 day"), ("JWT_EXPIRATION", "-1h")]
)
def test_a_wrong_value_is_refused_by_the_name_that_was_used(tmp_path: Path, variable: str, value: str) -> None:
    """Somebody who has set PORT would look for SESSIONS_PORT in vain."""
    settings = on_sqlite(tmp_path, **{"SESSIONS_PORT": "", variable: value})
    with pytest.raises(SettingError, match=f"^{variable}: "), as_told(settings, alone=True):
        pass
    with as_told(settings, alone=False):
        pass


def test_without_a_secret_it_does_not_start_but_in_embedded_mode(tmp_path: Path) -> None:
    """A secret that is made by each replica is good at that replica only."""
    settings = on_sqlite(tmp_path, SESSIONS_JWT_SECRET="", BROKER_URL="pulsar://127.0.0.1:1")
    with pytest.raises(SettingError, match="^SESSIONS_JWT_SECRET: is missing"), as_told(settings, alone=False):
        pass
    embedded = on_sqlite(tmp_path, SESSIONS_JWT_SECRET="")
    with as_told(embedded, alone=False) as first, as_told(embedded, alone=False) as second:
        assert first == second


# --- what is left behind


@pytest.fixture(params=BOTH)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    settings = settings_for(request, tmp_path)
    prepare_databases(SYSTEM, settings, SYSTEM["usuarios"])
    write = open_database(settings, "usuarios", "write", "owner")
    yield runtime_of(SYSTEM, settings, "usuarios", FakeBroker(), write)
    write.dispose()


def test_sessions_that_are_over_are_forgotten(kept: Runtime) -> None:
    """Else every log-in that ever was would stay."""
    ends = {new_id(): time.time() + seconds for seconds in (-SESSIONS_KEPT_S - 60, -SESSIONS_KEPT_S + 60, -1, 3600)}
    rows = [
        {"jti": jti, "revision": 1, "user_id": USER, "issued_at": end - 60, "expires_at": end}
        for jti, end in ends.items()
    ]
    with kept.write.begin() as tx:
        tx.execute(insert(sesion), rows)
    forget_after("sessions", sesion.c.expires_at, SESSIONS_KEPT_S)(kept).work()
    with kept.write.connect() as connection:
        assert set(connection.execute(select(sesion.c.jti)).scalars()) == {*list(ends)[1:]}
