"""Call an address that a caller chose without letting it reach into our own networks (SSRF).

The name is resolved once and the connection goes to what was found and checked: what the name says a moment later does
not matter. No redirect is followed, no proxy asked, and nothing is read of the answer but its status: what is not
parsed breaks no parser.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

CALL_S = 15.0
"""Seconds for a whole call, however many addresses are tried and however it drips."""
ADDRESSES = 4
"""Of those that a name has, so many are tried at most."""
ANSWER_BYTES = 16_384
"""What is read of an answer at most: its status stands in there, behind interim answers (1xx) if there are any."""
URL_LENGTH = 2000
TRANSLATED = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 addresses behind which any IPv4 address may stand: NAT64 (RFC 6052, 8215), 6to4, Teredo."""
Address = IPv4Address | IPv6Address


def read_url(text: str) -> SplitResult:
    """Read a URL that may be called: https, or http to this very machine; raise ValueError saying what is wrong."""
    if len(text) > URL_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be a URL of at most {URL_LENGTH} characters of printable ASCII")
    url = urlsplit(text)
    if not url.hostname or url.port == 0 or url.username is not None or url.fragment:
        raise ValueError("must name a host, and neither a user nor a fragment")
    if url.scheme != "https" and not (url.scheme == "http" and _says_loopback(url.hostname)):
        raise ValueError("must be https://, or http:// to a loopback address")
    return url


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


def receiver_of(url: str) -> str:
    """Return which server a URL calls: the host as it is written there, and the port."""
    parts = read_url(url)
    return f"{parts.hostname}:{_port(parts)}"


def call(url: str, headers: Mapping[str, str], body: bytes, *, private: bool) -> int:
    """POST once and return the answer's status, or raise: no list names all that a stranger's answer may lead to.

    `private` lets any address be called. It ends within CALL_S seconds, but for a resolver: nothing interrupts one.
    """
    until = time.monotonic() + CALL_S
    parts = read_url(url)
    with _connection(parts, _addresses(parts, private=private), until) as peer:
        _send(peer, _request(parts, headers, body), until)
        return _read_status(peer, until)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _addresses(parts: SplitResult, *, private: bool) -> Sequence[tuple[str, int]]:
    """Resolve a host and check every address that it has."""
    port = _port(parts)
    found = [info[4][:2] for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)]
    for host, _ in found:
        address = ip_address(host)
        if not private:
            _check(address)
        if parts.scheme == "http" and not address.is_loopback:
            raise PermissionError(f"{address} is not this machine, and http is for that alone")
    return [(str(host), port) for host, _ in found[:ADDRESSES]]


def _left(until: float) -> float:
    """Return the seconds that are left of a call."""
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError(f"no answer within {CALL_S:g} s")
    return left_s


@contextmanager
def _connection(parts: SplitResult, addresses: Sequence[tuple[str, int]], until: float) -> Iterator[socket.socket]:
    """Connect to what was checked, and speak as to the host that was named."""
    with closing(_connected(addresses, until)) as plain:
        if parts.scheme == "http":
            yield plain
            return
        context = _tls(ssl.get_default_verify_paths())
        with closing(
            context.wrap_socket(plain, server_hostname=parts.hostname, do_handshake_on_connect=False)
        ) as secured:
            secured.settimeout(_left(until))
            secured.do_handshake()
            yield secured


@lru_cache(1)
def _tls(_trusted: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """Trust whom this machine trusts; one context for all calls, for it takes 20 ms and a megabyte."""
    return ssl.create_default_context()


def _connected(addresses: Sequence[tuple[str, int]], until: float) -> socket.socket:
    """Connect to the first address that answers; each has an equal share of the time that is left."""
    *others, last = addresses
    for number, address in enumerate(others):
        with suppress(OSError):
            return socket.create_connection(address, _left(until) / (len(addresses) - number))
    return socket.create_connection(last, _left(until))


def _request(parts: SplitResult, headers: Mapping[str, str], body: bytes) -> bytes:
    target = f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
    named = {"Host": parts.netloc, "Connection": "close", "Content-Length": str(len(body)), **headers}
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body


def _send(peer: socket.socket, request: bytes, until: float) -> None:
    while request:
        peer.settimeout(_left(until))
        request = request[peer.send(request) :]


_STATUS = re.compile(rb"HTTP/1\.[0-9] ([2-5][0-9][0-9])[ \r\n]")
_INTERIM = re.compile(rb"HTTP/1\.[0-9] 1[0-9][0-9][ \r\n]")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_STATUS_BYTES = len(b"HTTP/1.1 200 ")


def _read_status(peer: socket.socket, until: float) -> int:
    answer, more_bytes = b"", ANSWER_BYTES
    while len(answer) < _STATUS_BYTES or _INTERIM.match(answer):
        peer.settimeout(_left(until))
        came = peer.recv(more_bytes)
        if not came:
            raise ConnectionError(f"no status in the answer, or not in its first {ANSWER_BYTES} bytes")
        more_bytes -= len(came)
        answer = _behind_interim_answers(answer + came)
    if found := _STATUS.match(answer):
        return int(found[1])
    raise ValueError(f"no status of HTTP: {answer[:100]!r}")


def _behind_interim_answers(answer: bytes) -> bytes:
    while _INTERIM.match(answer) and (blank := _BLANK_LINE.search(answer)):
        answer = answer[blank.end() :]
    return answer
