"""Callbacks: a caller is told at a URL of its own how its command ended."""
