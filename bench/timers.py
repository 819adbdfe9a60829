"""Measure what a hundred thousand sagas that wait on their timers cost the running ones, and how soon due ones fire.

Two systems take turns on the same load; in one of them as many sagas wait as are asked for. Then a thousand of these
are due at the same moment. Targets: no measurable cost; all fire within 2 s. Below eight minutes on two cores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy import Connection, text

from bench.contest import Contestant
from bench.duel import COSTS, duel, ratios
from bench.history import AT_MOST, REST_S, Aged
from bench.processes import end_like_ctrl_c, pause, resume
from bench.report import Figure
from bench.told import Told, verdict
from pulsaga.delivery.database import open_database
from pulsaga_program.local.process import wait_until

AHEAD = "extract(epoch FROM clock_timestamp()) + 86400 + n * 0.01"
FIRE_WITHIN_S = 2.0
NOTICE_S = 20.0
"""How long before they are due the timers are set: a coordinator that sleeps until the next one must have looked."""
GIVE_UP_S = 60.0
LOOK_S = 0.02

NOW = text("SELECT extract(epoch FROM clock_timestamp())")
SET = text(
    "UPDATE saga SET wake_at = :due, progress = CAST("
    "jsonb_set(CAST(progress AS jsonb), '{wake_at}', to_jsonb(CAST(:due AS double precision))) AS text) "
    "WHERE id IN (SELECT id FROM saga WHERE status = 'RUNNING' LIMIT :number) RETURNING CAST(id AS text)"
)
LEFT = text(
    "SELECT count(*) FILTER (WHERE status = 'RUNNING'), extract(epoch FROM clock_timestamp()) "
    "FROM saga WHERE id = ANY(CAST(:ids AS uuid[]))"
)


class Waiting(Aged):
    """Let sagas wait whose first command is never answered, on request."""

    @contextmanager
    def _one_saga(self) -> Iterator[None]:
        """Hold a saga whose command generador has not seen, because it stands still."""
        still = {"generador": self._rig.processes["generador.worker"].pid}
        pause(still)
        try:
            self._load.accept(1)
            if not wait_until(self._has_begun, GIVE_UP_S):
                raise TimeoutError("the first saga did not begin")
            time.sleep(REST_S)
            yield
        finally:
            resume(still)

    def _has_begun(self) -> bool:
        with open_database(self._rig.settings, "bff", "read", "reader").connect() as connection:
            return bool(connection.execute(text("SELECT count(*) FROM command")).scalar())

    def wait(self, number: int) -> float:
        """Lay out so many sagas that wait; return the seconds that took."""
        began = time.monotonic()
        self._layout.copy(1, number, saga__wake_at=AHEAD, saga__resend_at=AHEAD)
        return time.monotonic() - began

    def fire(self, number: int) -> float:
        """Let so many of them be due at once; return the seconds after which all had moved, as others see it."""
        engine = open_database(self._rig.settings, "protools_saga", "write", "owner")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            due = float(connection.execute(NOW).scalar_one()) + NOTICE_S
            ids = list(connection.execute(SET, {"due": due, "number": number}).scalars())
            time.sleep(NOTICE_S - 1)
            return _fired(connection, ids, due)


def _fired(connection: Connection, ids: list[str], due: float) -> float:
    left, seconds = len(ids), 0.0
    while left:
        time.sleep(LOOK_S)
        left, now = connection.execute(LEFT, {"ids": ids}).one()
        seconds = float(now) - due
        if seconds > GIVE_UP_S:
            raise TimeoutError(f"{left} of {len(ids)} had not fired {GIVE_UP_S} s after they were due")
    return seconds


@click.command()
@click.option("--waiting", default=100_000, show_default=True, help="Sagas that wait.")
@click.option("--due", default=1000, show_default=True, help="Of them, how many are due at once.")
@click.option("--sagas", default=2000, show_default=True, help="Sagas of one turn.")
@click.option("--rounds", default=3, show_default=True)
def main(waiting: int, due: int, sagas: int, rounds: int) -> None:
    """Print what a saga costs beside many that wait, as a multiple of its cost without, and how soon these fire."""
    end_like_ctrl_c()
    told = Told("timers")
    rows: list[list[object]] = [["sagas that wait", *COSTS.values()]]
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        Path(folder).chmod(0o711)
        with duel(_new, _new, Path(folder)) as (without, beside):
            rows.append(["0", *ratios(without, beside, sagas, rounds).values()])
            click.echo(f"{waiting:,} laid out in {beside.call('wait', waiting):.0f} s")
            measured = ratios(without, beside, sagas, rounds)
            rows.append([f"{waiting:,}", *measured.values()])
            fired = Figure([beside.call("fire", due) for _ in range(rounds)])
    told.tell(rows, *_judged(measured, fired, waiting, due))


def _judged(measured: Mapping[str, Figure], fired: Figure, waiting: int, due: int) -> Iterator[str]:
    for name in ("all", "wall"):
        title = f"{COSTS[name]} of a saga beside {waiting:,} that wait ÷ without them"
        yield verdict(title, f"≤ {AT_MOST}", measured[name], good=measured[name].median <= AT_MOST)
    title = f"seconds until {due:,} that are due at once have moved"
    yield verdict(title, f"≤ {FIRE_WITHIN_S:g}", fired, good=fired.median <= FIRE_WITHIN_S)


def _new(folder: Path) -> Contestant:
    return Waiting(folder)


if __name__ == "__main__":
    main()
