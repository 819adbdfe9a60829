"""Count what a run cost: CPU seconds by process, statements and commits of PostgreSQL, messages of Pulsar."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from bench.rig import Rig

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Counters:
    """Hold totals since the servers started; CPU in seconds."""

    statements: int
    commits: int
    messages: int
    cpu_s: dict[str, float]

    def since(self, before: Counters) -> Counters:
        """Return the difference."""
        cpu = {name: seconds - before.cpu_s[name] for name, seconds in self.cpu_s.items()}
        return Counters(
            self.statements - before.statements, self.commits - before.commits, self.messages - before.messages, cpu
        )


def read_counters(rig: Rig) -> Counters:
    """Read all counters now."""
    statements, commits = _database(rig)
    return Counters(statements, commits, _messages(rig), {name: _cpu(pid) for name, pid in rig.pids().items()})


def _database(rig: Rig) -> tuple[int, int]:
    engine = create_engine(rig.postgres.url, poolclass=NullPool)
    name = f"{rig.settings.db_name}%"
    with engine.connect() as connection:
        calls = text(
            "SELECT coalesce(sum(s.calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid "
            "WHERE d.datname LIKE :name AND s.query !~* '^(BEGIN|COMMIT|ROLLBACK)'"
        )
        ends = text("SELECT coalesce(sum(xact_commit), 0) FROM pg_stat_database WHERE datname LIKE :name")
        return tuple(int(connection.execute(q, {"name": name}).scalar_one()) for q in (calls, ends))  # type: ignore[return-value]


def _messages(rig: Rig) -> int:
    base = f"{rig.settings.broker_admin_url}/admin/v2/persistent/protools/{rig.settings.namespace}"
    http = urllib3.PoolManager()
    topics = json.loads(http.request("GET", base).data)
    stats = (json.loads(http.request("GET", f"{base}/{topic.rpartition('/')[2]}/stats").data) for topic in topics)
    return sum(int(stat["msgInCounter"]) for stat in stats)


def _cpu(pid: int) -> float:
    """CPU seconds of a process and of all its children, ended ones included."""
    return sum(_own_cpu(process) for process in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _own_cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS
