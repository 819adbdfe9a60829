"""Write the two rows of a saga: what each step does, the same for every peer."""

from __future__ import annotations

import secrets

import psycopg
from psycopg_pool import AsyncConnectionPool

TABLES = (
    "CREATE TABLE IF NOT EXISTS generated (saga text PRIMARY KEY, secret text NOT NULL)",
    "CREATE TABLE IF NOT EXISTS mailed (saga text PRIMARY KEY, recipient text NOT NULL)",
)
GENERATED = "INSERT INTO generated VALUES (%s, %s) ON CONFLICT DO NOTHING"
MAILED = "INSERT INTO mailed VALUES (%s, %s) ON CONFLICT DO NOTHING"


def create_tables(url: str) -> None:
    """Lay out both tables; several programs may do so at once."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        for statement in TABLES:
            connection.execute(statement)


def draw_secret() -> str:
    """Draw what step 1 stores."""
    return secrets.token_urlsafe(16)


class AsyncRows:
    """Write rows through a pool of autocommit connections: one commit a row."""

    def __init__(self, url: str, connections: int) -> None:
        self._pool = AsyncConnectionPool(
            url, min_size=connections, max_size=connections, open=False, kwargs={"autocommit": True}
        )

    async def open(self) -> None:
        """Connect."""
        await self._pool.open(wait=True)

    async def generate(self, saga: str) -> str:
        """Do step 1: draw a secret, store it, return what the next step needs."""
        await self._write(GENERATED, saga, draw_secret())
        return f"{saga}@example.test"

    async def mail(self, saga: str, recipient: str) -> None:
        """Do step 2: store the mail."""
        await self._write(MAILED, saga, recipient)

    async def _write(self, statement: str, saga: str, value: str) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(statement, (saga, value))
