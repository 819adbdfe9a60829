"""Load declarations from a folder of their own, with the schemas and migrations that their author would commit."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

from pulsaga.settings import Settings, Side
from pulsaga.system import System
from pulsaga_program.databases import new_migration
from pulsaga_program.schemas import write

HERE = Path(__file__).parent


def load(name: str, folder: Path) -> ModuleType:
    """Copy a module of this folder to another one and import it from there."""
    copied = Path(shutil.copy(HERE / f"{name}.py", folder))
    spec = importlib.util.spec_from_file_location(name, copied)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commit(system: System) -> None:
    """Write what is committed beside the declarations of a system."""
    list(write(system.messages))
    own = (service for service in system.all if service is not system.coordinator)
    for service in own:
        for side in get_args(Side):
            new_migration(system, Settings.read({}), service, side, "first tables")
