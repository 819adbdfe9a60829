"""Put single facts before the checks of `protools verify`: what no scene holds, or not alone; and its report."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, select

from pulsaga.delivery.messages import first_id
from pulsaga.operate.verify import Check, Checks, FactTable
from pulsaga.operate.verify.catalogue import CHECKS, Catalogue
from pulsaga.operate.verify.facts import Bounds, Facts, written_out
from pulsaga.operate.verify.report import Finding, Report, judge
from pulsaga.operate.verify.scope import EVER
from pulsaga.service import Service
from pulsaga.settings import Settings
from pulsaga.system import System
from system import SYSTEM

CATALOGUE = Catalogue(SYSTEM, Settings.read({}))
A, B, C = (first_id(1_800_000_000 + number) for number in range(3))
NOW = 1_900_000_000.0
OLD = NOW - 1000
SAGA = {"id": A, "status": "RUNNING", "seq": 1, "subject": "ada", "wake_at": NOW, "moved_at": OLD, "digest": b""}
LOG = {**SAGA, "versions": 1, "last_version": 1, "started": 1, "ended": 0, "reason_code": "", "at": OLD, "trouble": ""}
ISSUED = {
    "id": B,
    "saga_id": A,
    "name": "generador.generate-password",
    "receiver": "generador",
    "at": OLD,
    "succeeded": 0,
    "denied": 0,
    "is_undone": 0,
}
LETTER = {"service": "correo", "id": A, "topic": "x", "is_open": 1}
OF_LETTER = {"service": "correo", "kind": "dead-letter", "subject": A, "is_open": 1}
OF_COORDINATOR = {"service": "protools_saga"}
Told = tuple[str, dict[str, Any]]
ACCEPTED: Told = ("accepted", {"id": A, "subject": "ada", "created_at": OLD})


def told(
    *facts: Told, cutoff: float = EVER, known_id: str = "", catalogue: Catalogue = CATALOGUE
) -> set[tuple[str, str]]:
    """What the checks say of these facts; what a fact does not name is NULL."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        known = Facts(file, catalogue)
        for table, values in facts:
            known.add(table, tuple(values.get(column) for column in catalogue.tables[table]))
        known.complete(Bounds("", cutoff, first_id(cutoff), known_id))
        return {(found.check.path, identifier) for found in judge(catalogue, known) for identifier, _ in found.ids}


def clocks(service: str, **now: float) -> list[Told]:
    return [("clock", {"service": service, "side": side, "now": at}) for side, at in now.items()]


@pytest.mark.parametrize(
    ("check", "service", "fact"),
    [
        ("stuck/wake-up", "protools_saga", ("saga", SAGA)),
        ("stuck/not-sent-again", "protools_saga", ("saga", {**SAGA, "target": "generador", "resend_at": NOW})),
        ("stuck/outbox", "bff", ("outbox", {"service": "bff", "id": A, "due_at": NOW})),
        ("stuck/failure", "bff", ("failure", {"service": "bff", "side": "write", "id": A, "due_at": NOW})),
        ("stuck/mail", "correo", ("mail", {"id": A, "saga_id": B, "status": "waiting", "due_at": NOW})),
        ("stuck/mail-claim", "correo", ("mail", {"id": A, "status": "waiting", "due_at": NOW, "claim": B})),
    ],
)
def test_what_is_due_is_judged_by_the_clock_of_the_database_that_holds_it(check: str, service: str, fact: Told) -> None:
    """Read and write databases are two machines, and so two clocks."""
    for ahead, is_stuck in (({"write": NOW + 100, "read": NOW}, True), ({"write": NOW, "read": NOW + 100}, False)):
        assert (check in {name for name, _ in told(fact, *clocks(service, **ahead))}) == is_stuck


@pytest.mark.parametrize("fact", [("saga", SAGA), ("log", LOG)], ids=["row", "log"])
def test_a_saga_that_left_one_trace_only_is_orphaned_and_diverged(fact: Told) -> None:
    """Whichever half was lost, the other one is found."""
    assert {("orphaned/saga", A), ("diverged/snapshot", A)} <= told(fact)
    assert ("diverged/snapshot", B) in told(("saga", SAGA), ("log", LOG), ("saga", {**SAGA, "id": B}))


@pytest.mark.parametrize(
    ("began_by", "traces", "is_explained"),
    [
        (A, [], False),
        (A, [("met", {"service": "protools_saga", "id": A, "how": "handled"})], True),
        (B, [("met", {"service": "protools_saga", "id": B, "how": "handled"})], True),
        (B, [("met", {"service": "protools_saga", "id": A, "how": "handled"})], False),
        (A, [("met", {"service": "protools_saga", "id": A, "how": "tombstone"})], False),
        (A, [("met", {"service": "generador", "id": A, "how": "handled"})], False),
    ],
)
def test_a_saga_that_no_front_door_accepted_was_begun_by_a_command(
    began_by: str, traces: list[Told], is_explained: bool
) -> None:
    """A tester, another service or another workflow may send what begins it; out of nothing it must not come."""
    found = told(("log", {**LOG, "began_by": began_by}), *traces)
    assert (("orphaned/saga", A) not in found) == is_explained


def test_a_saga_in_the_name_of_a_caller_was_accepted() -> None:
    """Only the front door knows who asks: where it forgot, the caller would ask again."""
    handled: Told = ("met", {"service": "protools_saga", "id": A, "how": "handled"})
    asked: Told = ("log", {**LOG, "began_by": A, "actor": "shop"})
    assert ("orphaned/saga", A) in told(asked, handled)
    assert ("orphaned/saga", A) not in told(asked, handled, ACCEPTED)
    issued: Told = ("issued", {**ISSUED, "id": A, "saga_id": C})
    assert ("orphaned/saga", A) not in told(asked, handled, issued), "it inherits the name of who began the other"


def test_a_saga_whose_beginning_the_inbox_has_forgotten_is_not_orphaned() -> None:
    """After a week the inbox knows no ids any more, and every saga that a tester began would be reported."""
    begun: Told = ("log", {**LOG, "began_by": A})
    assert ("orphaned/saga", A) in told(begun, known_id=A)
    assert ("orphaned/saga", A) not in told(begun, known_id=B)


@pytest.mark.parametrize("service", ["generador", "correo"])
@pytest.mark.parametrize("how", ["handled", "tombstone"])
def test_every_workers_unasked_work_is_orphaned(service: str, how: str) -> None:
    """A tombstone too: it refuses a command."""
    assert told(("met", {"service": service, "id": A, "how": how})) == {("orphaned/handled-command", A)}


def test_an_answer_of_correo_that_nobody_asked_for_is_orphaned() -> None:
    """Whoever speaks."""
    event = {"service": "correo", "aggregate": A, "version": 1, "id": C, "type": "correo.x", "answers": B, "at": OLD}
    assert told(("event", event)) == {("orphaned/answer", B)}


@pytest.mark.parametrize("status", ["issued", "revealed"])
def test_a_password_that_outlived_its_compensated_saga_is_orphaned(status: str) -> None:
    """Revealed or not, it opens something."""
    password = {"username": "ada", "version": 1, "command_id": B, "saga_id": A, "status": status, "changed_at": OLD}
    ended = ("log", {**LOG, "status": "COMPENSATED"})
    assert ("orphaned/password-not-undone", A) in told(ACCEPTED, ended, ("issued", ISSUED), ("password", password))


def test_an_answer_that_the_inbox_has_forgotten_is_not_lost() -> None:
    """After a week the coordinator's inbox knows no ids any more, and every saga of before would be reported."""
    reply = {"service": "generador", "aggregate": "ada", "version": 1, "id": C, "type": "generador.password-generated"}
    facts = (ACCEPTED, ("log", {**LOG, "status": "COMPLETED"}), ("issued", {**ISSUED, "succeeded": 1}))
    facts += (("event", {**reply, "answers": B, "at": OLD}),)
    assert ("lost/reply", B) in told(*facts)
    assert ("lost/reply", B) not in told(*facts, known_id=first_id(1_800_000_003))


def test_the_first_id_of_a_time_is_an_id_whatever_the_time() -> None:
    """Ids are compared as text, so one that is too long would sort anywhere."""
    assert first_id(1.5) == "00000000-05dc-7000-8000-000000000000"
    assert first_id(-1.0) == "00000000-0000-7000-8000-000000000000"
    assert first_id(EVER) == "ffffffff-ffff-7000-8000-000000000000"


@pytest.mark.parametrize("receiver", ["generador", "correo"])
def test_a_command_that_never_reached_its_receiver_is_lost_whoever_that_is(receiver: str) -> None:
    """At rest nothing is on its way."""
    facts = [ACCEPTED, ("log", LOG), ("issued", {**ISSUED, "receiver": receiver, "is_awaited": 1})]
    assert ("lost/issued-command", B) in told(*facts)
    assert ("lost/issued-command", B) not in told(*facts, ("met", {"service": receiver, "id": B, "how": "failed"}))


def test_a_gap_is_found_in_any_history() -> None:
    """Versions are counted per aggregate of a service, whether it began at one or was cut."""
    names = {"service": "generador", "aggregate": "ada", "at": OLD, "type": "generador.password-issued"}
    events = [("event", {**names, "id": id_, "version": version}) for id_, version in ((A, 3), (B, 5))]
    assert ("diverged/version-gap", "ada") in told(*events)
    assert "diverged/version-gap" not in {
        name for name, _ in told(*events, ("event", {**names, "id": C, "version": 4}))
    }


def test_a_password_generated_over_one_that_was_just_generated_is_doubled() -> None:
    """The one before need not have been seen by anybody."""
    names = {"service": "generador", "aggregate": "ada", "type": "generador.password-generated", "at": OLD}
    events = [("event", {**names, "id": C, "answers": answers, "version": v}) for v, answers in ((1, A), (2, B))]
    assert ("doubled/password-of-name", B) in told(*events)


def test_a_password_without_any_event_is_diverged() -> None:
    """Nothing was ever said of it, so no read model can know it."""
    assert ("diverged/password", "ada") in told(("password", {"username": "ada", "version": 1, "status": "issued"}))


def test_a_command_that_became_a_dead_letter_is_shown_as_suspended() -> None:
    """The user must see that it goes nowhere by itself."""
    dead = {"service": "protools_saga", "aggregate": A, "version": 1, "id": B, "answers": A, "at": OLD}
    said = ("event", {**dead, "type": "protools_saga.command-failed"})
    shown = {"id": A, "version": 0, "subject": "ada", "status": "suspended", "reason_code": "dead-letter"}
    letter, incident = ("dead", {**LETTER, "service": "protools_saga"}), ("incident", {**OF_LETTER, **OF_COORDINATOR})
    assert told(ACCEPTED, said, letter, incident, ("view_command", shown)) == set()
    assert told(ACCEPTED, said, letter, incident, ("view_command", {**shown, "status": "refused"})) == {
        ("diverged/command-view", A)
    }
    assert told(ACCEPTED, said, ("view_command", shown)) == {("stuck/given-up-command", A)}
    assert ("diverged/command-view", A) in told(("log", LOG), ("event", {**dead, "type": "x", "answers": A}))
    assert ("diverged/command-view", A) in told(("saga", SAGA), said), "accepted or not"


@pytest.mark.parametrize(
    ("trace", "explains"),
    [
        (("failure", {"service": "protools_saga", "side": "write", "id": A, "due_at": NOW}), True),
        (("failure", {"service": "generador", "side": "write", "id": A, "due_at": NOW}), False),
        (("dead", {"service": "protools_saga", "id": A, "is_open": 1}), True),
        (("dead", {"service": "protools_saga", "id": A, "is_open": 0}), False),
        (("dead", {"service": "generador", "id": A, "is_open": 1}), False),
    ],
)
def test_an_acceptance_that_the_coordinator_could_not_handle_is_not_lost(trace: Told, explains: bool) -> None:
    """It is tried again, or lies in front of an operator; what lies elsewhere explains nothing."""
    assert (("lost/accepted-command", A) not in told(ACCEPTED, trace)) == explains


@pytest.mark.parametrize(("awaited", "is_defect"), [(1, True), (0, False)], ids=["awaited", "given up"])
def test_a_refusal_must_move_a_saga_that_waits_for_it_and_no_other(awaited: int, is_defect: bool) -> None:
    """One that the saga does not wait for any more says nothing new."""
    event = {"service": "generador", "aggregate": B, "version": 1, "id": C, "answers": B, "at": OLD}
    refused = ("event", {**event, "type": "generador.command-refused"})
    met = ("met", {"service": "protools_saga", "id": C, "how": "handled"})
    known = told(ACCEPTED, ("log", LOG), ("issued", {**ISSUED, "is_awaited": awaited}), refused, met)
    assert (("lost/reply-without-effect", B) in known) == is_defect


def test_nothing_is_lost_to_a_receiver_that_has_not_begun() -> None:
    """On the first day somebody accepts before anybody listens."""
    assert told(ACCEPTED, cutoff=NOW) == {("stuck/accepted-command", A)}


PARKED = {"saga_id": A, "command_id": B, "kind": "parked", "policy": "park"}
TOLD_OF_PARKED = {"service": "protools_saga", "kind": "parked", "subject": A}


@pytest.mark.parametrize(
    ("incident", "is_told"),
    [
        (TOLD_OF_PARKED, True),
        ({**TOLD_OF_PARKED, "subject": B}, False),
        ({**TOLD_OF_PARKED, "kind": "suspended"}, False),
        ({**TOLD_OF_PARKED, "service": "correo"}, False),
    ],
    ids=["told", "of another", "of something else", "by another"],
)
def test_a_parked_success_is_either_told_or_a_defect(incident: dict[str, Any], is_told: bool) -> None:
    """An operator has to decide on it, and can only decide on what was put in front of him."""
    facts = [ACCEPTED, ("log", LOG), ("issued", ISSUED), ("late", PARKED), ("incident", incident)]
    assert (("late/parked-in-silence", A) not in told(*facts)) == is_told
    assert (("late/success", A) in told(*facts)) == (is_told or incident["service"] == "correo")


@pytest.mark.parametrize("change", [{"kind": "parked"}, {"subject": B}, {"service": "bff"}, {"is_open": 0}])
def test_an_incident_of_something_else_tells_of_no_dead_letter(change: dict[str, Any]) -> None:
    """Who looks at the incidents must find every letter there."""
    assert told(("dead", LETTER), ("incident", OF_LETTER)) == set()
    assert ("dead/in-silence", A) in told(("dead", LETTER), ("incident", OF_LETTER | change))


@pytest.mark.parametrize(
    ("incident", "cause", "is_orphaned"),
    [
        (OF_LETTER, ("dead", LETTER), False),
        (OF_LETTER, ("dead", {**LETTER, "is_open": 0}), True),
        (OF_LETTER, ("dead", {**LETTER, "service": "bff"}), True),
        ({**OF_LETTER, "is_open": 0}, ("dead", {**LETTER, "is_open": 0}), False),
        ({**TOLD_OF_PARKED, "is_open": 1}, ("saga", SAGA), False),
        ({**TOLD_OF_PARKED, "kind": "suspended", "is_open": 1}, ("saga", SAGA), True),
        ({**TOLD_OF_PARKED, "kind": "suspended", "is_open": 1}, ("saga", {**SAGA, "status": "SUSPENDED"}), False),
        ({**TOLD_OF_PARKED, "kind": "suspended", "is_open": 0}, ("saga", SAGA), False),
    ],
)
def test_an_incident_that_nothing_will_close_is_orphaned(
    incident: dict[str, Any], cause: Told, is_orphaned: bool
) -> None:
    """It ends with what it tells of, and that is over: operators would be called out for it for ever."""
    assert (("orphaned/incident", A) in told(cause, ("incident", incident))) == is_orphaned


CANCEL = ("cancelled", {"id": A, "command_id": B, "at": OLD})
HANDLED = ("met", {"service": "protools_saga", "id": B, "how": "handled"})


@pytest.mark.parametrize(
    ("facts", "has_effect"),
    [
        ([], False),
        ([("log", {**LOG, "cause_code": "operator"})], False),
        ([("log", {**LOG, "cause_code": "cancelled"})], True),
        ([("event", {"service": "protools_saga", "aggregate": B, "version": 1, "id": C, "answers": B})], True),
        ([("event", {"service": "protools_saga", "aggregate": A, "version": 1, "id": C, "answers": A})], True),
        ([("event", {"service": "generador", "aggregate": B, "version": 1, "id": C, "answers": B})], False),
        ([("met", {"service": "protools_saga", "id": A, "how": "tombstone"})], True),
        ([("met", {"service": "protools_saga", "id": A, "how": "handled"})], False),
    ],
)
def test_a_cancel_that_was_handled_is_refused_or_has_its_effect(facts: list[Told], has_effect: bool) -> None:
    """Else its caller was told `202` for nothing."""
    assert (("stuck/cancellation", A) not in told(ACCEPTED, CANCEL, HANDLED, *facts)) == has_effect


def test_a_command_that_was_answered_was_handled() -> None:
    """Where the inbox forgets too early, the same command would be carried out twice."""
    answer = {"service": "generador", "aggregate": "ada", "version": 1, "id": C, "type": "x", "answers": B, "at": OLD}
    facts: list[Told] = [ACCEPTED, ("log", LOG), ("issued", ISSUED), ("event", answer)]
    assert ("lost/handled-command", B) in told(*facts)
    assert ("lost/handled-command", B) not in told(*facts, ("met", {"service": "generador", "id": B, "how": "dead"}))
    assert ("lost/handled-command", B) in told(*facts, ("met", {"service": "correo", "id": B, "how": "handled"}))
    assert ("lost/handled-command", B) not in told(*facts, known_id=C)


def test_nobody_needs_the_answer_to_a_command_that_was_undone() -> None:
    """A service may drop what it had in hand when that is undone."""
    facts: list[Told] = [ACCEPTED, ("log", LOG), ("met", {"service": "generador", "id": B, "how": "handled"})]
    assert ("lost/answer", B) in told(*facts, ("issued", ISSUED))
    assert ("lost/answer", B) not in told(*facts, ("issued", {**ISSUED, "is_undone": 1}))


@pytest.mark.parametrize(("status", "check"), [("waiting", ""), ("sent", "lost/answer"), (None, "lost/mail")])
def test_a_command_is_answered_unless_its_service_has_it_in_hand(status: str | None, check: str) -> None:
    """A mail is answered when it has gone; one defect is told once, by the check that knows most of it."""
    facts: list[Told] = [ACCEPTED, ("log", LOG), ("issued", {**ISSUED, "receiver": "correo"})]
    facts += [("met", {"service": "correo", "id": B, "how": "handled"})]
    facts += [("mail", {"id": B, "saga_id": A, "status": status, "due_at": NOW})] if status else []
    facts += [("mail", {"id": C, "saga_id": A, "status": "waiting", "due_at": NOW})]  # of another command
    assert {name for name, _ in told(*facts) if name.startswith("lost/")} == ({check} if check else set())


def test_a_saga_that_asked_for_two_mails_has_two() -> None:
    """A workflow may write more than one letter; what it did not ask for is doubled."""
    asked: list[Told] = [("issued", {**ISSUED, "id": one, "name": "correo.send-password-mail"}) for one in (B, C)]
    mails: list[Told] = [("mail", {"id": one, "saga_id": A, "status": "sent"}) for one in (B, C)]
    assert ("doubled/mail", A) not in told(*asked, *mails)
    assert ("doubled/mail", A) in told(*asked[1:], *mails)


def test_a_workflow_that_asks_for_no_mail_is_complete_without_one() -> None:
    """What one workflow does is not expected of another."""
    ended: list[Told] = [ACCEPTED, ("log", {**LOG, "status": "COMPLETED"})]
    assert ("lost/mail-of-completed", A) not in told(*ended, ("issued", ISSUED))
    asked = ("issued", {**ISSUED, "receiver": "correo", "name": "correo.send-password-mail"})
    assert ("lost/mail-of-completed", A) in told(*ended, asked)


# --- what services declare

ITEM = Table("item", MetaData(), Column("id", String), Column("held_for", String))
ITEMS = FactTable("item", lambda floor: select(ITEM.c.id, ITEM.c.held_for).where(ITEM.c.id >= floor.id))
UNASKED = "SELECT id, :service || ', ' || :limit FROM item WHERE id NOT IN (SELECT id FROM issued)"


def declaring(*declared: Checks) -> Catalogue:
    """The catalogue of a system whose services declare these, one each."""
    services = [Service(f"s{number}", checks=checks) for number, checks in enumerate(declared)]
    return Catalogue(System("shop", services=services), Settings.read({}))


def test_what_a_service_declares_is_read_and_asked_beside_the_rest() -> None:
    """Its effects are its own: the framework knows none of them."""
    stock = Checks(
        facts=[ITEMS],
        derived="CREATE VIEW limited AS SELECT id FROM item WHERE held_for > :limit;",
        checks=[
            Check("orphaned", "item", "nobody asked for it", UNASKED),
            Check("stuck", "item", "too long", "SELECT id, '' FROM limited"),
        ],
        parameters=lambda _settings: {"limit": 7},
    )
    items: list[Told] = [("item", {"id": A, "held_for": 6}), ("item", {"id": B, "held_for": 8}), ("issued", ISSUED)]
    assert told(*items, catalogue=declaring(stock)) == {("orphaned/item", A), ("stuck/item", B)}


def test_every_service_gives_its_parameters_their_own_meaning() -> None:
    """Two services may call different things by one name."""
    limits = [
        Checks(
            checks=[Check("dead", name, "", "SELECT :limit, :service")],
            parameters=lambda _settings, limit=limit: {"limit": limit},
        )
        for name, limit in (("few", 1), ("many", 9))
    ]
    assert told(catalogue=declaring(*limits)) == {("dead/few", "1"), ("dead/many", "9")}


def test_read_models_are_read_first_and_the_coordinator_last() -> None:
    """So nothing that is read later can have appeared between two readings unexplained."""
    services = ["generador", "correo", "ordenes", "productos", "conductores", "usuarios"]
    read, write = ["bff", "protools_saga", *services], ["bff", *services, "protools_saga"]
    order = [(name, side) for side, names in (("read", read), ("write", write)) for name in names]
    assert list(CATALOGUE.databases()) == order
    assert [name for name, _ in declaring(Checks()).databases()] == ["shop", "s0", "s0", "shop"]


@pytest.mark.parametrize("name", ["item", "log", "judged", "accepted"])
def test_a_table_of_facts_that_is_there_already_is_refused_by_its_name(name: str) -> None:
    """Rows of two services in one table would be taken for each other's."""
    declared = Checks(facts=[ITEMS]), Checks(facts=[replace(ITEMS, name=name)])
    with pytest.raises(ValueError, match=f"^tables of facts that are declared twice: {name}$"):
        declaring(*declared)


def test_a_check_that_cannot_be_asked_is_named() -> None:
    """Its author must not have to search."""
    with pytest.raises(ValueError, match="^lost/item of s0 cannot be asked: no such table: itme$"):
        told(catalogue=declaring(Checks(checks=[Check("lost", "item", "", "SELECT id, '' FROM itme")])))
    with pytest.raises(ValueError, match="^what s0 has in hand cannot be asked: no such table: itme$"):
        told(catalogue=declaring(Checks(in_hand="SELECT id FROM itme")))


def test_values_are_written_into_a_view_as_sql_reads_them() -> None:
    """A view takes no parameters; what only looks like one is left alone."""
    written = written_out("a = :a, b = :b, ':' || ': ' || x", {"a": "it's", "b": 2.5})
    assert written == "a = 'it''s', b = 2.5, ':' || ': ' || x"


# --- the report


def test_the_table_names_a_few_and_counts_all() -> None:
    """A thousand defects of one kind must not hide one of another."""
    lost, late = (next(check for check in CHECKS if check.kind == kind) for kind in ("lost", "late"))
    report = Report([Finding(lost, [(str(n), f"d{n}") for n in range(5)]), Finding(late, [("7", "late")])], 100, 2.0)
    assert report.defects == 5
    head, *shown, late_head, _, foot = report.lines()
    assert re.fullmatch(rf"lost +{lost.name} +5  {re.escape(lost.says)}", head)
    assert [line.split() for line in shown] == [["0", "d0"], ["1", "d1"], ["2", "d2"]]
    assert late_head.endswith(f"{late.says} (no defect)")
    assert foot == "5 defects; 100 sagas in 2.0 s, 50 sagas/s"
    assert list(Report([], 3, 0.0).lines()) == ["nothing lost, doubled or stuck; 3 sagas in 0.0 s, 0 sagas/s"]
    for number, said in ((1, "1 defect;"), (2, "2 defects;")):
        found = Finding(lost, [(str(n), "d") for n in range(number)])
        assert list(Report([found], 1, 1.0).lines())[-1].startswith(said)


def test_the_document_holds_everything() -> None:
    """Scripts read it; its names are a promise."""
    lost = CHECKS[0]
    assert Report([Finding(lost, [("0", "d")])], 100, 2.34567).document() == {
        "sagas": 100,
        "seconds": 2.346,
        "sagasPerSecond": 42.6,
        "defects": 1,
        "findings": [
            {
                "class": lost.kind,
                "check": lost.name,
                "says": lost.says,
                "isDefect": True,
                "count": 1,
                "ids": [{"id": "0", "detail": "d"}],
            }
        ],
    }
