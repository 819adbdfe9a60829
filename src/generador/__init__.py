"""Passwords: generated, kept in a vault, each revealed once."""
