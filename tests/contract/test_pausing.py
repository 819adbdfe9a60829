"""Pause types of messages: they wait at the broker, whichever it is, and hold up nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, union_all
from tests.contract.brokers import Stage, text_of, wire
from tests.patience import PATIENCE_S
from tests.service.desk import KEYS, deliver
from tests.service.passwords import SYSTEM

from generador.messages import GeneratePassword, RevokePassword
from pulsaga.broker import Delivery, Wire
from pulsaga.delivery.dispatch.pausing import EVERYTHING, PausableSubscription
from pulsaga.delivery.messages import contract_of, new_id
from pulsaga.delivery.tables import dead_letter, event, failure, inbox
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.pausing import pause, resume
from pulsaga.running.process import Process
from pulsaga.running.runtime import Runtime, open_runtime
from pulsaga.settings import Settings
from pulsaga_program import processes
from pulsaga_program.bootstrap import bootstrap
from pulsaga_program.local import LocalPostgres
from pulsaga_program.local.process import wait_until
from pulsaga_program.processes import add_worker

ADA = Signature("ada", "the vault is full")
COUNT = 20


class Hearing:
    """One replica that takes what it is given, and acknowledges."""

    def __init__(self, stage: Stage, topics: list[str]) -> None:
        self.subscription = PausableSubscription(partial(stage.connect().subscribe, "reader"), topics, [])
        self.heard: list[str] = []

    def take(self) -> None:
        came: list[Delivery] = self.subscription.receive(100, 0.1)
        self.heard += map(text_of, came)
        self.subscription.ack(came)


def test_what_is_paused_waits_in_order_while_the_rest_goes_on(stage: Stage) -> None:
    """Two replicas stop taking one topic, some of which one of them holds already, and go on with the other."""
    slow, quick = stage.topic("room.slow"), stage.topic("room.quick")
    replicas, broker = [Hearing(stage, [slow, quick]) for _ in range(2)], stage.connect()

    def heard(topic: str) -> list[str]:
        for replica in replicas:
            replica.take()
        return [text for replica in replicas for text in replica.heard if text.startswith(topic)]

    broker.publish([wire(slow, text=f"slow {number:02}") for number in range(COUNT)])
    for replica in replicas:
        replica.subscription.pause([slow])
    broker.publish([wire(quick, f"k{number}", f"quick {number}") for number in range(COUNT)])
    assert wait_until(lambda: len(heard("quick")) == COUNT, PATIENCE_S)
    broker.publish([wire(slow, text=f"slow {number:02}") for number in range(COUNT, 2 * COUNT)])
    assert heard("slow") == []
    for replica in replicas:
        replica.subscription.pause([])
    assert wait_until(lambda: len(heard("slow")) == 2 * COUNT, PATIENCE_S)
    for replica in replicas:
        in_order = [text for text in replica.heard if text.startswith("slow")]
        assert in_order == sorted(in_order)


def test_a_service_that_is_paused_as_a_whole_takes_nothing(stage: Stage) -> None:
    """It must not spin either: a receive waits as long as it may."""
    topic, broker = stage.topic(), stage.connect()
    reader = Hearing(stage, [topic])
    reader.subscription.pause([EVERYTHING])
    broker.publish([wire(topic, text="one")])
    for _ in range(3):
        reader.take()
    assert reader.heard == []
    threading.Timer(0.1, reader.subscription.pause, ([],)).start()
    assert reader.subscription.receive(1, PATIENCE_S) == []  # woken long before
    assert wait_until(lambda: reader.take() or reader.heard == ["one"], PATIENCE_S)


# --- the real worker


@pytest.fixture
def settings(request: pytest.FixtureRequest, stage: Stage, tmp_path: Path) -> Settings:
    """The embedded broker comes with SQLite, Pulsar with PostgreSQL."""
    given = {
        "PROTOOLS_HOME": str(tmp_path),
        "BROKER_URL": stage.server.url,
        "BROKER_NAMESPACE": stage.namespace,
        **KEYS,
    }
    if stage.server.admin_url:
        postgres: LocalPostgres = request.getfixturevalue("postgres")
        given |= postgres.environment() | {"BROKER_ADMIN_URL": stage.server.admin_url}
        given |= {"DB_NAME": f"t{new_id()[-10:]}", "DB_READ_NAME": f"t{new_id()[-10:]}"}
    return Settings.read(given)


@contextmanager
def replica(settings: Settings) -> Iterator[Runtime]:
    """Run a whole worker of generador, as `protools up` does."""
    runtime, process = open_runtime(SYSTEM, settings, "generador"), Process()
    closing = add_worker(process, runtime)
    thread = threading.Thread(target=process.run, kwargs={"signals": False})
    thread.start()
    try:
        yield runtime
    finally:
        process.end()
        thread.join(PATIENCE_S)
        for close in (*closing, runtime.broker.close, runtime.write.dispose):
            close()


def generate(number: int) -> Wire:
    return deliver(GeneratePassword(f"u{number}-{new_id()}")).wire


def revoke(number: int) -> Wire:
    """Undo what never came: it is answered at once."""
    return deliver(RevokePassword(f"r{number}", new_id())).wire


def count(engine: Engine, *ids: str) -> int:
    """Return how many of these commands were handled."""
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).where(inbox.c.id.in_(ids))).scalar_one())


def ids_of(wires: list[Wire]) -> list[str]:
    return [each.properties["ce_id"] for each in wires]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[PausableSubscription]:
    """What the workers of this test receive from."""
    made: list[PausableSubscription] = []

    class Noted(PausableSubscription):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(processes, "PausableSubscription", Noted)
    return made


def test_a_type_that_is_paused_waits_in_every_replica_and_loses_nothing(
    settings: Settings, opened: list[PausableSubscription]
) -> None:
    """The whole way: an operator pauses a type, both workers leave it alone within seconds, and go on once resumed."""
    bootstrap(SYSTEM, settings, ["generador"])
    topic, several = contract_of(GeneratePassword).name, len(SYSTEM["generador"].consumes)
    waiting, flowing = [generate(number) for number in range(COUNT)], [revoke(number) for number in range(COUNT)]
    with ExitStack() as stack:
        one, _ = (stack.enter_context(replica(settings)) for _ in range(2))
        runtimes = Runtimes(SYSTEM, settings, lambda _: one)
        assert pause(runtimes, "generador", "generate-password", ADA)
        assert wait_until(lambda: all(topic not in each.opened for each in opened), PATIENCE_S)
        late, _ = stack.enter_context(replica(settings)), one.broker.publish([*waiting, *flowing])
        assert topic not in opened[-1].opened
        assert wait_until(lambda: count(late.write, *ids_of(flowing)) == COUNT, PATIENCE_S)
        waited = count(one.write, *ids_of(waiting))
        assert resume(runtimes, "generador", topic, ADA)
        assert wait_until(lambda: count(one.write, *ids_of(waiting)) == COUNT, PATIENCE_S)
        assert wait_until(lambda: [len(each.opened) for each in opened] == [several] * 3, PATIENCE_S)
        with one.write.connect() as connection:
            kept = connection.execute(union_all(select(failure.c.id), select(dead_letter.c.id))).all()
            answered = connection.execute(select(event.c.answers).where(event.c.answers.in_(ids_of(waiting)))).all()
    assert (waited, kept, len(answered)) == (0, [], COUNT)
