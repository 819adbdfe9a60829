"""Begin to tell of a process's work, as its settings say, and end that."""

from __future__ import annotations

from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.telemetry import traces
from pulsaga.telemetry.logs import configure_logging

FLUSH_S = 2.0
"""Seconds that the last spans have to leave."""


def start_telemetry(system: System, settings: Settings, service: str, kind: str) -> None:
    """Log as one process of a service, and export its spans where a collector is named."""
    configure_logging(settings.log_format, settings.log_level, service=service, process=kind)
    if settings.are_traced:
        from pulsaga.telemetry.otlp import OtlpRecorder

        broker = "embedded" if settings.embedded else "pulsar"
        traces.start(OtlpRecorder(f"{system.name}.{service}", broker))


def stop_telemetry() -> None:
    """Export what is left."""
    traces.stop(FLUSH_S)
