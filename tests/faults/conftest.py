"""Offer a system that may be hurt: on Pulsar with PostgreSQL and three of every worker, and embedded with one.

`FAULT_MODES` picks other settings, e.g. `pulsar-1 pulsar-3 embedded-1`; `make fault-cases` runs them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from tests.system.conftest import Mode, embedded_mode, pulsar_mode
from tests.system.harness import PASSWORDS, System
from tests.system.mailboxes import SmtpServer, smtp_server

from pulsaga.system import System as Declared
from pulsaga_program.up import processes_of
from system import SYSTEM

__all__ = ["embedded_mode", "pulsar_mode"]

MARKS = {"pulsar": [pytest.mark.pulsar, pytest.mark.postgres], "embedded": []}
SETUPS = os.environ.get("FAULT_MODES", "pulsar-3 embedded-1").split()


@contextmanager
def hurt(
    mode: Mode,
    replicas: int,
    folder: Path,
    mailbox: SmtpServer,
    of: Declared = SYSTEM,
    only: Sequence[str] = PASSWORDS,
    **settings: str,
) -> Iterator[System]:
    """Run a system in which faults are allowed, on a mail server that can be taken away."""
    workers = [service for service, kind in processes_of(of, only) if kind == "worker"]
    counts = [f"{service}={replicas}" for service in workers]
    mailed = replace(mode, mailbox=lambda _home: nullcontext(mailbox))
    with mailed.prepared(folder, counts, of, only, PROTOOLS_FAULTS="on", **settings) as system:
        yield system


def setups() -> list[object]:
    """Return the settings that this run is for, as parameters of a fixture."""
    return [pytest.param(setup, marks=MARKS[setup.partition("-")[0]], id=setup) for setup in SETUPS]


@pytest.fixture(scope="module", params=setups())
def setup(request: pytest.FixtureRequest) -> tuple[Mode, int]:
    """A way to run, and how many replicas of each worker."""
    name, _, replicas = request.param.partition("-")
    return request.getfixturevalue(f"{name}_mode"), int(replicas)


@pytest.fixture(scope="module")
def mail_server(setup: tuple[Mode, int]) -> Iterator[SmtpServer]:
    """A mail server of one module's own, for each way to run."""
    with smtp_server() as server:
        yield server
