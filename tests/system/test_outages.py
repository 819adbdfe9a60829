"""Take parts of a running system away, or all of it at once, and see that every promise made before is kept after."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest
from tests.system.conftest import Mode
from tests.system.harness import Answer, System, at_once, paused

from pulsaga_program.local import LocalPulsar
from pulsaga_program.local.process import send

BrokerOutage = Callable[[], AbstractContextManager[None]]
LATER_S = 90
"""How far the clock jumps at a restart: the claims of a sender that was killed have run out (MAIL_CLAIM)."""


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system of our own, for whoever shares a broken one would fail for nothing."""
    with mode.running(tmp_path_factory.mktemp(mode.name)) as running:
        yield running


@pytest.fixture
def broker_outage(request: pytest.FixtureRequest, mode: Mode, system: System) -> BrokerOutage:
    """Kill the broker while a block runs, start it again after it."""
    if mode.name == "embedded":
        return lambda: system.without("broker", "embedded")
    pulsar = request.getfixturevalue("pulsar")
    assert isinstance(pulsar, LocalPulsar)
    return lambda: _without_pulsar(pulsar)


@contextmanager
def _without_pulsar(pulsar: LocalPulsar) -> Iterator[None]:
    pulsar.kill()
    try:
        yield
    finally:
        pulsar.start()


def test_with_the_broker_down_wishes_are_accepted_and_come_true_later(
    system: System, broker_outage: BrokerOutage
) -> None:
    """The front door's promise rests on its own database alone; who waits for a broker loses customers."""
    system.issue("before-the-outage")
    with broker_outage():
        names = [f"outage-{number}" for number in range(20)]
        identifiers = at_once(system.accept, names, threads=4)
        impatient = system.post("/passwords", {"username": "outage-waiter"}, Prefer="wait=1")
        assert impatient.status == 202, "it is accepted, whatever became of the waiting"
        assert {system.command(identifier)["status"] for identifier in identifiers} == {"accepted"}
        assert system.get("/livez").status == 200
    commands = system.outcomes([*identifiers, impatient.json["id"]], seconds=60)
    assert {command["status"] for command in commands} == {"completed"}
    assert len({system.mail_to(f"{name}@example.test").id for name in names}) == len(names)
    assert system.post("/passwords", {"username": "after-the-outage"}, Prefer="wait=30").status == 201


def test_with_generador_down_a_link_is_not_used_up(system: System) -> None:
    """A password lost because a process was being restarted is a support call and a second mail."""
    system.issue("patient")
    token = system.mail_to("patient@example.test").token
    with system.without("run", "generador", "web"):
        for _ in range(3):
            answer = system.reveal(token)
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1

    def revealed() -> Answer | None:
        answer = system.reveal(token)
        return answer if answer.status == 200 else None

    assert system.eventually(revealed).json["username"] == "patient"


@pytest.mark.parametrize("service", ["generador", "protools_saga", "bff"])
def test_a_killed_worker_is_replaced_and_loses_nothing(system: System, service: str) -> None:
    """Whatever it held in memory, in a transaction or unacknowledged is done by its successor, once."""
    names = [f"{service}-{number}".replace("_", "-") for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        accepted = [pool.submit(system.accept, name) for name in names]
        accepted[len(names) // 2].result()
        (victim,) = system.children("run", service, "worker")
        send(victim, signal.SIGKILL)
        identifiers = [each.result() for each in accepted]
    commands = system.outcomes(identifiers)
    assert {command["status"] for command in commands} == {"completed"}
    assert len({system.mail_to(f"{name}@example.test").id for name in names}) == len(names)


def test_a_restart_of_everything_in_the_middle_loses_nothing_and_doubles_nothing(system: System) -> None:
    """A power cut comes when it comes. What was answered 202 has its one mail, what was not has one at most."""
    names = [f"cut-{number}" for number in range(50)]
    answered: dict[str, str] = {}

    def ask(name: str) -> None:
        answer = system.post("/passwords", {"username": name})
        if answer.status == 202:
            answered[name] = answer.json["id"]

    for cut, service in enumerate(["correo", "generador"]):  # one cut shows one moment only
        half = names[cut * 25 : cut * 25 + 25]
        with paused(system.children("run", service, "worker")), ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, name) for name in half]
            system.eventually(lambda half=half: len(answered.keys() & set(half)) >= 15)  # type: ignore[misc]
            system.crash()
            for each in asking:
                each.exception()  # who was cut off knows nothing, and may ask again
        system.up(PROTOOLS_CLOCK_OFFSET=str(LATER_S * (cut + 1)))

    assert len(answered) >= 30
    commands = system.outcomes(list(answered.values()), seconds=60)
    assert {command["status"] for command in commands} == {"completed"}
    system.eventually(system.is_at_rest)  # who was cut off may have been heard
    for name in names:
        password, mails = system.password(name), system.mails_to(f"{name}@example.test")
        assert len({mail.raw for mail in mails}) == (1 if password else 0), name
        assert (password or {"version": 1})["version"] == 1
    for name, identifier in itertools.islice(answered.items(), 5):
        assert [step["status"] for step in system.saga(identifier)["steps"]] == ["done", "done"]
        assert system.reveal(system.mail_to(f"{name}@example.test").token).json["username"] == name
