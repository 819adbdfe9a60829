"""Read the environment, once, in one place; refuse a wrong value by the name of its variable."""

from __future__ import annotations

import base64
import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from pulsaga import values
from pulsaga.broker import BrokerAccess
from pulsaga.errors import SettingError
from pulsaga.values import KEY_BYTES
from pulsaga.web.access.limits import Rate

Side = Literal["write", "read"]
Role = Literal["owner", "projector", "reader"]
S = TypeVar("S")
DATABASES = ("_DB_URL", "_DB_READ_URL")
OTLP_PROTOCOLS = ("http/protobuf", "http/json", "grpc")
"""That OpenTelemetry knows; the first is spoken."""
SAMPLERS = (
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
    *("always_on", "always_off", "traceidratio"),
)
KEYS = ("INTERNAL_TOKEN", "WEBHOOK_SECRET")
"""Keys that the framework itself uses."""


def setting(variable: str, parse: Callable[[str], Any], default: str = "", *, secret: bool = False) -> Any:
    """Declare a field of a settings dataclass: the variable that it is read from, and how."""
    return field(metadata={"variable": variable, "parse": parse, "default": default, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of one process. Build it with `read`; times are in seconds."""

    home: Path = setting("PROTOOLS_HOME", values.folder, ".protools")
    bind: str = setting("BIND_HOST", values.address, "127.0.0.1")
    cors_origins: frozenset[str] = setting("CORS_ORIGINS", values.origins)
    """Origins whose pages may ask from a browser, `*` for all; none by default."""

    auth: str | None = setting("AUTH", values.auth)
    """`none`: nobody is asked who they are, on loopback only."""
    jwt_secret: bytes | None = setting("JWT_SECRET", values.hmac_secret("JWT_SECRET"), secret=True)
    jwks_url: str | None = setting("JWKS_URL", values.jwks_url)
    jwks_file: Path | None = setting("JWKS_FILE", values.file)
    jwt_audience: str = setting("JWT_AUDIENCE", values.text, "protools")
    jwt_issuer: str = setting("JWT_ISSUER", values.text, "protools")
    rate_limit: Rate | None = setting("RATE_LIMIT", values.rate, "2000/s burst 4000")
    """Of each address and each caller, in each web process."""
    trusted_proxies: frozenset[IPv4Network | IPv6Network] = setting("TRUSTED_PROXIES", values.networks)
    """Whose X-Forwarded-For is believed."""

    broker_url_given: str | None = setting("BROKER_URL", values.optional)
    broker_host: str | None = setting("BROKER_HOST", values.optional)
    broker_admin_url_given: str | None = setting("BROKER_ADMIN_URL", values.optional_url("http", "https"))
    namespace: str = setting("BROKER_NAMESPACE", values.namespace, "main")
    broker_token: str | None = setting("BROKER_TOKEN", values.optional, secret=True)
    broker_tls_trust_certs: Path | None = setting("BROKER_TLS_TRUST_CERTS", values.file)
    broker_role_prefix: str | None = setting("BROKER_ROLE_PREFIX", values.optional)
    """With it bootstrap grants each service, as the role of this prefix and its name, what it needs and no more."""
    partitions: int = setting("BROKER_PARTITIONS", values.count, "1")
    """Of each topic that bootstrap creates on Pulsar; topics that are there stay as they are."""

    db_username: str | None = setting("DB_USERNAME", values.optional)
    db_password: str | None = setting("DB_PASSWORD", values.optional, secret=True)
    db_hostname: str | None = setting("DB_HOSTNAME", values.optional)
    db_name: str = setting("DB_NAME", values.database_name, "protools")
    db_read_hostname: str | None = setting("DB_READ_HOSTNAME", values.optional)
    db_read_name: str = setting("DB_READ_NAME", values.database_name, "protools_read")

    accept_within: float = setting("ACCEPT_WITHIN", values.duration, "30")
    """Within which an accepted command is to end; what could not is refused (docs/decisions/0012)."""
    idempotency_ttl: float = setting("IDEMPOTENCY_TTL", values.duration, "86400")
    """For which an idempotency key is kept at least; that of an unfinished command is kept until it has ended."""
    wait_limit: float = setting("WAIT_LIMIT", values.duration, "30")
    """For which `Prefer: wait` may hold an answer back at most."""
    events_heartbeat: float = setting("EVENTS_HEARTBEAT", values.duration, "15")
    """After which a silent stream of events says that it is alive."""
    webhook_private: bool = setting("WEBHOOK_PRIVATE", values.allowed)
    """`allow`: callbacks may go to private networks and to this machine."""
    incident_webhook: str | None = setting("INCIDENT_WEBHOOK", values.optional_url("http", "https"), secret=True)
    """Told when an incident opens and when it ends, signed as callbacks are: https, or http to this machine."""
    webhook_attempts: int = setting("WEBHOOK_ATTEMPTS", values.count, "20")
    batch_limit: int = setting("BATCH_LIMIT", values.count, "500")
    failure_attempts: int = setting("FAILURE_ATTEMPTS", values.count, "5")
    failure_delay: float = setting("FAILURE_DELAY", values.duration, "1")
    sweep_after: float = setting("SWEEP_AFTER", values.duration, "5")
    transaction_timeout: float = setting("TRANSACTION_TIMEOUT", values.timeout, "10")
    lock_timeout: float = setting("LOCK_TIMEOUT", values.timeout, "5")
    saga_retention: float = setting("SAGA_RETENTION", values.span, "90d")
    """After which `protools retention` archives a finished saga."""
    operator: str | None = setting("OPERATOR", values.optional)
    operator_approvals: int = setting("OPERATOR_APPROVALS", values.count, "1")
    clock_offset: float = setting("PROTOOLS_CLOCK_OFFSET", values.seconds, "0")
    faults: tuple[str, ...] | None = setting("PROTOOLS_FAULTS", values.faults)
    operators_host: str = setting("OPERATORS_HOST", values.address, "127.0.0.1")
    """Where each process answers operators: metrics, liveness, readiness. No proxy in front is to route there."""
    operators_port: int = setting("OPERATORS_PORT", values.port_or_any, "3900")
    """The first process's; `protools up` gives the next ones those that follow. 0: any that is free."""
    operators_url: str | None = setting("OPERATORS_URL", values.optional_url("http", "https"))
    """Of one process of the coordinator: `protools status` then asks over HTTP, and needs no database."""
    token: str | None = setting("PROTOOLS_TOKEN", values.optional, secret=True)
    """By which the front door and the operators' ports know who types `protools`."""
    log_format: str = setting("LOG_FORMAT", values.choice("console", "json"), "console")
    log_level: str = setting("LOG_LEVEL", values.choice("debug", "info", "warning", "error"), "info")

    otlp_endpoint: str | None = setting("OTEL_EXPORTER_OTLP_ENDPOINT", values.optional_url("http", "https"))
    """With it, or the next one, spans are exported; OpenTelemetry's SDK reads what else is called `OTEL_*`."""
    otlp_traces_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", values.optional_url("http", "https")
    )
    otlp_headers: str | None = setting("OTEL_EXPORTER_OTLP_HEADERS", values.optional, secret=True)
    otlp_protocol: str = setting("OTEL_EXPORTER_OTLP_PROTOCOL", values.choice(*OTLP_PROTOCOLS), OTLP_PROTOCOLS[0])
    otlp_traces_protocol: str | None = setting(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", values.optional_choice(*OTLP_PROTOCOLS)
    )
    traces_exporter: str = setting("OTEL_TRACES_EXPORTER", values.choice("otlp", "none"), "otlp")
    traces_sampler: str = setting("OTEL_TRACES_SAMPLER", values.choice(*SAMPLERS), SAMPLERS[0])
    traces_share: float | None = setting("OTEL_TRACES_SAMPLER_ARG", values.optional_share)
    otel_disabled: bool = setting("OTEL_SDK_DISABLED", values.is_true)

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What was read: ports, addresses, keys and each service's own settings are taken from it when asked for."""

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; raise SettingError naming the first variable whose value cannot be used."""
        environment = dict(os.environ) if environment is None else environment
        settings = cls(environment=environment, **_values(cls, environment))
        for name in environment:
            if name.endswith(DATABASES):
                settings.database_at(name)
        _check_places(settings)
        return settings

    def of(self, cls: type[S]) -> S:
        """Read a service's own settings; raise SettingError naming the first variable that cannot be used."""
        return cls(**_values(cls, self.environment))

    def given(self, variable: str, parse: Callable[[str], Any]) -> Any:
        """Return what one variable says, or None when it is not set."""
        text = self.environment.get(variable, "")
        return _parsed(variable, parse, text) if text else None

    @property
    def broker_url(self) -> str:
        """Address of the broker: BROKER_URL, else BROKER_HOST's Pulsar, else the embedded one in the home folder."""
        if self.broker_url_given:
            return self.broker_url_given
        return f"pulsar://{self.broker_host}:6650" if self.broker_host else f"unix://{self.home}/broker.sock"

    @property
    def broker_admin_url(self) -> str:
        """HTTP address of Pulsar's admin interface; unused by the embedded broker."""
        host = urlsplit(self.broker_url).hostname or "127.0.0.1"
        return self.broker_admin_url_given or f"http://{host}:8080"

    @property
    def broker_access(self) -> BrokerAccess:
        """What this process shows to a Pulsar that asks."""
        return BrokerAccess(self.broker_token, self.broker_tls_trust_certs)

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded one."""
        return self.broker_url.startswith("unix://")

    @property
    def fault_file(self) -> Path:
        """Where the rules of faults lie while they are allowed."""
        return self.home / "faults.sqlite"

    @property
    def are_traced(self) -> bool:
        """Whether spans are exported; raise SettingError for a protocol that is not spoken here."""
        if self.otel_disabled or self.traces_exporter == "none" or self.traces_sampler == "always_off":
            return False
        if not (self.otlp_endpoint or self.otlp_traces_endpoint):
            return False
        if (self.otlp_traces_protocol or self.otlp_protocol) != OTLP_PROTOCOLS[0]:
            variable = f"OTEL_EXPORTER_OTLP_{'TRACES_' if self.otlp_traces_protocol else ''}PROTOCOL"
            raise SettingError(variable, f"spans are exported by {OTLP_PROTOCOLS[0]} only")
        return True

    @property
    def on_loopback(self) -> bool:
        """Whether the web processes listen on this machine only."""
        return values.is_loopback(self.bind)

    def port(self, name: str, default: int) -> int:
        """Return the port of a service's web process, or of a kind of process, as `<NAME>_PORT` says."""
        given = self.given(f"{name.upper()}_PORT", values.port)
        return default if given is None else int(given)

    def url(self, variable: str, default: str) -> str:
        """Return an HTTP address, as a variable says."""
        return str(self.given(variable, values.url("http", "https")) or default)

    def database_at(self, variable: str) -> str | None:
        """Return the URL of a database that a variable such as `<SERVICE>_DB_URL` gives, or None."""
        found: str | None = self.given(variable, values.database)
        return found

    def database_url(self, service: str, side: Side) -> str:
        """URL of one service's write or read database, without a role."""
        variable = f"{service.upper()}_DB_{'READ_' if side == 'read' else ''}URL"
        if given := self.database_at(variable):
            return given
        if self.db_hostname is None:
            return f"sqlite:///{self.home}/db/{service}-{side}.sqlite"
        host = (self.db_read_hostname or self.db_hostname) if side == "read" else self.db_hostname
        name = f"{self.db_read_name if side == 'read' else self.db_name}_{service}"
        user = quote(self.db_username or "protools", safe="")
        password = f":{quote(self.db_password, safe='')}" if self.db_password else ""
        return f"postgresql+psycopg://{user}{password}@{host}/{name}"

    def key(self, variable: str) -> bytes:
        """Return a 32-byte key; embedded mode makes a missing one under home/keys (0600), elsewhere it is refused."""
        if (given := self.given_key(variable)) is not None:
            return given
        if not self.embedded:
            raise SettingError(variable, f"is missing: {KEY_BYTES} random bytes in base64 are needed")
        return _kept_key(self.key_file(variable))

    def given_key(self, variable: str) -> bytes | None:
        """Return the key that a variable gives, or None."""
        text = self.environment.get(variable, "")
        found: bytes | None = _parsed(variable, values.key, text, secret=True)
        return found

    def secret(self, variable: str) -> bytes:
        """Return a secret of 32 bytes or more, as text; embedded mode makes a missing one as it makes keys.

        Elsewhere a missing one is refused.
        """
        if (given := self.given_secret(variable)) is not None:
            return given
        if not self.embedded:
            raise SettingError(variable, f"is missing: {KEY_BYTES} random bytes are needed (openssl rand -base64 32)")
        return base64.b64encode(_kept_key(self.key_file(variable)))

    def given_secret(self, variable: str) -> bytes | None:
        """Return the secret that a variable gives, or None."""
        found: bytes | None = values.hmac_secret(variable)(self.environment.get(variable, ""))
        return found

    def key_file(self, variable: str) -> Path:
        """Where embedded mode keeps a key; the one before it lies beside, `_old` behind its name."""
        return self.home / "keys" / variable.lower()

    def keys(self, variable: str) -> tuple[bytes, ...]:
        """Return the keys that may read what is sealed: the one in force, then the one before, if there is one."""
        old = self.given_key(f"{variable}_OLD")
        file = old_file(self.key_file(variable))
        if old is None and self.embedded and file.exists():
            old = _read_key(file)
        return (self.key(variable),) if old is None else (self.key(variable), old)

    def shown(
        self, own: Iterable[type] = (), keys: Collection[str] = KEYS, secrets: Collection[str] = ()
    ) -> dict[str, str]:
        """What is in force, by variable name, secrets hidden.

        `own` are the settings of services, `keys` and `secrets` the names of theirs.
        """
        rows = _rows(self)
        for cls in own:
            rows |= _rows(self.of(cls))
        rotated = [f"{name}_OLD" for name in keys if name not in KEYS]
        rows |= {name: "(hidden)" if self.environment.get(name) else "" for name in (*keys, *rotated, *secrets)}
        databases = {name: self.database_at(name) for name in self.environment if name.endswith(DATABASES)}
        return rows | {name: _without_password(url) for name, url in databases.items() if url}


def system_reference() -> str:
    """Return which system the program runs, as `module:NAME`; empty when the environment does not say."""
    return os.environ.get("PROTOOLS_SYSTEM", "")


def _values(cls: type, environment: Mapping[str, str]) -> dict[str, Any]:
    declared = [one for one in fields(cls) if one.metadata]
    return {one.name: _value(one.metadata, environment) for one in declared}


def _rows(settings: Any) -> dict[str, str]:
    declared = [one for one in fields(settings) if one.metadata]
    return {one.metadata["variable"]: _shown(one.metadata, getattr(settings, one.name)) for one in declared}


def _value(meta: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    text = environment.get(meta["variable"], "") or meta["default"]
    return _parsed(meta["variable"], meta["parse"], text, secret=meta["secret"])


def _parsed(variable: str, parse: Callable[[str], Any], text: str, *, secret: bool = False) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        problem = "cannot be read (it is a secret and not shown)" if secret else str(error)
        raise SettingError(variable, problem) from None


def _check_places(settings: Settings) -> None:
    """Refuse a broker or a database that several variables name together, by the one that is to blame."""
    by = "BROKER_URL" if settings.broker_url_given else "BROKER_HOST" if settings.broker_host else "PROTOOLS_HOME"
    _parsed(by, values.broker, settings.broker_url)
    if settings.db_hostname:
        _parsed("DB_HOSTNAME", values.host, settings.db_hostname)
        _parsed("DB_READ_HOSTNAME", values.host, settings.db_read_hostname or settings.db_hostname)


def _shown(meta: Mapping[str, Any], value: Any) -> str:
    if value is None or value == "":
        return ""
    if meta["secret"]:
        return "(hidden)"
    if isinstance(value, tuple):
        return "; ".join(value) or "on"
    return ",".join(sorted(map(str, value))) if isinstance(value, frozenset) else str(value)


def _without_password(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":(hidden)@") if password else url


def old_file(key_file: Path) -> Path:
    """Where embedded mode keeps the key that was in force before."""
    return key_file.with_name(f"{key_file.name}_old")


def _kept_key(path: Path) -> bytes:
    home = path.parent.parent
    if not home.is_dir():
        raise SettingError("PROTOOLS_HOME", f"there is no Protools data in {home}: run this where `protools up` ran")
    path.parent.mkdir(exist_ok=True, mode=0o700)
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent) as made, suppress(FileExistsError):
            made.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)))
            made.flush()
            os.fsync(made.fileno())
            os.link(made.name, path)  # at once whole: other processes of a service start in the same moment
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        if key := values.key(path.read_text()):
            return key
    except (OSError, ValueError) as error:
        raise SettingError(path.name.upper(), f"{path}: {error}") from None
    raise SettingError(path.name.upper(), f"{path} is empty")
