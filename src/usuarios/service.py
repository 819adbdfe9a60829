"""Declare usuarios: users and their sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pulsaga import Process, Runtime, Service
from usuarios.sessions.forgetting import forget_sessions
from usuarios.sessions.settings import SECRET, SessionSettings, check_tls
from usuarios.tables import READ, WRITE


def add_sessions(process: Process, runtime: Runtime) -> Sequence[Callable[[], object]]:
    """Add the loops of the process that answers over gRPC, which no other process loads."""
    from usuarios.sessions.process import add

    return add(process, runtime)


USUARIOS = Service(
    "usuarios",
    tables=WRITE,
    views=READ,
    duties=[forget_sessions],
    processes={"sessions": add_sessions},
    ports={"sessions": 3123},
    settings=[SessionSettings],
    secrets=[SECRET],
    preflight=check_tls,
)
