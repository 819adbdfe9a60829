"""Pause a service, or one type of its messages: what operators say, and what its worker leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs
from tests.service.desk import KEYS, Acks, Desk, deliver, make_desk
from tests.service.passwords import SYSTEM
from tests.service.stage import BOTH, settings_on

from generador.messages import GeneratePassword, RetirePassword
from pulsaga.broker import Delivery, Subscription
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.dispatch.pausing import EVERYTHING, PAUSED, PausableSubscription, topics_of
from pulsaga.delivery.loop import Lookout
from pulsaga.delivery.messages import Message, contract_of, new_id
from pulsaga.delivery.tables import audit, failure
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.errors import DomainError, Unavailable
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.pausing import pause, pauses, resume
from pulsaga.settings import Settings
from pulsaga_program.cli import commands

ADA, BOB = Signature("ada", "the vault is full"), Signature("bob", "ada is right")
GENERATE, RETIRE = (contract_of(cls).name for cls in (GeneratePassword, RetirePassword))


def broken_desk(settings: Settings) -> Iterator[Desk]:
    """Sit down a worker who can handle neither of two types."""
    broken = {cls: Handler(cls, _broken) for cls in (GeneratePassword, RetirePassword)}
    made = make_desk(settings, "generador", broken)
    yield made
    made.runtime.write.dispose()


@pytest.fixture(params=BOTH)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from broken_desk(settings_on(request, tmp_path))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Desk]:
    """A desk on SQLite, for what no database does in a way of its own."""
    yield from broken_desk(Settings.read({"PROTOOLS_HOME": str(tmp_path), **KEYS}))


def _broken(_message: Message[Any], _uow: UnitOfWork) -> None:
    raise RuntimeError("broken")


def runtimes_of(desk: Desk) -> Runtimes:
    return Runtimes(SYSTEM, desk.runtime.settings, lambda _: desk.runtime)


def attempts(desk: Desk) -> dict[str, int]:
    return {row["topic"]: row["attempts"] for row in desk.rows(failure)}


def test_what_failed_is_not_tried_again_while_its_type_is_paused(desk: Desk) -> None:
    """An operator pauses a type because it fails; each attempt meanwhile would bring it nearer to the dead letters."""
    desk.worker.settle([deliver(GeneratePassword("ada")), deliver(RetirePassword("bob", new_id()))])
    assert pause(runtimes_of(desk), "generador", GENERATE, ADA)
    desk.make_due()
    desk.worker.retry_failures()
    assert attempts(desk) == {GENERATE: 1, RETIRE: 2}
    assert pause(runtimes_of(desk), "generador", None, ADA)
    assert resume(runtimes_of(desk), "generador", GENERATE, ADA)
    desk.make_due()
    desk.worker.retry_failures()
    assert attempts(desk) == {GENERATE: 1, RETIRE: 2}
    assert resume(runtimes_of(desk), "generador", None, ADA)
    desk.worker.retry_failures()
    assert attempts(desk)[GENERATE] == 2


def test_a_worker_hears_what_is_paused_at_its_next_look(desk: Desk) -> None:
    """Every replica looks for itself, in the one statement that it asks each second anyway."""
    heard = list[frozenset[str]]()
    asked = {PAUSED[desk.runtime.write.dialect.name]: lambda found: heard.append(topics_of(found))}
    lookout = Lookout(desk.runtime.write, 0.0, [], asked=asked)
    lookout.look()
    for topic in (GENERATE, RETIRE):
        pause(runtimes_of(desk), "generador", topic, ADA)
    lookout.look()
    assert heard == [frozenset(), {GENERATE, RETIRE}]


def test_a_subscription_that_cannot_be_opened_anew_is_tried_again(small: Desk) -> None:
    """The broker may be away just when a type is paused or resumed."""
    acks, asked = small.acks, list[list[str]]()

    def subscribe(topics: Any) -> Subscription:
        asked.append(list(topics))
        if len(asked) == 2:
            raise Unavailable("the broker is away")
        return acks

    subscription = PausableSubscription(subscribe, ["a", "b"], [])
    subscription.pause(["a"])
    with pytest.raises(Unavailable):
        subscription.receive(1, 0.0)
    assert subscription.receive(1, 0.0) == []
    assert asked == [["a", "b"], ["b"], ["b"]]
    subscription.pause([EVERYTHING])
    assert (subscription.receive(1, 0.0), subscription.opened) == ([], [])


def test_what_comes_while_a_pause_is_heard_is_handed_back() -> None:
    """A receive waits for a second: what is sent meanwhile must not slip through."""
    closed = list[bool]()

    class Late(Acks):
        def receive(self, limit: int, timeout_s: float) -> list[Delivery]:
            subscription.pause([GENERATE])
            return [deliver(GeneratePassword("ada"))]

        def close(self) -> None:
            closed.append(True)

    subscription = PausableSubscription(lambda _: Late(), [GENERATE], [])
    assert (subscription.receive(1, 0.0), closed) == ([], [True])


def test_what_is_paused_is_listed_with_who_and_why_and_is_in_the_audit(small: Desk) -> None:
    """Whoever is on duty next must know what stands still on purpose."""
    runtimes = runtimes_of(small)
    assert pause(runtimes, "generador", "generate-password", ADA)
    (row,) = pauses(runtimes, ["generador"])
    assert {**row, "at": ""} == {"at": "", "service": "generador", "topic": GENERATE, "who": "ada", "why": ADA.why}
    with pytest.raises(DomainError, match="paused: ada has paused it already"):
        pause(runtimes, "generador", GENERATE, BOB)
    with pytest.raises(DomainError, match=f"not-paused: generador is not paused; there: {GENERATE}"):
        resume(runtimes, "generador", None, BOB)
    assert resume(runtimes, "generador", GENERATE, BOB)
    assert pauses(runtimes, ["generador"]) == []
    said = [(row["action"], row["who"], row["subject"]) for row in small.rows(audit)]
    assert said == [("pause", "ada", f"{GENERATE} of generador"), ("resume", "bob", f"{GENERATE} of generador")]


def test_a_second_operator_has_to_agree_where_that_is_asked(small: Desk) -> None:
    """To let a service stand still is no smaller deed than to discard a message of it."""
    two = replace(runtimes_of(small), settings=replace(small.runtime.settings, operator_approvals=2))
    assert not pause(two, "generador", None, ADA)
    assert pauses(two, ["generador"]) == []
    assert pause(two, "generador", None, BOB)
    assert [row["topic"] for row in pauses(two, ["generador"])] == [EVERYTHING]


@pytest.mark.parametrize(("service", "message_type"), [("generador", "send-mail"), ("bff", None)])
def test_what_a_service_does_not_handle_cannot_be_paused(small: Desk, service: str, message_type: str | None) -> None:
    """A slip of the pen must not look as if it worked."""
    with pytest.raises(click.UsageError, match="handles no"):
        pause(runtimes_of(small), service, message_type, ADA)


@pytest.mark.usefixtures("passwords_alone")
def test_it_is_paused_listed_and_resumed_on_the_command_line(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator types it."""
    monkeypatch.setenv("PROTOOLS_HOME", str(small.runtime.settings.home))

    def run(*arguments: str) -> tuple[int, str]:
        with capture_logs():  # which go to standard error, unless another test has had them elsewhere
            done = CliRunner().invoke(commands, arguments)
        return done.exit_code, done.stdout

    assert run("pause", "generador", "generate-password", "--why", "full") == (0, "pause generador generate-password\n")
    assert "full\n1 pauses\n" in run("pauses", "--service", "generador")[1]
    assert json.loads(run("pauses", "--service", "generador", "--json")[1])[0]["topic"] == GENERATE
    assert run("resume", "generador", GENERATE, "--why", "has room")[0] == 0
    assert run("pauses", "--service", "generador")[1] == "0 pauses\n"
    assert run("pause", "nobody", "--why", "x")[0] == 2
