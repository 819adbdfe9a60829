"""Serve the workflow to Restate over HTTP/2; `run` journals what a step returned before the next one starts.

Arguments: URL of the database, port, number of processes, database connections of each.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import restate
import rows
from hypercorn.config import Config
from hypercorn.run import run as run_hypercorn

service = restate.Service("issue_password")
_rows: rows.AsyncRows | None = None
_opening = asyncio.Lock()


async def _opened() -> rows.AsyncRows:
    """Connect in the process and event loop that work, once."""
    global _rows
    async with _opening:
        if _rows is None:
            fresh = rows.AsyncRows(os.environ["BENCH_URL"], int(os.environ["BENCH_CONNECTIONS"]))
            await fresh.open()
            _rows = fresh
    return _rows


@service.handler()
async def run(context: restate.Context, saga: str) -> None:
    """Run the two steps of one saga."""
    table = _rows or await _opened()

    async def generate() -> str:
        return await table.generate(saga)

    recipient = await context.run_typed("generate", generate)

    async def mail() -> None:
        await table.mail(saga, recipient)

    await context.run_typed("mail", mail)


app: Any = restate.app([service])


def main(url: str, port: str, processes: str, connections: str) -> None:
    """Serve until the process is told to end."""
    rows.create_tables(url)
    os.environ |= {"BENCH_URL": url, "BENCH_CONNECTIONS": connections}
    config = Config()
    config.bind, config.workers = [f"127.0.0.1:{port}"], int(processes)
    config.application_path = "restate_service:app"
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_timeout, config.keep_alive_max_requests = 3600, 10**9  # a closed connection retries its sagas
    config.loglevel = "WARNING"
    sys.exit(run_hypercorn(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
