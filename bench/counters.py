"""Count what Protools or the floor had PostgreSQL and Pulsar do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import urllib3

from bench.contest import Tally
from bench.database import database_tally
from bench.rig import Rig


def read_tally(rig: Rig) -> Tally:
    """Read all counters now."""
    topics = list(_topics(rig))
    messages, size = (sum(int(topic[key]) for topic in topics) for key in ("msgInCounter", "bytesInCounter"))
    return replace(database_tally(rig.postgres), messages=messages, message_bytes=size)


def _topics(rig: Rig) -> list[Any]:
    base = f"{rig.settings.broker_admin_url}/admin/v2/persistent/protools/{rig.settings.namespace}"
    http = urllib3.PoolManager()
    topics = json.loads(http.request("GET", base).data)
    return [json.loads(http.request("GET", f"{base}/{topic.rpartition('/')[2]}/stats").data) for topic in topics]
