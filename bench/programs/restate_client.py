"""Ask Restate's HTTP door for sagas and wait for each answer. Argument: URL of the ingress."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import drive


async def main(ingress: str) -> None:
    """Serve over one pool of connections that are kept."""
    url = f"{ingress}/issue_password/run"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def saga(key: str) -> None:
            async with http.post(url, json=key) as answer:
                answer.raise_for_status()

        await drive.serve(saga)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
