"""Mails: one for each command."""
