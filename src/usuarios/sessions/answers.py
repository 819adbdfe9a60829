"""Answer over gRPC: within the caller's deadline and a limit of ours, by a status that tells no more than it may."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, TypeVar

import grpc
import structlog
from sqlalchemy import func, select

from pulsaga import Unavailable, verdict

log = structlog.get_logger()
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
WITHIN_S = 2.0
"""Seconds that the database has for one request."""

OVER = "the deadline is over"


class Denied(Exception):
    """A request that is answered by a status other than OK."""

    def __init__(self, status: grpc.StatusCode, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


def answering(view: Callable[[S, R, grpc.ServicerContext], T]) -> Callable[[S, R, grpc.ServicerContext], T]:
    """Return a view of a servicer that answers an error by its status: callers see nothing of what is ours."""

    @wraps(view)
    def answer(servicer: S, request: R, context: grpc.ServicerContext) -> T:
        try:
            return view(servicer, request, context)
        except Exception as error:
            denied = _denied(error)
        return context.abort(denied.status, denied.said)

    return answer


def _denied(error: Exception) -> Denied:
    if isinstance(error, Denied):
        return error
    if verdict(error) == "item":
        log.error("request broke", exc_info=error)
        return Denied(grpc.StatusCode.INTERNAL, "an error of ours: it was logged")
    log.warning("database does not answer", error=type(error).__name__)
    return Denied(grpc.StatusCode.UNAVAILABLE, "the database does not answer: try again later")


def left_s(context: grpc.ServicerContext) -> float:
    """Return the seconds that are left for a request, WITHIN_S at most; raise Denied when its caller has gone."""
    remaining: float | None = context.time_remaining()  # None without a deadline, whatever the stubs say
    if not context.is_active() or (remaining is not None and remaining <= 0):
        raise Denied(grpc.StatusCode.DEADLINE_EXCEEDED, OVER)
    return WITHIN_S if remaining is None else min(WITHIN_S, remaining)


class Bounded:
    """Threads that ask the database, each request for a limited time: one that hangs holds none of the server's."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="database")

    def ask(self, context: grpc.ServicerContext, work: Callable[[float], T]) -> T:
        """Return what `work` returns, given the time of `time.monotonic` by which it is to end.

        Raise Unavailable when it has not by then, or Denied where the caller's deadline is over; do not begin it later.
        """
        seconds = left_s(context)
        asked = self._pool.submit(work, until := time.monotonic() + seconds)
        try:
            return asked.result(seconds)
        except Exception as error:
            asked.cancel()
            if not isinstance(error, TimeoutError) and time.monotonic() < until:
                raise
        if seconds < WITHIN_S:
            raise Denied(grpc.StatusCode.DEADLINE_EXCEEDED, OVER)
        raise Unavailable("not within the time there was")

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def bound(execute: Callable[[Any], object], dialect: str, until: float) -> None:
    """Have PostgreSQL end this transaction's statements at `until` of `time.monotonic`; raise Unavailable after it."""
    check_time(until)
    if dialect == "postgresql":
        left_ms = max(1.0, (until - time.monotonic()) * 1000)
        execute(select(func.set_config("statement_timeout", f"{left_ms:.0f}", True)))


def check_time(until: float) -> None:
    """Raise Unavailable after `until` of `time.monotonic`: whoever asked has been answered."""
    if time.monotonic() >= until:
        raise Unavailable("the time is over")
