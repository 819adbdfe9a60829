"""Put a real toxiproxy between processes and what they talk to, and make its connections ill for a while."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import urllib3

from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import LocalServerError, free_ports, port_is_free, program, wait_until

VERSION = "v2.5.0"
MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@{VERSION}"
START_S = 90.0

Stream = Literal["upstream", "downstream"]


@dataclass(frozen=True)
class Proxy:
    """Hold one door: what connects to `port` on loopback reaches the server behind it."""

    name: str
    port: int
    api: str

    @contextmanager
    def toxic(self, kind: str, stream: Stream = "downstream", **attributes: int) -> Iterator[None]:
        """Make every connection through here ill while the block runs, those that are open already, too."""
        given = {"name": kind, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes}
        _ask("POST", f"{self.api}/proxies/{self.name}/toxics", given)
        try:
            yield
        finally:
            _ask("DELETE", f"{self.api}/proxies/{self.name}/toxics/{kind}")


class Toxiproxy:
    """Hold one running toxiproxy."""

    def __init__(self, api_port: int) -> None:
        self.api = f"http://127.0.0.1:{api_port}"

    def proxy(self, name: str, upstream_port: int, port: int | None = None) -> Proxy:
        """Open a door on loopback to a port on loopback."""
        chosen = port or free_ports(1)[0]
        given = {"name": name, "listen": f"127.0.0.1:{chosen}", "upstream": f"127.0.0.1:{upstream_port}"}
        _ask("POST", f"{self.api}/proxies", {**given, "enabled": True})
        return Proxy(name, chosen, self.api)


@contextmanager
def toxiproxy(log: Path) -> Iterator[Toxiproxy]:
    """Run a toxiproxy until the block ends."""
    (port,) = free_ports(1)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(_binary()), "-port", str(port), "-host", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        if not wait_until(lambda: not port_is_free(port), START_S):
            raise LocalServerError(f"toxiproxy did not become ready, see {log}")
        yield Toxiproxy(port)
    finally:
        process.terminate()
        process.wait(START_S)


def _binary() -> Path:
    """Return the program, built once per machine."""
    folder = cache_folder() / f"toxiproxy-{VERSION}"
    if not (folder / "server").exists():
        go = program("go", "install Go: it builds toxiproxy")
        subprocess.run([go, "install", MODULE], env={**os.environ, "GOBIN": str(folder)}, check=True)
    return folder / "server"


def _ask(method: str, url: str, body: object = None) -> None:
    answer = urllib3.request(method, url, json=body, retries=False, timeout=START_S)
    if answer.status >= 300:
        raise LocalServerError(f"toxiproxy: {method} {url}: {answer.status} {answer.data.decode()[:200]}")
