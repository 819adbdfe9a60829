"""Run a real Pulsar and a real PostgreSQL on this machine, without Docker, each in a folder of its own."""

from protools.local.postgres import LocalPostgres
from protools.local.process import LocalServerError, MissingTool, PortInUse
from protools.local.pulsar import LocalPulsar

__all__ = ["LocalPostgres", "LocalPulsar", "LocalServerError", "MissingTool", "PortInUse"]
