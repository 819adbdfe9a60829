"""Put the checks of every kind together, in the order in which they are reported."""

from __future__ import annotations

from protools.verify.diverged import DIVERGED
from protools.verify.doubled import DOUBLED
from protools.verify.lost import LOST
from protools.verify.orphaned import ORPHANED
from protools.verify.stuck import LATE_AND_DEAD, STUCK

CHECKS = (*LOST, *DOUBLED, *STUCK, *ORPHANED, *DIVERGED, *LATE_AND_DEAD)
