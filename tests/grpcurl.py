"""Call gRPC by grpcurl, another language's client, built once per machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_S

from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import program

VERSION = "v1.9.4"
MODULE = f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"
SOURCES = Path(__file__).parents[1] / "src"
BUILD_S = 600


@dataclass(frozen=True)
class Called:
    """What a call was answered: the name of its status, and a body where that is OK."""

    status: str
    body: Any
    said: str


def binary() -> Path:
    """Return the program, built first if need be; raise MissingTool without Go."""
    folder = cache_folder() / f"grpcurl-{VERSION}"
    if not (folder / "grpcurl").exists():
        go = program("go", "install Go: it builds grpcurl")
        environment = {**os.environ, "GOBIN": str(folder)}
        subprocess.run([go, "install", MODULE], env=environment, check=True, timeout=BUILD_S)
    return folder / "grpcurl"


def call(
    address: str, method: str, *options: str, proto: str = "usuarios/sessions/sessions.proto", **body: Any
) -> Called:
    """Call a method in the clear, knowing it by its .proto below `src`; `options` are grpcurl's own."""
    known = ["-plaintext", "-import-path", str(SOURCES), "-proto", proto, "-max-time", str(PATIENCE_S)]
    command = [str(binary()), *known, *options, "-d", json.dumps(body), address, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    if done.returncode == 0:
        return Called("OK", json.loads(done.stdout), "")
    found = re.search(r"Code: (\w+)", done.stderr)
    return Called(found[1] if found else f"exit {done.returncode}", None, done.stderr)
