"""Frame what the embedded broker and its clients say to each other: four bytes of length, then msgpack.

A client says `[HELLO, namespace]` first, then calls, acknowledgements and broadcasts; the broker answers every call
once, by its number, and pushes messages as they come.
"""

from __future__ import annotations

from typing import Any

import msgpack

HELLO, CALL, ACK, BROADCAST = 1, 2, 3, 4
"""`[HELLO, namespace]`, `[CALL, number, method, *arguments]`, `[ACK, consumer, ids]`, `[BROADCAST, topic, packed]`."""
DONE, REFUSED, PUSH = 5, 6, 7
"""`[DONE, number, result]`, `[REFUSED, number, error, text]`, `[PUSH, consumer, [[id, topic, version, packed], …]]`."""

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""More than either side ever sends; a longer frame comes from somebody who does not speak this protocol."""
READ_BYTES = 256 * 1024


def frame(*parts: Any) -> bytes:
    """Write one frame."""
    packed: bytes = msgpack.packb(parts)
    return len(packed).to_bytes(4, "big") + packed


class Frames:
    """Put frames together from the pieces in which a socket delivers them."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        """Return the frames that are complete now; raise ValueError when this is not our protocol."""
        self._buffer += data
        frames, begin = [], 0
        while (end := self._end(begin)) is not None:
            frames.append(_parts(bytes(self._buffer[begin + 4 : end])))
            begin = end
        del self._buffer[:begin]
        return frames

    def _end(self, begin: int) -> int | None:
        if len(self._buffer) < begin + 4:
            return None
        size = int.from_bytes(self._buffer[begin : begin + 4], "big")
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {size} bytes: this is not the embedded broker's protocol")
        end = begin + 4 + size
        return end if len(self._buffer) >= end else None


def _parts(packed: bytes) -> list[Any]:
    parts = msgpack.unpackb(packed)
    if not isinstance(parts, list) or not parts:
        raise ValueError("an empty frame: this is not the embedded broker's protocol")
    return parts
