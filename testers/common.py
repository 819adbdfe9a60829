"""Share what both testers need: the messages there are, the topics of a broker, a way to end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from pulsaga import broker as brokers
from pulsaga.broker import Broker
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.messages import contract_of
from pulsaga.errors import Unavailable
from pulsaga.located import the_system
from pulsaga.settings import Settings
from pulsaga_program.cli import plain_errors


def registered() -> dict[str, type[Any]]:
    """Return every message class of every service by wire name, sorted."""
    return dict(sorted((contract_of(cls).name, cls) for cls in the_system().messages))


def listed(names: Iterable[str]) -> str:
    """Lay names out one a line, for an error that says what exists."""
    return "\n".join(f"  {name}" for name in names)


def topics_of(settings: Settings) -> list[str]:
    """Return the topics of the broker in force; raise Unavailable, saying which broker, when it does not answer."""
    admin = brokers.connect_admin(
        settings.broker_url, settings.broker_admin_url, settings.namespace, settings.broker_access
    )
    try:
        return admin.topics()
    except Unavailable as down:
        where = f"the broker at {settings.broker_url}, namespace {settings.namespace}"
        raise Unavailable(f"{where}, shows no topics; does it run, was it bootstrapped? {down}") from None
    finally:
        admin.close()


@contextmanager
def connected(settings: Settings, schemas: Mapping[str, str] | None = None) -> Iterator[Broker]:
    """Hold a connection to the broker in force."""
    broker = brokers.connect(
        settings.broker_url, schemas or CommittedSchemas(), settings.namespace, settings.broker_access
    )
    try:
        yield broker
    finally:
        broker.close()


def run(command: click.Command) -> None:
    """Run a tester as a program: SIGTERM ends it as Ctrl-C does, an error of ours is one line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    keep_stdout_clean()
    with plain_errors():
        command()


def keep_stdout_clean() -> None:
    """Let what is not ours go to stderr: Pulsar's client logs on file descriptor 1, whatever Python calls stdout."""
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
