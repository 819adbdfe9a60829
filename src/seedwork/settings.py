"""Read the environment, once, in one place; refuse a wrong value by the name of its variable."""

from __future__ import annotations

import base64
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pulsaga import setting_values as values
from pulsaga.broker import BrokerAccess
from pulsaga.errors import SettingError
from pulsaga.setting_values import KEY_BYTES
from pulsaga.web.access.limits import Rate

Side = Literal["write", "read"]
Role = Literal["owner", "projector", "reader"]
KeyName = Literal["VAULT_KEY", "LINK_KEY", "INTERNAL_TOKEN", "WEBHOOK_SECRET"]
Rotated = Literal["VAULT_KEY", "LINK_KEY"]


def _from(variable: str, parse: Callable[[str], Any], default: str = "", *, secret: bool = False) -> Any:
    return field(metadata={"variable": variable, "parse": parse, "default": default, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold every setting of one process. Build it with `read`; times are in seconds."""

    home: Path = _from("PROTOOLS_HOME", values.folder, ".protools")
    bind: str = _from("BIND_HOST", values.address, "127.0.0.1")
    bff_port: int = _from("BFF_PORT", values.port, "3000")
    protools_saga_port: int = _from("PROTOOLS_SAGA_PORT", values.port, "3001")
    generador_port: int = _from("GENERADOR_PORT", values.port, "3002")
    correo_port: int = _from("CORREO_PORT", values.port, "3003")
    public_url: str = _from("PUBLIC_URL", values.url("http", "https"), "http://127.0.0.1:{BFF_PORT}")
    cors_origins: frozenset[str] = _from("CORS_ORIGINS", values.origins)
    """Origins whose pages may ask from a browser, `*` for all; none by default."""
    generador_url: str = _from("GENERADOR_URL", values.url("http", "https"), "http://127.0.0.1:{GENERADOR_PORT}")

    auth: str | None = _from("AUTH", values.auth)
    """`none`: nobody is asked who they are, on loopback only."""
    jwt_secret: bytes | None = _from("JWT_SECRET", values.jwt_secret, secret=True)
    jwks_url: str | None = _from("JWKS_URL", values.jwks_url)
    jwks_file: Path | None = _from("JWKS_FILE", values.file)
    jwt_audience: str = _from("JWT_AUDIENCE", values.text, "protools")
    jwt_issuer: str = _from("JWT_ISSUER", values.text, "protools")
    rate_limit: Rate | None = _from("RATE_LIMIT", values.rate, "2000/s burst 4000")
    """Of each address and each caller, in each web process."""
    trusted_proxies: frozenset[IPv4Network | IPv6Network] = _from("TRUSTED_PROXIES", values.networks)
    """Whose X-Forwarded-For is believed."""

    broker_url_given: str | None = _from("BROKER_URL", values.optional)
    broker_host: str | None = _from("BROKER_HOST", values.optional)
    broker_admin_url_given: str | None = _from("BROKER_ADMIN_URL", values.optional_url("http", "https"))
    namespace: str = _from("BROKER_NAMESPACE", values.namespace, "main")
    broker_token: str | None = _from("BROKER_TOKEN", values.optional, secret=True)
    broker_tls_trust_certs: Path | None = _from("BROKER_TLS_TRUST_CERTS", values.file)
    broker_role_prefix: str | None = _from("BROKER_ROLE_PREFIX", values.optional)
    """With it bootstrap grants each service, as the role of this prefix and its name, what it needs and no more."""
    partitions: int = _from("BROKER_PARTITIONS", values.count, "1")
    """Of each topic that bootstrap creates on Pulsar; topics that are there stay as they are."""

    db_username: str | None = _from("DB_USERNAME", values.optional)
    db_password: str | None = _from("DB_PASSWORD", values.optional, secret=True)
    db_hostname: str | None = _from("DB_HOSTNAME", values.optional)
    db_name: str = _from("DB_NAME", values.database_name, "protools")
    db_read_hostname: str | None = _from("DB_READ_HOSTNAME", values.optional)
    db_read_name: str = _from("DB_READ_NAME", values.database_name, "protools_read")

    mail_domain: str = _from("MAIL_DOMAIN", values.domain, "example.test")
    mail_from: str = _from("MAIL_FROM", values.text, "Protools <no-reply@example.test>")
    mail_refused_domains: frozenset[str] = _from("MAIL_REFUSED_DOMAINS", values.domains, "refused.test")
    smtp_url: str | None = _from("SMTP_URL", values.smtp, secret=True)

    vault_key_given: bytes | None = _from("VAULT_KEY", values.key, secret=True)
    link_key_given: bytes | None = _from("LINK_KEY", values.key, secret=True)
    vault_key_old: bytes | None = _from("VAULT_KEY_OLD", values.key, secret=True)
    link_key_old: bytes | None = _from("LINK_KEY_OLD", values.key, secret=True)
    internal_token_given: bytes | None = _from("INTERNAL_TOKEN", values.key, secret=True)
    webhook_secret_given: bytes | None = _from("WEBHOOK_SECRET", values.key, secret=True)

    reveal_ttl: float = _from("REVEAL_TTL", values.duration, "86400")
    """After which a password that nobody revealed is destroyed."""
    accept_within: float = _from("ACCEPT_WITHIN", values.duration, "30")
    """Within which an accepted command is to end; what could not is refused (docs/decisions/0012)."""
    idempotency_ttl: float = _from("IDEMPOTENCY_TTL", values.duration, "86400")
    """For which an idempotency key is kept at least; that of an unfinished command is kept until it has ended."""
    wait_limit: float = _from("WAIT_LIMIT", values.duration, "30")
    """For which `Prefer: wait` may hold an answer back at most."""
    events_heartbeat: float = _from("EVENTS_HEARTBEAT", values.duration, "15")
    """After which a silent stream of events says that it is alive."""
    webhook_private: bool = _from("WEBHOOK_PRIVATE", values.allowed)
    """`allow`: callbacks may go to private networks and to this machine."""
    webhook_attempts: int = _from("WEBHOOK_ATTEMPTS", values.count, "20")
    batch_limit: int = _from("BATCH_LIMIT", values.count, "500")
    failure_attempts: int = _from("FAILURE_ATTEMPTS", values.count, "5")
    failure_delay: float = _from("FAILURE_DELAY", values.duration, "1")
    sweep_after: float = _from("SWEEP_AFTER", values.duration, "5")
    transaction_timeout: float = _from("TRANSACTION_TIMEOUT", values.timeout, "10")
    lock_timeout: float = _from("LOCK_TIMEOUT", values.timeout, "5")
    saga_retention: float = _from("SAGA_RETENTION", values.span, "90d")
    """After which `protools retention` archives a finished saga."""
    operator: str | None = _from("OPERATOR", values.optional)
    operator_approvals: int = _from("OPERATOR_APPROVALS", values.count, "1")
    clock_offset: float = _from("PROTOOLS_CLOCK_OFFSET", values.seconds, "0")
    mail_claim: float = _from("MAIL_CLAIM", values.duration, "60")
    """For which claimed mails are left alone by other senders; a killed sender's mails wait as long."""
    faults: tuple[str, ...] | None = _from("PROTOOLS_FAULTS", values.faults)
    log_format: str = _from("LOG_FORMAT", values.choice("console", "json"), "console")

    service_urls: Mapping[str, str] = field(default_factory=dict)
    """`<SERVICE>_DB_URL` and `<SERVICE>_DB_READ_URL` as given, by variable name."""

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; raise SettingError naming the first variable whose value cannot be used."""
        environment = os.environ if environment is None else environment
        given: dict[str, Any] = {}
        for f in filter(lambda f: f.metadata, fields(cls)):
            ports = {name.upper(): given.get(name) for name in ("bff_port", "generador_port")}
            given[f.name] = _value(f.metadata, environment, ports)
        named = [name for name, text in environment.items() if name.endswith(("_DB_URL", "_DB_READ_URL")) and text]
        urls = {name: _parsed(name, values.database, environment[name]) for name in named}
        settings = cls(service_urls=urls, **given)
        _check_places(settings)
        return settings

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
    def on_loopback(self) -> bool:
        """Whether the web processes listen on this machine only."""
        return self.bind == "localhost" or ipaddress.ip_address(self.bind).is_loopback

    def port(self, service: str) -> int:
        """Port of a service's web process; raise SettingError for a service that has none."""
        value = getattr(self, f"{service}_port", None)
        if value is None:
            raise SettingError(f"{service.upper()}_PORT", "no such web service")
        return int(value)

    def database_url(self, service: str, side: Side) -> str:
        """URL of one service's write or read database, without a role."""
        variable = f"{service.upper()}_DB_{'READ_' if side == 'read' else ''}URL"
        if variable in self.service_urls:
            return self.service_urls[variable]
        if self.db_hostname is None:
            return f"sqlite:///{self.home}/db/{service}-{side}.sqlite"
        host = (self.db_read_hostname or self.db_hostname) if side == "read" else self.db_hostname
        name = f"{self.db_read_name if side == 'read' else self.db_name}_{service}"
        user = quote(self.db_username or "protools", safe="")
        password = f":{quote(self.db_password, safe='')}" if self.db_password else ""
        return f"postgresql+psycopg://{user}{password}@{host}/{name}"

    def key(self, variable: KeyName) -> bytes:
        """Return a 32-byte key; embedded mode makes a missing one under home/keys (0600), elsewhere it is refused."""
        given: bytes | None = getattr(self, f"{variable.lower()}_given")
        if given is not None:
            return given
        if not self.embedded:
            raise SettingError(variable, f"is missing: {KEY_BYTES} random bytes in base64 are needed")
        return _kept_key(self.key_file(variable))

    def key_file(self, variable: KeyName) -> Path:
        """Where embedded mode keeps a key; the one before it lies beside, `_old` behind its name."""
        return self.home / "keys" / variable.lower()

    def keys(self, variable: Rotated) -> tuple[bytes, ...]:
        """Return the keys that may read what is sealed: the one in force, then the one before, if there is one."""
        old: bytes | None = getattr(self, f"{variable.lower()}_old")
        file = old_file(self.key_file(variable))
        if old is None and self.embedded and file.exists():
            old = _read_key(file)
        return (self.key(variable),) if old is None else (self.key(variable), old)

    def shown(self) -> dict[str, str]:
        """What is in force, by variable name, secrets hidden."""
        rows = {f.metadata["variable"]: _shown(f.metadata, getattr(self, f.name)) for f in fields(self) if f.metadata}
        return rows | {name: _without_password(url) for name, url in self.service_urls.items()}


def _value(meta: Mapping[str, Any], environment: Mapping[str, str], ports: Mapping[str, Any]) -> Any:
    text = environment.get(meta["variable"], "") or meta["default"].format_map(ports)
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
