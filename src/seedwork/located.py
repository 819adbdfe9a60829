"""Find the system that the program runs: `PROTOOLS_SYSTEM=module:NAME`, else `[tool.protools]` in pyproject.toml."""

from __future__ import annotations

import sys
import tomllib
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pulsaga.errors import DefinitionError, SettingError
from pulsaga.settings import system_reference
from pulsaga.system import System

PROJECT = "pyproject.toml"


@cache
def the_system() -> System:
    """Import the system that is declared; raise SettingError when none is, or when it cannot be had."""
    reference, folder = system_reference(), _project()
    sys.path[:0] = [str(path) for path in (folder, folder / "src") if str(path) not in sys.path]
    reference = reference or str(_declared(folder / PROJECT).get("system", ""))
    if not reference:
        raise SettingError("PROTOOLS_SYSTEM", f"is missing: module:NAME, here or in [tool.protools] of {PROJECT}")
    return _imported(reference)


def _imported(reference: str) -> System:
    module, _, name = reference.partition(":")
    if not module or not name:
        raise SettingError("PROTOOLS_SYSTEM", f"{reference!r} is not module:NAME")
    try:
        found = getattr(import_module(module), name)
    except DefinitionError:
        raise
    except Exception as error:  # it runs code of others, which may raise anything
        raise SettingError("PROTOOLS_SYSTEM", f"{reference}: {_told(error)}") from error
    if not isinstance(found, System):
        raise SettingError("PROTOOLS_SYSTEM", f"{reference} is no System")
    return found


def _told(error: Exception) -> str:
    """Return what an error says, and the line of the module that raised it."""
    frames = [each for each in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in each.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _project() -> Path:
    """Return the nearest folder whose pyproject.toml names a system, else the one where the program runs."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if "system" in _declared(folder / PROJECT)), here)


def _declared(file: Path) -> Mapping[str, Any]:
    """Return `[tool.protools]` of a file; raise SettingError for a file that cannot be read."""
    try:
        found = tomllib.loads(file.read_text()).get("tool", {}).get("protools", {})
    except OSError:
        return {}
    except ValueError as error:
        raise SettingError("PROTOOLS_SYSTEM", f"{file}: {error}") from None
    return found if isinstance(found, dict) else {}
