"""Run the Postman collections of the front door against a running system, by newman."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.npm import brought
from tests.patience import PATIENCE_S
from tests.servers import cannot_run
from tests.system.conftest import Mode
from tests.system.harness import System

from pulsaga_program.local.process import LocalServerError, program

FOLDER = Path(__file__).resolve().parents[2] / "testers" / "postman"
COLLECTION = FOLDER / "front_door.postman_collection.json"
USERS = FOLDER / "users.postman_collection.json"


@pytest.fixture(scope="module")
def newman() -> Path:
    try:
        return brought(FOLDER) / "node_modules" / "newman" / "bin" / "newman.js"
    except LocalServerError as missing:
        cannot_run(str(missing))


@pytest.fixture(scope="module")
def system(embedded_mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with embedded_mode.running(tmp_path_factory.mktemp("postman"), only=()) as running:
        yield running


def run(newman: Path, system: System, collection: Path) -> subprocess.CompletedProcess[str]:
    node = program("node", "install Node.js (apt-get install nodejs, brew install node)")
    command = [node, newman, "run", collection, "--env-var", f"base={system.url()}", "--color", "off"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.mark.parametrize("collection", [COLLECTION, USERS], ids=lambda path: path.name.partition(".")[0])
def test_every_assertion_of_a_collection_holds(newman: Path, system: System, collection: Path) -> None:
    """Orders go from stock to delivery; users sign up, order twice under two request ids, and find two orders."""
    done = run(newman, system, collection)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"assertions │ +(\d+) │ +(\d+)", done.stdout)
    assert told, done.stdout
    assert (int(told[1]) >= 30, told[2]) == (True, "0")


def test_an_assertion_that_does_not_hold_would_be_seen(newman: Path, system: System, tmp_path: Path) -> None:
    """The proof that it looks."""
    changed = COLLECTION.read_text().replace("no-stock", "sold-out")
    assert json.loads(changed)["item"]
    (tmp_path / COLLECTION.name).write_text(changed)
    done = run(newman, system, tmp_path / COLLECTION.name)
    assert done.returncode == 1
    assert re.search(r"^ *\d+\. +says why, in XML$", done.stdout, re.MULTILINE)
