"""Take the tour of README.md: every command as it stands there, every answer compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.system.conftest import Mode
from tests.system.harness import POLL_S, System
from tests.system.mailboxes import Maildir

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PATH = re.compile(r"`((?:src|tests|testers|k6|bench|deploy|docs)/[\w./-]*)[`:]")
STOP = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
ASSIGNED = re.compile(r"(\w+)=\$\(.*\)")
LATER_S = 90.0
"""Seconds within which a read database is expected to show what has happened."""
PORTS = {"BFF_PORT": 3000, "PROTOOLS_SAGA_PORT": 3001, "GENERADOR_PORT": 3002, "CORREO_PORT": 3003}
CHANGING = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}": "(id)",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z": "(time)",
    r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d (GMT|\+0000)": "(date)",
    r"reveal#[A-Za-z0-9_-]{43}": "reveal#(token)",
    r'"password":"[A-Za-z2-9]{25}"': '"password":"(secret)"',
}
"""What differs from one run to the next, and only that."""


@dataclass(frozen=True)
class Step:
    """Hold one command of the tour and what it prints."""

    command: str
    printed: str

    @property
    def variable(self) -> str:
        """The shell variable that it sets, if it sets one."""
        found = ASSIGNED.fullmatch(self.command)
        return found[1] if found else ""

    @property
    def asks_only(self) -> bool:
        """Whether it may be tried again until what it asks for is there."""
        return " -d " not in self.command


def tour() -> list[Step]:
    """Return the steps of the tour in order."""
    return [Step(*found) for block in BLOCK.findall(README.read_text()) for found in STEP.findall(block)]


def alike(text: str) -> str:
    """Blank out what differs from one run to the next."""
    for pattern, name in CHANGING.items():
        text = re.sub(pattern, name, text)
    return text.replace("\r\n", "\n").strip()


class Visitor:
    """Take the steps in a shell, on the ports and in the home of a system under test."""

    def __init__(self, system: System, folder: Path) -> None:
        self._folder = folder
        self._ports = [(f"127.0.0.1:{port}", f"127.0.0.1:{system.environment[name]}") for name, port in PORTS.items()]
        self._variables = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        (folder / ".protools").symlink_to(system.home)

    def take(self, step: Step) -> str:
        """Take one step and return what it printed; one that only asks is repeated until it is answered as promised."""
        deadline = time.monotonic() + LATER_S
        while True:
            printed = self._run(f"{step.command}; echo ${step.variable}" if step.variable else step.command)
            right = printed.strip() if step.variable else alike(printed) == alike(step.printed)
            if right or not step.asks_only or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        if step.variable:
            self._variables[step.variable] = printed.strip()
        return "" if step.variable else printed

    def _run(self, command: str) -> str:
        for shown, real in self._ports:
            command = command.replace(shown, real)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=LATER_S,
        )
        printed = done.stdout
        for shown, real in self._ports:
            printed = printed.replace(real, shown)
        return printed


ON_SERVERS = pytest.param("pulsar_mode", marks=[pytest.mark.pulsar, pytest.mark.postgres])


@pytest.fixture(params=[ON_SERVERS, "embedded_mode"])
def visitor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Visitor]:
    """Somebody in front of a fresh system, whose mails are kept in a Maildir."""
    mode: Mode = replace(request.getfixturevalue(request.param), mailbox=lambda home: nullcontext(Maildir(home)))
    if shutil.which("curl") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("curl is missing")
    with mode.running(tmp_path, only=()) as system:
        yield Visitor(system, tmp_path)


def test_the_tour_of_the_readme_is_what_really_happens(visitor: Visitor) -> None:
    """The first thing a newcomer tries must work to the letter."""
    steps = tour()
    assert len(steps) >= 15
    for step in steps:
        assert alike(visitor.take(step)) == alike(step.printed), step.command


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_path_that_a_guide_names_is_there(guide: Path) -> None:
    """A guide to rooms that have moved leads nowhere; what `adding` makes up is for its own test."""
    text = guide.read_text()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    links = {guide.parent / link for link in re.findall(r"\]\((?!http)([^)#]+)\)", prose)}
    named = {ROOT / path for path in PATH.findall(text) if guide.name != "adding.md"}
    assert {str(path) for path in links | named if not path.exists()} == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_function_that_a_guide_names_is_there(guide: Path) -> None:
    """Who follows a message through the code must find each stop."""
    named = [(file, name) for file, names in STOP.findall(guide.read_text()) for name in re.findall(r"\w+", names)]
    assert [stop for stop in named if not defines(*stop)] == []


def defines(file: str, name: str) -> bool:
    """Tell whether a source file of this name defines this function or class."""
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py") if path.as_posix().endswith(f"/{file}")]
    return any(re.search(rf"(def|class) {name}\b", source) for source in sources)


def test_every_target_of_make_that_the_readme_names_is_there() -> None:
    """`No rule to make target` is a poor welcome."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z0-9-]+)", README.read_text())) <= targets
