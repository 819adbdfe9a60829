"""Say what callers wish for, as the front door accepts it."""

from __future__ import annotations

from typing import Any

from bff.door import ENTRANCES
from protools_saga.messages import IssuePassword, RotatePassword
from pulsaga.web.front_door.acceptance import Request
from pulsaga.web.front_door.door import FrontDoor
from system import SYSTEM

DOOR = FrontDoor(SYSTEM, ENTRANCES)


def wish(username: str, email: str = "", *, rotate: bool = False, body_hash: str = "", **more: Any) -> Request:
    """Ask for a password for this user."""
    command = (RotatePassword if rotate else IssuePassword)(username, email or f"{username}@example.test")
    workflow = "rotate-password" if rotate else "issue-password"
    return Request(command=command, workflow=workflow, subject=username, body_hash=body_hash, **more)
