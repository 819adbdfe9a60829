"""Put the checks of every kind together, in the order in which they are reported."""

from __future__ import annotations

from pulsaga.operate.verify.diverged import DIVERGED
from pulsaga.operate.verify.doubled import DOUBLED
from pulsaga.operate.verify.lost import LOST
from pulsaga.operate.verify.orphaned import ORPHANED
from pulsaga.operate.verify.stuck import LATE_AND_DEAD, STUCK

CHECKS = (*LOST, *DOUBLED, *STUCK, *ORPHANED, *DIVERGED, *LATE_AND_DEAD)
