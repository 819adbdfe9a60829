"""Hold what `protools up` decides: replicas, ports, programs, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.harness import Program

from pulsaga.errors import SettingError
from pulsaga.settings import Settings
from pulsaga_program.local.process import PortInUse, free_ports, only_one
from pulsaga_program.preflight import check_system
from pulsaga_program.terminal import this_program
from pulsaga_program.up import (
    UnknownService,
    WrongReplicas,
    embedded_broker,
    processes_of,
    refuse_taken_ports,
    replica_counts,
    service_programs,
    try_next,
)
from system import SYSTEM

PROCESSES = (("generador", "worker"), ("generador", "web"), ("bff", "web"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a home and web ports of their own."""
    bff, generador = free_ports(2)
    given = {"PROTOOLS_HOME": str(tmp_path), "AUTH": "none", "BFF_PORT": str(bff), "GENERADOR_PORT": str(generador)}
    return Settings.read(given)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that somebody else left running."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_service_name_alone_means_its_worker() -> None:
    """Workers are what one scales first."""
    assert replica_counts(dict.fromkeys(PROCESSES, 1), ["generador=3"])["generador", "worker"] == 3


def test_a_kind_can_be_named() -> None:
    """A front door scales, too."""
    counts = replica_counts(dict.fromkeys(PROCESSES, 1), ["generador.web=2"])
    assert counts == {("generador", "worker"): 1, ("generador", "web"): 2, ("bff", "web"): 1}


@pytest.mark.parametrize("text", ["generator=2", "bff=2", "bff.web", "bff.web=0", "bff.web=many"])
def test_a_misspelt_replica_is_refused_with_what_there_is(text: str) -> None:
    """A typing error must not quietly run one process."""
    with pytest.raises(WrongReplicas, match=r"generador\.web"):
        replica_counts(dict.fromkeys(PROCESSES, 1), [text])


def test_a_part_of_the_system_is_what_was_named_with_the_coordinator_and_the_front_door() -> None:
    """Passwords without orders, say; by default everything there is."""
    part = processes_of(SYSTEM, ["generador", "correo"])
    assert {service for service, _ in part} == {"generador", "correo", "protools_saga", "bff"}
    assert processes_of(SYSTEM, []) == list(SYSTEM.processes)
    with pytest.raises(UnknownService, match=r"--only corrreo: there is no such service, of generador, correo"):
        processes_of(SYSTEM, ["bff", "corrreo"])


def test_each_replica_is_a_program_of_its_own_name(settings: Settings) -> None:
    """The prefix of a line tells which replica spoke."""
    programs = service_programs(settings, replica_counts(dict.fromkeys(PROCESSES, 1), ["generador=2"]))
    assert [program.name for program in programs] == [
        *("generador.worker.1", "generador.worker.2", "generador.web", "bff.web")
    ]


def test_web_replicas_share_their_port(settings: Settings) -> None:
    """A caller knows one address, whoever answers: each replica opens the same port (SO_REUSEPORT)."""
    first, second = service_programs(settings, replica_counts({("bff", "web"): 1}, ["bff.web=2"]))
    assert (first.name, second.name) == ("bff.web.1", "bff.web.2")
    assert {name for name, value in first.environment.items() if second.environment[name] != value} == {
        "OPERATORS_PORT"
    }


def test_a_taken_web_port_is_named(tmp_path: Path, listener: socket.socket) -> None:
    """`Address already in use` without a number sends people hunting."""
    port = listener.getsockname()[1]
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path), "BFF_PORT": str(port)})
    with pytest.raises(PortInUse, match=f"{port} is in use.*BFF_PORT"):
        refuse_taken_ports(SYSTEM, settings, {("bff", "web"): 1})


def test_a_taken_port_of_another_kind_of_process_is_named(tmp_path: Path, listener: socket.socket) -> None:
    """Replicas share it (SO_REUSEPORT), and so would another program, which then answers some of the calls."""
    port = listener.getsockname()[1]
    settings = Settings.read({"PROTOOLS_HOME": str(tmp_path), "SESSIONS_PORT": str(port)})
    refuse_taken_ports(SYSTEM, settings, {("usuarios", "worker"): 1})
    with pytest.raises(PortInUse, match=f"{port} is in use.*SESSIONS_PORT"):
        refuse_taken_ports(SYSTEM, settings, {("usuarios", "sessions"): 2})


def test_the_embedded_broker_counts_as_started_once_it_takes_connections(settings: Settings) -> None:
    """A service that is faster than its broker would only fill the screen with errors."""
    [broker] = embedded_broker(settings)
    assert broker.gate is not None
    assert not broker.gate()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(settings.home / "broker.sock"))
        server.listen()
        assert broker.gate()


def test_no_embedded_broker_runs_beside_a_real_one(tmp_path: Path) -> None:
    """BROKER_URL alone decides where messages go."""
    assert list(embedded_broker(Settings.read({"BROKER_URL": "pulsar://127.0.0.1:6650"}))) == []


def test_the_commands_to_try_reach_the_front_door(settings: Settings) -> None:
    """The first minute decides whether people stay."""
    shown = try_next(SYSTEM, settings, 3.21)
    assert "ready in 3.2 s" in shown
    assert shown.count(f"http://127.0.0.1:{SYSTEM.port_of(settings, 'bff')}/passwords") == 3


def test_the_commands_to_try_carry_a_token_where_one_is_asked_for(tmp_path: Path) -> None:
    """A first command that is answered with 401 helps nobody."""
    shown = try_next(SYSTEM, Settings.read({"PROTOOLS_HOME": str(tmp_path), "JWT_SECRET": "x" * 32}), 3.21)
    assert f"{this_program()} token issue --role operator" in shown
    assert shown.count('-H "Authorization: Bearer $TOKEN"') == 3


@pytest.mark.parametrize("path", ["/usr/bin:/bin", f"{Path(sys.executable).parent}:/usr/bin:/bin"])
def test_the_command_for_a_token_works_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Whether or not the program is on the PATH, and where nobody says who $USER is."""
    monkeypatch.setenv("PATH", path)
    shown = try_next(SYSTEM, Settings.read({"PROTOOLS_HOME": str(tmp_path), "JWT_SECRET": "x" * 32}), 3.21)
    (line,) = (line.strip() for line in shown.splitlines() if "TOKEN=" in line)
    environment = {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "JWT_SECRET": "x" * 32}
    done = subprocess.run(["/bin/sh", "-euc", f"{line}; echo $TOKEN"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count(".")) == (0, 2), done.stderr


def test_what_is_told_of_our_own_ports_follows_them() -> None:
    """The link in a mail, and the way to generador, led to the usual ports whatever was set."""
    settings = Settings.read({"BFF_PORT": "7300", "GENERADOR_PORT": "7302"})
    assert (SYSTEM.public_url(settings), SYSTEM.url_of(settings, "generador")) == (
        "http://127.0.0.1:7300",
        "http://127.0.0.1:7302",
    )
    told = Settings.read({"BFF_PORT": "7300", "PUBLIC_URL": "https://x.test"})
    assert SYSTEM.public_url(told) == "https://x.test"


@pytest.mark.parametrize(("host", "auth"), [("0.0.0.0", "none"), ("127.0.0.1", "")])
def test_nothing_starts_that_would_let_anybody_in_by_mistake(tmp_path: Path, host: str, auth: str) -> None:
    """AUTH=none is for loopback, and must be said."""
    done = _up({"PROTOOLS_HOME": str(tmp_path), "BIND_HOST": host, "AUTH": auth})
    assert (done.returncode, "AUTH" in done.stderr) == (2, True)


def test_a_second_instance_on_the_same_home_is_refused(tmp_path: Path) -> None:
    """Two supervisors on one set of files would start every process twice."""
    with only_one(tmp_path / "up.lock", "busy"):
        done = _up({"PROTOOLS_HOME": str(tmp_path), "AUTH": "none"})
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_ends_with_exit_code_2(tmp_path: Path) -> None:
    """Supervisors and people alike must see that trying again would not help."""
    done = _up({"PROTOOLS_HOME": str(tmp_path), "BFF_PORT": "no-port"})
    assert done.returncode == 2
    assert "BFF_PORT" in done.stderr


def _up(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "pulsaga_program", "up"]
    return subprocess.run(command, env=path | environment, capture_output=True, text=True, timeout=60)


# --- settings


KEY = "a" * 43 + "="
WRONG = {
    "PROTOOLS_HOME": ("/dev/null", "/dev/null/below", "~nobody-of-this-name/x", "/tmp/" + "long/" * 30),
    "BIND_HOST": ("no.such.host", "203.0.113.7", "127.0.0.1:80"),
    "PUBLIC_URL": ("example.test", "ftp://example.test", "http://", "http://example.test:port", "http://a b"),
    "BFF_PORT": ("0", "65536", "-1", "http", "\u0663"),
    "GENERADOR_PORT": ("{BFF_PORT}",),
    "CORS_ORIGINS": ("example.test", "https://example.test/path"),
    "GENERADOR_URL": ("generador:3002", "http://generador:99999"),
    "AUTH": ("", "maybe"),
    "JWT_SECRET": ("short",),
    "JWKS_URL": ("http://keys.example.test", "file:///etc/passwd", "https://"),
    "JWKS_FILE": ("/no/such/file", "/dev", "/dev/null"),
    "RATE_LIMIT": ("many", "0/s", "-1/s"),
    "TRUSTED_PROXIES": ("somewhere", "10.0.0.1/8"),
    "BROKER_URL": ("kafka://x", "pulsar://", "pulsar://h:port", "unix://", "unix:///" + "x" * 120, "pulsar://a b"),
    "BROKER_HOST": ("a b", "h:6650:1", "h:port"),
    "BROKER_ADMIN_URL": ("pulsar://127.0.0.1", "127.0.0.1:8080"),
    "BROKER_NAMESPACE": ("a/b", "\u00e9t\u00e9", "a b"),
    "BROKER_TLS_TRUST_CERTS": ("/no/such/file", "/dev"),
    "BROKER_PARTITIONS": ("0", "many"),
    "DB_HOSTNAME": ("a b", "h:port", "user@h", "h/name"),
    "DB_NAME": ("x" * 40, "a.b"),
    "DB_READ_NAME": ("x" * 40, "a b"),
    "BFF_DB_URL": ("mysql://h/x", "sqlite://", "postgresql+asyncpg://h/x", "postgresql://", "postgresql://h:port/x"),
    "BFF_DB_READ_URL": ("x",),
    "MAIL_DOMAIN": ("not a domain", "@example.test", "a..b"),
    "MAIL_FROM": ("nobody", "a@b.test, c@d.test", "\u00e9@example.test"),
    "MAIL_REFUSED_DOMAINS": ("not a domain",),
    "SMTP_URL": ("ftp://h", "smtp://user:secret@mail.example.test", "smtp://h:port", "smtp://h/path", "smtp://"),
    "VAULT_KEY": ("short", "!" * 44),
    "VAULT_KEY_OLD": ("short",),
    "LINK_KEY": ("short",),
    "LINK_KEY_OLD": ("short",),
    "TOKEN_KEY": ("short",),
    "TOKEN_KEY_OLD": ("short",),
    "RESET_KEY": ("short",),
    "RESET_KEY_OLD": ("short",),
    "SIGNING_KEY": ("short",),
    "SIGNING_KEY_OLD": ("short",),
    "USER_TOKEN_TTL": ("0", "soon"),
    "RESET_TTL": ("0", "1e300"),
    "INTERNAL_TOKEN": ("short",),
    "WEBHOOK_SECRET": ("short",),
    "REVEAL_TTL": ("soon", "0", "-1", "nan", "inf", "1e300"),
    "ACCEPT_WITHIN": ("0", "nan"),
    "IDEMPOTENCY_TTL": ("0", "1e300"),
    "WAIT_LIMIT": ("0", "inf"),
    "EVENTS_HEARTBEAT": ("0", "soon"),
    "WEBHOOK_PRIVATE": ("yes",),
    "WEBHOOK_ATTEMPTS": ("0", "1.5"),
    "BATCH_LIMIT": ("0", "x"),
    "FAILURE_ATTEMPTS": ("0",),
    "FAILURE_DELAY": ("-1", "nan", "soon"),
    "SWEEP_AFTER": ("-1", "inf"),
    "TRANSACTION_TIMEOUT": ("0", "0.0004", "-1", "nan", "9999999"),
    "LOCK_TIMEOUT": ("0", "0.0004", "nan", "9999999"),
    "SAGA_RETENTION": ("90", "1d", "ever"),
    "OPERATOR_APPROVALS": ("0", "2"),
    "PROTOOLS_CLOCK_OFFSET": ("nan", "1e300", "later"),
    "MAIL_CLAIM": ("0", "-1"),
    "PROTOOLS_FAULTS": ("nonsense",),
    "SESSIONS_PORT": ("0", "{BFF_PORT}"),
    "SESSIONS_JWT_SECRET": ("short",),
    "SESSIONS_JWT_EXPIRATION": ("1", "0", "-1h", "999ms", "1d", "1e3s", "2000000h"),
    "SESSIONS_TLS_CERT": ("/no/such/file",),
    "SESSIONS_TLS_KEY": ("/no/such/file",),
    "SESSIONS_TLS_CLIENT_CA": ("/no/such/file",),
    "SESSIONS_REFLECTION": ("yes",),
    "LOG_FORMAT": ("xml",),
    "INCIDENT_WEBHOOK": ("ftp://a.test", "http://a.test/hook", "a.test"),
    "OPERATORS_URL": ("ftp://a.test",),
    "OPERATORS_HOST": ("::g",),
    "OPERATORS_PORT": ("65536", "-1"),
    "LOG_LEVEL": ("loud", "INFO"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("collector:4318",),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("grpc://collector",),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("thrift",),
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": ("thrift",),
    "OTEL_TRACES_EXPORTER": ("jaeger",),
    "OTEL_TRACES_SAMPLER": ("sometimes",),
    "OTEL_TRACES_SAMPLER_ARG": ("2", "nan", "some"),
}
KEYS = ["VAULT_KEY", "LINK_KEY", "TOKEN_KEY", "RESET_KEY", "SIGNING_KEY", "INTERNAL_TOKEN", "SESSIONS_JWT_SECRET"]
FREE = {
    *("JWT_AUDIENCE", "JWT_ISSUER", "BROKER_TOKEN", "BROKER_ROLE_PREFIX", "DB_USERNAME", "DB_PASSWORD", "OPERATOR"),
    "PROTOOLS_TOKEN",
    *("OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_HEADERS"),  # only `true` says so; any text may be a header
    *("PROTOOLS_SAGA_PORT", "CORREO_PORT", "USUARIOS_PORT", "DB_READ_HOSTNAME"),  # read as their neighbours are
}
PAIRS = [(variable, value) for variable, values in WRONG.items() for value in values]


def test_every_setting_that_can_be_wrong_is_tried() -> None:
    """One that nobody looks at before the start is found by some process, after it."""
    known = {*SYSTEM.shown(Settings.read({}))} - {f"{name.upper()}_URL" for name in SYSTEM.names}
    assert known - FREE <= {*WRONG, "GENERADOR_URL"}


@pytest.mark.parametrize(("variable", "value"), PAIRS)
def test_a_wrong_setting_is_refused_by_its_name_before_anything_is_made(
    settings: Settings, tmp_path: Path, variable: str, value: str
) -> None:
    """Seven processes that each find it after the bootstrap, and print a page, are seven pages too late."""
    home = tmp_path / "home"
    given = {"PROTOOLS_HOME": str(home), "AUTH": "none", "BFF_PORT": str(SYSTEM.port_of(settings, "bff"))}
    given |= {variable: value.format(**given) if value.startswith("{") else value}
    if variable in ("JWT_SECRET", "JWKS_URL", "JWKS_FILE", "BIND_HOST"):
        del given["AUTH"]
    if variable == "BIND_HOST":
        given["JWT_SECRET"] = "x" * 32
    with pytest.raises(SettingError) as refused:
        check_system(SYSTEM, Settings.read(given))
    assert refused.value.variable == variable
    assert str(refused.value).startswith(f"{variable}: ")
    assert str(refused.value).isprintable(), "one line"
    assert "secret@" not in str(refused.value)
    assert not home.exists()


@pytest.mark.parametrize("command", [["up"], ["bootstrap"], ["run", "correo", "worker"], ["run", "bff", "web"]])
@pytest.mark.parametrize("wrong", [("LOG_FORMAT", "xml"), ("MAIL_FROM", "nobody"), ("SAGA_RETENTION", "1d")])
def test_every_program_refuses_what_another_one_would_need(
    tmp_path: Path, command: list[str], wrong: tuple[str, str]
) -> None:
    """Exit code 2, one line, and nothing was started or created: a supervisor need not try again."""
    home, (variable, value) = tmp_path / "home", wrong
    done = Program(home, {variable: value}).run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"protools: {variable}: ")
    assert not home.exists()


def test_a_kept_key_that_cannot_be_read_is_named(settings: Settings) -> None:
    """It is half copied, or another's: the process that needs it would end with a stack trace."""
    file = settings.key_file("VAULT_KEY")
    file.parent.mkdir()
    file.write_text("nonsense")
    with pytest.raises(SettingError, match=f"^VAULT_KEY: {file}: "):
        check_system(SYSTEM, settings)
    assert list(file.parent.iterdir()) == [file], "and no other is made"


@pytest.mark.parametrize("missing", KEYS)
def test_a_key_that_nobody_keeps_is_asked_for_before_the_start(settings: Settings, missing: str) -> None:
    """With a real broker there is no folder in which one could be made."""
    keys = {name: KEY for name in KEYS if name != missing}
    given = {"AUTH": "none", "BROKER_URL": "pulsar://127.0.0.1", "PROTOOLS_HOME": str(settings.home), **keys}
    with pytest.raises(SettingError, match=f"^{missing}: is missing"):
        check_system(SYSTEM, Settings.read(given))


@pytest.mark.parametrize("url", ["postgresql://u:p@h:5432/x", "postgresql+psycopg://u:p@h:5432/x"])
def test_the_url_of_a_postgresql_is_read_as_libpq_writes_it(url: str) -> None:
    """The other spelling asks for a driver that is not installed, when the first process connects."""
    assert Settings.read({"BFF_DB_URL": url}).database_url("bff", "write") == "postgresql+psycopg://u:p@h:5432/x"
