"""Offer every adapter's broker to the contract suite."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from tests.contract.brokers import EMBEDDED, PULSAR, EmbeddedServer, Stage

from pulsaga_program.local import LocalPulsar


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A running embedded broker; a test that stops or kills it must start it again."""
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def embedded_stage(embedded: EmbeddedServer) -> Stage:
    """The embedded broker, with what is particular about it."""
    return Stage(embedded, EMBEDDED, _name())


@pytest.fixture
def pulsar_stage(pulsar: LocalPulsar) -> Stage:
    """A real Pulsar, with what is particular about it."""
    return Stage(pulsar, PULSAR, _name())


@pytest.fixture(params=["embedded", pytest.param("pulsar", marks=pytest.mark.pulsar)])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Each adapter in turn, in a namespace of its own."""
    stage: Stage = request.getfixturevalue(f"{request.param}_stage")
    stage.server.start()  # a failed test may have left it down
    yield stage
    stage.close()


def _name() -> str:
    return f"contract-{secrets.token_hex(4)}"
