"""Workflows that start by the calendar: one saga for each tick, however many coordinators run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pulsaga.errors import DefinitionError
from pulsaga.saga.functions import sent_by

Overlap = Literal["skip", "queue", "allow"]


@dataclass(frozen=True)
class Schedule:
    """Start a workflow at the times of a cron expression (crontab(5), five fields, as Debian's cron reads them).

    Where the clock is put forward, what falls into the hour that is left out starts when the clock jumps; where it is
    put back, what has a fixed hour starts once.
    """

    name: str
    cron: str
    _: KW_ONLY
    command: Callable[[datetime], Any]
    """The time of a tick, in the schedule's zone → the command that starts a workflow."""
    timezone: str = "UTC"
    """Its name in the tz database."""
    overlap: Overlap = "skip"
    """What a tick does while the saga of the last one has not ended: nothing, wait for it, or start another."""
    catch_up: float = 3600.0
    """Seconds after which a tick that was missed, or that waits, is passed over."""

    def __post_init__(self) -> None:
        try:
            _ = self.zone
            self.after(0.0)
        except (CronSimError, StopIteration) as error:
            raise DefinitionError(f"schedule {self.name}: {self.cron!r}: {str(error) or 'it never comes'}") from None
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise DefinitionError(f"schedule {self.name}: {self.timezone!r} is no time zone: {error}") from None
        if self.catch_up <= 0:
            raise DefinitionError(f"schedule {self.name}: catch_up {self.catch_up:g} s: more than 0")

    @cached_property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.timezone)

    @cached_property
    def starts(self) -> type:
        """The class of its command; raise DefinitionError when the function does not say."""
        return sent_by(self.command)

    @property
    def times(self) -> str:
        """What says when it ticks: another text means other times."""
        return f"{self.cron} {self.timezone}"

    def local(self, at: float) -> datetime:
        """Return a time in Unix seconds as one of its zone."""
        return datetime.fromtimestamp(at, UTC).astimezone(self.zone)

    def after(self, at: float) -> float:
        """Return the first tick behind a time, in Unix seconds."""
        return next(self.ticks(at))

    def ticks(self, after: float) -> Iterator[float]:
        """Yield the ticks behind a time, in Unix seconds."""
        return (tick.timestamp() for tick in CronSim(self.cron, self.local(after)))
