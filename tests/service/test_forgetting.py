"""Let time pass over the tables: the inbox forgets what is refused anyway, finished sagas go to the archive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, Table, insert, select, text
from tests.service.desk import Desk, deliver, make_desk
from tests.service.passwords import SYSTEM
from tests.service.scene import Scene, play
from tests.service.stage import BOTH, settings_on

from generador.messages import GeneratePassword
from generador.tables import password
from pulsaga.delivery.database import open_database
from pulsaga.delivery.forgetting import KEPT_S, forget
from pulsaga.delivery.incidents import incident_row
from pulsaga.delivery.messages import MEMORY_S, first_id
from pulsaga.delivery.tables import event, inbox, incident
from pulsaga.operate.retention import SHORTEST_S, archive
from pulsaga.operate.verify.report import verify
from pulsaga.operate.verify.scope import Scope
from pulsaga.saga.log import TERMINAL
from pulsaga.saga.steps import Step
from pulsaga.saga.tables import event_archive, saga, saga_archive
from pulsaga.settings import Settings
from pulsaga_program.commands.retention import command as retention

DAY_S = 24 * 3600.0


@pytest.fixture(params=BOTH)
def generador(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    desk = make_desk(settings_on(request, tmp_path), "generador")
    yield desk
    desk.runtime.write.dispose()


def _know(engine: Engine, *days_ago: float) -> list[str]:
    ids = [first_id(time.time() - days * DAY_S) for days in days_ago]
    with engine.begin() as tx:
        tx.execute(insert(inbox), [{"id": i, "consumer": "generador", "hash": b"", "at": 0.0} for i in ids])
    return ids


def _known(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(select(inbox.c.id)).scalars())


def _partitions(engine: Engine) -> dict[str, int]:
    """How many ids lie in each partition."""
    query = "SELECT tableoid::regclass::text, count(*) FROM inbox GROUP BY 1"
    with engine.connect() as connection:
        return {str(name): count for name, count in connection.execute(text(query))}


def test_what_is_refused_anyway_is_forgotten_and_what_may_come_again_is_not(generador: Desk) -> None:
    """An inbox that grows for ever is slow one day; one that forgets too early does work twice."""
    engine = generador.runtime.write
    forget(engine, -60 * DAY_S)  # two months ago the weeks of then were prepared
    forget(engine, -53 * DAY_S)
    old = _know(engine, 60, 53, 40)
    young = _know(engine, KEPT_S / DAY_S - 0.1, 1, 0)
    forget(engine)
    assert set(young) <= _known(engine)
    assert not set(old) & _known(engine)


def test_a_clock_that_runs_ahead_forgets_nothing(generador: Desk) -> None:
    """A database's clock may jump by months; the ids that come tell another time."""
    known = _know(generador.runtime.write, 3, 0)
    forget(generador.runtime.write, 90 * DAY_S)
    assert set(known) <= _known(generador.runtime.write)


@pytest.mark.parametrize("generador", BOTH[1:], indirect=True)
def test_an_id_of_a_week_to_come_moves_into_its_partition_when_the_week_is_prepared(generador: Desk) -> None:
    """It came under a clock that runs ahead; in the default partition it would forbid its week to be made."""
    engine = generador.runtime.write
    (early,) = _know(engine, -30)
    assert _partitions(engine)["partitions.inbox_default"] == 1
    forget(engine, 30 * DAY_S)
    assert "partitions.inbox_default" not in _partitions(engine)
    assert early in _known(engine)


def test_an_id_that_may_be_forgotten_is_refused_and_nothing_is_done(generador: Desk) -> None:
    """Whether it was handled before cannot be told any more; to do it again could do it twice."""
    old = first_id(time.time() - MEMORY_S - 60)
    generador.worker.settle([deliver(GeneratePassword("ada"), identifier=old), deliver(GeneratePassword("bob"))])
    (refusal,) = generador.said("generador.command-refused")
    assert refusal.properties["ce_commandid"] == old
    assert [row["username"] for row in generador.rows(password)] == ["bob"]
    assert [row["code"] for row in generador.rows(incident)] == ["expired"]


def test_a_step_cannot_wait_longer_than_ids_are_known() -> None:
    """A command sent again after that would be refused, or worse, done twice."""
    with pytest.raises(ValueError, match="deadline"):
        Step(lambda _data: GeneratePassword("ada"), deadline=MEMORY_S + 1)


# --- the archive


@pytest.fixture(scope="module", params=BOTH)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return play(settings_on(request, tmp_path_factory.mktemp("archive")))


def _later(scene: Scene, seconds: float) -> Settings:
    return replace(scene.settings, clock_offset=scene.ended_at + seconds - time.time())


def _statuses(engine: Engine, table: Table = saga) -> dict[str, str]:
    with engine.connect() as connection:
        return {row.id: row.status for row in connection.execute(select(table.c.id, table.c.status))}


def _aggregates(engine: Engine, table: Table) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(select(table.c.aggregate)).scalars())


def _verified(settings: Settings) -> tuple[int, set[tuple[str, str]]]:
    """How many sagas are judged, and what is found; details tell seconds, which pass."""
    report = verify(SYSTEM, settings, Scope())
    return report.sagas, {(found.check.name, identifier) for found in report.findings for identifier, _ in found.ids}


def test_finished_sagas_go_to_the_archive_and_verify_still_judges_them(played: Scene) -> None:
    """The tables that are worked on stay small, and nothing leaves unseen."""
    later = _later(played, SHORTEST_S + DAY_S)
    engine = open_database(later, "protools_saga", "write", "owner")
    before, verified = _statuses(engine), _verified(later)
    with engine.begin() as tx:
        tx.execute(insert(incident), [incident_row("parked", played.ids["completed"], "test", "to be looked at", 0.0)])
    archived = archive(SYSTEM, later, SHORTEST_S)
    left, kept = _statuses(engine), _statuses(engine, saga_archive)
    assert archived == len(kept) > 5
    assert left | kept == before
    assert set(kept.values()) == TERMINAL
    assert [identifier for identifier, status in left.items() if status in TERMINAL] == [played.ids["completed"]]
    assert _aggregates(engine, event_archive) == set(kept)
    assert not _aggregates(engine, event) & set(kept)
    assert _verified(later) == verified
    assert archive(SYSTEM, later, SHORTEST_S) == 0
    engine.dispose()


@pytest.mark.parametrize("database", BOTH)
def test_a_saga_that_the_archive_refuses_keeps_no_other_out(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """One twin in the archive stopped all archiving, page after page, and the tables grew."""
    request.param = database
    scene = play(settings_on(request, tmp_path))
    later = _later(scene, SHORTEST_S + DAY_S)
    engine = open_database(later, "protools_saga", "write", "owner")
    twin = min(identifier for identifier, status in _statuses(engine).items() if status in TERMINAL)
    with engine.begin() as tx:
        columns = [column.name for column in saga.columns]
        tx.execute(saga_archive.insert().from_select(columns, select(saga).where(saga.c.id == twin)))
    assert archive(SYSTEM, later, SHORTEST_S) > 5
    left = _statuses(engine)
    assert [identifier for identifier, status in left.items() if status in TERMINAL] == [twin]
    assert twin in _aggregates(engine, event)
    engine.dispose()


def test_what_ended_lately_stays(played: Scene) -> None:
    """A message to it may still be on its way."""
    assert archive(SYSTEM, _later(played, SHORTEST_S - DAY_S), SHORTEST_S) == 0


def test_archiving_sooner_than_messages_expire_is_refused(tmp_path: Path) -> None:
    """A late message would find no saga and become a dead letter."""
    result = CliRunner().invoke(retention, ["--older-than", "7d"], env={"PROTOOLS_HOME": str(tmp_path)})
    assert result.exit_code == 2
    assert "8 days" in result.output
    assert CliRunner().invoke(retention, ["--older-than", "soon"]).exit_code == 2
