"""Look into every setting before anything is started, opened or made: no process is to find a wrong one later."""

from __future__ import annotations

from pulsaga.errors import SettingError
from pulsaga.faults import FaultRuleError, check_rule
from pulsaga.operate.retention import SHORTEST_S
from pulsaga.settings import KEYS, Settings
from pulsaga.system import System
from pulsaga.values import UNITS
from pulsaga.web.access.tokens import authentication
from pulsaga_program.local.process import port_is_free


def check_values(system: System, settings: Settings) -> None:
    """Raise SettingError for a value that some process could not work with, whichever process this is."""
    for service in system.all:
        for cls in service.own_settings:
            settings.of(cls)
        if service.web:
            system.url_of(settings, service.name)
        if service.preflight:
            service.preflight(settings)
    system.ports(settings), system.public_url(settings)
    for name in keys_of(system):
        settings.given_key(name), settings.given_key(f"{name}_OLD")
    for name in secrets_of(system):
        settings.given_secret(name)
    if settings.incident_webhook:
        _check_incident_webhook(settings)
    if settings.saga_retention < SHORTEST_S:
        raise SettingError("SAGA_RETENTION", f"must be {SHORTEST_S / UNITS['d']:g}d or more: messages may be so late")
    if settings.operator_approvals > 1 and settings.auth == "none":
        said = f"{settings.operator_approvals} operators cannot be told apart with AUTH=none: set up authentication"
        raise SettingError("OPERATOR_APPROVALS", said)
    if settings.faults is not None and not settings.on_loopback:
        raise SettingError("PROTOOLS_FAULTS", f"faults are for loopback only, and this is {settings.bind}")
    _check_faults(system, settings)
    _ = settings.are_traced


def _check_incident_webhook(settings: Settings) -> None:
    from pulsaga.web.front_door.callbacks.outward import read_url

    try:
        read_url(settings.incident_webhook or "")
    except ValueError as error:
        raise SettingError("INCIDENT_WEBHOOK", str(error)) from None
    if not settings.embedded and settings.given_key("WEBHOOK_SECRET") is None:
        raise SettingError("WEBHOOK_SECRET", "is missing: it signs what INCIDENT_WEBHOOK is told")


def keys_of(system: System) -> tuple[str, ...]:
    """Return the names of all keys of a system, the framework's included."""
    return tuple(dict.fromkeys((*(key for service in system.all for key in service.keys), *KEYS)))


def secrets_of(system: System) -> tuple[str, ...]:
    """Return the names of all secrets of a system's services."""
    return tuple(dict.fromkeys(name for service in system.all for name in service.secrets))


def _check_faults(system: System, settings: Settings) -> None:
    try:
        for rule in settings.faults or ():
            check_rule(rule, system.seams)
    except FaultRuleError as error:
        raise SettingError("PROTOOLS_FAULTS", str(error)) from None


def check_front_door(system: System) -> None:
    """Raise DefinitionError for a workflow that is declared open and cannot be, or a format that is there already.

    Loads what web processes load.
    """
    from pulsaga.web import formats
    from pulsaga.web.front_door.app import routes_of
    from pulsaga.web.front_door.door import FrontDoor

    formats.check(system.formats)
    if door := system.door:
        routes_of(FrontDoor(system, door.entrances() if door.entrances else ()), door.name)


def check_system(system: System, settings: Settings) -> None:
    """Raise SettingError for what the processes of one machine together could not work with, or lack."""
    check_values(system, settings)
    authentication(settings)
    host = "127.0.0.1" if settings.bind == "localhost" else settings.bind
    if not port_is_free(0, host):
        raise SettingError("BIND_HOST", f"{settings.bind} is no address of this machine")
    _check_ports(system, settings)
    _check_keys(system, settings)


def _check_ports(system: System, settings: Settings) -> None:
    taken: dict[int, str] = {}
    for name, port in system.ports(settings).items():
        variable = f"{name.upper()}_PORT"
        if port in taken:
            raise SettingError(variable, f"{port} is the port of {taken[port]}, too")
        taken[port] = variable


def _check_keys(system: System, settings: Settings) -> None:
    """Read the keys that are given or kept, and make none; callers may never ask for a callback, which one is for."""
    for name in keys_of(system):
        if settings.key_file(name).exists() if settings.embedded else name != "WEBHOOK_SECRET":
            settings.key(name)
    for name in secrets_of(system):
        if settings.key_file(name).exists() or not settings.embedded:
            settings.secret(name)
