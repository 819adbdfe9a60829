"""Run sagas on DBOS: the process that is asked is the one that works, the shortest way DBOS has.

Arguments: URL of the database, number of threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import drive
import psycopg
import rows
from dbos import DBOS, SetWorkflowID

_local = threading.local()


def main(url: str, threads: int) -> None:
    """Register the workflow, launch DBOS, serve."""
    DBOS(config=_config(url, threads))
    rows.create_tables(url)

    def write(statement: str, saga: str, value: str) -> None:
        if not hasattr(_local, "connection"):
            _local.connection = psycopg.connect(url, autocommit=True)
        _local.connection.execute(statement, (saga, value))

    @DBOS.step()
    def generate(saga: str) -> str:
        write(rows.GENERATED, saga, rows.draw_secret())
        return f"{saga}@example.test"

    @DBOS.step()
    def mail(saga: str, recipient: str) -> None:
        write(rows.MAILED, saga, recipient)

    @DBOS.workflow()
    def issue_password(saga: str) -> None:
        mail(saga, generate(saga))

    def run(saga: str) -> None:
        with SetWorkflowID(saga):
            issue_password(saga)

    DBOS.launch()
    asyncio.run(_serve(run, threads))


def _config(url: str, threads: int) -> dict[str, object]:
    return {
        "name": "bench",
        "system_database_url": url,
        "sys_db_pool_size": threads + 4,
        "max_executor_threads": threads,
        "executor_id": str(os.getpid()),
        "application_version": "1",
        "log_level": "ERROR",
    }


async def _serve(run, threads: int) -> None:  # type: ignore[no-untyped-def]
    pool = ThreadPoolExecutor(threads)

    async def saga(key: str) -> None:
        await asyncio.get_running_loop().run_in_executor(pool, run, key)

    await drive.serve(saga)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
