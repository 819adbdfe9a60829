"""Count what Protools or the floor had PostgreSQL and Pulsar do."""

from __future__ import annotations

import json
from typing import Any

import urllib3

from bench.contest import Tally
from bench.database import statements_and_commits
from bench.rig import Rig


def read_tally(rig: Rig) -> Tally:
    """Read all counters now."""
    statements, commits = statements_and_commits(rig.postgres)
    topics = list(_topics(rig))
    messages, size = (sum(int(topic[key]) for topic in topics) for key in ("msgInCounter", "bytesInCounter"))
    return Tally(statements, commits, messages, size)


def _topics(rig: Rig) -> list[Any]:
    base = f"{rig.settings.broker_admin_url}/admin/v2/persistent/protools/{rig.settings.namespace}"
    http = urllib3.PoolManager()
    topics = json.loads(http.request("GET", base).data)
    return [json.loads(http.request("GET", f"{base}/{topic.rpartition('/')[2]}/stats").data) for topic in topics]
