"""Workflows: their definition, log, engine and coordinator."""
