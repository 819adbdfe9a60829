"""Call an address that a caller chose without letting it reach into our own networks (SSRF).

The name is resolved once and the connection goes to what was found and checked: what the name says a moment later does
not matter. No redirect is followed, no proxy asked, and nothing is read of the answer but its head.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

CONNECT_S = 5.0
CALL_S = 15.0
"""Seconds for a whole call, however it drips."""
URL_LENGTH = 2000
FAILED = (OSError, HTTPException, ValueError)
"""What `call` raises when there is no answer; PermissionError for an address that may not be called."""
TRANSLATED = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 addresses behind which any IPv4 address may stand: NAT64 (RFC 6052, 8215), 6to4, Teredo."""
Address = IPv4Address | IPv6Address


def read_url(text: str) -> SplitResult:
    """Read a URL that may be called: https, or http to this very machine; raise ValueError saying what is wrong."""
    if len(text) > URL_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be a URL of at most {URL_LENGTH} characters of printable ASCII")
    parts = urlsplit(text)
    if not parts.hostname or parts.port == 0 or parts.username is not None or parts.fragment:
        raise ValueError("must name a host, and neither a user nor a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _says_loopback(parts.hostname)):
        raise ValueError("must be https://, or http:// to a loopback address")
    return parts


def _says_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_public(address: Address) -> bool:
    """Tell whether an address is of the open internet, whatever it is wrapped in."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address.is_site_local or any(address in network for network in TRANSLATED):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def check_host(host: str) -> None:
    """Raise PermissionError for a host that is written as an address which is not public, or as this machine's name."""
    with suppress(ValueError):
        _check(ip_address(host))
    if host == "localhost":
        raise PermissionError("localhost is this machine")


def _check(address: Address) -> None:
    if not is_public(address):
        raise PermissionError(f"{address} is no address of the open internet")


def call(url: str, headers: Mapping[str, str], body: bytes, *, private: bool) -> int:
    """POST once and return the answer's status; raise one of FAILED. `private` lets any address be called."""
    parts = read_url(url)
    connection = _Connection(parts, _addresses(parts, private=private))
    timer = threading.Timer(CALL_S, connection.cut)
    with closing(connection):
        timer.start()
        try:
            target = f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
            connection.request("POST", target, body, {"Host": parts.netloc, **headers})
            return connection.getresponse().status
        finally:
            timer.cancel()


def _addresses(parts: SplitResult, *, private: bool) -> Sequence[tuple[str, int]]:
    """Resolve a host and check every address that it has."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = [info[4][:2] for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)]
    for host, _ in found:
        address = ip_address(host)
        if not private:
            _check(address)
        if parts.scheme == "http" and not address.is_loopback:
            raise PermissionError(f"{address} is not this machine, and http is for that alone")
    return [(str(host), port) for host, _ in found]


class _Connection(HTTPConnection):
    """Connect to what was checked, and speak as to the host that was named."""

    sock: socket.socket | None

    def __init__(self, parts: SplitResult, addresses: Sequence[tuple[str, int]]) -> None:
        super().__init__(parts.hostname or "", addresses[0][1], timeout=CONNECT_S)
        self._addresses = addresses
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def connect(self) -> None:
        self.sock = _connected(self._addresses)
        if self._tls:
            self.sock = tls = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            tls.do_handshake()

    def cut(self) -> None:
        """End whatever is being waited for."""
        with suppress(OSError):
            if self.sock:
                self.sock.shutdown(socket.SHUT_RDWR)


def _connected(addresses: Sequence[tuple[str, int]]) -> socket.socket:
    *others, last = addresses
    for address in others:
        with suppress(OSError):
            return socket.create_connection(address, CONNECT_S)
    return socket.create_connection(last, CONNECT_S)
