"""Run every process twice: work is shared, and whoever waits is woken whichever replica did it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import standardwebhooks
from tests.receiver import receiving
from tests.system.conftest import Mode
from tests.system.harness import Answer, System, at_once

SERVICES = ("generador", "correo", "protools_saga", "bff")
EVERYTHING_TWICE = [f"{service}{kind}=2" for service in SERVICES for kind in ("", ".web")]


@pytest.fixture(scope="module")
def system(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system with two of everything."""
    with mode.running(tmp_path_factory.mktemp(mode.name), EVERYTHING_TWICE, WEBHOOK_PRIVATE="allow") as running:
        yield running


HEALTH_ANSWERED = re.compile(r'http_server_request_duration_seconds_count\{[^}]*"/health"')


def test_two_of_each_are_running(system: System) -> None:
    """Otherwise the tests below show nothing."""
    for service in SERVICES:
        for kind in ("web", "worker"):
            assert len(system.children("run", service, kind)) == 2
    answers = [system.get("/health", Connection="close") for _ in range(40)]
    assert {answer.json["status"] for answer in answers} == {"ok"}
    counted = {
        line for _ in range(40) for line in system.get("/metrics", Connection="close").body.decode().splitlines()
    }
    answered = [float(line.split()[-1]) for line in counted if HEALTH_ANSWERED.match(line)]
    assert 0 < max(answered) < 40, "one of the front doors gets no callers"


def test_a_hundred_wishes_come_true_once_each(system: System) -> None:
    """A second replica that steals, repeats or idles would be worse than none."""
    names = [f"shared-{number}" for number in range(100)]
    identifiers = at_once(system.accept, names)
    assert {command["status"] for command in system.outcomes(identifiers, 60)} == {"completed"}
    assert len({system.mail_to(f"{name}@example.test").id for name in names}) == 100


def test_a_waiter_is_woken_whichever_replica_did_the_work(system: System) -> None:
    """The broadcast reaches every front door; with polling or local wake-ups half of the callers would wait in vain."""

    def wait(number: int) -> tuple[Answer, float]:
        begun = time.monotonic()
        answer = system.post("/passwords", {"username": f"waiter-{number}"}, Prefer="wait=25", Connection="close")
        return answer, time.monotonic() - begun

    outcomes = at_once(wait, range(20), threads=4)
    assert Counter(answer.status for answer, _ in outcomes) == {201: 20}
    assert max(seconds for _, seconds in outcomes) < 20, "somebody was not woken, but timed out"


def test_two_wishes_for_one_name_at_once_give_one_password(system: System) -> None:
    """Uniqueness must hold between replicas that do not know of each other."""
    names = [f"contested-{number % 10}" for number in range(30)]
    identifiers = at_once(system.accept, names)
    statuses = Counter(command["status"] for command in system.outcomes(identifiers))
    assert statuses == {"completed": 10, "refused": 20}
    assert len({system.mail_to(f"{name}@example.test").id for name in names}) == 10


def test_the_same_idempotency_key_at_two_front_doors_is_one_command(system: System) -> None:
    """A caller's second try may reach another replica than its first."""

    def ask(_try: int) -> Answer:
        headers = {"Idempotency_Key": "same-key", "Connection": "close"}
        return system.post("/passwords", {"username": "same-key"}, **headers)

    answers = at_once(ask, range(50), threads=25)
    assert {answer.status for answer in answers} == {202}
    (identifier,) = {answer.json["id"] for answer in answers}
    assert system.outcome(identifier)["status"] == "completed"


def test_who_follows_a_command_hears_every_move_whichever_replica_did_it(system: System) -> None:
    """Moves are made by two coordinators, shown by two projectors, told by two front doors; none may be missing."""
    identifiers = at_once(system.accept, [f"followed-{number}" for number in range(20)])
    streams = at_once(lambda identifier: system.get(f"/commands/{identifier}/events", Connection="close"), identifiers)
    for identifier, stream in zip(identifiers, streams, strict=True):
        versions = [int(line[4:]) for line in stream.body.splitlines() if line.startswith(b"id: ")]
        assert versions == list(range(1, system.command(identifier)["version"] + 1))
        assert stream.body.rpartition(b"event: ")[2].startswith(b"completed\n")


def test_every_caller_is_called_back_once_whichever_replica_does_it(system: System) -> None:
    """Two senders look for what is due; a claim keeps them from calling twice, and the signature holds."""
    with receiving() as receiver:
        identifiers = at_once(lambda number: system.accept(f"called-{number}", callback=receiver.url), list(range(20)))
        system.eventually(lambda: len(receiver.taken) >= len(identifiers))
        system.eventually(lambda: not system.rows("bff", "SELECT 1 FROM webhook WHERE status = 'waiting'"))
    assert sorted(json.loads(body)["id"] for _, body in receiver.taken) == sorted(identifiers)
    assert {json.loads(body)["status"] for _, body in receiver.taken} == {"completed"}
    secret = system.run("webhook-secret", "nobody").stdout.strip()
    for headers, body in receiver.taken:
        standardwebhooks.Webhook(secret).verify(body, headers)


def test_what_is_cancelled_leaves_nothing_whichever_replica_hears_it(system: System) -> None:
    """Cancels race the work of two of everything: each command ends once, whole or not at all, and verify agrees."""

    def ask_and_cancel(number: int) -> tuple[str, int]:
        identifier = system.accept(f"unwanted-{number}")
        return identifier, system.delete(f"/commands/{identifier}").status

    asked = at_once(ask_and_cancel, list(range(40)))
    assert {status for _, status in asked} <= {202, 409}
    ended = system.outcomes([identifier for identifier, _ in asked])
    assert {command["status"] for command in ended} <= {"completed", "refused"}
    assert {command["reason"]["code"] for command in ended if command["status"] == "refused"} <= {"cancelled"}
    for command in ended:
        password = system.password(command["username"])
        assert (password is not None and password["status"] == "issued") == (command["status"] == "completed")
    system.eventually(system.is_at_rest)
    verified = system.run("verify")
    assert verified.returncode == 0, verified.stdout
