"""Offer the servers of the test session to every test."""

from tests.servers import postgres, pulsar, servers_folder

__all__ = ["postgres", "pulsar", "servers_folder"]
