"""Measure the quality scenarios of `docs/scenarios`, each on a system of its own on Pulsar and PostgreSQL."""
