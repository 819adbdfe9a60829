"""The fault cases of the original workflow, by name: whatever stalls, dies or answers twice, each wish ends once."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import hurt
from tests.system.conftest import Mode
from tests.system.harness import System, at_once, command
from tests.system.mailboxes import Mail, SmtpServer

from pulsaga.saga.snapshots import read_steps
from pulsaga_program.local.process import tail

STALL_S = 8.0
"""Longer than the step's retry interval of 5 s and the second that re-sending may be late."""
SWEEP_S = 20.0
"""So late that a lost reply comes by the command's replay, not by the sweep."""
OVERLOAD_S = float(os.environ.get("OVERLOAD_S", "5"))
HOUR = 3600


@pytest.fixture(scope="module")
def system(
    setup: tuple[Mode, int], mail_server: SmtpServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """One system for all cases; each leaves it whole."""
    mode, replicas = setup
    with hurt(mode, replicas, tmp_path_factory.mktemp(mode.name), mail_server, SWEEP_AFTER=str(SWEEP_S)) as system:
        yield system.up()


def attempts(saga: Any, step: int = 0) -> list[str]:
    """Return the command ids under which a step was issued, in order."""
    return [entry["commandId"] for entry in saga["log"] if entry["kind"] == "issued" and entry.get("path") == str(step)]


def one_mail_each(system: System, names: Collection[str]) -> None:
    """Hold that each name got one distinct mail; print how often one was on the wire twice: allowed, but known."""
    wanted = {f"{name}@example.test" for name in names}
    raw = [mail for mail in system.mailbox.mails() if mail.recipient in wanted]
    distinct = {(mail.id, mail.raw) for mail in raw}
    assert Counter(Mail(content).recipient for _, content in distinct) == dict.fromkeys(wanted, 1)
    print(f"mails on the wire: {len(raw)} for {len(wanted)} recipients, {len(raw) - len(distinct)} repeats")


def test_nominal(system: System) -> None:
    """One wish, one password, one mail."""
    assert system.issue("nominal")["status"] == "completed"
    assert system.mail_to("nominal@example.test").token


def test_duplicate_user(system: System) -> None:
    """A second wish for a taken name is refused, and the first one's link still works."""
    system.issue("taken")
    second = system.issue("taken")
    assert (second["status"], second["reason"]["code"]) == ("refused", "password-exists")
    assert system.password("taken")["version"] == 1
    assert system.reveal(system.mail_to("taken@example.test").token).status == 200


def test_no_username(system: System) -> None:
    """A wish that cannot be read leaves nothing behind."""
    count = "SELECT count(*) FROM acceptance"
    before = system.rows("bff", count)
    assert system.post("/passwords", {"email": "nobody@example.test"}).status == 422
    assert system.rows("bff", count) == before


@pytest.mark.parametrize(
    ("moment", "seam"), [("before", "received"), ("during", "flushed"), ("after", "committed")], ids=lambda v: str(v)
)
def test_timeout_around_persistence(system: System, moment: str, seam: str) -> None:
    """A receiver that stalls is asked again under the same command id, and does its work once."""
    name = f"stalled-{moment}"
    with system.fault(f"generador.{seam} action=sleep={STALL_S} match=subject={name}"):
        identifier = system.accept(name)
        assert system.outcome(identifier)["status"] == "completed"
    saga = system.eventually(lambda: system.saga(identifier))
    issued = attempts(saga)
    assert len(issued) >= 2
    assert len(set(issued)) == 1, "it was asked again under another id"
    assert system.password(name)["version"] == 1
    one_mail_each(system, [name])


def test_timeout_on_an_error(system: System) -> None:
    """A refusal whose reply was lost is replayed from the inbox; the work is not tried again."""
    system.issue("refusal")
    with (
        system.fault("generador.publishing action=drop match=subject=refusal"),
        system.fault("generador.handled action=sleep=0 match=subject=refusal times=forever") as handled,
    ):
        identifier = system.accept("refusal")
        second = system.outcome(identifier)
        assert second["reason"]["code"] == "password-exists"
        assert handled().fired == 1, "the work was tried again"
    saga = system.eventually(lambda: system.saga(identifier))
    assert len(attempts(saga)) >= 2
    assert len(set(attempts(saga))) == 1


def test_generador_unavailable(system: System) -> None:
    """A target that is away for three retries is waited for; nothing is counted against anybody."""
    names = [f"waiting-{number}" for number in range(5)]
    with system.without("run", "generador", "worker"):
        identifiers = at_once(system.accept, names, threads=4)

        def asked_thrice() -> bool:
            sagas = [system.saga(identifier) for identifier in identifiers]
            return all(sagas) and sum(len(attempts(saga)) for saga in sagas) >= len(names) + 3

        system.eventually(asked_thrice)
    commands = system.outcomes(identifiers)
    assert {command["status"] for command in commands} == {"completed"}
    assert [system.password(name)["version"] for name in names] == [1] * 5
    assert system.rows("generador", "SELECT count(*) FROM dead_letter") == [(0,)]


@pytest.mark.parametrize("variable", ["BROKER_URL", "GENERADOR_DB_URL"])
def test_unknown_host(system: System, tmp_path: Path, variable: str) -> None:
    """A name that does not resolve at first is waited for by a process that stays; it is no crash loop."""
    given = {
        "BROKER_URL": "pulsar://no-such-host.invalid:6650",
        "GENERADOR_DB_URL": "postgresql+psycopg://protools@no-such-host.invalid/nowhere",
    }
    if system.settings.embedded:  # what has no hosts has places where nothing is
        given = {"BROKER_URL": f"unix://{tmp_path}/nobody.sock", "GENERADOR_DB_URL": f"sqlite:///{tmp_path}"}
    name = f"unknown-host-{variable.lower().replace('_', '-')}"
    log = tmp_path / "lost.log"
    with (
        system.without("run", "generador", "worker"),
        lost(system, log, **{variable: given[variable]}) as worker,
    ):
        identifier = system.accept(name)
        system.eventually(lambda: log.read_text().count("waiting") >= 3 or worker.poll())
        assert worker.poll() is None, tail(log, 30)
    assert system.outcome(identifier)["status"] == "completed"
    system.mail_to(f"{name}@example.test")


@contextmanager
def lost(system: System, log: Path, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker of generador that looks for its servers in the wrong place."""
    with log.open("wb") as output:
        environment = {**system.environment, **changes}
        worker = subprocess.Popen(
            command("run", "generador", "worker"), env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()


def test_network_overload(system: System) -> None:
    """Accepted is ended, however many come at once; nothing is doubled, and nothing comes later."""
    names = [f"burst-{number}" for number in range(500)]
    begun = time.monotonic()
    identifiers = at_once(system.accept, names, threads=32)
    commands = system.outcomes(identifiers, 120)
    assert Counter(command["status"] for command in commands) == {"completed": 500}
    capacity = 500 / (time.monotonic() - begun)
    flood = at_rate(system, 3 * capacity, OVERLOAD_S)
    flooded = system.outcomes(list(flood.values()), 300)
    assert {command["status"] for command in flooded} == {"completed"}
    one_mail_each(system, [*names, *flood])
    show_resent(system)
    quiet_until, mails = time.monotonic() + 10, len(system.mailbox.mails())
    system.eventually(lambda: time.monotonic() > quiet_until)
    assert len(system.mailbox.mails()) == mails, "mails came after everything had ended"


def at_rate(system: System, per_second: float, seconds: float) -> dict[str, str]:
    """Ask at an arrival rate, whatever the answers; return who was accepted, by name."""
    begun = time.monotonic()

    def ask(number: int) -> tuple[str, str | None]:
        while time.monotonic() < begun + number / per_second:
            time.sleep(0.001)  # the arrival rate is what is asked for here
        answer = system.post("/passwords", {"username": f"flood-{number}"})
        assert answer.status in (202, 503), answer
        return f"flood-{number}", answer.json["id"] if answer.status == 202 else None

    asked = at_once(ask, range(int(per_second * seconds)), threads=64)
    accepted = {name: identifier for name, identifier in asked if identifier}
    print(f"asked {len(asked)} at {per_second:.0f}/s for {seconds:.0f} s, accepted {len(accepted)}")
    return accepted


def show_resent(system: System) -> None:
    """Print which part of the commands was sent again."""
    shown = system.rows("protools_saga", "SELECT steps FROM saga_view", "read")
    counts = [step.attempts for (steps,) in shown for step in read_steps(steps).values()]
    resent = sum(counts) - len(counts)
    print(f"commands sent: {sum(counts)}, of them again: {resent} ({100 * resent / sum(counts):.1f} %)")


def test_correo_or_its_mail_server_down_for_an_hour(system: System, mail_server: SmtpServer) -> None:
    """Sagas wait, nobody is blamed, one probe an interval; past the deadline an operator sees it; then all complete."""
    names = [f"unmailed-{number}" for number in range(20)]
    with mail_server.outage():
        identifiers = at_once(system.accept, names, threads=4)
        system.eventually(lambda: all(system.password(name) for name in names))
        for minutes in (20, 50):
            later(system, minutes * 60)
            system.eventually(lambda turned=mail_server.refusals: mail_server.refusals > turned + 1)  # type: ignore[misc]
            assert {system.command(identifier)["status"] for identifier in identifiers} == {"running"}
        before = mail_server.refusals
        system.eventually(lambda: mail_server.refusals >= before + 7)  # the pause grows from 0.05 s to 5 s
        begun = time.monotonic()
        system.eventually(lambda: mail_server.refusals >= before + 8)
        print(f"one probe in {time.monotonic() - begun:.1f} s for {len(names)} waiting mails, all senders together")
        assert system.rows("correo", "SELECT max(attempts), count(*) FROM mail WHERE status = 'waiting'") == [(0, 20)]
        later(system, HOUR + 600)
        suspended = system.outcomes(identifiers)
        assert {(c["status"], c["reason"]["code"]) for c in suspended} == {("suspended", "timed-out")}
        for table in ("failure", "dead_letter"):
            assert system.rows("correo", f"SELECT count(*) FROM {table}") == [(0,)]
        incidents = "SELECT count(*) FROM incident WHERE kind = 'suspended'"
        assert system.rows("protools_saga", incidents) == [(20,)]

    def all_completed() -> bool:
        return {system.command(identifier)["status"] for identifier in identifiers} == {"completed"}

    system.eventually(all_completed)
    one_mail_each(system, names)


def later(system: System, seconds: int) -> None:
    """Let the clock of every service jump, by starting them anew."""
    system.down()
    system.up(PROTOOLS_CLOCK_OFFSET=str(seconds))
