"""Hold the sources to the house style where a linter cannot."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pulsaga
from pulsaga import testing, web
from pulsaga.delivery.messages import contract_of
from pulsaga.saga.definition import Saga
from system import SYSTEM

SOURCES = Path(__file__).resolve().parents[2] / "src"
STEP_LINES = 12
FILES = sorted(SOURCES.rglob("*.py"))
READERS = {
    "seedwork/settings.py": "the settings",
    "protools/local/distribution.py": "PROTOOLS_CACHE: where this machine keeps downloads, for every installation",
    "protools/local/pulsar.py": "JAVA_HOME: where this machine keeps Java",
}
NAMES = {"environ", "environb", "getenv", "getenvb"}


def relative(path: Path) -> str:
    """Name a source file below `src`."""
    return path.relative_to(SOURCES).as_posix()


def reads_environment(tree: ast.AST) -> Iterator[int]:
    """Yield the lines on which a module touches the environment other than to hand all of it to a child."""
    handed_on = {id(value) for node in ast.walk(tree) if isinstance(node, ast.Dict) for value in _unpacked(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="environ", value=ast.Name(id="request")):  # what WSGI says of a request
                continue
            case ast.Attribute(attr=name, lineno=line) if name in NAMES and id(node) not in handed_on:
                yield line
            case ast.ImportFrom(module="os", names=names, lineno=line) if {alias.name for alias in names} & NAMES:
                yield line


def _unpacked(node: ast.Dict) -> Iterator[ast.expr]:
    return (value for key, value in zip(node.keys, node.values, strict=True) if key is None)


def test_only_settings_reads_the_environment_but_for_two_tools_of_the_machine() -> None:
    """A variable read anywhere else is in no list, is not checked at start and is not shown by `config show`."""
    readers = {relative(path) for path in FILES if any(reads_environment(ast.parse(path.read_text())))}
    assert readers == READERS.keys()


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("import os\nos.environ['X']", True),
        ("from os import environ", True),
        ("import os\nos.getenv('X')", True),
        ("import os\nrun(env={**os.environ, 'X': '1'})", False),
    ],
)
def test_reading_the_environment_would_be_seen(code: str, reads: bool) -> None:
    """The proof that the test above looks; handing everything on to a child reads no setting."""
    assert bool(list(reads_environment(ast.parse(code)))) is reads


def code_lines(source: str) -> int:
    """Count lines of code: no blank ones, no docstring, no lone bracket."""
    tree = ast.parse(textwrap.dedent(source))
    quiet: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            quiet |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = textwrap.dedent(source).splitlines()
    return sum(1 for number, line in enumerate(lines, 1) if line.strip(" ,()[]") and number not in quiet)


def steps_of(saga: Saga[Any]) -> Iterator[tuple[str, int]]:
    """Yield each step of a workflow with the number of lines that it takes: its functions and its entry."""
    module = inspect.getmodule(saga.leaves[0][1].command)
    assert module is not None
    text = inspect.getsource(module)
    entries = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and _is_step(node)]
    for (_, step), entry in zip(saga.leaves, sorted(entries, key=lambda node: node.lineno), strict=True):
        functions: list[Callable[..., Any] | None] = [step.command, step.learn, step.undo]
        named = [function for function in functions if function and function.__name__ != "<lambda>"]
        own = [function for function in named if inspect.getmodule(function) is module]
        parts = [inspect.getsource(function) for function in own]
        yield contract_of(step.sends).name, sum(map(code_lines, [*parts, ast.get_source_segment(text, entry) or ""]))


def _is_step(node: ast.Call) -> bool:
    called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return isinstance(called, ast.Name) and called.id == "Step"


@pytest.mark.parametrize("saga", SYSTEM.sagas.workflows.values(), ids=lambda saga: saga.key)
def test_a_step_of_a_saga_takes_at_most_twelve_lines(saga: Saga[Any]) -> None:
    """A workflow that cannot be read aloud is changed by nobody who has to answer for it."""
    counted = list(steps_of(saga))
    assert len(counted) == len(saga.leaves)
    assert [(name, lines) for name, lines in counted if lines > STEP_LINES] == []


# --- the line between framework and application

NAMED_BEFORE = "/front_door/migrations/"
"""Columns were called by one workflow's word; a history says how they were called."""
FRAMEWORK = [
    path
    for path in FILES
    if relative(path).startswith(("seedwork/", "protools/")) and NAMED_BEFORE not in relative(path)
]
APPLICATION = [path for path in FILES if relative(path).partition("/")[0] in {*SYSTEM.names, "system.py"}]
FOREIGN = re.compile(rf"\b({'|'.join([*SYSTEM.names, 'username'])})\b")
PUBLIC = {"pulsaga": pulsaga.PLACES, "pulsaga.web": web.PLACES, "pulsaga.testing": testing.__all__}
WRITTEN = (SOURCES.parent / "docs" / "names.md").read_text()


def named_in(tree: ast.AST) -> Iterator[str]:
    """Yield the identifiers and the text of a module, docstrings included."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="url" | "parts"), attr="username"):  # of a URL
                continue
            case ast.Constant(value=str(text)) | ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
                yield text
            case ast.ImportFrom(module=str(module)):
                yield module


@pytest.mark.parametrize("path", FRAMEWORK, ids=relative)
def test_the_framework_names_no_service_and_no_field_of_one(path: Path) -> None:
    """It works in a repository that has never heard of passwords."""
    assert [text for text in named_in(ast.parse(path.read_text())) if FOREIGN.search(text)] == []


def test_a_service_named_in_the_framework_would_be_seen() -> None:
    """In code, in a string and in a docstring."""
    for code in ("from correo import x", "a = 'bff'", "def f():\n    '''Ask generador.'''", "row.username"):
        assert [text for text in named_in(ast.parse(code)) if FOREIGN.search(text)], code


# --- the public names


def imported_from_framework(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what a module imports of the framework: a module and a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0].startswith("pulsaga"):
            yield from ((str(node.module), alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("pulsaga"))


@pytest.mark.parametrize("path", APPLICATION, ids=relative)
def test_the_application_imports_public_names_only(path: Path) -> None:
    """It is built as any user would build theirs."""
    imported = imported_from_framework(ast.parse(path.read_text()))
    assert [(module, name) for module, name in imported if name not in PUBLIC.get(module, ())] == []


def test_every_public_name_is_there_and_written_down() -> None:
    """What is not in the list may change; what is in it is what users type for years."""
    for module, names in PUBLIC.items():
        for name in names:
            assert getattr(importlib.import_module(module), name) is not None
        section = WRITTEN.partition(f"## `{module}`\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \| \S", section, re.M) == sorted(names, key=str.lower)


def test_the_type_checker_sees_every_public_name() -> None:
    """Names that come when they are asked for are told to it apart."""
    for package in (pulsaga, web):
        tree = ast.parse(inspect.getsource(package))
        told = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert told - {None} == package.PLACES.keys()
