"""Where the processes that run answer Prometheus, in the format of its `file_sd_configs` and `http_sd_configs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select

from pulsaga.delivery import database
from pulsaga.delivery.database import open_database
from pulsaga.delivery.tables import heartbeat
from pulsaga.delivery.transaction.rows import Row
from pulsaga.errors import Unavailable
from pulsaga.operate.status.survey import ANSWER_WITHIN_S, Asked, at_once
from pulsaga.running.heartbeat import ALIVE_S
from pulsaga.settings import Settings
from pulsaga.system import System

ANYWHERE = ("0.0.0.0", "[::]")
"""Hosts of a process that listens on all its addresses: it is reached by the name of its machine."""


@dataclass(frozen=True, kw_only=True)
class Running(Asked):
    """The heartbeats of a service's processes that run."""

    beats: Sequence[Row] = ()


def targets(system: System, settings: Settings) -> list[dict[str, Any]]:
    """Return a target for each process that runs. Raise Unavailable where a service's database does not say."""
    said = at_once({name: partial(_running, settings, name) for name in system.names}, ANSWER_WITHIN_S)
    for name, answer in said.items():
        if answer.down:
            raise Unavailable(f"the write database of {name} does not say what runs: {answer.down}")
    return [
        target(name, beat)
        for name, answer in said.items()
        if isinstance(answer, Running)
        for beat in answer.beats
        if beat["address"]
    ]


def _running(settings: Settings, service: str) -> Asked:
    engine = open_database(settings, service, "write", "reader")
    try:
        with engine.connect() as tx:
            now = database.now(tx, settings.clock_offset)
            lives = heartbeat.c.ended_at.is_(None) & (heartbeat.c.beat_at >= now - ALIVE_S)
            found = select(heartbeat).where(lives).order_by(heartbeat.c.kind, heartbeat.c.started_at)
            return Running(beats=[dict(row) for row in tx.execute(found).mappings()])
    finally:
        engine.dispose()


def target(service: str, beat: Row) -> dict[str, Any]:
    """Return a target by one process's heartbeat."""
    host, _, port = beat["address"].rpartition(":")
    machine, _, _ = beat["replica"].rpartition(":")
    labels = {"service": service, "kind": beat["kind"], "replica": beat["replica"]}
    return {"targets": [f"{machine if host in ANYWHERE else host}:{port}"], "labels": labels}
