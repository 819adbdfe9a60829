"""Hold the local servers' own promises that need no server: ports, locks, processes, configuration."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pulsaga_program.local import LocalPostgres, LocalPulsar, LocalServerError
from pulsaga_program.local.distribution import cache_folder
from pulsaga_program.local.process import (
    command_line,
    free_ports,
    only_one,
    port_is_free,
    recorded_process,
    spawn_detached,
    tail,
    wait_until,
)
from pulsaga_program.local.pulsar import configured


def test_a_listening_port_is_not_free() -> None:
    """The message that names the port rests on this."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_free_ports_differ() -> None:
    """One broker needs several at once."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(map(port_is_free, ports))


def test_a_second_holder_of_a_lock_is_told_why(tmp_path: Path) -> None:
    """Whoever is refused must know by whom."""
    with (
        only_one(tmp_path / "lock", "first"),
        pytest.raises(LocalServerError, match="taken by another"),
        only_one(tmp_path / "lock", "taken by another"),
    ):
        pass
    with only_one(tmp_path / "lock", "free again"):
        pass


def test_only_a_process_with_our_mark_is_ours(tmp_path: Path) -> None:
    """After a reboot the recorded pid may be anybody's; it must never be signalled."""
    record = tmp_path / "pid"
    record.write_text(f"{os.getpid()}\n")
    assert recorded_process(record, "no such mark") is None
    assert recorded_process(record, command_line(os.getpid())) == os.getpid()
    record.write_text("1\n")
    assert recorded_process(record, "") is None


def test_what_never_ran_is_not_running(tmp_path: Path) -> None:
    """`stop` and `status` of a fresh home do nothing and say so."""
    for server in (LocalPulsar.recorded(tmp_path / "pulsar"), LocalPostgres.recorded(tmp_path / "postgres")):
        assert server.pid() is None
        assert not server.is_ready()
        server.stop()
        server.kill()
    assert list(tmp_path.iterdir()) == []


def test_a_detached_program_prints_to_its_log(tmp_path: Path) -> None:
    """What a server says before it dies is what one needs to read."""
    pid = spawn_detached([sys.executable, "-c", "print('last words')"], tmp_path / "log")
    assert wait_until(lambda: not command_line(pid), 10)
    assert tail(tmp_path / "log", 1) == "last words"


def test_waiting_ends_with_its_time() -> None:
    """A server that never comes up must not hang the caller."""
    begun = time.monotonic()
    assert not wait_until(lambda: False, 0.1)
    assert time.monotonic() - begun >= 0.1


def test_configured_changes_keys_in_place_and_adds_the_rest() -> None:
    """Pulsar ignores a key it does not know, and the later of two wins: neither may happen unseen."""
    stock = "# comment\na=1\nb=2\n#c=3\n"
    assert configured(stock, {"a": "9", "c": "4"}) == "# comment\na=9\nb=2\n#c=3\nc=4\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PROTOOLS_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, Path("/a/b")),
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/protools")),
        ({}, Path("~/.cache/protools").expanduser()),
    ],
)
def test_downloads_are_kept_where_the_machine_keeps_caches(environment: dict[str, str], expected: Path) -> None:
    """245 MB belong where people clean up."""
    assert cache_folder(environment) == expected.resolve()


def test_a_process_that_becomes_another_program_is_not_taken_for_dead(tmp_path: Path) -> None:
    """A server is started through scripts that end in `exec`: for a moment the process has no command line."""
    script = tmp_path / "again.sh"
    script.write_text('[ "$1" -gt 0 ] && exec sh "$0" $(($1 - 1)) mark\nread _\n')
    with subprocess.Popen(["sh", str(script), "300", "mark"], stdin=subprocess.PIPE) as process:
        looks = [command_line(process.pid) for _ in range(20_000)]
        process.communicate(b"\n")
    assert all("mark" in shown for shown in looks)
