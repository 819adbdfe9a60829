"""Offer the servers of the test session to every test."""

from tests.servers import postgres, pulsar, pulsar_to_kill, servers_folder

__all__ = ["postgres", "pulsar", "pulsar_to_kill", "servers_folder"]
