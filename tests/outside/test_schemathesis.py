"""Let schemathesis ask the running system whatever its OpenAPI document allows, and what it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.outside.door import Door

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = os.environ.get("EXAMPLES", "3")
"""Cases of each operation in each phase; `make schemathesis` asks for more."""
SEED = os.environ.get("SEED", "7")


def test_schemathesis_finds_nothing(whole: Door, tmp_path: Path) -> None:
    """Examples, borders, random values and links from answer to request, under every check: no 5xx, no status, header
    or body that the document does not tell, nothing refused that it allows, nothing taken that it forbids."""
    options = ["--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure", "--generation-database", "none"]
    headers = ["-H", f"Authorization: Bearer {whole.token}", "-H", "Accept: application/json"]
    told = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURATION, "run", f"{whole.url}/openapi.json",
         "--no-color", *options, *headers],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-10_000:] + told.stderr
    (generated,) = re.findall(r"(\d+) generated", told.stdout)
    assert int(generated) >= 100
    print(told.stdout)
