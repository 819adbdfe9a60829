"""Ask the front door for passwords over HTTP from a process of its own, over connections that are kept.

`python -m bench.poster PORT` takes a JSON list of usernames a line and says a line when all were accepted. It speaks
just enough HTTP/1.1 to cost little beside what it measures.
"""

from __future__ import annotations

import asyncio
import json
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

CONNECTIONS = 32
ACCEPTED = re.compile(rb"HTTP/1\.1 202 .*?\r\nlocation: /commands/([0-9a-f-]{36})\r\n", re.DOTALL | re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Poster:
    """Hold the process that asks."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "bench.poster", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, usernames: Sequence[str]) -> None:
        """Begin; `answer` says when it is done."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(list(usernames)) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any] | None:
        """Return when it began and ended and what was accepted when, or None while it is not done."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], 0)[0]:
            return None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the front door did not accept everything")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(5)


async def _post_all(port: int, usernames: Sequence[str]) -> dict[str, Any]:
    left, accepted = iter(usernames), []
    began = time.monotonic()
    for each in await asyncio.gather(*(_customer(port, left) for _ in range(CONNECTIONS))):
        accepted += each
    return {"began": began, "ended": time.monotonic(), "accepted": accepted}


async def _customer(port: int, left: Iterator[str]) -> list[tuple[str, float]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    accepted = []
    for username in left:
        asked = time.monotonic()
        writer.write(_request(username))
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        told = ACCEPTED.match(head)
        if told is None:
            raise RuntimeError(head.decode())
        accepted.append((told[1].decode(), asked))
    writer.close()
    return accepted


def _request(username: str) -> bytes:
    body = json.dumps({"username": username}).encode()
    head = "POST /passwords HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def main(port: int) -> None:
    """Answer line by line until standard input closes."""
    for line in sys.stdin:
        print(json.dumps(asyncio.run(_post_all(port, json.loads(line)))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
