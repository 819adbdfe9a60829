"""Serve an app on a port of this machine for the length of a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from tests.patience import PATIENCE_S

from pulsaga.web.serving import server


class Serving:
    """Hold a running server: where it answers, and how to stop it."""

    def __init__(self, app: Flask) -> None:
        sock = server.listen(app.name, "127.0.0.1", 0)
        self.port: int = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=server.run, args=(app, sock, self.stopping))
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the server did not stop"


@contextmanager
def serving(app: Flask) -> Iterator[Serving]:
    running = Serving(app)
    try:
        yield running
    finally:
        running.stop()


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)
