"""Hold the local Pulsar and PostgreSQL to what the fault tests rest on: a kill loses nothing that was promised."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.patience import PATIENCE_S
from tests.system.harness import Program

from pulsaga_program.local import LocalPostgres, LocalPulsar, LocalServerError, PortInUse
from pulsaga_program.local.process import free_ports, wait_until
from pulsaga_program.local.pulsar import JAVA


@pytest.mark.pulsar
def test_a_killed_broker_comes_back_with_its_data(pulsar: LocalPulsar) -> None:
    """The tests of lost messages kill it, and must find what was acknowledged."""
    before = pulsar.pid()
    pulsar.kill()
    assert pulsar.pid() is None
    assert not pulsar.is_ready()
    pulsar.start()
    assert wait_until(pulsar.is_ready, PATIENCE_S), "a busy machine may let one health check time out"
    assert pulsar.pid() != before


@pytest.mark.pulsar
def test_a_killed_bookie_leaves_no_registration_to_the_next_one(
    pulsar: LocalPulsar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bookie that finds its own old registration may delete and register itself without end, some 300 times a second;
    while it does, one new topic in two cannot be stored."""
    monkeypatch.setattr("pulsaga_program.local.pulsar.JAVA", {**JAVA, "PULSAR_LOG_LEVEL": "info"})
    pulsar.kill()
    offset = pulsar.log.stat().st_size
    pulsar.start()
    said = pulsar.log.read_bytes()[offset:]
    assert b"RegisterBookie" in said
    assert not [line for line in said.splitlines() if b"/ledgers/available" in line and b"deleted" in line.lower()]


@pytest.mark.pulsar
def test_starting_a_running_broker_changes_nothing(pulsar: LocalPulsar) -> None:
    """`make run-pulsar` may be typed twice."""
    before = pulsar.pid()
    pulsar.start()
    assert pulsar.pid() == before
    with pytest.raises(LocalServerError, match=f"on port {pulsar.port}"):
        LocalPulsar(pulsar.folder, port=free_ports(1)[0]).start()


@pytest.mark.pulsar
def test_a_taken_port_is_named(pulsar: LocalPulsar, tmp_path: Path) -> None:
    """Two brokers side by side are usual: one for development, one for tests."""
    other = LocalPulsar(tmp_path / "other", port=pulsar.port, admin_port=free_ports(1)[0])
    try:
        with pytest.raises(PortInUse, match=f"port {pulsar.port} is in use"):
            other.start()
    finally:
        other.stop()


@pytest.mark.postgres
def test_the_role_may_create_databases_and_roles_and_no_more(postgres: LocalPostgres) -> None:
    """Bootstrap needs the two; a service that is broken into must not read the server's files."""
    assert ask(postgres, "SELECT rolcreatedb, rolcreaterole, rolsuper FROM pg_roles WHERE rolname = current_user") == (
        True,
        True,
        False,
    )


@pytest.mark.postgres
def test_a_wrong_password_is_refused(postgres: LocalPostgres) -> None:
    """The server listens on a port that every user of the machine can reach."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=postgres.port, user="protools", password="guess", dbname="postgres")


@pytest.mark.postgres
def test_a_killed_server_comes_back_with_what_was_committed(postgres: LocalPostgres) -> None:
    """The tests of lost commits kill it."""
    ask(postgres, "CREATE ROLE kept")
    postgres.kill()
    assert not postgres.is_ready()
    postgres.start()
    assert ask(postgres, "DROP ROLE kept") is None  # an error, were it not there


@pytest.mark.postgres
def test_the_server_syncs_to_disk(postgres: LocalPostgres) -> None:
    """A promise kept with fsync off would be kept by luck."""
    assert ask(postgres, "SHOW fsync") == ("on",)


@pytest.mark.postgres
@pytest.mark.parametrize("program", ["psql", "psycopg"])
def test_the_url_that_is_printed_is_one_that_psql_takes(postgres: LocalPostgres, program: str) -> None:
    """It is pasted behind `psql`; a driver's name in its scheme makes the whole of it the name of a database."""
    url = Program(postgres.folder.parent, {}).run("postgres", "url").stdout.strip()
    if program == "psycopg":
        psycopg.connect(url).close()
        return
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed")
    done = subprocess.run(["psql", url, "-Atc", "SELECT current_user"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "protools\n"), done.stderr


@pytest.mark.pulsar
@pytest.mark.postgres
def test_what_env_prints_is_in_force_once_a_shell_has_read_it(pulsar: LocalPulsar, postgres: LocalPostgres) -> None:
    """`eval "$(protools env)"` is how a second terminal is pointed at them."""
    program = Program(postgres.folder.parent, {})
    read = f'eval "$({sys.executable} -m pulsaga_program env)" && {sys.executable} -m pulsaga_program config show'
    done = subprocess.run(["/bin/sh", "-c", read], env=program.environment, capture_output=True, text=True)
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split()) > 1)
    told = {**pulsar.environment(), "DB_HOSTNAME": f"127.0.0.1:{postgres.port}", "DB_PASSWORD": "(hidden)"}
    assert {name: shown[name] for name in told} == told, done.stderr
    assert {shown[name] for name in ("VAULT_KEY", "LINK_KEY", "INTERNAL_TOKEN")} == {"(hidden)"}


@pytest.mark.parametrize("group", ["broker", "postgres"])
def test_nothing_is_printed_that_points_at_a_server_that_nobody_made(tmp_path: Path, group: str) -> None:
    """Whoever reads it with `eval` would look for a broker where there is none."""
    done = Program(tmp_path, {}).run(group, "env")
    assert (done.returncode, done.stdout) == (1, "")
    assert "start it first" in done.stderr


def ask(postgres: LocalPostgres, statement: str) -> object:
    """Run one statement as the role `protools` and return its first row, if any."""
    connection = psycopg.connect(postgres.url.replace("+psycopg", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()
