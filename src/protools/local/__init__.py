"""Run a real Pulsar and a real PostgreSQL on this machine, without Docker, each in a folder of its own."""

from pulsaga_program.local.postgres import LocalPostgres
from pulsaga_program.local.process import LocalServerError, MissingTool, PortInUse
from pulsaga_program.local.pulsar import LocalPulsar

__all__ = ["LocalPostgres", "LocalPulsar", "LocalServerError", "MissingTool", "PortInUse"]
