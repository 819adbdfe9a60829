"""Run sagas of one system on request: a JSON object a line on standard input, the outcome a line on standard output."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

Saga = Callable[[str], Awaitable[Any]]
"""Start one saga under a fresh key and return once it has ended."""


async def serve(saga: Saga) -> None:
    """Say `ready`, then answer requests until standard input closes."""
    _say({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        _say(await _run(saga, request["sagas"], request["in_flight"]))


async def _run(saga: Saga, sagas: int, in_flight: int) -> dict[str, Any]:
    """Keep up to `in_flight` sagas going until `sagas` have ended; clock times are the machine's monotonic ones."""
    keys = iter([uuid.uuid4().hex for _ in range(sagas)])
    latencies: list[float] = []

    async def customer() -> None:
        for key in keys:
            began = time.monotonic()
            await saga(key)
            latencies.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(customer() for _ in range(in_flight)))
    return {"began": began, "ended": time.monotonic(), "latencies": latencies}


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
