"""Commit what callers may rely on: the documents that the front door serves, held equal to the code by a test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask

from pulsaga.delivery.avro import home_of
from pulsaga.delivery.database import open_database
from pulsaga.errors import DefinitionError
from pulsaga.running.runtime import open_runtime
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.documents import openapi
from pulsaga.web.documents.breaking import breaks, is_allowed
from pulsaga.web.documents.routes import documents_of


def folder_of(system: System) -> Path:
    """Return where the documents are committed: beside the front door."""
    door = _door(system)
    return home_of(door.module, door.name, "contract")


def derive(system: System) -> Mapping[str, str]:
    """Return every document by its file name; raise DefinitionError for a route that is in none."""
    with front_door(system) as app:
        openapi.check(app)
        return {name: make() for name, make in documents_of(app, is_open=False).items()}


def write(documents: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Write the documents that changed, yielding their paths; raise Breaking, writing none, when one must not."""
    for name, text in documents.items():
        check(folder / name, text)
    for name, text in documents.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            yield path


class Breaking(Exception):
    """Say what would break callers while the version says that nothing does."""


def check(path: Path, text: str) -> None:
    """Raise Breaking for a document that breaks who relies on the one at `path`, unless its version says so."""
    if path.suffix != ".json" or not path.exists():
        return
    old, new = json.loads(path.read_text()), json.loads(text)
    if (found := breaks(old, new)) and not is_allowed(old, new):
        told = f"{path.name} breaks callers; move the first number of the system's `version`:"
        raise Breaking("\n".join((told, *found)))


@contextmanager
def front_door(system: System) -> Iterator[Flask]:
    """Build the front door's app in a folder of its own; nothing is asked of it but its routes."""
    with TemporaryDirectory() as home:
        settings = Settings.read({"PROTOOLS_HOME": home, "AUTH": "none"})
        door = _door(system)
        assert door.web is not None
        runtime, read = open_runtime(system, settings, door.name), open_database(settings, door.name, "read", "reader")
        try:
            yield door.web(runtime, read)
        finally:
            runtime.broker.close()
            runtime.write.dispose()
            read.dispose()


def _door(system: System) -> Service:
    if system.door is None:
        raise DefinitionError(f"system {system.name} has no front door, and nothing that callers rely on")
    return system.door
