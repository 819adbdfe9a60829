"""Name every class of defect as one query over the extracted facts: it yields ids, each with a detail.

Known to the queries: the tables of `facts.TABLES`; `judged`, the sagas in question; `owned`, the commands of these;
`unheard`, the acceptances that left no trace; `newest`, the last event of each username; `lived`, until when a service
has handled messages; `:since`, `:cutoff` (later is too young to judge), `:ttl` (seconds to reveal in), `:bound`
(seconds of grace). A read model may be behind what lies in an outbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lost", "doubled", "stuck", "orphaned", "diverged", "late", "dead"]


@dataclass(frozen=True)
class Check:
    """Say what must not be, or with `is_defect` False what is told for information."""

    kind: Kind
    name: str
    says: str
    sql: str
    is_defect: bool = True
