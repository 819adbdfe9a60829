"""What a process tells of itself and of its service, on a real database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import urllib3
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select, update
from tests.patience import PATIENCE_S
from tests.receiver import receiving, reply
from tests.service.desk import KEYS, Desk, deliver, make_desk
from tests.service.passwords import SYSTEM
from tests.service.stage import BOTH, settings_on, start_sagas

from generador.messages import PasswordGenerated
from pulsaga.broker import Delivery, Subscription
from pulsaga.delivery.database import open_database
from pulsaga.delivery.incidents import close_incidents, incident_row, open_incident
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import failure, heartbeat, incident, outbox
from pulsaga.delivery.transaction.unit_of_work import UnitOfWork
from pulsaga.delivery.waiting import unpublished
from pulsaga.errors import SettingError, Unavailable
from pulsaga.operate.status.findings import findings
from pulsaga.operate.status.survey import survey
from pulsaga.running.gauges import database_gauges, process_gauges
from pulsaga.running.heartbeat import KEPT_S, TOPIC, Beat, Heartbeat, read_beat
from pulsaga.running.operators_port import Listener, OperatorsPort
from pulsaga.running.runtime import Runtime
from pulsaga.running.telling import incident_secret, tell_incidents
from pulsaga.saga.silence import Answers, SilenceWatch
from pulsaga.saga.tables import saga, target
from pulsaga.settings import Settings
from pulsaga.telemetry.vitals import OURS
from pulsaga.web.front_door.callbacks.webhooks import signed
from pulsaga_program.local.process import wait_until
from pulsaga_program.preflight import check_values


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    made = make_desk(settings, "generador")
    yield made
    made.runtime.write.dispose()


def rows(desk: Desk, table: Any) -> list[dict[str, Any]]:
    """Return what a table holds."""
    with desk.runtime.write.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def last(listener: Subscription) -> Beat:
    """Return the newest beat that was broadcast."""
    heard: list[Delivery] = []
    while more := listener.receive(100, 0.1):
        heard += more
    return read_beat(heard[-1].wire.body)


def test_a_beat_is_a_row_that_stays_one_and_is_told_by_the_broker(desk: Desk) -> None:
    """Operators look at the row, the coordinator hears the broadcast; a row a beat would fill the table."""
    listener = desk.broker.listen(TOPIC)
    process = Heartbeat(desk.runtime, "worker", "127.0.0.1:3900")
    process.note()
    (first,) = rows(desk, heartbeat)
    process.note()
    (second,) = rows(desk, heartbeat)
    assert (second["id"], second["kind"], second["address"]) == (process.id, "worker", "127.0.0.1:3900")
    assert second["beat_at"] > first["beat_at"]
    assert abs(second["clock_ahead_s"]) < 5.0
    process.tell()
    told = last(listener)
    assert (told.service, told.id, told.ended_at) == ("generador", process.id, None)


def test_a_process_says_its_end_and_old_ends_are_forgotten(desk: Desk) -> None:
    """Whoever ended on purpose is told from whoever was killed; processes come and go for years."""
    Heartbeat(desk.runtime, "worker", None).note(True)
    (row,) = rows(desk, heartbeat)
    assert row["ended_at"] is not None
    with desk.runtime.write.begin() as tx:
        tx.execute(update(heartbeat).values(beat_at=row["beat_at"] - KEPT_S - 1))
    process = Heartbeat(desk.runtime, "worker", None)
    process.note()
    assert [one["id"] for one in rows(desk, heartbeat)] == [process.id]


def test_while_the_database_is_away_the_broadcast_says_so(settings: Settings, desk: Desk) -> None:
    """A process that cannot write its row can still be heard."""
    listener = desk.broker.listen(TOPIC)
    process = Heartbeat(without_database(settings, desk), "worker", None)
    process.stop()
    process.write()  # once, as it ends
    process.tell()
    assert last(listener).waits_for
    OURS.goes_on()


def without_database(settings: Settings, desk: Desk) -> Runtime:
    """Return a runtime whose write database nobody has made."""
    missing = open_database(settings, "correo", "write", "owner")
    return replace(desk.runtime, write=missing)


def test_work_that_fails_for_long_is_an_incident_until_it_does_not(desk: Desk) -> None:
    """A mail server that says 450 stood in a table, and nobody was told."""
    process = Heartbeat(desk.runtime, "worker", None)
    row = {
        "id": "m1",
        "topic": "t",
        "delivery": b"",
        "attempts": 1,
        "error": "KeyError: 'x'",
        "due_at": time.time() + 60,
    }
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(failure).values(row | {"at": time.time()}))
        tx.execute(insert(outbox).values(id=new_id(), topic="t", wire=b"", due_at=time.time() + 60))
    process.note()
    assert rows(desk, incident) == []
    with desk.runtime.write.begin() as tx:
        tx.execute(update(failure).values(at=time.time() - 20))
        tx.execute(update(outbox).values(id="01000000-0000-7000-8000-000000000000"))
    process.note()
    process.note()
    opened = {(one["kind"], one["subject"], one["code"]): one["closed_at"] for one in rows(desk, incident)}
    assert opened == {("work-fails", "failures", "KeyError"): None, ("unpublished", "outbox", "not-confirmed"): None}
    with desk.runtime.write.begin() as tx:
        tx.execute(failure.delete())
        tx.execute(outbox.delete())
    process.note()
    assert all(one["closed_at"] for one in rows(desk, incident))


def test_a_service_that_owes_an_answer_for_unusually_long_is_an_incident(settings: Settings) -> None:
    """The deadline of its step may be an hour away."""
    desk = make_desk(settings, "protools_saga")
    start_sagas(desk, 3)
    look = partial(desk.runtime.transactions.run, SilenceWatch(desk.runtime).settle)
    look()
    assert rows(desk, incident) == []
    with desk.runtime.write.begin() as tx:
        tx.execute(update(saga).values(asked_at=time.time() - 30))
    look()
    (opened,) = rows(desk, incident)
    assert (opened["kind"], opened["subject"]) == ("silent", "generador")
    assert opened["detail"].startswith("3 commands are unanswered, the oldest for 30 s (it has never answered yet)")
    with desk.runtime.write.begin() as tx:
        tx.execute(update(saga).values(asked_at=time.time()))
    look()
    assert rows(desk, incident)[0]["closed_at"] is not None
    desk.runtime.write.dispose()


def test_a_command_that_is_sent_again_makes_no_old_outbox(settings: Settings) -> None:
    """It keeps its id, which tells when it was first sent; it waits for the broker a moment only."""
    desk = make_desk(settings, "protools_saga")
    old = "01000000-0000-7000-8000-00000000000"
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(outbox).values(id=f"{old}1", topic="generador.generate-password", wire=b"", due_at=9e9))
        told = desk.runtime.system.told_once("protools_saga")
        assert unpublished(tx, told=told)[:3] == ("unpublished", 1, 0.0)
        tx.execute(insert(outbox).values(id=f"{old}3", topic="protools_saga.issue-password", wire=b"", due_at=9e9))
        assert unpublished(tx, told=told)[:3] == ("unpublished", 2, 0.0)
        tx.execute(insert(outbox).values(id=f"{old}2", topic="protools_saga.saga-moved", wire=b"", due_at=9e9))
        assert unpublished(tx, told=told).oldest_s > 1000
    desk.runtime.write.dispose()


def test_a_survey_finds_what_is_down_and_what_waits(settings: Settings) -> None:
    """One look at everything; a database that nobody made is named and holds up no other."""
    desk = make_desk(settings, "generador")
    Heartbeat(desk.runtime, "worker", None).note()
    picture = survey(desk.runtime.system, settings)
    assert picture.write["generador"].down == ""
    assert [beat["kind"] for beat in picture.write["generador"].beats] == ["worker"]
    found = {(one.kind, one.subject) for one in findings(picture)}
    assert {("database-down", "write database of correo"), ("broker-down", "broker")} <= found
    assert ("database-down", "write database of generador") not in found
    desk.runtime.write.dispose()


def test_a_webhook_is_told_of_incidents_by_fingerprint_and_of_their_end(settings: Settings, desk: Desk) -> None:
    """Five hundred dead letters of one bad deployment are one call, signed; a receiver that is away hears it later."""
    runtime = replace(desk.runtime, settings=Settings.read({**KEYS, "PROTOOLS_HOME": str(settings.home)}))

    def open_some(uow: UnitOfWork) -> None:
        for number in range(30):
            open_incident(uow, "dead-letter", f"m{number}", "KeyError", "KeyError: 'x'", topic="stock.reserve")
        open_incident(uow, "silent", "stock", "unanswered", "12 commands")

    desk.runtime.transactions.run(open_some)
    with receiving() as receiver:
        tell = tell_incidents(runtime, receiver.url).work
        receiver.answer = lambda handler: reply(handler, 503)
        with pytest.raises(Unavailable, match="INCIDENT_WEBHOOK answered 503"):
            tell()
        receiver.answer = lambda handler: reply(handler, 204)
        receiver.taken.clear()
        tell()
        tell()
        told = [json.loads(body)["data"] for _, body in receiver.taken]
        assert [(one["kind"], one["count"]) for one in told] == [("dead-letter", 30), ("silent", 1)]
        headers, body = receiver.taken[0]
        secret = incident_secret(runtime.settings)
        assert signed(headers["webhook-id"], int(headers["webhook-timestamp"]), body, secret).items() <= headers.items()
        desk.runtime.transactions.run(lambda uow: close_incidents(uow, "silent", "stock"))
        receiver.taken.clear()
        tell()
        (closed,) = (json.loads(body) for _, body in receiver.taken)
        assert (closed["type"], closed["data"]["subjects"]) == ("incident.closed", ["stock"])


def told_of(desk: Desk, settings: Settings) -> Callable[[], list[tuple[str, str]]]:
    """Return what tells a webhook, and says what was told: type and kind."""
    runtime = replace(desk.runtime, settings=Settings.read({**KEYS, "PROTOOLS_HOME": str(settings.home)}))

    def tell() -> list[tuple[str, str]]:
        with receiving() as receiver:
            tell_incidents(runtime, receiver.url).work()
            told = [json.loads(body) for _, body in receiver.taken]
        return [(one["type"], one["data"]["kind"]) for one in told]

    return tell


def test_the_end_of_an_incident_is_told_whenever_it_comes(settings: Settings, desk: Desk) -> None:
    """Else a pager stays red: it may end while its opening is being told, or after days."""
    tell = told_of(desk, settings)
    desk.runtime.transactions.run(lambda uow: open_incident(uow, "silent", "stock", "unanswered", "12 commands"))
    with receiving() as receiver:

        def close_meanwhile(handler: BaseHTTPRequestHandler) -> None:
            desk.runtime.transactions.run(lambda uow: close_incidents(uow, "silent", "stock"))
            reply(handler, 204)

        receiver.answer = close_meanwhile
        runtime = replace(desk.runtime, settings=Settings.read({**KEYS, "PROTOOLS_HOME": str(settings.home)}))
        tell_incidents(runtime, receiver.url).work()
    assert tell() == [("incident.closed", "silent")]
    assert tell() == []
    desk.runtime.transactions.run(lambda uow: open_incident(uow, "silent", "cash", "unanswered", "1 command"))
    assert tell() == [("incident.opened", "silent")]
    with desk.runtime.write.begin() as tx:
        days_ago = time.time() - 3 * 86400
        tx.execute(update(incident).where(incident.c.subject == "cash").values(at=days_ago, told_at=days_ago))
    desk.runtime.transactions.run(lambda uow: close_incidents(uow, "silent", "cash"))
    assert tell() == [("incident.closed", "silent")]


def test_incidents_that_came_and_went_unseen_keep_no_other_from_being_told(settings: Settings, desk: Desk) -> None:
    """A thousand letters that were discarded while the receiver was away are no news."""
    gone = [
        incident_row("dead-letter", f"m{n}", "KeyError", "x", time.time() - 60) | {"closed_at": 1.0}
        for n in range(1100)
    ]
    with desk.runtime.write.begin() as tx:
        tx.execute(insert(incident), gone)
    desk.runtime.transactions.run(lambda uow: open_incident(uow, "silent", "stock", "unanswered", "12 commands"))
    assert told_of(desk, settings)() == [("incident.opened", "silent")]


def test_what_its_receiver_refuses_keeps_no_other_fingerprint_from_being_told(settings: Settings, desk: Desk) -> None:
    """One odd text must not mute the pager."""
    runtime = replace(desk.runtime, settings=Settings.read({**KEYS, "PROTOOLS_HOME": str(settings.home)}))

    def open_two(uow: UnitOfWork) -> None:
        open_incident(uow, "conflict", "m1", "odd", "refuse me")
        open_incident(uow, "silent", "stock", "unanswered", "12 commands")

    desk.runtime.transactions.run(open_two)
    with receiving() as receiver:
        receiver.answer = lambda handler: reply(handler, 400 if b"refuse me" in receiver.taken[-1][1] else 204)
        with pytest.raises(Unavailable, match="answered 400"):
            tell_incidents(runtime, receiver.url).work()
        assert len(receiver.taken) == 2
    assert [one["told_at"] is not None for one in sorted(rows(desk, incident), key=lambda row: row["kind"])] == [
        False,
        True,
    ]


def test_a_webhook_needs_what_signs_its_calls() -> None:
    """Without it the first incident would end the worker that was to tell of it."""
    given = {"BROKER_URL": "pulsar://127.0.0.1:1", "INCIDENT_WEBHOOK": "https://a.test/hook"}
    with pytest.raises(SettingError, match="WEBHOOK_SECRET"):
        check_values(SYSTEM, Settings.read(given))


# --- the port of operators


@dataclass
class Port:
    """A port on which a process answers; `reader` is the token that may look."""

    url: str
    needs: dict[str, Callable[[], bool]]


@contextmanager
def answering(runtime: Runtime) -> Iterator[Port]:
    """Answer operators while the block runs."""
    own = CollectorRegistry()
    engines = {"write": runtime.write}
    own.register(process_gauges(runtime, "worker", engines))
    own.register(database_gauges(runtime, engines))
    needs: dict[str, Callable[[], bool]] = {"yes": lambda: True}
    app = OperatorsPort(needs, [own], lambda _path, bearer: bearer == "reader")
    listener = Listener(Settings.read({"OPERATORS_PORT": "0"}))
    run, stop = listener.serve(app)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield Port(f"http://{listener.address}", needs)
    stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture
def port(desk: Desk) -> Iterator[Port]:
    with answering(desk.runtime) as port:
        yield port


def get(port: Port, path: str, bearer: str = "") -> urllib3.BaseHTTPResponse:
    """GET; with a bearer's token, if there is one."""
    return urllib3.request(
        "GET", port.url + path, headers={"Authorization": f"Bearer {bearer}"} if bearer else {}, retries=False
    )


def test_metrics_are_for_whoever_may_see_everything(port: Port) -> None:
    """They say how much business is done."""
    assert get(port, "/metrics").status == 401
    assert get(port, "/metrics", "stranger").status == 401
    shown = get(port, "/metrics", "reader")
    assert shown.status == 200
    assert b'protools_build_info{framework="' in shown.data
    assert b"protools_outbox_messages 0.0" in shown.data


def test_metrics_leave_out_what_is_down_and_show_the_rest(settings: Settings, desk: Desk) -> None:
    """A database that is away must not take the metrics of its process along."""
    with answering(replace(without_database(settings, desk), service="correo")) as port:
        shown = get(port, "/metrics", "reader")
    assert shown.status == 200
    assert b"protools_outbox_messages" not in shown.data
    assert b"protools_build_info" in shown.data


def test_a_process_whose_threads_hang_does_not_live(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that stands still holds its messages, and is helped only by a restart."""
    assert get(port, "/livez").status == 200
    monkeypatch.setattr(OURS, "hanging", lambda: ["messages"])
    answer = get(port, "/livez")
    assert (answer.status, json.loads(answer.data)["hanging"]) == (503, ["messages"])


def test_readiness_tries_what_the_process_needs(port: Port) -> None:
    """Whatever a try raises, the answer is no."""
    assert get(port, "/readyz").status == 200

    def broken() -> bool:
        raise OSError("no")

    port.needs["database"] = broken
    assert wait_until(lambda: get(port, "/readyz").status == 503, PATIENCE_S)
    assert json.loads(get(port, "/readyz").data)["checks"] == {"yes": "ok", "database": "failed"}


def test_anything_else_is_refused_in_words(port: Port) -> None:
    """It is a port of three addresses."""
    assert get(port, "/commands").status == 404
    assert urllib3.request("POST", f"{port.url}/livez", retries=False).status == 405


def test_an_answer_to_what_has_no_id_of_ours_teaches_nothing(settings: Settings) -> None:
    """Whoever answers may have written anything there: the worker's loop must not end of it."""
    desk = make_desk(settings, "protools_saga")
    answers = Answers()
    desk.worker.handled.append(answers.note)
    desk.worker.settle([deliver(PasswordGenerated("ada", "issued", 0.0, 0.0, sealed_token="t"), command_id="nonsense")])
    desk.runtime.transactions.run(answers.write)
    assert rows(desk, target) == []
    desk.runtime.write.dispose()


def test_what_is_usual_is_written_down_beside_the_probe(settings: Settings) -> None:
    """A coordinator that was restarted knows what is usual, and a probe keeps it."""
    desk = make_desk(settings, "protools_saga")
    answers = Answers()
    answers._taken = {"generador": [0.2, 0.2, 0.2]}
    desk.runtime.transactions.run(answers.write)
    (row,) = rows(desk, target)
    assert row["usual_s"] == pytest.approx(0.2)
    desk.runtime.write.dispose()


def test_the_usual_port_is_given_up_where_another_process_has_it_and_an_asked_one_is_not() -> None:
    """Two processes of one machine need no setting; whoever set a port wants to know that it is taken."""
    first = Listener(Settings.read({"OPERATORS_PORT": "0"}))
    taken = first.address.rpartition(":")[2]
    with pytest.raises(SettingError, match=f"OPERATORS_PORT: port {taken} of 127.0.0.1 cannot be had"):
        Listener(Settings.read({"OPERATORS_PORT": taken}))
    second = Listener(replace(Settings.read({}), operators_port=int(taken)))
    assert second.address != first.address
    for one in (first, second):
        one.close()
