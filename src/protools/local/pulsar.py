"""Run one Pulsar standalone broker in a folder of its own, tuned for short waits and little memory."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pulsaga_program.local.distribution import pulsar_distribution
from pulsaga_program.local.process import (
    LocalServerError,
    PortInUse,
    only_one,
    port_is_free,
    program,
    recorded_process,
    send,
    spawn_detached,
    tail,
    wait_until,
)

READY_SECONDS = 240.0
STOP_SECONDS = 15.0
CRASH_SECONDS = 5.0
KEEP_LOG_BYTES = 20_000_000

TUNED: Mapping[str, str] = MappingProxyType(
    {
        "managedLedgerNewEntriesCheckDelayInMillis": "0",  # else every message waits 10 ms at the tail
        "journalMaxGroupWaitMSec": "0",  # else every send waits 1 ms for company
        "brokerDeleteInactiveTopicsEnabled": "false",  # else idle topics go, with their schemas
        "acknowledgmentAtBatchIndexLevelEnabled": "true",  # else one ack takes its whole batch
        "advertisedAddress": "127.0.0.1",
        "bindAddress": "127.0.0.1",
        "allowLoopback": "true",
        "loadManagerClassName": "org.apache.pulsar.broker.loadbalance.NoopLoadManager",
        "loadBalancerEnabled": "false",
        "webSocketServiceEnabled": "false",
        "diskUsageThreshold": "0.99",  # a full disk makes the bookie read-only
        "diskUsageWarnThreshold": "0.99",
        "bookkeeperClientHealthCheckEnabled": "false",  # it puts the only bookie into quarantine, for half an hour
        "brokerShutdownTimeoutMs": "3000",
        "allowEphemeralPorts": "true",  # else --bookkeeper-port is ignored and any outgoing connection may sit on it
        "dbStorage_writeCacheMaxSizeMb": "64",
        "dbStorage_readAheadCacheMaxSizeMb": "64",
    }
)
"""Keys of standalone.conf that differ from the stock file."""

JAVA: Mapping[str, str] = MappingProxyType(
    {
        "PULSAR_MEM": "-Xms512m -Xmx1g -XX:MaxDirectMemorySize=1g",
        "PULSAR_GC": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",  # else it spends most of its life compiling itself
        "PULSAR_GC_LOG": " ",  # blank, not empty: no log file of the garbage collector
        "PULSAR_LOG_LEVEL": "warn",
        "PULSAR_LOG_IMMEDIATE_FLUSH": "true",
    }
)


@dataclass
class LocalPulsar:
    """Control one broker whose data, configuration, log and pid lie in `folder`; it outlives this object.

    `journal_sync=False` trades durability on power loss for speed: tests only.
    """

    folder: Path
    port: int = 6650
    admin_port: int = 8080
    journal_sync: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    """Further keys of standalone.conf."""
    token: str | None = field(default=None, repr=False)
    """Of a superuser, where these options ask for tokens."""

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    @classmethod
    def recorded(cls, folder: Path) -> LocalPulsar:
        """Return the broker of this folder with the ports of its last start, else the usual ones."""
        try:
            _, port, admin_port = (folder / "pulsar.pid").read_text().split()
        except (OSError, ValueError):
            return cls(folder)
        return cls(folder, port=int(port), admin_port=int(admin_port))

    @property
    def url(self) -> str:
        """Address for clients, the BROKER_URL."""
        return f"pulsar://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Address of the admin interface, the BROKER_ADMIN_URL."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def log(self) -> Path:
        """File that holds what the broker printed."""
        return self.folder / "pulsar.log"

    def environment(self) -> dict[str, str]:
        """Return the variables that point Protools at this broker."""
        return {"BROKER_URL": self.url, "BROKER_ADMIN_URL": self.admin_url}

    def pid(self) -> int | None:
        """Return the process id of this folder's broker, or None when it does not run."""
        return recorded_process(self.folder / "pulsar.pid", str(self._configuration))

    def is_ready(self) -> bool:
        """Tell whether this folder's broker runs and its health check says ok."""
        return self.pid() is not None and self._healthy()

    def start(self) -> None:
        """Return once the broker is healthy; one that runs already is only waited for.

        Raises PortInUse, MissingTool, or LocalServerError with the end of the log.
        """
        with only_one(self.folder / "start.lock", f"another start of {self.folder} is under way"):
            if self.pid() is None:
                self._launch()
            elif (running := self.recorded(self.folder)).port != self.port:
                raise LocalServerError(
                    f"the broker of {self.folder} runs already, on port {running.port}: stop it first"
                )
            up = wait_until(lambda: self.pid() is None or (self._healthy() and self._stores()), READY_SECONDS)
            if not up or self.pid() is None:
                self.stop()
                raise LocalServerError(f"Pulsar did not become ready; {self.log} ends with:\n{tail(self.log, 15)}")

    def stop(self) -> None:
        """End the broker cleanly, by force after a while; do nothing when it does not run."""
        pid = self.pid()
        if pid is not None:
            send(pid, signal.SIGTERM)
            if not wait_until(lambda: self.pid() is None, STOP_SECONDS):
                self.kill()

    def kill(self) -> None:
        """End the broker at once, as a crash would (SIGKILL); what it promised must still be there after `start`."""
        pid = self.pid()
        if pid is not None:
            send(pid, signal.SIGKILL)
            wait_until(lambda: self.pid() is None, STOP_SECONDS)

    @property
    def _configuration(self) -> Path:
        return self.folder / "standalone.conf"

    def _launch(self) -> None:
        _needs_java()
        if len(str(self.folder).split()) != 1:
            raise LocalServerError(
                f"Pulsar cannot keep data under a path with spaces ({self.folder}): set PROTOOLS_HOME"
            )
        # After a kill the ports are held until the last thread is gone.
        patience = CRASH_SECONDS if (self.folder / "pulsar.pid").exists() else 0
        advice = "stop what listens there, or give the broker another one with"
        _needs_port(self.port, f"{advice} --port", patience)
        _needs_port(self.admin_port, f"{advice} --admin-port", patience)
        _needs_port(self._bookie_port(), f"the data in {self.folder} belongs to it, stop what listens there", patience)
        distribution = pulsar_distribution()
        self._configure(distribution)
        if (self.folder / "data" / "bookkeeper" / "current" / "DIRTY").exists():
            self._forget_dead_bookie(distribution)
        if self.log.exists() and self.log.stat().st_size > KEEP_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        pid = spawn_detached(self._command(distribution), self.log, env={**os.environ, **JAVA})
        (self.folder / "pulsar.pid").write_text(f"{pid}\n{self.port}\n{self.admin_port}\n")

    def _forget_dead_bookie(self, distribution: Path) -> None:
        """Remove the registration that a killed bookie left behind.

        A bookie that finds it deletes it and registers; when the news of that deletion comes late, it takes it for the
        loss of its own registration, registers anew, hears of that deletion, and so on without end (Pulsar 4.0.8,
        ResourceLockImpl.revalidate: BookieServiceInfo has no equals). Listing the bookies deletes it beforehand.
        """
        configuration = self.folder / "bookkeeper.conf"
        configuration.write_text(f"metadataServiceUri=metadata-store:rocksdb://{self.folder}/data/metadata\n")
        settings = {
            "BOOKIE_CONF": str(configuration),
            "BOOKIE_LOG_DIR": str(self.folder),
            "BOOKIE_MEM": "-Xmx256m -XX:TieredStopAtLevel=1",
        }
        listing = subprocess.run(
            [str(distribution / "bin" / "bookkeeper"), "shell", "listbookies", "-rw"],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
        )
        if "No bookie exists" not in listing.stdout:
            said = f"{listing.stdout}{listing.stderr}"[-2000:]
            raise LocalServerError(f"the registration of the killed bookie could not be removed:\n{said}")

    def _configure(self, distribution: Path) -> None:
        ours = {
            **TUNED,
            "brokerServicePort": str(self.port),
            "webServicePort": str(self.admin_port),
            "journalSyncData": str(self.journal_sync).lower(),
            "listeningInterface": _loopback(),  # else the bookie listens on every interface
            **self.options,
        }
        self._configuration.write_text(configured((distribution / "conf" / "standalone.conf").read_text(), ours))

    def _command(self, distribution: Path) -> list[str]:
        # The file comes as an argument, not as PULSAR_STANDALONE_CONF: the script does not quote that one.
        return [
            *(str(distribution / "bin" / "pulsar"), "standalone", "-nfw", "-nss", "-a", "127.0.0.1"),
            *("-c", str(self._configuration)),
            *("--metadata-dir", str(self.folder / "data" / "metadata")),
            *("--bookkeeper-dir", str(self.folder / "data" / "bookkeeper")),
            *("--bookkeeper-port", str(self._bookie_port())),
        ]

    def _bookie_port(self) -> int:
        """Return the port that is part of the bookie's identity: chosen once, below the range of outgoing ports."""
        file = self.folder / "bookie.port"
        if not file.exists():
            file.write_text(str(next(port for port in iter(_some_port, None) if port_is_free(port))))
        return int(file.read_text())

    def _healthy(self) -> bool:
        return self._asked("GET", "brokers/health") == (200, b"ok")

    def _stores(self) -> bool:
        """Tell whether a new topic can be stored: after a crash the health check says ok before the bookie is back."""
        topic = f"persistent/public/default/ready-{secrets.token_hex(4)}"
        status, _ = self._asked("PUT", topic)
        return status == 204 and self._asked("DELETE", topic)[0] == 204

    def _asked(self, method: str, path: str) -> tuple[int, bytes]:
        """Return status and body of the admin interface's answer; status 0 when there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(method, f"/admin/v2/{path}", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().strip()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def configured(stock: str, changes: Mapping[str, str]) -> str:
    """Return the stock configuration with these keys changed in place, and appended where it lacks them."""
    left = dict(changes)
    lines = []
    for line in stock.splitlines():
        key = line.partition("=")[0].strip()
        lines.append(f"{key}={left.pop(key)}" if key in left else line)
    return "\n".join([*lines, *(f"{key}={value}" for key, value in left.items()), ""])


def _some_port() -> int:
    return 20_000 + secrets.randbelow(10_000)


def _needs_port(port: int, advice: str, patience: float) -> None:
    if not wait_until(lambda: port_is_free(port), patience):
        raise PortInUse(port, advice)


def _loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def _needs_java() -> None:
    if not os.environ.get("JAVA_HOME"):
        program("java", "install Java 17 or later (apt-get install default-jre-headless, brew install openjdk)")
