"""Act as an operator on the data of real workers: dead letters and sagas, every action and every refusal."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import Connection, Select, update
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs
from tests.contract.brokers import EmbeddedServer
from tests.service.desk import KEYS, Desk, arrived, deliver, exchange, make_desk
from tests.service.passwords import FOUND, SYSTEM
from tests.service.scene import Scene, project
from tests.system.harness import Program

from correo.handlers import send_mails
from correo.messages import PasswordMailSent, SendPasswordMail
from correo.service import CORREO
from generador.messages import GeneratePassword, PasswordGenerated, RevokePassword
from generador.service import GENERADOR
from generador.tables import password
from protools_saga.issue_password import ISSUE_PASSWORD
from protools_saga.messages import IssuePassword
from protools_saga.rotate_password import ROTATE_PASSWORD
from pulsaga.delivery.database import open_database
from pulsaga.delivery.dispatch.handlers import Handler
from pulsaga.delivery.messages import Message, contract_of, new_id
from pulsaga.delivery.tables import audit, dead_letter, dead_letter_archive, event, failure, inbox, incident
from pulsaga.errors import DomainError
from pulsaga.operate import incidents, letters, replaying, sagas, workflows
from pulsaga.operate.acting import Runtimes, Signature
from pulsaga.operate.choosing import grouped
from pulsaga.operate.sagas import Wanted, query_of
from pulsaga.operate.timeline import line, moments, timeline
from pulsaga.operate.workflows import stranded
from pulsaga.running.runtime import Runtime
from pulsaga.saga.definition import Saga
from pulsaga.saga.log import Entry
from pulsaga.saga.steps import Sleep, hours, minutes
from pulsaga.saga.tables import saga
from pulsaga.saga.timers import wake_due_sagas
from pulsaga.settings import Settings
from pulsaga.web.front_door.callbacks import given_up
from pulsaga_program.bootstrap import bootstrap
from pulsaga_program.local import LocalPostgres

ADA, BOB = Signature("ada", "the vault was full"), Signature("bob", "ada is right")


@dataclass
class Company:
    """Every service at its desk; `broken` names the message classes whose handlers raise, until they are mended."""

    settings: Settings
    desks: dict[str, Desk]
    broken: set[type]

    def __getitem__(self, name: str) -> Desk:
        return self.desks[name]

    @property
    def runtimes(self) -> Runtimes:
        return Runtimes(SYSTEM, self.settings, lambda service: self.desks[service].runtime)

    def needing(self, approvals: int) -> Runtimes:
        return replace(self.runtimes, settings=replace(self.settings, operator_approvals=approvals))

    def later(self, seconds: float) -> Company:
        """The same company when this time has passed."""
        return hire(replace(self.settings, clock_offset=seconds), self.broken)

    def start(self, username: str = "ada") -> str:
        """Ask for a password; return the saga's id, when nobody has anything left to say."""
        begin = deliver(IssuePassword(username, f"{username}@example.test"))
        self["protools_saga"].worker.settle([begin])
        self.carry()
        return begin.wire.key

    def carry(self) -> None:
        """Deliver what was published, try again what failed, send mails, until all is quiet."""
        for _ in range(4):
            exchange(list(self.desks.values()))
            for desk in self.desks.values():
                desk.retry_until_buried()
            send_mails(self["correo"].runtime).work()

    def mend(self) -> None:
        self.broken.clear()

    def status(self) -> str:
        (row,) = self["protools_saga"].rows(saga)
        return str(row["status"])

    def letter(self, service: str) -> str:
        return str(self[service].rows(dead_letter)[-1]["id"])

    def open_incidents(self) -> set[tuple[str, str]]:
        rows = [(name, row) for name, desk in self.desks.items() for row in desk.rows(incident)]
        return {(name, row["kind"]) for name, row in rows if row["closed_at"] is None}

    def audited(self, service: str = "protools_saga") -> list[tuple[str, str, str]]:
        rows = sorted(self[service].rows(audit), key=lambda row: row["id"])
        return [(row["action"], row["who"], row["why"]) for row in rows]


def hire(settings: Settings, broken: set[type]) -> Company:
    handlers: dict[str, dict[type, Handler]] = {
        "generador": GENERADOR.handling,
        "correo": CORREO.handling,
        "protools_saga": SYSTEM.coordinator.handling,
    }
    desks = {
        name: make_desk(settings, name, {cls: breakable(name, handler, broken) for cls, handler in known.items()})
        for name, known in handlers.items()
    }
    return Company(settings, {**desks, "bff": make_desk(settings, "bff")}, broken)


def breakable(service: str, handler: Handler, broken: set[type]) -> Handler:
    """Let a command break where it is handled, and an event at the coordinator: others that hear of it do not."""

    def handle(message: Message, uow: Any) -> None:
        contract = contract_of(type(message.body))
        if type(message.body) in broken and (service == "protools_saga" or contract.kind == "command"):
            raise RuntimeError("boom 42")
        handler.function(message, uow)

    return replace(handler, function=handle)


def settings_in(folder: Path, **environment: str) -> Settings:
    return Settings.read({"PROTOOLS_HOME": str(folder), "FAILURE_ATTEMPTS": "3", **KEYS, **environment})


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = hire(settings_in(tmp_path), set())
    yield company
    for desk in company.desks.values():
        desk.runtime.write.dispose()


def refusal(action: Any) -> DomainError:
    """Do it and return why it was refused."""
    with pytest.raises(DomainError) as refused:
        action()
    return refused.value


# --- replay


def replayed_to_the_end(company: Company, service: str, broken: type) -> None:
    company.broken.add(broken)
    company.start()
    assert company.status() == "SUSPENDED"
    assert company.open_incidents() == {(service, "dead-letter"), ("protools_saga", "suspended")}
    company.mend()
    assert replaying.replay(company.runtimes, company.letter(service), None, ADA)
    company.carry()
    assert company.status() == "COMPLETED"
    assert company.open_incidents() == set()
    assert company.audited(service) == [("replay", "ada", "the vault was full")]
    (kept,) = company[service].rows(dead_letter)
    assert (kept["outcome"], kept["ended_at"] is not None) == ("replayed", True)


@pytest.mark.parametrize(
    ("service", "broken"),
    [("generador", GeneratePassword), ("correo", SendPasswordMail), ("protools_saga", PasswordGenerated),
     ("protools_saga", PasswordMailSent)],
)  # fmt: skip
def test_a_replayed_message_is_handled_and_its_saga_goes_on_to_the_end(
    company: Company, service: str, broken: type
) -> None:
    """This is what dead letters are kept for; command or reply, nothing else has to be done by hand."""
    replayed_to_the_end(company, service, broken)


@pytest.fixture
def on_postgresql(tmp_path: Path, postgres: LocalPostgres) -> Iterator[Company]:
    """The company with a PostgreSQL."""
    name = f"t{new_id()[-10:]}"
    databases = {**postgres.environment(), "DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    company = hire(settings_in(tmp_path, **databases), set())
    yield company
    for desk in company.desks.values():
        desk.runtime.write.dispose()


@pytest.mark.postgres
def test_a_replay_does_the_same_on_postgresql(on_postgresql: Company) -> None:
    """Locks, arrays and UUIDs are another database's there."""
    replayed_to_the_end(on_postgresql, "correo", SendPasswordMail)


@pytest.mark.postgres
def test_operators_do_the_same_on_postgresql(on_postgresql: Company) -> None:
    """Every statement of theirs, once: what is not read is edited, a lost reply is let go, a dead step issued anew."""
    company = on_postgresql
    letter = unreadable(company)
    assert letters.show(company.runtimes, letters.find(company.runtimes, letter))["saga"] is None
    replaying.edit(company.needing(2), letter, None, ADA, {"username": "eve"}, whole=True)
    replaying.edit(company.needing(2), letter, None, BOB, {"username": "eve"}, whole=True)
    assert replaying.replay(company.runtimes, letter, None, ADA)
    company.broken.update({SendPasswordMail, PasswordMailSent})
    saga_id = company.start()
    company.broken.remove(SendPasswordMail)
    assert sagas.act(company.runtimes, saga_id, "retry-step", ADA)
    company.carry()
    assert replaying.discard(company.runtimes, company.letter("protools_saga"), None, ADA)
    company.mend()
    assert timeline(company.runtimes, saga_id) is not None
    assert listed(company, status="SUSPENDED", workflow="issue-password", since=1.0) == ["ada"]
    assert listed(company, subject="ada") == [], "nobody has projected it"
    with company["bff"].runtime.write.begin() as tx:
        assert (given_up.given_up(tx), given_up.waiting(tx), given_up.find(tx, saga_id)) == ([], [], None)
    assert sagas.act(company.runtimes, saga_id, "resume", BOB)
    company.carry()
    assert company.status() == "COMPLETED"
    assert company.open_incidents() == {("protools_saga", "dead-letter")}, "eve has no saga that hears of her password"
    assert {row["username"] for row in company["generador"].rows(password)} == {"eve", "ada"}


def test_a_replay_keeps_the_command_id_and_its_real_answer_takes_the_place_of_the_failure(company: Company) -> None:
    """The receiver's inbox and the saga know the command by its id; one command has one answer."""
    company.broken.add(GeneratePassword)
    company.start()
    letter = company.letter("generador")
    company.mend()
    replaying.replay(company.runtimes, letter, None, ADA)
    company.carry()
    (kept,) = company["generador"].rows(password)
    assert kept["command_id"] == letter
    answers = {row["type"]: (row["answers"], row["version"]) for row in company["generador"].rows(event)}
    assert answers == {"generador.command-failed": (None, 0), "generador.password-generated": (letter, 1)}


def test_an_answer_without_an_aggregate_of_its_own_finds_its_place_after_a_replay(company: Company) -> None:
    """`nothing-to-revoke` and the failure are both version 1 of the command: the older one must make room."""
    command = deliver(GeneratePassword("ada"))
    revoked, undo = (deliver(RevokePassword("ada", undoes=command.wire.key)) for _ in range(2))
    company["generador"].worker.settle([command])
    company["generador"].worker.settle([revoked])
    company.broken.add(RevokePassword)
    company["generador"].worker.settle([undo])
    company["generador"].retry_until_buried()
    company.mend()
    replaying.replay(company.runtimes, company.letter("generador"), None, ADA)
    company["generador"].retry_until_buried()
    assert company["generador"].count(failure) == 0
    assert len(company["generador"].said("generador.nothing-to-revoke")) == 1


def test_a_starting_command_that_died_is_replayed_and_its_saga_begins(company: Company) -> None:
    """The front door has promised an end to it, and there is no saga yet that could be resumed."""
    company.broken.add(IssuePassword)
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    company["protools_saga"].worker.settle([begin])
    company.carry()
    company.mend()
    replaying.replay(company.runtimes, begin.wire.key, None, ADA)
    company.carry()
    assert company.status() == "COMPLETED"


def test_what_dies_again_after_its_replay_is_a_new_letter_and_both_are_kept(company: Company) -> None:
    """Whoever replays too early must see it fail again, not lose it."""
    company.broken.add(GeneratePassword)
    company.start()
    letter = company.letter("generador")
    replaying.replay(company.runtimes, letter, None, ADA)
    company.carry()
    assert [row["outcome"] for row in company["generador"].rows(dead_letter)] == ["replayed", None]
    assert ("generador", "dead-letter") in company.open_incidents()
    company.mend()
    replaying.replay(company.runtimes, letter, None, ADA)
    company.carry()
    assert company.status() == "COMPLETED"


def test_the_database_refuses_a_second_open_letter_of_one_message(company: Company) -> None:
    """A message lies in front of operators once, however often it is buried."""
    unreadable(company)
    (row,) = company["generador"].rows(dead_letter)
    with pytest.raises(IntegrityError), company["generador"].runtime.write.begin() as tx:
        tx.execute(dead_letter.insert().values({**row, "at": row["at"] + 1}))


def test_no_saga_moves_between_the_look_at_it_and_the_replay(company: Company) -> None:
    """Else its undo could pass the message, and find nothing to undo and nothing to refuse."""
    company.broken.add(GeneratePassword)
    company.start()
    held: list[bool] = []

    def runtime(service: str) -> Runtime:
        if service == "generador":
            held.append(is_held(company.settings.home / "db" / "protools_saga-write.sqlite"))
        return company.runtimes.runtime(service)

    replaying.replay(Runtimes(SYSTEM, company.settings, runtime), company.letter("generador"), None, ADA)
    assert (held[0], held[-1]) == (False, True)


def is_held(database: Path) -> bool:
    """Tell whether somebody is writing to this SQLite database."""
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def test_a_letter_is_replayed_once(company: Company) -> None:
    """Two operators at three in the morning must not do it twice."""
    company.broken.add(GeneratePassword)
    company.start()
    letter = company.letter("generador")
    replaying.replay(company.runtimes, letter, None, ADA)
    again = refusal(lambda: replaying.replay(company.runtimes, letter, None, BOB))
    assert (again.code, "by ada" in again.detail) == ("replayed", True)
    assert refusal(lambda: replaying.discard(company.runtimes, letter, None, BOB)).code == "replayed"
    assert company.audited("generador") == [("replay", "ada", "the vault was full")]


def test_what_has_expired_is_not_replayed(company: Company) -> None:
    """Its receiver would refuse it, and the saga would be undone by a replay that meant to help."""
    company.broken.add(GeneratePassword)
    company.start()
    later = company.later(hours(24 * 8))
    no = refusal(lambda: replaying.replay(later.runtimes, later.letter("generador"), None, ADA))
    assert no.code == "expired"
    assert later["generador"].count(failure) == 0


def test_what_was_superseded_is_not_replayed_and_it_is_said_by_what(company: Company) -> None:
    """A command whose saga was undone, or has ended, would do what nobody waits for."""
    company.broken.add(GeneratePassword)
    company.start()
    progress = ended(company)
    with company["protools_saga"].runtime.write.begin() as tx:
        tx.execute(update(saga).values(status="COMPENSATED", wake_at=None, progress=progress))
    no = refusal(lambda: replaying.replay(company.runtimes, company.letter("generador"), None, ADA))
    assert (no.code, "has ended COMPENSATED" in no.detail) == ("superseded", True)
    assert company["generador"].count(failure) == 0


def ended(company: Company) -> str:
    (row,) = company["protools_saga"].rows(saga)
    return json.dumps({**json.loads(row["progress"]), "status": "COMPENSATED"})


def test_a_command_that_its_saga_replaced_by_another_is_not_replayed(company: Company) -> None:
    """The step was issued anew under another id: two of them would do the work twice."""
    company.broken.add(GeneratePassword)
    saga_id = company.start()
    letter = company.letter("generador")
    company.mend()
    assert sagas.act(company.runtimes, saga_id, "retry-step", ADA)
    assert refusal(lambda: replaying.replay(company.runtimes, letter, None, BOB)).code == "superseded"
    assert ("superseded by retry-step", "ada", ADA.why) in company.audited("generador")
    company.carry()
    assert company.status() == "COMPLETED"
    assert company.open_incidents() == set()


def test_a_step_is_not_issued_anew_while_its_replay_is_under_way(company: Company) -> None:
    """The other order of the same danger."""
    company.broken.add(GeneratePassword)
    saga_id = company.start()
    replaying.replay(company.runtimes, company.letter("generador"), None, ADA)
    for action in ("retry-step", "compensate"):
        assert refusal(lambda action=action: sagas.act(company.runtimes, saga_id, action, BOB)).code == "replayed"
    assert company.status() == "SUSPENDED"


def test_a_command_whose_saga_waits_for_its_undo_is_not_replayed(company: Company) -> None:
    """A letter that nobody told the saga of: meanwhile its deadline has passed and it is being undone."""
    company.broken.add(GeneratePassword)
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    coordinator, generador = company["protools_saga"], company["generador"]
    coordinator.worker.settle([begin])
    generador.worker.settle([deliver_again(coordinator)])
    generador.retry_until_buried()
    wake_due_sagas(company.later(minutes(16))["protools_saga"].runtime).work()
    no = refusal(lambda: replaying.replay(company.runtimes, company.letter("generador"), None, ADA))
    assert (no.code, "waits for generador.revoke-password" in no.detail) == ("superseded", True)


def deliver_again(coordinator: Desk) -> Any:
    return arrived(coordinator.said("generador.generate-password")[-1])


# --- what cannot be read


def unreadable(company: Company) -> str:
    """Deliver a command whose bytes are not Avro; return its id."""
    poison = deliver(GeneratePassword("ada"))
    poison = poison._replace(wire=poison.wire._replace(body=b"\xff\xff\xff"))
    company["generador"].worker.settle([poison])
    company["generador"].retry_until_buried()
    return str(poison.wire.properties["ce_id"])


def test_bytes_that_cannot_be_read_are_replayed_only_after_they_were_edited(company: Company) -> None:
    """They would only die again."""
    letter = unreadable(company)
    no = refusal(lambda: replaying.replay(company.runtimes, letter, None, ADA))
    assert (no.code, "edit" in no.detail) == ("unreadable", True)
    replaying.edit(company.runtimes, letter, None, ADA, {"username": "ada"}, whole=True)
    assert replaying.replay(company.runtimes, letter, None, BOB)
    company["generador"].retry_until_buried()
    (kept,) = company["generador"].rows(password)
    assert (kept["username"], kept["command_id"]) == ("ada", letter)
    assert [action for action, *_ in company.audited("generador")] == ["edit", "replay"]


def test_an_unreadable_copy_is_not_replayed_once_the_message_came_whole(company: Company) -> None:
    """The command was sent again and done: the broken copy of it is history."""
    letter = unreadable(company)
    replaying.edit(company.runtimes, letter, None, ADA, {"username": "ada"}, whole=True)
    company["generador"].worker.settle([deliver(GeneratePassword("ada"), identifier=letter)])
    assert refusal(lambda: replaying.replay(company.runtimes, letter, None, ADA)).code == "superseded"


@pytest.mark.parametrize(
    ("body", "said"),
    [({"username": 7}, "username must be of type string"), ({}, "username is missing"),
     ({"username": "ada", "colour": "red"}, "colour is no field"), ({"username": "a\0"}, "username holds a NUL")],
)  # fmt: skip
def test_an_edit_that_does_not_fit_the_schema_names_the_field_and_changes_nothing(
    company: Company, body: dict[str, Any], said: str
) -> None:
    """What the receiver could not read must not be put in its way by an operator."""
    letter = unreadable(company)
    before = company["generador"].rows(dead_letter)
    with pytest.raises(click.UsageError, match=said):
        replaying.edit(company.runtimes, letter, None, ADA, body, whole=True)
    assert company["generador"].rows(dead_letter) == before
    assert company.audited("generador") == []


def test_an_edit_changes_the_named_fields_and_the_audit_knows_both_bodies(company: Company) -> None:
    """A mistyped address is mended, the sealed token stays as it is."""
    company.broken.add(SendPasswordMail)
    company.start()
    letter = company.letter("correo")
    after = replaying.edit(company.runtimes, letter, None, ADA, {"email": "ada@example.org"}, whole=False)
    assert after is not None
    assert after["email"] == "ada@example.org"
    assert after["sealed_token"]
    (row,) = company["correo"].rows(audit)
    detail = json.loads(row["detail"])
    assert (detail["before"]["email"], detail["body"]["email"]) == ("ada@example.test", "ada@example.org")
    company.mend()
    replaying.replay(company.runtimes, letter, None, ADA)
    company.carry()
    assert company.status() == "COMPLETED"


# --- discard


def test_a_discarded_letter_is_kept_and_neither_replayed_nor_edited_any_more(company: Company) -> None:
    """History stays; the saga still stands in front of an operator."""
    company.broken.add(GeneratePassword)
    company.start()
    letter = company.letter("generador")
    with capture_logs() as lines:
        assert replaying.discard(company.runtimes, letter, None, ADA)
    acted = {"event": "operator acted", "who": ADA.who, "why": ADA.why, "action": "discard", "subject": letter}
    assert {**acted, "log_level": "info"} in lines
    assert refusal(lambda: replaying.replay(company.runtimes, letter, None, BOB)).code == "discarded"
    edit = {"username": "eve"}
    assert refusal(lambda: replaying.edit(company.runtimes, letter, None, BOB, edit, whole=True)).code == "discarded"
    assert (company["generador"].count(dead_letter), company["generador"].count(dead_letter_archive)) == (0, 1)
    assert company.open_incidents() == {("protools_saga", "suspended")}


# --- looking


def test_letters_are_grouped_by_topic_and_reason(company: Company) -> None:
    """A hundred of one kind are one thing to look at."""
    company.broken.add(GeneratePassword)
    for name in ("ada", "bob"):
        company.start(name)
    unreadable(company)
    given_up = letters.letters(company.runtimes, SYSTEM.names)
    groups = grouped(letter.given_up for letter in given_up)
    assert [(found[0].about, found[0].code, len(found)) for found in groups.values()] == [
        ("generador.generate-password", "RuntimeError", 2),
        ("generador.generate-password", "Undecodable", 1),
    ]


def test_a_letter_is_shown_with_its_message_and_the_log_of_its_saga(company: Company) -> None:
    """What was it, why did it die, what was going on around it: one look."""
    company.broken.add(SendPasswordMail)
    saga_id = company.start()
    shown = letters.show(company.runtimes, letters.find(company.runtimes, company.letter("correo")))
    assert (shown["service"], shown["attempts"], shown["body"]["username"]) == ("correo", 3, "ada")
    assert "boom" in shown["error"]
    assert shown["envelope"]["ce_correlationid"] == saga_id
    kinds = [entry["kind"] for entry in shown["saga"]["log"]]
    assert kinds == ["started", "issued", "replied", "issued", "failed", "suspended"]


def test_what_cannot_be_read_is_shown_with_the_reason_and_its_bytes(company: Company) -> None:
    """It must not stop the one who came to look at it."""
    shown = letters.show(company.runtimes, letters.find(company.runtimes, unreadable(company)))
    assert shown["body"]["base64"] == "////"
    assert shown["body"]["unreadable"]


def test_a_letter_that_two_services_hold_asks_for_the_service(company: Company) -> None:
    """An id alone must not pick one of two at random."""
    letter = unreadable(company)
    (row,) = company["generador"].rows(dead_letter)
    with company["correo"].runtime.write.begin() as tx:
        tx.execute(dead_letter.insert().values(**row))
    with pytest.raises(click.UsageError, match="generador and correo"):
        letters.find(company.runtimes, letter)
    assert letters.find(company.runtimes, letter, "correo").service == "correo"
    with pytest.raises(click.UsageError, match="no dead letter"):
        letters.find(company.runtimes, new_id())


# --- sagas


def suspended_at_the_mail(company: Company) -> str:
    """Start a saga whose mail is never answered, and let its deadline pass."""
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    company["protools_saga"].worker.settle([begin])
    exchange([company["protools_saga"], company["generador"]])
    return begin.wire.key


def test_a_resumed_saga_asks_again_under_the_same_id_and_goes_on(company: Company) -> None:
    """The mail server was away for longer than the deadline; nobody knows whether the mail has gone."""
    saga_id = suspended_at_the_mail(company)
    late = company.later(hours(2))
    wake_due_sagas(late["protools_saga"].runtime).work()
    assert late.status() == "SUSPENDED"
    first = company["protools_saga"].said("correo.send-password-mail")[-1]
    assert sagas.act(late.runtimes, saga_id, "resume", ADA)
    (again,) = late["protools_saga"].said("correo.send-password-mail")
    assert again.properties["ce_id"] == first.properties["ce_id"]
    assert late.open_incidents() == set()
    assert late.audited() == [("resume", "ada", ADA.why)]
    late.carry()
    assert late.status() == "COMPLETED"


def test_a_saga_whose_lost_reply_was_discarded_is_resumed_by_its_repeat(company: Company) -> None:
    """The receiver repeats its answer under the same id, which the inbox here has seen die."""
    company.broken.add(PasswordMailSent)
    saga_id = company.start()
    replaying.discard(company.runtimes, company.letter("protools_saga"), None, ADA)
    company.mend()
    assert sagas.act(company.runtimes, saga_id, "resume", ADA)
    company.carry()
    assert company.status() == "COMPLETED"
    assert company.open_incidents() == set()


def test_a_step_behind_the_pivot_or_a_dead_one_is_issued_anew_under_a_new_id(company: Company) -> None:
    """What was answered for good is not answered otherwise under the same id."""
    company.broken.add(SendPasswordMail)
    saga_id = company.start()
    dead = company.letter("correo")
    assert "retry-step" in refusal(lambda: sagas.act(company.runtimes, saga_id, "resume", ADA)).detail
    company.mend()
    sagas.act(company.runtimes, saga_id, "retry-step", ADA)
    assert company["protools_saga"].said("correo.send-password-mail")[-1].properties["ce_id"] != dead
    company.carry()
    assert company.status() == "COMPLETED"


@pytest.mark.parametrize("action", ["compensate", "cancel"])
def test_a_saga_that_is_given_up_by_hand_undoes_what_it_did(company: Company, action: Any) -> None:
    """Before the pivot there is a way back, and the front door learns why."""
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    company["protools_saga"].worker.settle([begin])
    company["generador"].worker.settle([deliver_again(company["protools_saga"])])
    assert sagas.act(company.runtimes, begin.wire.key, action, ADA)
    company.carry()
    (shown,) = sagas.sagas(company.runtimes, Wanted(status="COMPENSATED"))
    code = {"compensate": "operator", "cancel": "cancelled"}[action]
    assert shown["reason"].startswith(code)
    assert ADA.who not in shown["reason"]
    assert [row["status"] for row in company["generador"].rows(password)] == ["revoked"]


def test_a_dead_pivot_is_compensated_by_hand_and_its_letter_is_closed(company: Company) -> None:
    """The mail has not gone and never will: what came before it is taken back."""
    company.broken.add(SendPasswordMail)
    saga_id = company.start()
    assert refusal(lambda: sagas.act(company.runtimes, saga_id, "cancel", ADA)).code == "past-pivot"
    sagas.act(company.runtimes, saga_id, "compensate", ADA)
    company.carry()
    assert company.status() == "COMPENSATED"
    assert [row["outcome"] for row in company["correo"].rows(dead_letter)] == ["superseded"]
    assert company.open_incidents() == set()


@pytest.mark.parametrize("action", ["resume", "retry-step", "compensate", "cancel"])
def test_nothing_is_done_to_a_saga_that_has_ended(company: Company, action: Any) -> None:
    """Ended is ended; the refusal says how."""
    saga_id = company.start()
    no = refusal(lambda: sagas.act(company.runtimes, saga_id, action, ADA))
    assert (no.code, "COMPLETED" in no.detail) == ("ended", True)
    assert company.audited() == []


def test_acting_twice_is_refused_with_the_status_that_the_first_time_led_to(company: Company) -> None:
    """The second operator learns that somebody was faster."""
    saga_id = suspended_at_the_mail(company)
    late = company.later(hours(2))
    wake_due_sagas(late["protools_saga"].runtime).work()
    sagas.act(late.runtimes, saga_id, "resume", ADA)
    no = refusal(lambda: sagas.act(late.runtimes, saga_id, "resume", BOB))
    assert (no.code, "RUNNING" in no.detail) == ("not-suspended", True)
    with pytest.raises(click.UsageError, match="no saga"):
        sagas.act(late.runtimes, new_id(), "resume", ADA)


def test_a_move_by_hand_is_kept_for_the_sweep_when_the_broker_is_down(company: Company) -> None:
    """Log, row, audit and command are one transaction; publishing may come later."""
    saga_id = suspended_at_the_mail(company)
    late = company.later(hours(2))
    wake_due_sagas(late["protools_saga"].runtime).work()
    late["protools_saga"].broker.is_up = False
    assert sagas.act(late.runtimes, saga_id, "resume", ADA)
    later = company.later(hours(2) + 60)
    assert later["protools_saga"].runtime.transactions.outbox.sweep() >= 1
    assert later["protools_saga"].said("correo.send-password-mail")


def test_a_late_success_closes_the_incident_without_an_operator(company: Company) -> None:
    """Nobody is woken for what has healed."""
    suspended_at_the_mail(company)
    late = company.later(hours(2))
    wake_due_sagas(late["protools_saga"].runtime).work()
    assert late.open_incidents() == {("protools_saga", "suspended")}
    (begin,) = late["protools_saga"].rows(saga)
    sent = company["protools_saga"].said("correo.send-password-mail")[-1].properties["ce_id"]
    body = PasswordMailSent(sent, "ada", "ada@example.test", "sent", 1, 0.0, 0.0)
    late["protools_saga"].worker.settle([deliver(body, saga_id=begin["id"], command_id=sent, version=1)])
    assert late.status() == "COMPLETED"
    assert late.open_incidents() == set()


def test_a_refused_mail_is_given_up_without_an_operator(company: Company) -> None:
    """A business no at the pivot is no case for these commands."""
    suspended_at_the_mail(company)
    (row,) = company["protools_saga"].rows(saga)
    sent = company["protools_saga"].said("correo.send-password-mail")[-1].properties["ce_id"]
    no = CORREO.refused("correo.send-password-mail", "no-such-mailbox", "no")
    company["protools_saga"].worker.settle([deliver(no, saga_id=row["id"], command_id=sent, version=1)])
    company.carry()
    assert company.status() == "COMPENSATED"


# --- two operators


def test_with_two_approvals_the_first_wish_is_recorded_and_another_operator_carries_it_out(company: Company) -> None:
    """Four eyes: the same pair twice are still two."""
    company.broken.add(GeneratePassword)
    company.start()
    letter, runtimes = company.letter("generador"), company.needing(2)
    assert not replaying.replay(runtimes, letter, None, ADA)
    assert company["generador"].count(failure) == 0
    assert refusal(lambda: replaying.replay(runtimes, letter, None, ADA)).code == "same-operator"
    company.mend()
    assert replaying.replay(runtimes, letter, None, BOB)
    company.carry()
    assert company.status() == "COMPLETED"
    assert [(action, who) for action, who, _ in company.audited("generador")] == [
        ("replay wanted", "ada"),
        ("replay", "bob"),
    ]


def test_two_approvals_hold_for_sagas_and_a_wish_seconds_that_action_alone(company: Company) -> None:
    """Who agrees to a cancellation has not agreed to anything else."""
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    company["protools_saga"].worker.settle([begin])
    runtimes = company.needing(2)
    assert not sagas.act(runtimes, begin.wire.key, "cancel", ADA)
    assert not sagas.act(runtimes, begin.wire.key, "compensate", BOB)
    assert company.status() == "RUNNING"
    assert sagas.act(runtimes, begin.wire.key, "cancel", BOB)
    assert company.status() == "COMPENSATING"


def test_a_wish_for_one_body_does_not_second_another(company: Company) -> None:
    """What was looked at is what is agreed to."""
    letter, runtimes = unreadable(company), company.needing(2)
    assert replaying.edit(runtimes, letter, None, ADA, {"username": "ada"}, whole=True) is None
    assert replaying.edit(runtimes, letter, None, BOB, {"username": "eve"}, whole=True) is None
    assert replaying.edit(runtimes, letter, None, BOB, {"username": "ada"}, whole=True) == {"username": "ada"}


def test_a_wish_that_nobody_seconded_within_a_day_no_longer_counts(company: Company) -> None:
    """Last week's reason is not today's."""
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    company["protools_saga"].worker.settle([begin])
    assert not sagas.act(company.needing(2), begin.wire.key, "cancel", ADA)
    assert not sagas.act(company.later(hours(25)).needing(2), begin.wire.key, "cancel", BOB)


def test_a_wish_is_used_up_by_what_it_led_to(company: Company) -> None:
    """Two operators agreed to one edit, not to every such edit from now on."""
    letter, runtimes = unreadable(company), company.needing(2)
    body = {"username": "ada"}
    assert replaying.edit(runtimes, letter, None, ADA, body, whole=True) is None
    assert replaying.edit(runtimes, letter, None, BOB, body, whole=True) == body
    assert replaying.edit(runtimes, letter, None, BOB, body, whole=True) is None


def test_what_would_be_refused_is_refused_before_anybody_has_to_agree(company: Company) -> None:
    """Nobody is called out of bed to second what cannot be done."""
    saga_id = company.start()
    assert refusal(lambda: sagas.act(company.needing(2), saga_id, "resume", ADA)).code == "ended"
    assert company.audited() == []


def test_a_dead_letter_leaves_nothing_in_the_inbox_that_would_swallow_its_replay(company: Company) -> None:
    """The burial noted the id as handled."""
    company.broken.add(GeneratePassword)
    company.start()
    letter = company.letter("generador")
    assert letter in [row["id"] for row in company["generador"].rows(inbox)]
    replaying.replay(company.runtimes, letter, None, ADA)
    assert letter not in [row["id"] for row in company["generador"].rows(inbox)]


# --- workflows of the next release

FIRST, SECOND = ISSUE_PASSWORD.steps


@pytest.mark.parametrize(
    ("flows", "why"),
    [
        ([ISSUE_PASSWORD, ROTATE_PASSWORD], ""),
        ([ROTATE_PASSWORD], "no workflow issue-password@1 is declared"),
        (
            [replace(ISSUE_PASSWORD, steps=[SECOND, FIRST])],
            "step 1 has sent generador.generate-password, and would send",
        ),
        ([replace(ISSUE_PASSWORD, steps=[Sleep(1), SECOND])], "step 1 was Step, and is Sleep"),
        ([replace(ISSUE_PASSWORD, steps=[FIRST])], "step 2 was Step, and is gone"),
        ([replace(ISSUE_PASSWORD, steps=[replace(FIRST, undo=None), SECOND])], ""),
    ],
)
def test_sagas_that_another_release_would_strand_are_told_before_it_runs(
    company: Company, flows: list[Saga[Any]], why: str
) -> None:
    """Found by the first reply that cannot be handled, it would be found at night."""
    company.broken.add(SendPasswordMail)
    identifier = company.start()
    runtimes = replace(company.runtimes, system=replace(SYSTEM, workflows=flows))
    number, found = stranded(runtimes)
    assert number == 1
    assert [(one.sagas, one.example, why in one.why) for one in found] == ([(1, identifier, True)] if why else [])


def test_a_log_that_the_next_release_reads_as_another_state_is_told_before_it_runs(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate's code folds what is kept, and must come to where the sagas stand."""
    company.broken.add(SendPasswordMail)
    identifier = company.start()
    assert stranded(company.runtimes) == (1, [])
    monkeypatch.setattr(workflows, "fold", lambda progress, _entries: progress._replace(seq=progress.seq + 1))
    (found,) = stranded(company.runtimes)[1]
    assert (found.example, found.why) == (identifier, "its log is read as another state than its row has")


def test_a_saga_that_has_ended_is_stranded_by_nothing(company: Company) -> None:
    """Its log is kept, and nobody goes on with it."""
    company.start()
    assert stranded(replace(company.runtimes, system=replace(SYSTEM, workflows=[ROTATE_PASSWORD]))) == (0, [])


def test_workflows_are_drawn_and_checked_on_the_command_line(company: Company, program: Program) -> None:
    """An operator sees where it stands, and an engineer whether the next release may run."""
    company.broken.add(SendPasswordMail)
    identifier = company.start()
    assert "issue-password@1  protools_saga.issue-password  2\n" in program.run("workflows", "list").stdout
    drawn = program.run("workflows", "graph", "issue-password@1", "--saga", identifier).stdout
    assert {"  class s0 done", "  class s1 here"} <= set(drawn.splitlines())
    assert program.run("workflows", "check").stdout == "1 sagas have not ended, 0 of them could not go on\n"
    for wrong in (("graph", "no-such"), ("graph", "rotate-password", "--saga", identifier)):
        assert program.run("workflows", *wrong).returncode == 2


# --- the command line


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The command line on the company's databases; no broker runs unless a test starts it."""
    return Program(tmp_path, {"FAILURE_ATTEMPTS": "3", "OPERATOR": "ada", **FOUND, **KEYS})


@pytest.fixture
def broker(tmp_path: Path, company: Company) -> Iterator[EmbeddedServer]:
    """The embedded broker of that home, with every topic and schema."""
    server = EmbeddedServer(tmp_path)
    server.start()
    bootstrap(SYSTEM, company.settings)
    yield server
    server.stop()


def test_a_letter_is_listed_shown_edited_and_replayed_on_the_command_line(
    company: Company, program: Program, broker: EmbeddedServer
) -> None:
    """The whole way that an operator goes at night, as they type it."""
    company.broken.add(SendPasswordMail)
    company.start()
    company.mend()
    listed = program.run("dead-letters", "list")
    assert "1 × correo.send-password-mail: RuntimeError: boom …" in listed.stdout
    (group,) = json.loads(program.run("dead-letters", "list", "--service", "correo", "--json").stdout)
    letter = group["letters"][0]["id"]
    shown = program.run("dead-letters", "show", letter)
    assert "email: ada@example.test" in shown.stdout
    assert "  suspended  " in shown.stdout
    change = ("--set", "email=ada@example.org", "--why", "mistyped")
    assert program.run("dead-letters", "edit", letter, *change).returncode == 0
    replayed = program.run("dead-letters", "replay", letter, "--why", "mended", "--as", "bob")
    assert (replayed.returncode, letter in replayed.stdout) == (0, True)
    again = program.run("dead-letters", "replay", letter, "--why", "mended")
    assert (again.returncode, "replayed at" in again.stderr, "by bob" in again.stderr) == (1, True, True)
    company.carry()
    assert company.status() == "COMPLETED"
    assert company.audited("correo") == [("edit", "ada", "mistyped"), ("replay", "bob", "mended")]


def test_a_letter_is_edited_by_a_file_and_discarded_on_the_command_line(
    company: Company, program: Program, broker: EmbeddedServer
) -> None:
    """A whole body comes from a file; a field that is wrong is named, with exit code 2."""
    letter = unreadable(company)
    file = program.home / "body.json"
    file.write_text('{"username": 7}')
    wrong = program.run("dead-letters", "edit", letter, "--body", str(file), "--why", "broken bytes")
    assert (wrong.returncode, "username" in wrong.stderr) == (2, True)
    file.write_text('{"username": "ada"}')
    assert program.run("dead-letters", "edit", letter, "--body", str(file), "--why", "broken bytes").returncode == 0
    assert program.run("dead-letters", "discard", letter, "--why", "after all").returncode == 0
    assert program.run("dead-letters", "list").stdout == "0 dead letters\n"
    assert "discarded" in program.run("dead-letters", "list", "--all").stdout


def test_sagas_are_listed_shown_and_moved_on_the_command_line(company: Company, program: Program) -> None:
    """Without a broker: the move is committed, and published by the sweep of whoever runs."""
    company.broken.add(SendPasswordMail)
    saga_id = company.start()
    assert saga_id in program.run("sagas", "list").stdout
    assert program.run("sagas", "list", "--status", "RUNNING").stdout == "0 sagas\n"
    (row,) = json.loads(program.run("sagas", "list", "--suspended", "--json").stdout)
    assert row["status"] == "SUSPENDED"
    assert "  suspended  " in program.run("sagas", "show", saga_id).stdout
    refused = program.run("sagas", "resume", saga_id, "--why", "try")
    assert (refused.returncode, "retry-step" in refused.stderr) == (1, True)
    moved = program.run("sagas", "retry-step", saga_id, "--why", "mended")
    assert (moved.returncode, moved.stdout) == (0, f"retry-step of saga {saga_id}\n")
    assert company.status() == "RUNNING"
    assert company.audited() == [("retry-step", "ada", "mended")]


def test_a_first_wish_exits_with_3_so_that_no_script_takes_it_for_done(company: Company, program: Program) -> None:
    """Recorded is not done."""
    begin = deliver(IssuePassword("ada", "ada@example.test"))
    company["protools_saga"].worker.settle([begin])
    cancel = ("sagas", "cancel", begin.wire.key, "--why", "asked to")
    first = program.run(*cancel, OPERATOR_APPROVALS="2")
    assert (first.returncode, "second operator" in first.stdout) == (3, True)
    assert program.run(*cancel, OPERATOR_APPROVALS="2").returncode == 1
    assert program.run(*cancel, "--as", "bob", OPERATOR_APPROVALS="2").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("dead-letters", "replay", "x"), 2, "--why"),
        (("dead-letters", "replay", "x", "--why", " "), 2, "a reason is needed"),
        (("dead-letters", "replay", "x", "--why", "y"), 2, "no dead letter x"),
        (("dead-letters", "show", "x", "--service", "nobody"), 2, "nobody"),
        (("dead-letters", "edit", "x", "--why", "y"), 2, "nothing to change"),
        (("sagas", "show", "x"), 2, "no saga x"),
        (("sagas", "cancel", "x", "--why", "y"), 2, "no saga x"),
        (("sagas", "list", "--status", "LOST"), 2, "LOST"),
    ],
)
def test_wrong_input_is_told_from_a_refusal(
    company: Company, program: Program, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """A script must know whether to correct itself or to ask a person."""
    done = program.run(*arguments)
    assert (done.returncode, said in done.stderr) == (code, True)
    assert "Traceback" not in done.stderr


def test_databases_that_are_not_there_are_told_in_one_line(tmp_path: Path) -> None:
    """At three in the morning nobody reads a stack trace."""
    done = Program(tmp_path / "nowhere", {}).run("dead-letters", "list")
    assert (done.returncode, "Traceback" in done.stderr, "protools:" in done.stderr) == (1, False, True)


def test_a_replay_that_its_worker_cannot_read_is_a_dead_letter_again(company: Company) -> None:
    """A replica of yesterday's version may take what today's operator replayed; it must not vanish there."""
    letter = unreadable(company)
    with company["generador"].runtime.write.begin() as tx:
        tx.execute(update(dead_letter).values(outcome="replayed", ended_at=1.0))
    (row,) = company["generador"].rows(dead_letter)
    assert row["id"] == letter
    with company["generador"].runtime.write.begin() as tx:
        named = {name: row[name] for name in ("id", "topic", "delivery", "error", "at")}
        tx.execute(failure.insert().values(**named, attempts=0, due_at=0))
    company["generador"].retry_until_buried()
    assert [r["outcome"] for r in company["generador"].rows(dead_letter)] == ["replayed", None]


# --- incidents


def a_conflict(company: Company) -> str:
    """Deliver two bodies under one id; return the incident that tells of it."""
    first, second = (deliver(GeneratePassword(name), identifier=new_id()) for name in ("ada", "eve"))
    second = second._replace(wire=second.wire._replace(properties=first.wire.properties))
    company["generador"].worker.settle([first, second])
    (row,) = company["generador"].rows(incident)
    return str(row["id"])


def test_every_open_incident_is_listed_and_closed_once_with_its_reason(company: Company) -> None:
    """What nothing else ends would be looked at again every night."""
    identifier = a_conflict(company)
    (shown,) = incidents.incidents(company.runtimes, SYSTEM.names)
    assert (shown["service"], shown["kind"], shown["id"]) == ("generador", "conflict", identifier)
    assert incidents.close(company.runtimes, SYSTEM.names, identifier, ADA)
    assert incidents.incidents(company.runtimes, SYSTEM.names) == []
    assert company.audited("generador") == [("close", "ada", "the vault was full")]
    assert refusal(lambda: incidents.close(company.runtimes, SYSTEM.names, identifier, BOB)).code == "closed"


def test_an_incident_that_ends_with_its_letter_is_not_closed_by_itself(company: Company) -> None:
    """Closed, it would hide a message that nobody has dealt with."""
    unreadable(company)
    (shown,) = incidents.incidents(company.runtimes, SYSTEM.names)
    refused = refusal(lambda: incidents.close(company.runtimes, SYSTEM.names, shown["id"], ADA))
    assert refused.code == "open"
    assert "protools dead-letters" in refused.detail


def test_a_second_operator_may_be_needed_to_close_an_incident(company: Company) -> None:
    """The rule is one for everything that operators do."""
    identifier, runtimes = a_conflict(company), company.needing(2)
    assert not incidents.close(runtimes, SYSTEM.names, identifier, ADA)
    assert incidents.close(runtimes, SYSTEM.names, identifier, BOB)


def test_the_command_line_lists_and_closes_incidents(company: Company, tmp_path: Path) -> None:
    """It is the first thing that is typed at 3 a.m."""
    identifier = a_conflict(company)
    program = Program(tmp_path, {**FOUND, **KEYS})
    assert "conflict" in program.run("incidents", "list").stdout
    assert program.run("incidents", "close", identifier, "--why", "looked into").returncode == 0
    assert program.run("incidents", "close", identifier, "--why", "again").returncode == 1
    assert program.run("incidents", "close", "nonsense", "--why", "typed").returncode == 2
    assert "0 incidents" in program.run("incidents", "list").stdout


def test_incidents_of_one_fingerprint_are_one_group_counted_by_hour(company: Company, tmp_path: Path) -> None:
    """Five hundred of one bad deployment are one matter, and when they began to come says which deployment."""
    identifier = a_conflict(company)
    program = Program(tmp_path, {**FOUND, **KEYS})
    title = "1 × conflict generador.generate-password same-id-other-body of generador, 1 of them in the last hour"
    assert title in program.run("incidents", "list").stdout
    program.run("incidents", "close", identifier, "--why", "looked into")
    (group,) = json.loads(program.run("incidents", "list", "--since", "1h", "--json").stdout)
    assert (group["kind"], group["topic"], group["count"]) == ("conflict", "generador.generate-password", 1)
    assert group["by_hour"] == [0] * 23 + [1]
    assert group["incidents"][0]["closed_at"]


# --- where sagas stand, and what happened to them


def listed(company: Company, **wanted: Any) -> list[str]:
    return [row["subject"] for row in sagas.sagas(company.runtimes, Wanted(**wanted))]


def test_sagas_are_found_by_what_an_operator_knows_of_them(company: Company) -> None:
    """A caller says a name and a time; nobody says an id on the telephone."""
    company.start("ada")
    company.broken.add(SendPasswordMail)
    company.start("bob")
    project(Scene(company.settings, company.desks))
    assert listed(company, status="SUSPENDED") == ["bob"]
    assert listed(company) == ["bob", "ada"], "the newest first"
    assert listed(company, subject="ada") == ["ada"]
    assert listed(company, subject="ada", status="RUNNING") == []
    assert listed(company, workflow="issue-password") == listed(company, workflow="issue-password@1") == ["bob", "ada"]
    assert listed(company, workflow="issue") == []
    assert listed(company, since=time.time() - 60) == ["bob", "ada"]
    assert listed(company, since=time.time() + 60) == []
    assert listed(company, limit=1) == ["bob"]


FOUND_BY: dict[str, dict[str, Any]] = {
    "saga_suspended": {"status": "SUSPENDED"},
    "saga_wake": {"status": "RUNNING"},
    "sqlite_autoindex_saga_1": {"since": 1.7e9},
}


def test_a_list_of_sagas_is_found_by_an_index(company: Company) -> None:
    """Among a million sagas a list without one takes seconds, and holds up what works."""
    with company["protools_saga"].runtime.write.connect() as connection:
        found = {index for index, wanted in FOUND_BY.items() if index in plan(connection, query_of(Wanted(**wanted)))}
    assert found == FOUND_BY.keys()
    engine = open_database(company.settings, "protools_saga", "read", "reader")
    with engine.connect() as connection:
        assert "saga_view_subject" in plan(connection, sagas.query_about("ada", 0.0)), (
            "by subject the read model has one"
        )
    engine.dispose()


def plan(connection: Connection, query: Select[Any]) -> str:
    """Return how SQLite goes about a query."""
    literal = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {literal}"))


def test_a_saga_is_told_as_a_time_line_with_what_may_be_done(company: Company) -> None:
    """What happened, how long it took, where it stands, what to type: one look at 3 a.m."""
    company.broken.add(SendPasswordMail)
    saga_id = company.start()
    told = timeline(company.runtimes, saga_id)
    assert told is not None
    words = [line.split() for line in told]
    kinds = [line[1] for line in words if line[0].startswith("+")]
    assert kinds == ["started", "issued", "replied", "issued", "failed", "suspended"]
    (replied,) = (line for line in words if "replied" in line)
    assert replied[2:6] == ["step", "1", "generador.generate-password", "took"]
    assert told[-2:] == [
        f"you may: protools sagas {action} {saga_id} --why …" for action in ("retry-step", "compensate")
    ]


def test_a_saga_that_has_ended_offers_nothing(company: Company) -> None:
    """Terminal stays terminal."""
    told = timeline(company.runtimes, company.start())
    assert told is not None
    assert told[-1].startswith("stands: COMPLETED")
    assert timeline(company.runtimes, new_id()) is timeline(company.runtimes, "x") is None


def test_the_line_of_a_branch_stands_further_to_the_right_and_knows_its_wait() -> None:
    """Which of ten items hangs is seen at a glance."""
    asked = Entry("issued", 100.0, "1/ada/0", "stock.reserve", "c", 2, wake_at=400.0)
    answered = Entry("refused", 101.5, "1/ada/0", code="sold-out", detail="none left")
    _, first, second = map(line, moments([Entry("started", 99.0), asked, answered]))
    assert first == "     +1.000    issued        step 2, ada, step 1  stock.reserve  attempt 2  until +300 s"
    assert second == (
        "     +2.500    refused       step 2, ada, step 1  stock.reserve  took 1.500 s  sold-out: none left"
    )
