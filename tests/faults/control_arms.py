"""Run each guard's tests with the guard and without it, and print what that shows.

With the guard a test must pass, without it must fail; anything else is exit code 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from tests.faults.unguarded import ARMS, Arm

COUNT = re.compile(r"(\d+) (failed|passed|error)")


def outcome(tests: Sequence[str], arm: str = "") -> dict[str, int]:
    """Run these tests in a process of their own; return how many passed, failed, or could not be run."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.faults.unguarded", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "CONTROL_ARM": arm, "PYTHONPATH": os.pathsep.join([".", "src"])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = {word: int(number) for number, word in COUNT.findall(done.stdout)}
    assert found, done.stdout + done.stderr
    return {word: found.get(word, 0) for word in ("passed", "failed", "error")}


def judge(name: str, arm: Arm) -> tuple[bool, str]:
    """Return whether the guard is needed and enough, and the table's line."""
    within, without = outcome(arm.tests), outcome(arm.tests, name)
    good = within["passed"] > 0 and not within["failed"] + within["error"] and without["failed"] > 0
    told = f"without: {without['failed']} of {sum(without.values())} red   with: {within['failed'] + within['error']}"
    return good, f"{'ok ' if good else 'BAD'}  {name:<24} {told}   {arm.promise}"


def main() -> int:
    """Print the table; return 1 when a guard is missed by nobody."""
    bad = 0
    for name, arm in ARMS.items():
        good, line = judge(name, arm)
        print(line, flush=True)
        bad += not good
    print(f"{len(ARMS) - bad} of {len(ARMS)} guards are needed by a test and enough for it")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
