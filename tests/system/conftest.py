"""Offer both ways to run the system: on Pulsar with PostgreSQL, and embedded."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from tests.system.harness import LEAVE_S, PASSWORDS, System
from tests.system.mailboxes import Mailbox, Maildir, smtp_server

from pulsaga.system import System as Declared
from pulsaga_program.local import LocalPostgres, LocalPulsar
from system import SYSTEM

KEYS = (
    "VAULT_KEY",
    "LINK_KEY",
    "TOKEN_KEY",
    "RESET_KEY",
    "SIGNING_KEY",
    "INTERNAL_TOKEN",
    "WEBHOOK_SECRET",
    "SESSIONS_JWT_SECRET",
)
FAST_FAILURES = {"FAILURE_ATTEMPTS": "3", "FAILURE_DELAY": "0.1"}


@dataclass(frozen=True)
class Mode:
    """Say how a system runs: what its environment is, where its mails go."""

    name: Literal["pulsar", "embedded"]
    environment: Callable[[], Mapping[str, str]]
    mailbox: Callable[[Path], AbstractContextManager[Mailbox]]

    @contextmanager
    def prepared(
        self,
        folder: Path,
        replicas: Sequence[str] = (),
        of: Declared = SYSTEM,
        only: Sequence[str] = PASSWORDS,
        **settings: str,
    ) -> Iterator[System]:
        """Prepare a system with a home, a namespace and databases of its own; whatever runs at the end is ended.

        Beside coordinator and front door, `only` these services run; all, where none is named.
        """
        home = folder / "home"
        with self.mailbox(home) as mailbox:
            environment = {**FAST_FAILURES, **self.environment(), **settings}
            system = System(home, environment, mailbox, replicas, of, only)
            try:
                yield system
            finally:
                system.close()

    @contextmanager
    def running(
        self, folder: Path, replicas: Sequence[str] = (), only: Sequence[str] = PASSWORDS, **settings: str
    ) -> Iterator[System]:
        """Run a system while the block runs; it must leave in time when asked to."""
        with self.prepared(folder, replicas, only=only, **settings) as system:
            yield system.up()
            assert system.down() <= LEAVE_S, "it took too long to leave"
            assert system.process.returncode == 0


@pytest.fixture(scope="module")
def pulsar_mode(pulsar: LocalPulsar, postgres: LocalPostgres) -> Mode:
    """Real Pulsar, real PostgreSQL, a real mail server."""
    return Mode("pulsar", lambda: on_servers(pulsar, postgres), lambda _home: smtp_server())


@pytest.fixture(scope="module")
def embedded_mode() -> Mode:
    """No server at all."""
    return Mode("embedded", dict, lambda home: nullcontext(Maildir(home)))


@pytest.fixture(
    scope="module", params=[pytest.param("pulsar", marks=[pytest.mark.pulsar, pytest.mark.postgres]), "embedded"]
)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each of the two ways to run."""
    found = request.getfixturevalue(f"{request.param}_mode")
    assert isinstance(found, Mode)
    return found


def on_servers(pulsar: LocalPulsar, postgres: LocalPostgres) -> dict[str, str]:
    name = f"t{secrets.token_hex(4)}"
    keys = {key: base64.b64encode(secrets.token_bytes(32)).decode() for key in KEYS}
    databases = {"DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    return {**pulsar.environment(), **postgres.environment(), **databases, **keys, "BROKER_NAMESPACE": name}
