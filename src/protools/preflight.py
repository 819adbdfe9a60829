"""Look into every setting before anything is started, opened or made: no process is to find a wrong one later."""

from __future__ import annotations

from typing import get_args

from correo.smtp import open_postman
from pulsaga.errors import SettingError
from pulsaga.operate.retention import SHORTEST_S
from pulsaga.setting_values import UNITS
from pulsaga.settings import KeyName, Settings
from pulsaga.web.access.tokens import authentication
from pulsaga_program.local.process import port_is_free

PORTS = ("bff_port", "protools_saga_port", "generador_port", "correo_port")
NEEDED: tuple[KeyName, ...] = ("VAULT_KEY", "LINK_KEY", "INTERNAL_TOKEN")


def check_values(settings: Settings) -> None:
    """Raise SettingError for a value that some process could not work with, whichever process this is."""
    open_postman(settings)
    if settings.saga_retention < SHORTEST_S:
        raise SettingError("SAGA_RETENTION", f"must be {SHORTEST_S / UNITS['d']:g}d or more: messages may be so late")
    if settings.faults is not None and not settings.on_loopback:
        raise SettingError("PROTOOLS_FAULTS", f"faults are for loopback only, and this is {settings.bind}")


def check_system(settings: Settings) -> None:
    """Raise SettingError for what the processes of one machine together could not work with, or lack."""
    check_values(settings)
    authentication(settings)
    host = "127.0.0.1" if settings.bind == "localhost" else settings.bind
    if not port_is_free(0, host):
        raise SettingError("BIND_HOST", f"{settings.bind} is no address of this machine")
    _check_ports(settings)
    _check_keys(settings)


def _check_ports(settings: Settings) -> None:
    taken: dict[int, str] = {}
    for name in PORTS:
        port, variable = getattr(settings, name), name.upper()
        if port in taken:
            raise SettingError(variable, f"{port} is the port of {taken[port]}, too")
        taken[port] = variable


def _check_keys(settings: Settings) -> None:
    """Read the keys that are given or kept, and make none."""
    for name in get_args(KeyName) if settings.embedded else NEEDED:
        if not settings.embedded or settings.key_file(name).exists():
            settings.key(name)
