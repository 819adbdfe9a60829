"""Have outsiders read what callers rely on: Spectral the OpenAPI document, AsyncAPI's own parser the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.linters.linters import findings, installed
from tests.servers import cannot_run

from pulsaga.web.documents import snapshots
from pulsaga_program.local.process import LocalServerError
from system import SYSTEM


@pytest.fixture(scope="module")
def linters() -> Path:
    try:
        return installed()
    except LocalServerError as missing:
        cannot_run(str(missing))


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_outsiders_find_nothing_wrong(linters: Path, name: str) -> None:
    """What only we can read is no contract."""
    assert findings(linters, snapshots.folder_of(SYSTEM) / name) == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("openapi.json", lambda d: d["components"]["schemas"]["Command"]["properties"]["status"].update(enum=["gone"])),
        ("asyncapi.json", lambda d: next(iter(d["components"]["messages"].values()))["payload"]["schema"].pop("name")),
    ],
    ids=["an example of another value", "no Avro"],
)
def test_they_would_find_it(linters: Path, tmp_path: Path, name: str, damage: Callable[[Any], object]) -> None:
    """The proof that they look, at examples and at Avro too."""
    document = json.loads((snapshots.folder_of(SYSTEM) / name).read_text())
    damage(document)
    (tmp_path / name).write_text(json.dumps(document))
    assert findings(linters, tmp_path / name)
