"""List who takes part, and how many sagas each is given at once: what serves it best on two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.contest import Contestant


@dataclass(frozen=True)
class Entry:
    """Describe one contestant; `make` is given a folder for its data."""

    key: str
    make: Callable[[Path], Contestant]
    in_flight: int
    peer: bool = True
    apart: bool = False
    """Takes part only where it is named."""


def _floor(_folder: Path) -> Contestant:
    from bench.floor import Floor

    return Floor()


def _protools(folder: Path) -> Contestant:
    from bench.system import Protools

    return Protools(folder)


def _embedded(folder: Path) -> Contestant:
    from bench.system import Embedded

    return Embedded(folder)


def _dbos(folder: Path) -> Contestant:
    from bench.peers.dbos import Dbos

    return Dbos(folder)


def _restate(folder: Path) -> Contestant:
    from bench.peers.restate import Restate

    return Restate(folder)


def _temporal(folder: Path) -> Contestant:
    from bench.peers.temporal import Temporal

    return Temporal(folder, local=False)


def _temporal_local(folder: Path) -> Contestant:
    from bench.peers.temporal import Temporal

    return Temporal(folder, local=True)


ENTRIES = (
    Entry("floor", _floor, in_flight=1000, peer=False),
    Entry("protools", _protools, in_flight=1000, peer=False),
    Entry("embedded", _embedded, in_flight=1000, peer=False, apart=True),
    Entry("dbos", _dbos, in_flight=32),
    Entry("restate", _restate, in_flight=256),
    Entry("temporal", _temporal, in_flight=64),
    Entry("temporal-local", _temporal_local, in_flight=64),
)
