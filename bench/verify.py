"""Measure `protools verify`: run one saga for real, copy its rows N times in every SQLite file, and verify them all."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from pulsaga_program.local.process import free_ports, wait_until

USERNAME = "u00000000000"
UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
LEFT_OUT = ("target", "outbox", "key_check")
Row = tuple[Any, ...]


@click.command()
@click.option("--sagas", default=100_000, show_default=True)
def main(sagas: int) -> None:
    """Print how fast and with how much memory N finished sagas are verified."""
    with tempfile.TemporaryDirectory(prefix="protools-bench-") as folder:
        environment = {**os.environ, "PROTOOLS_HOME": folder, "AUTH": "none"}
        _run_one_saga(Path(folder), environment)
        began = time.monotonic()
        for path in sorted(Path(folder, "db").glob("*.sqlite")):
            _copy_rows(path, sagas)
        click.echo(f"{sagas} sagas laid out in {time.monotonic() - began:.0f} s")
        _verify(environment)


def _run_one_saga(folder: Path, environment: dict[str, str]) -> None:
    names = ("BFF_PORT", "PROTOOLS_SAGA_PORT", "GENERADOR_PORT", "CORREO_PORT")
    ports = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    program = [sys.executable, "-m", "pulsaga_program", "up"]
    with (folder / "up.log").open("wb") as log:
        system = subprocess.Popen(program, env={**environment, **ports}, stdout=log, stderr=log)
    try:
        if not wait_until(lambda: _issue(int(ports["BFF_PORT"])), 60):
            raise RuntimeError((folder / "up.log").read_text()[-2000:])
        time.sleep(2)  # projections and outboxes come to rest
    finally:
        system.send_signal(signal.SIGINT)
        system.wait(30)


def _issue(port: int) -> bool:
    """Ask for the one password; true once it is completed."""
    headers = {"Content-Type": "application/json", "Prefer": "wait=10", "Idempotency-Key": "bench"}
    body = json.dumps({"username": USERNAME}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/passwords", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return bool(answer.status == 201)
    except OSError:
        return False


def _copy_rows(path: Path, sagas: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        file.execute("PRAGMA synchronous=OFF")
        file.execute("BEGIN")
        for table in tables:
            if table not in LEFT_OUT and not table.endswith("_version"):
                _copy_table(file, table, sagas)
        file.execute("COMMIT")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _copy_table(file: sqlite3.Connection, table: str, sagas: int) -> None:
    cursor = file.execute(f"SELECT * FROM {table}")  # noqa: S608 - our names
    names, rows = [column[0] for column in cursor.description], cursor.fetchall()
    marks = ", ".join("?" for _ in names)
    copies = (_copy(names, row, number) for number in range(1, sagas) for row in rows)
    file.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)  # noqa: S608 - our names


def _copy(names: list[str], row: Row, number: int) -> Row:
    """Give a row ids and a username of its own; they keep their length, so Avro and msgpack stay valid."""
    return tuple(_value(name, value, number) for name, value in zip(names, row, strict=True))


def _value(name: str, value: Any, number: int) -> Any:
    if name == "token_hash":
        return number.to_bytes(32, "big")
    if name == "idempotency_key":
        return f"bench-{number}"
    if isinstance(value, str):
        return _renamed(value.encode(), number).decode()
    return _renamed(value, number) if isinstance(value, bytes) else value


def _renamed(text: bytes, number: int) -> bytes:
    tail = b"%012x" % number
    return UUID.sub(lambda match: match[0][:24] + tail, text).replace(USERNAME.encode(), b"u%011d" % number)


def _verify(environment: dict[str, str]) -> None:
    program = [sys.executable, "-m", "pulsaga_program", "verify"]
    verifying = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)
    assert verifying.stdout is not None
    said = verifying.stdout.read()
    _, status, usage = os.wait4(verifying.pid, 0)
    click.echo(said.rstrip())
    click.echo(f"exit {os.waitstatus_to_exitcode(status)}, peak memory {usage.ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
