"""Hold the stubs of gRPC against their .proto."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `make proto` writes, generated anew."""
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    folder = tmp_path_factory.mktemp("stubs")
    planned = subprocess.run(
        ["make", "-n", "proto", f"OUT={folder}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = (line for line in planned.stdout.splitlines() if "grpc_tools.protoc" in line)
    subprocess.run([sys.executable, *shlex.split(line)[1:]], cwd=ROOT, check=True)
    return folder


def stubs_in(folder: Path) -> dict[str, str]:
    found = [*folder.rglob("*_pb2*.py"), *folder.rglob("*_pb2*.pyi")]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_the_committed_stubs_are_those_of_the_proto(generated: Path) -> None:
    """The .proto is what others generate their clients from: ours must say the same."""
    kept = stubs_in(ROOT / "src")
    assert len(kept) == 3
    assert kept == stubs_in(generated), "run `make proto`"
