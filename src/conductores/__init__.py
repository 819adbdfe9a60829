"""Drivers: each has one order at a time."""
