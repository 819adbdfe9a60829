"""The commands that start the workflows of this system; the command's id is the saga's id."""

from __future__ import annotations

from dataclasses import dataclass

from pulsaga import command


@command("protools_saga.issue-password")
@dataclass(frozen=True)
class IssuePassword:
    """Ask for a password to be issued for a user and mailed."""

    username: str
    email: str


@command("protools_saga.rotate-password")
@dataclass(frozen=True)
class RotatePassword:
    """Ask for a user's valid password to be replaced, and the next one mailed."""

    username: str
    email: str
