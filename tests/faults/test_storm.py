"""Run a short storm over a hundred sagas; the whole weather is `make chaos`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from tests.faults.chaos import DRAIN_S, Storm, plan
from tests.faults.conftest import hurt
from tests.faults.stage import SETTINGS, Stage
from tests.faults.troubles import TROUBLES
from tests.system.conftest import Mode
from tests.system.mailboxes import Mail, SmtpServer, smtp_server

from pulsaga_program.local.process import wait_until

SEED = 4
IN_FLIGHT, TROUBLE_S = 100, 3.0
SAMPLE = {"pulsar": ("kill", "stop", "sessions"), "embedded": ("kill", "stop", "broker-crash")}


@pytest.fixture(scope="module")
def stage(
    setup: tuple[Mode, int], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """Two of every worker, so that somebody is there while another is dead or stopped; a mailbox of its own."""
    mode, folder = setup[0], tmp_path_factory.mktemp("storm")
    with smtp_server() as mailbox, hurt(mode, 2, folder, mailbox, **SETTINGS) as system:
        postgres = request.getfixturevalue("postgres") if mode.name == "pulsar" else None
        yield Stage(system.up(), random.Random(SEED), system.settings, postgres=postgres)


def test_a_storm_loses_and_doubles_nothing(stage: Stage, setup: tuple[Mode, int]) -> None:
    """Killed, stopped and cut off amid a hundred sagas: each wish is accepted once, ends once and is mailed once."""
    storm = Storm(stage, SEED, IN_FLIGHT)
    rounds = [storm.round(name, TROUBLE_S) for name in SAMPLE[setup[0].name]]
    assert [(row.trouble, row.not_run, row.defects) for row in rounds if row.not_run or row.defects] == []
    assert all(row.accepted == row.ended > 0 and row.drain_s is not None for row in rounds)
    assert storm.at_the_end() == []


def test_a_storm_sees_a_second_mail_and_an_acceptance_too_many(stage: Stage) -> None:
    """An account that nothing can upset would call every storm calm."""
    calm = Storm(stage, SEED, IN_FLIGHT)
    stage.ask()
    assert wait_until(lambda: calm.census.open() == 0, DRAIN_S)
    assert [*calm.feeder.at_the_front_door(), *calm.feeder.in_the_mailbox()] == []
    mail_server = stage.system.mailbox
    assert isinstance(mail_server, SmtpServer)
    calm.feeder.wishes -= 1
    mail_server._taken.append(Mail(mail_server.mails()[-1].raw + b"another\r\n"))
    one_too_many, second_mail = calm.at_the_end()
    mail_server._taken.pop()
    assert "1 acceptances of 0 wishes" in one_too_many
    assert "1 have several distinct mails" in second_mail


def test_a_storm_of_a_seed_is_the_same_again() -> None:
    """A storm that found a defect must be able to come back; and no kind of trouble comes twice before all came."""
    kinds = sorted(TROUBLES)
    once, again = (plan(random.Random(SEED), kinds, len(kinds) + 2) for _ in range(2))
    assert once == again
    assert sorted(once[: len(kinds)]) == kinds
