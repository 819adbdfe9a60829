"""Tell what Pulsar's client says as log lines of ours, and what it repeats only now and then, with a count.

The client writes through a pipe, not to a Python logger: such a one takes the GIL on the client's own threads, and
while a call of ours holds it and waits for one of them, neither goes on (apache/pulsar-client-python#116).
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from contextlib import suppress
from functools import cache, partial

import structlog

from pulsaga.telemetry import repeats
from pulsaga.text import DETAIL_CHARACTERS, printable

log = structlog.get_logger()
PIPE_BYTES = 1024 * 1024
"""The client's threads wait when it is full, so it holds thousands of lines."""
LINE = re.compile(r"\S+ \S+ (?:ERROR|FATAL|WARN) +\[\w+\] (?P<place>[\w.]{1,60}:\d{1,6}) \| (?P<said>.*)")
ELSEWHERE = "client"


@cache
def log_file() -> str:
    """Return the file that a client is to log to; it keeps the first one for the whole process, and so does this."""
    read, write = os.pipe()
    with suppress(AttributeError, OSError):  # elsewhere than on Linux a pipe has the size that it has
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    threading.Thread(target=_listen, args=(read,), name="pulsar-log", daemon=True).start()
    return f"/dev/fd/{write}"


def _listen(pipe: int) -> None:
    rest = b""
    while True:
        *lines, rest = (rest + os.read(pipe, PIPE_BYTES)).split(b"\n")
        for line in lines:
            place, said = read_line(line.decode(errors="replace"))
            repeats.hear(f"pulsar {place}", partial(_tell, place, said))


def read_line(line: str) -> tuple[str, str]:
    """Return the place of the client's source that a line comes from, and what it says."""
    found = LINE.fullmatch(line)
    return (found["place"], found["said"]) if found else (ELSEWHERE, line)


def _tell(place: str, text: str, times: int) -> None:
    repeated = {"times": times} if times > 1 else {}
    log.warning("pulsar client", said=printable(text, DETAIL_CHARACTERS), at=place, **repeated)
