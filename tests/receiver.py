"""Take calls as a caller's server does: what came is kept, how each is answered is told."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """Hold where calls go, how each is answered, and what came: headers and body."""

    url: str = ""
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: reply(handler, 204)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


def reply(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Serve while the block runs, on a port of this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.taken.append((dict(self.headers), body))
            receiver.answer(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/hook?for=ada"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver
        server.shutdown()


# --- receivers that misbehave

Deed = Callable[[socket.socket, threading.Event], None]
"""What a receiver does with a connection; it may go on until the event is set."""


@contextmanager
def misbehaving(deed: Deed | None, over: threading.Event, scheme: str = "http") -> Iterator[str]:
    """Take connections and do `deed` with each, on a port of this machine; without one, take none at all."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0 if deed is None else 100)
    address = listener.getsockname()
    with listener, _filled_up(address) if deed is None else nullcontext():
        threading.Thread(target=_serve, args=(listener, deed, over), daemon=True).start()
        yield f"{scheme}://127.0.0.1:{address[1]}/hook"
        over.set()


def _serve(listener: socket.socket, deed: Deed | None, over: threading.Event) -> None:
    if deed is None:
        over.wait()
        listener.close()  # whoever waits to be taken is refused
        return
    with suppress(OSError):
        while True:
            taken, _ = listener.accept()
            threading.Thread(target=_do, args=(deed, taken, over), daemon=True).start()


def _do(deed: Deed, taken: socket.socket, over: threading.Event) -> None:
    with taken, suppress(OSError):
        deed(taken, over)


@contextmanager
def _filled_up(address: tuple[str, int]) -> Iterator[None]:
    """Leave no room in the queue of a listener: the next one's SYN is not answered."""
    with ExitStack() as held:
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield


def hang(_taken: socket.socket, over: threading.Event) -> None:
    """Say nothing: neither in TLS nor in HTTP."""
    over.wait()


def answering(*pieces: bytes) -> Deed:
    """Read the request, say this and hang up."""

    def say(taken: socket.socket, _over: threading.Event) -> None:
        _read_request(taken)
        for piece in pieces:
            taken.sendall(piece)

    return say


def flooding(first: bytes, then: bytes) -> Deed:
    """Read the request, say `first`, then go on for ever."""

    def flood(taken: socket.socket, over: threading.Event) -> None:
        _read_request(taken)
        taken.sendall(first)
        while not over.is_set():
            taken.sendall(then)

    return flood


def dripping(first: bytes, then: bytes) -> Deed:
    """Read the request, say `first`, then go on for ever, a little now and then."""

    def drip(taken: socket.socket, over: threading.Event) -> None:
        _read_request(taken)
        taken.sendall(first)
        while not over.wait(0.02):
            taken.sendall(then)

    return drip


def reset(taken: socket.socket, _over: threading.Event) -> None:
    """Hang up without a farewell."""
    _read_request(taken)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_request(taken: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request or not request.endswith(b"}"):
        came = taken.recv(65536)
        if not came:
            return
        request += came
