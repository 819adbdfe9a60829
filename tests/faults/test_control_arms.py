"""Run a fixed sample of the control arms; all of them are `make control-arms`."""

from __future__ import annotations

import pytest
from tests.faults.control_arms import judge
from tests.faults.unguarded import ARMS


@pytest.mark.parametrize("name", ["ack-after-commit", "outbox-in-transaction", "fold-twins", "command-id-on-retry"])
def test_a_test_goes_red_without_its_guard(name: str) -> None:
    """A test that passes without what it tests proves nothing."""
    good, line = judge(name, ARMS[name])
    assert good, line
