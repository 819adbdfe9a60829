"""Ask make what it would do, in a folder where nothing is installed yet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with all that the targets of installing read."""
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    for name in ("Makefile", "requirements.txt", "requirements-run.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def plan(folder: Path, target: str) -> str:
    """Return what make would run; it runs nothing."""
    done = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("target", ["run", "run-pulsar", "stop"])
def test_to_run_installs_what_runs_and_says_so(fresh: Path, target: str) -> None:
    """The first minute decides whether people stay: no compiler of documents, no fuzzer, and no silence."""
    planned = plan(fresh, target)
    assert "requirements-run.txt" in planned
    assert "-r requirements.txt" not in planned
    installs = [line for line in planned.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert planned.count("echo 'installing") == len(installs)


def test_to_test_installs_the_rest_on_top(fresh: Path) -> None:
    """CI begins with nothing."""
    planned = plan(fresh, "lint")
    assert planned.index("run.txt") < planned.index("-r requirements.txt")


@pytest.mark.parametrize("target", ["run", "lint"])
def test_what_is_installed_is_not_installed_again(fresh: Path, target: str) -> None:
    """Whoever goes from running to testing and back does not wait each time."""
    (fresh / ".venv").mkdir()
    for stamp in (".run", ".stamp"):  # in the order in which they are made
        (fresh / ".venv" / stamp).touch()
    assert "pip" not in plan(fresh, target)


def test_the_package_is_built_with_the_locked_tool_and_nothing_is_fetched_beside_the_lock() -> None:
    """The lines that the Makefile takes out of the lock must be there, with their hashes."""
    found = subprocess.run(
        ["sed", "-n", "/^setuptools==/,/# via/p", str(ROOT / "requirements.txt")], capture_output=True, text=True
    ).stdout
    assert found.startswith("setuptools==")
    assert found.count("--hash=sha256:") >= 1
    assert len([line for line in found.splitlines() if "==" in line]) == 1
