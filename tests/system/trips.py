"""The example that uses every kind of step, as tests use it."""

from __future__ import annotations

import base64
import importlib
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pulsaga import unseal_text
from pulsaga.saga.tokens import TOKEN_KEY
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga_program.databases import new_migration
from pulsaga_program.schemas import write

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "trips"
IGNORED = shutil.ignore_patterns("__pycache__", ".*")


def new_key() -> dict[str, str]:
    """Return the key of its tokens, where no embedded system makes one."""
    return {TOKEN_KEY: base64.b64encode(secrets.token_bytes(32)).decode()}


def copy_to(folder: Path) -> None:
    """Give a new user the example."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=IGNORED)


def token_of(rows: Callable[..., Any], settings: Settings, saga_id: str) -> str | None:
    """Open the letter that asks for a trip, as whoever it is for would, once there is one."""
    query = "SELECT sealed_token FROM letter WHERE saga_id = :saga_id AND sealed_token != ''"
    found = rows("desk", query, saga_id=saga_id)
    return unseal_text(found[0][0], settings.keys(TOKEN_KEY), saga_id) if found else None


def prepare(folder: Path) -> System:
    """Copy the example, with what its author would commit, and import its system from there."""
    copy_to(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trips"]:
        del sys.modules[name]  # another copy
    sys.path.insert(0, str(folder))
    found: System = importlib.import_module("trips.system").SYSTEM
    list(write(found.messages))
    for service in found.services:
        new_migration(found, Settings.read({}), service, "write", "first tables")
    return found
