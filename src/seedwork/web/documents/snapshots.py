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
from pulsaga.running.runtime import open_runtime
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.documents import asyncapi, openapi, xsd
from pulsaga.web.documents.breaking import breaks, is_allowed


def folder_of(system: System) -> Path:
    """Return where the documents are committed: beside the front door."""
    assert system.front_door is not None
    return home_of(system.front_door.module, system.front_door.name, "contract")


def derive(system: System) -> Mapping[str, str]:
    """Return every document by its file name."""
    with front_door(system) as app:
        return {
            "openapi.json": openapi.derive(app),
            "asyncapi.json": asyncapi.derive(system),
            "schema.xsd": xsd.derive(app),
            "problem.xsd": xsd.derive_problem(),
        }


def write(documents: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Write the documents that changed, yielding their paths; raise Breaking, writing none, when one must not."""
    for name, text in documents.items():
        check(folder / name, text)
    for name, text in documents.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
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
        raise Breaking(f"{path.name} breaks callers; move the first number of its VERSION:\n" + "\n".join(found))


@contextmanager
def front_door(system: System) -> Iterator[Flask]:
    """Build the front door's app in a folder of its own; nothing is asked of it but its routes."""
    with TemporaryDirectory() as home:
        settings = Settings.read({"PROTOOLS_HOME": home, "AUTH": "none"})
        door = system.front_door
        assert door is not None
        assert door.web is not None
        runtime, read = open_runtime(system, settings, door.name), open_database(settings, door.name, "read", "reader")
        try:
            yield door.web(runtime, read)
        finally:
            runtime.broker.close()
            runtime.write.dispose()
            read.dispose()
