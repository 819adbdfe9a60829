"""Mutate what everything rests on and see which mutants the tests kill: `make mutate ARGS="engine inbox"`.

Works in a copy of the tree (`.mutation/`), without Pulsar and PostgreSQL. Prints the survivors, then a table; exit
code 1 when the tests of a module kill fewer than 90 % of its mutants, or the time is up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name
from tests.mutation.queries import Trial

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "pyproject.toml")
AIM = 0.9
UNTRIED = status_by_exit_code[None]
PROGRAM = "program"
"""Part of the names of tests that start a process, which runs the real code and tells nothing."""
VERIFY_TESTS = ("tests/unit/test_checks.py", "tests/service/test_verify.py")


@dataclass(frozen=True)
class Target:
    """Bind modules to the fast tests that hold them; `options` are pytest's."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


DELIVERY = tuple(
    f"tests/service/test_{name}.py"
    for name in ("outbox", "unit_of_work", "worker", "delivery_order", "poison", "late", "retries")
)
TARGETS: Mapping[str, Target] = {
    "engine": Target(
        ("seedwork/saga/engine/*", "seedwork/saga/branches", "seedwork/saga/log"),
        tuple(f"tests/unit/test_{name}.py" for name in ("saga", "golden", "branches", "signals", "children")),
    ),
    "verify": Target(("seedwork/operate/verify/*",), VERIFY_TESTS, ("-p", "tests.mutation.played")),
    "inbox": Target(("seedwork/delivery/dispatch/dispatcher", "seedwork/delivery/dispatch/failures"), DELIVERY),
    "outbox": Target(("seedwork/delivery/outbox", "seedwork/delivery/transaction/*"), DELIVERY),
}
SETTINGS = """[mutmut]
source_paths = src
only_mutate =
{modules}
pytest_add_cli_args_test_selection =
{tests}
pytest_add_cli_args =
{options}
process_isolation = forkserver
timeout_multiplier = 3.0
timeout_constant = 10.0
"""
OPTIONS = ("-p", "no:cacheprovider", "-m", "not pulsar and not postgres", "-k", f"not postgresql and not {PROGRAM}")


@dataclass(frozen=True)
class Result:
    """Hold what became of the mutants of one module."""

    module: str
    count: Counter[str]
    survivors: tuple[str, ...]

    @property
    def tried(self) -> int:
        """Count the mutants that were run before the time was up."""
        return self.count.total() - self.count[UNTRIED]

    @property
    def is_good(self) -> bool:
        """Tell whether all were tried and enough were killed."""
        return self.tried == self.count.total() and self._rate >= AIM

    def line(self) -> str:
        """Write one row of the table."""
        figures = self.tried, self.count["killed"], self.count["timeout"], len(self.survivors), self.count[UNTRIED]
        return f"{self.module:<30}" + "".join(f"{figure:>10}" for figure in figures) + f"{self._rate:>9.1%}"

    @property
    def _rate(self) -> float:
        return (self.count["killed"] + self.count["timeout"]) / self.tried if self.tried else 0.0


def results_of(name: str, seconds: float, every: int) -> Iterator[Result]:
    """Run one target in a fresh copy; yield what became of each of its modules. Of its mutants takes each n-th."""
    folder = ROOT / ".mutation" / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / part, folder / part)
    target = TARGETS[name]
    lists = {
        "modules": [f"src/{module}.py" for module in target.modules],
        "tests": target.tests,
        "options": (*OPTIONS, *target.options),
    }
    indented = {key: "\n".join(f"    {line}" for line in lines) for key, lines in lists.items()}
    (folder / "setup.cfg").write_text(SETTINGS.format(**indented))
    with chdir(folder):
        mutants = sample(target, every)
        mutate(folder, seconds, [] if every == 1 else mutants)
        read_out = (read(meta, set(mutants)) for meta in sorted(Path("mutants/src").rglob("*.meta")))
        yield from (result for result in read_out if result.count)


def sample(target: Target, every: int) -> list[str]:
    """Name each n-th mutant of a target."""
    sources = [source for module in target.modules for source in sorted(Path("src").glob(f"{module}.py"))]
    made = ((source, mutate_file_contents(str(source), source.read_text()).mutant_names) for source in sources)
    return [get_mutant_name(source, name) for source, names in made for name in names][::every]


def mutate(folder: Path, seconds: float, mutants: list[str]) -> None:
    """Run mutmut on these mutants, or all; end it with all its children when the time is up."""
    (folder / "mutants" / "src").mkdir(parents=True)  # Python looks up its path once, before mutmut fills it
    path = os.pathsep.join(str(folder / "mutants" / part) for part in ("src", "."))
    mutmut = Path(sys.executable).with_name("mutmut")
    command = [str(mutmut), "run", "--max-children", str(os.cpu_count()), *mutants]
    with (
        (folder / "mutmut.log").open("w") as log,
        subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
        ) as process,
    ):
        try:
            if process.wait(seconds):
                sys.exit(f"mutmut could not run these tests: {log.name}")
        except (KeyboardInterrupt, subprocess.TimeoutExpired) as stopped:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(stopped, subprocess.TimeoutExpired):
                raise
            print(f"{folder.name}: the time is up")


def read(meta: Path, mutants: set[str]) -> Result:
    """Read what mutmut wrote down about these mutants of one module."""
    codes = json.loads(meta.read_text())["exit_code_by_key"]
    statuses = {mutant: status_by_exit_code[code] for mutant, code in codes.items() if mutant in mutants}
    source = meta.relative_to("mutants").with_suffix("")
    survivors = [mutant for mutant, status in statuses.items() if status not in ("killed", "timeout", UNTRIED)]
    told = (f"{mutant}: {statuses[mutant]}\n{get_diff_for_mutant(mutant, path=source)}" for mutant in survivors)
    return Result(str(source.relative_to("src")), Counter(statuses.values()), tuple(told))


def results_of_queries() -> Result:
    """Run the tests of `protools verify` once, with every mutant of its SQL asked beside the original."""
    trial = Trial()
    options = ["-q", "--no-header", "--no-summary", *OPTIONS, *VERIFY_TESTS]
    code = pytest.main(options, plugins=[trial])
    assert code == 0, "these tests must pass before anything can be told from them"
    survivors = tuple(trial.survivors())
    count = Counter(killed=trial.made - len(survivors), survived=len(survivors))
    return Result("protools/verify/*.py, SQL", count, survivors)


def main() -> int:
    """Run what was asked for, print what survived and the table."""
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar=" ".join(TARGETS), help="which (all)")
    parser.add_argument("--every", type=int, default=1, help="take each n-th mutant only (1: all)")
    parser.add_argument("--minutes", type=float, default=60, help="each may take at most so long (60)")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    results = []
    for name in asked.targets or TARGETS:
        began = time.monotonic()
        found = [results_of_queries()] if name == "verify" else []
        found += results_of(name, asked.minutes * 60, asked.every)
        results += found
        for survivor in (survivor for result in found for survivor in result.survivors):
            print(survivor, end="\n\n", flush=True)
        print(f"{name}: {(time.monotonic() - began) / 60:.0f} min", end="\n\n", flush=True)
    heads = ("tried", "killed", "timed out", "survived", "untried", "rate")
    print(f"{'module':<30}" + "".join(f"{head:>{9 if head == 'rate' else 10}}" for head in heads))
    print("\n".join(result.line() for result in results))
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
