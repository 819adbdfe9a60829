"""Commit what callers may rely on: the documents that the front door serves, held equal to the code by a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask

import bff
from protools.contract import openapi
from seedwork.database import open_database
from seedwork.service import open_runtime
from seedwork.settings import Settings

FOLDER = Path(bff.__file__).parent / "contract"


def derive() -> Mapping[str, str]:
    """Return every document by its file name."""
    with front_door() as app:
        return {"openapi.json": openapi.derive(app)}


def write(documents: Mapping[str, str], folder: Path = FOLDER) -> Iterator[Path]:
    """Write the documents that changed, yielding their paths."""
    folder.mkdir(exist_ok=True)
    for name, text in documents.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            yield path


@contextmanager
def front_door() -> Iterator[Flask]:
    """Build the front door's app in a folder of its own; nothing is asked of it but its routes."""
    with TemporaryDirectory() as home:
        settings = Settings.read({"PROTOOLS_HOME": home, "AUTH": "none"})
        runtime, read = open_runtime(settings, "bff"), open_database(settings, "bff", "read", "reader")
        try:
            yield bff.create_app(runtime, read)
        finally:
            runtime.broker.close()
            runtime.write.dispose()
            read.dispose()
