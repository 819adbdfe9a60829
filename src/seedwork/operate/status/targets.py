"""Where the processes that run answer Prometheus, in the format of its `file_sd_configs` and `http_sd_configs`."""

from __future__ import annotations

from typing import Any

from pulsaga.operate.status.remote import processes
from pulsaga.settings import Settings
from pulsaga.system import System

LABELS = ("service", "kind", "replica")


def targets(system: System, settings: Settings) -> list[dict[str, Any]]:
    """Return a target for each process that runs. Raise Unavailable where a service does not say what runs."""
    return [
        {"targets": [one["address"]], "labels": {name: one[name] for name in LABELS}}
        for one in processes(system, settings)
    ]
