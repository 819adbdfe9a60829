"""Run the gRPC server of sessions as a kind of process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health as health_checking
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from pulsaga import Process, Runtime, SettingError, Settings, open_database
from usuarios.sessions import sessions_pb2
from usuarios.sessions.answers import Bounded
from usuarios.sessions.health import Health
from usuarios.sessions.server import Sessions, Signing
from usuarios.sessions.sessions_pb2_grpc import add_SessionsServicer_to_server
from usuarios.sessions.settings import SessionSettings, check_place, lifetime_of, port_of, secret_of

NAME = sessions_pb2.DESCRIPTOR.services_by_name["Sessions"].full_name
MOST_REQUESTS = 100
"""Requests that are in hand at once, each with a thread, which mostly waits; the next one is RESOURCE_EXHAUSTED."""
DATABASE_THREADS = 8
"""Requests for which the database is asked at once."""
LARGEST_BYTES = 16 * 1024
"""Of a request; the longest token that is looked at has 4096."""
LEAVE_WITHIN_S = 3.0
"""Seconds that the requests in hand have after SIGTERM; a process has four."""


def add(process: Process, runtime: Runtime) -> list[Callable[[], object]]:
    """Add the loops of the server; return what is closed after them. Raise SettingError for what cannot be served."""
    settings, alone = runtime.settings, process.alone
    check_place(settings)
    port = port_of(settings, runtime.system.port_of(settings, "sessions"), alone=alone)
    signing = Signing(secret=secret_of(settings, alone=alone), lifetime_s=lifetime_of(settings, alone=alone))
    read = open_database(settings, runtime.service, "write", "reader")
    database, health = Bounded(DATABASE_THREADS), Health(read, ["", NAME])
    server = _server(settings, Sessions(runtime, read, signing, database), health)
    _listen(server, settings, port)
    process.add("health", health.run, health.stop)
    process.add("grpc", lambda: _serve(server), lambda: server.stop(LEAVE_WITHIN_S))
    return [database.close, read.dispose]


def _server(settings: Settings, sessions: Sessions, health: Health) -> grpc.Server:
    server = grpc.server(
        ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix="grpc"),
        maximum_concurrent_rpcs=MOST_REQUESTS,
        options=[("grpc.max_receive_message_length", LARGEST_BYTES), ("grpc.so_reuseport", 1)],
    )
    add_SessionsServicer_to_server(sessions, server)
    add_HealthServicer_to_server(health, server)
    if settings.of(SessionSettings).reflection:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection((NAME, health_checking.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


def _listen(server: grpc.Server, settings: Settings, port: int) -> None:
    host = "127.0.0.1" if settings.bind == "localhost" else settings.bind
    address, credentials = f"{f'[{host}]' if ':' in host else host}:{port}", _credentials(settings)
    try:
        if credentials:
            server.add_secure_port(address, credentials)
        else:
            server.add_insecure_port(address)
    except RuntimeError:
        raise SettingError("SESSIONS_PORT", f"port {port} of {host} cannot be had") from None


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the server's side of TLS, or None. With the issuers of clients, no other client is let in at all."""
    given = settings.of(SessionSettings)
    if not given.tls_cert or not given.tls_key:
        return None
    issuers = given.tls_client_ca.read_bytes() if given.tls_client_ca else None
    pair = (given.tls_key.read_bytes(), given.tls_cert.read_bytes())
    return grpc.ssl_server_credentials([pair], issuers, require_client_auth=issuers is not None)


def _serve(server: grpc.Server) -> None:
    server.start()
    server.wait_for_termination()
