"""Say which system the program runs, in every way that is wrong, and hear it in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulsaga import SettingError
from pulsaga.located import the_system

MODULES = {
    "located_right": "from pulsaga import System\nSYSTEM = System('located_shop')\n",
    "located_other": "SYSTEM = 1\n",
    "located_raising": "SYSTEM = 1\nraise RuntimeError('no such luck')\n",
    "located_syntax": "SYSTEM = (\n",
    "located_import": "import nothing_is_called_so\n",
}
WRONG = {
    "located_nowhere:SYSTEM": "ModuleNotFoundError: No module named 'located_nowhere'",
    "located_right:OTHER": "AttributeError: module 'located_right' has no attribute 'OTHER'",
    "located_right": "'located_right' is not module:NAME",
    ":SYSTEM": "':SYSTEM' is not module:NAME",
    "located_other:SYSTEM": "located_other:SYSTEM is no System",
    "located_raising:SYSTEM": "RuntimeError: no such luck (located_raising.py, line 2)",
    "located_syntax:SYSTEM": "SyntaxError: '(' was never closed (located_syntax.py, line 1)",
    "located_import:SYSTEM": "No module named 'nothing_is_called_so' (located_import.py, line 1)",
}
PROJECTS = {
    "[tool.protools]\nsystem = 5\n": "'5' is not module:NAME",
    "[tool]\nprotools = 'system'\n": "is missing",
    "[tool.protools\n": "pyproject.toml: ",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with modules, in which the program is called."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("PROTOOLS_SYSTEM", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("reference", "told"), WRONG.items())
def test_a_system_that_cannot_be_had_is_one_line_that_tells_why(
    project: Path, monkeypatch: pytest.MonkeyPatch, reference: str, told: str
) -> None:
    """It is the first thing that a newcomer gets wrong; a page of a stack trace of ours does not help."""
    monkeypatch.setenv("PROTOOLS_SYSTEM", reference)
    with pytest.raises(SettingError) as refused:
        the_system.__wrapped__()
    assert told in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(("text", "told"), PROJECTS.items())
def test_a_project_file_that_names_no_system_is_told_of(project: Path, text: str, told: str) -> None:
    """One that cannot be read looks to its owner as if it named a system."""
    (project / "pyproject.toml").write_text(text)
    with pytest.raises(SettingError, match=r"^PROTOOLS_SYSTEM: ") as refused:
        the_system.__wrapped__()
    assert told in str(refused.value)


def test_a_system_is_found_where_the_program_is_called(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable alone no project file is needed."""
    monkeypatch.setenv("PROTOOLS_SYSTEM", "located_right:SYSTEM")
    assert the_system.__wrapped__().name == "located_shop"


def test_a_system_is_found_from_a_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project file is looked for upwards, as all tools do."""
    (project / "pyproject.toml").write_text("[tool.protools]\nsystem = 'located_right:SYSTEM'\n")
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    assert the_system.__wrapped__().name == "located_shop"
