"""Do what docs/adding.md says, to a copy of the sources, and run what it calls tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "adding.md"
BLOCK = re.compile(r"^```(python|diff)\n# ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = ("A service", "A step", "A workflow")


@dataclass(frozen=True)
class Block:
    """Hold one block of code: what it is, which file it is about, what it says."""

    kind: str
    place: str
    text: str

    @property
    def added(self) -> list[str]:
        """The lines that somebody has to write, blank ones left out."""
        lines = [line[1:] for line in self.text.splitlines() if line.startswith("+")]
        return [line for line in (lines if self.kind == "diff" else self.text.splitlines()) if line.strip()]


def blocks(section: str) -> list[Block]:
    """Return the blocks of one section of the guide, in order."""
    text = GUIDE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert text.count("```") == 2 * len(BLOCK.findall(text)), "a block that nobody would try"
    return [Block(*found) for found in BLOCK.findall(text)]


class Checkout:
    """Hold a copy of the sources that the guide is applied to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        here = {"PYTHONPATH": str(folder / "src"), "PROTOOLS_HOME": str(folder / "home")}
        self.environment = {**kept, **here, "PYTHONDONTWRITEBYTECODE": "1"}

    def follow(self, section: str) -> None:
        """Do what a section says, block by block; run its tests."""
        for block in blocks(section):
            if block.kind == "diff":
                self.change(block)
            elif block.place.startswith("run "):
                self.python("-c", block.text)
            else:
                self.write(block)
                self.try_out(block)

    def write(self, block: Block) -> None:
        """Write a new file."""
        path = self.folder / block.place
        assert not path.exists(), f"{block.place} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def try_out(self, block: Block) -> None:
        """Run a file of tests."""
        if Path(block.place).name.startswith("test_"):
            assert " passed" in self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", block.place)

    def change(self, block: Block) -> None:
        """Apply a diff: what it shows as there must be there exactly once."""
        path = self.folder / block.place
        before = "".join(f"{line[1:]}\n" for line in block.text.splitlines() if not line.startswith("+"))
        after = "".join(f"{line[1:]}\n" for line in block.text.splitlines() if not line.startswith("-"))
        text = path.read_text()
        assert text.count(before) == 1, f"{block.place} does not hold once:\n{before}"
        path.write_text(text.replace(before, after))

    def python(self, *arguments: str) -> str:
        """Run Python in the copy; return what it printed."""
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy that the sections change one after the other."""
    folder = tmp_path_factory.mktemp("checkout")
    yield Checkout(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def followed(checkout: Checkout) -> Checkout:
    """The copy after the whole guide."""
    for section in SECTIONS:
        checkout.follow(section)
    return checkout


@pytest.mark.slow
def test_what_the_guide_says_can_be_done_and_works(followed: Checkout) -> None:
    """A guide that no longer fits the code costs its reader an afternoon."""
    shown = followed.python("-c", "from protools_saga.handlers import WORKFLOWS; print(*WORKFLOWS.values())")
    assert "welcome-user" in shown


def test_a_new_service_takes_at_most_sixty_lines_in_three_files() -> None:
    """The measure of how much the building blocks carry."""
    files = [block for block in blocks("A service") if block.place.startswith("src/avisos/")]
    assert len([block for block in files if not block.place.endswith("__init__.py")]) == 3
    assert sum(len(block.added) for block in files) <= 60


def test_a_new_step_takes_at_most_twelve_lines() -> None:
    """The measure of how plainly a workflow reads."""
    assert sum(len(block.added) for block in blocks("A step") if block.place.startswith("src/")) <= 12


@pytest.mark.slow
def test_what_the_guide_writes_is_in_house_style(followed: Checkout) -> None:
    """Who copies an example must not be sent back by the linter."""
    files = sorted({block.place for name in SECTIONS for block in blocks(name) if block.place.endswith(".py")})
    for check in (["check"], ["format", "--check"]):
        followed.python("-m", "ruff", *check, "--no-cache", *files)
