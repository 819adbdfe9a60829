"""Offer the servers of the test session to every test; say which system the programs run that tests start."""

import os

from tests.servers import postgres, pulsar, servers_folder

os.environ.setdefault("PROTOOLS_SYSTEM", "system:SYSTEM")

__all__ = ["postgres", "pulsar", "servers_folder"]
