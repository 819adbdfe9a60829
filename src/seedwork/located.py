"""Find the system that the program runs: `PROTOOLS_SYSTEM=module:NAME`, else `[tool.protools]` in pyproject.toml."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from pulsaga.errors import DefinitionError, SettingError
from pulsaga.settings import system_reference
from pulsaga.system import System

PROJECT = "pyproject.toml"


@cache
def the_system() -> System:
    """Import the system that is declared; raise SettingError when none is, or when it cannot be had."""
    reference, folder = system_reference(), _project()
    if folder:
        sys.path[:0] = [str(path) for path in (folder, folder / "src") if str(path) not in sys.path]
        reference = reference or _declared(folder / PROJECT).get("system", "")
    if not reference:
        raise SettingError("PROTOOLS_SYSTEM", f"is missing: module:NAME, here or in [tool.protools] of {PROJECT}")
    return _imported(reference)


def _imported(reference: str) -> System:
    module, _, name = reference.partition(":")
    try:
        found = getattr(import_module(module), name)
    except DefinitionError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError("PROTOOLS_SYSTEM", f"{reference}: {error}") from error
    if not isinstance(found, System):
        raise SettingError("PROTOOLS_SYSTEM", f"{reference} is no System")
    return found


def _project() -> Path | None:
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if "system" in _declared(folder / PROJECT)), None)


def _declared(file: Path) -> Mapping[str, str]:
    try:
        found: Mapping[str, str] = tomllib.loads(file.read_text()).get("tool", {}).get("protools", {})
    except (OSError, ValueError):
        return {}
    return found
