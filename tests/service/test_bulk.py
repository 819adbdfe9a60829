"""Act on dead letters by the hundred, as operators type it: what is refused takes no neighbour along."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from tests.service.desk import deliver
from tests.service.passwords import SYSTEM
from tests.service.stage import BOTH, settings_on
from tests.service.test_operators import ADA, BOB, Company, hire, settings_in, unreadable

from generador.messages import GeneratePassword
from generador.tables import password
from pulsaga.delivery.tables import audit, dead_letter, dead_letter_archive, incident, pack_delivery, unpack_delivery
from pulsaga.errors import DomainError, SchemaIncompatible, Stale, Unavailable
from pulsaga.operate import letters, replaying
from pulsaga.operate.acting import Runtimes
from pulsaga.operate.bulk import Tally, one_by_one
from pulsaga.operate.choosing import GivenUp, Where, grouped
from pulsaga.operate.retention import SHORTEST_S, archive_dealt_with
from pulsaga_program.cli import commands
from pulsaga_program.commands import bulk as bulk_commands
from pulsaga_program.commands import letters as letter_commands

GENERATE = "generador.generate-password"


@pytest.fixture
def company(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Company]:
    """On SQLite; on both where a test says so: each PostgreSQL takes a second."""
    company = hire(settings_on(request, tmp_path) if hasattr(request, "param") else settings_in(tmp_path), set())
    yield company
    for desk in company.desks.values():
        desk.runtime.write.dispose()


def bury(company: Company, number: int) -> list[str]:
    """Let so many commands die of one fault; return their ids."""
    company.broken.add(GeneratePassword)
    died = [deliver(GeneratePassword(f"user{n}")) for n in range(number)]
    company["generador"].worker.settle(died)
    company["generador"].retry_until_buried()
    company.mend()
    return [delivery.wire.key for delivery in died]


def outcomes(company: Company) -> list[str | None]:
    return sorted((row["outcome"] for row in company["generador"].rows(dead_letter)), key=str)


Type = Callable[..., Result]


@pytest.fixture
def protools(company: Company, monkeypatch: pytest.MonkeyPatch) -> Type:
    """The command line on the company's data, in this process."""

    def run(*arguments: str, approvals: int = 1) -> Result:
        @contextmanager
        def the_runtimes() -> Iterator[Runtimes]:
            yield company.needing(approvals)

        monkeypatch.setattr(letter_commands, "the_runtimes", the_runtimes)
        with capture_logs():  # `the_runtimes` keeps them from what is printed
            return CliRunner().invoke(commands, ["dead-letters", *arguments])

    return run


WHY = ("--why", "the disk has room", "--as", "ada")


def test_all_of_one_group_are_replayed_by_one_command_each_with_its_audit(company: Company, protools: Type) -> None:
    """Five hundred letters of one fault were five hundred commands."""
    died = bury(company, 30)
    other = unreadable(company)
    listed = json.loads(protools("list", "--json").stdout)
    assert [(group["count"], group["code"]) for group in listed] == [(30, "RuntimeError"), (1, "Undecodable")]
    done = protools("replay", "--where", f"group={listed[0]['group']}", *WHY)
    assert (done.exit_code, done.stdout) == (0, "replay: 30 of 30 done\n")
    company["generador"].retry_until_buried()
    assert company["generador"].count(password) == 30
    audited = {(row["subject"], row["action"], row["who"]) for row in company["generador"].rows(audit)}
    assert audited == {(identifier, "replay", "ada") for identifier in died}
    assert [letter.id for letter in _open(company)] == [other]


@pytest.mark.parametrize("company", BOTH, indirect=True)
def test_one_that_is_refused_is_named_and_takes_no_neighbour_along(company: Company, protools: Type) -> None:
    """What can be mended is mended, and the rest stays where an operator finds it; a script reads exit code 1."""
    bury(company, 2)
    broken = unreadable(company)
    done = protools("replay", "--where", f"topic={GENERATE}", *WHY)
    assert (done.exit_code, done.stdout) == (1, "replay: 2 of 3 done, 1 refused\n")
    assert done.stderr.startswith(f"refused: {broken} in generador: unreadable: ")
    assert outcomes(company) == [None, "replayed", "replayed"]


@pytest.mark.parametrize("how", ["expiry", "damaged", "schema"])
def test_an_odd_one_takes_no_neighbour_along(company: Company, protools: Type, how: str) -> None:
    """One letter that raises anything at all would hold up those behind it for ever."""
    odd = bury(company, 3)[0]
    with company["generador"].runtime.write.begin() as tx:
        this = dead_letter.c.id == odd
        delivery = unpack_delivery(tx.execute(select(dead_letter.c.delivery).where(this)).scalar_one())
        properties = {**delivery.wire.properties, "ce_expirytime": "tomorrow"}
        kept = {
            "expiry": pack_delivery(delivery._replace(wire=delivery.wire._replace(properties=properties))),
            "damaged": b"\x93junk",
            "schema": pack_delivery(delivery._replace(schema="99")),
        }
        tx.execute(update(dead_letter).where(this).values(delivery=kept[how]))
    deed = ("edit", "--set", "username=eve") if how == "schema" else ("replay",)
    done = protools(*deed, "--all", *WHY)
    assert (done.exit_code, done.stdout) == (1, f"{deed[0]}: 2 of 3 done, 1 refused\n")
    assert done.stderr.startswith(f"refused: {odd} in generador: ")


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(company: Company, protools: Type) -> None:
    """Whoever chose too much must see it before, not after."""
    (identifier,) = bury(company, 1)
    for which in (("--all",), (identifier,)):
        done = protools("discard", *which, "--dry-run", *WHY)
        assert (done.exit_code, "would discard 1 ×" in done.stdout) == (0, True)
    assert outcomes(company) == [None]
    assert company["generador"].count(audit) == 0


@pytest.mark.parametrize("which", [(), ("x", "--all"), ("--where", "color=red"), ("--where", "since=soon")])
def test_it_must_be_said_which(company: Company, protools: Type, which: tuple[str, ...]) -> None:
    """A forgotten condition must not mean all of them."""
    bury(company, 1)
    assert protools("discard", *which, *WHY).exit_code == 2
    assert outcomes(company) == [None]


def test_all_are_edited_by_one_command(company: Company, protools: Type) -> None:
    """One wrong field in a hundred messages is one mistake of their sender."""
    bury(company, 2)
    assert protools("edit", "--where", "code=RuntimeError", "--set", "username=eve", *WHY).exit_code == 0
    shown = [json.loads(protools("show", letter.id, "--json").stdout) for letter in _open(company)]
    assert [one["body"]["username"] for one in shown] == ["eve", "eve"]


def _open(company: Company) -> Sequence[letters.Letter]:
    return letters.letters(company.runtimes, SYSTEM.names)


# --- two operators


@pytest.mark.parametrize("company", BOTH, indirect=True)
def test_a_group_is_agreed_upon_as_it_was_and_what_joined_since_waits(company: Company, protools: Type) -> None:
    """The second operator agrees to what the first one has seen, not to what died meanwhile."""
    bury(company, 3)
    first = protools("replay", "--all", *WHY, approvals=2)
    assert (first.exit_code, outcomes(company)) == (3, [None] * 3)
    assert "recorded: 3" in first.stdout
    again = protools("replay", "--all", *WHY, approvals=2)
    assert (again.exit_code, outcomes(company)) == (3, [None] * 3)
    bury(company, 1)
    second = protools("replay", "--all", "--why", "so it is", "--as", "bob", approvals=2)
    assert (second.exit_code, outcomes(company)) == (3, [None] + ["replayed"] * 3)
    assert second.stdout.startswith("replay: 3 of 4 done\nnot done yet, recorded: 1,")


def test_a_wish_about_one_death_does_not_count_for_the_next_one(company: Company) -> None:
    """Whoever agreed knew one error; what it dies of next they have not seen."""
    (identifier,) = bury(company, 1)
    two = company.needing(2)
    edited = {"username": "eve"}
    assert not replaying.discard(two, identifier, None, ADA)
    assert not replaying.edit(two, identifier, None, ADA, edited, whole=True)
    assert replaying.replay(company.runtimes, identifier, None, BOB)
    company.broken.add(GeneratePassword)
    company["generador"].retry_until_buried()
    assert not replaying.replay(two, identifier, None, ADA)
    assert not replaying.discard(two, identifier, None, BOB)
    assert not replaying.edit(two, identifier, None, BOB, edited, whole=True)
    assert replaying.discard(two, identifier, None, ADA)


def test_a_letter_that_was_edited_since_is_not_covered(company: Company, protools: Type) -> None:
    """What was agreed upon is another message."""
    identifiers = bury(company, 2)
    protools("replay", "--all", *WHY, approvals=2)
    assert replaying.edit(company.runtimes, identifiers[0], None, ADA, {"username": "eve"}, whole=True)
    done = protools("replay", "--all", "--why", "so it is", "--as", "bob", approvals=2)
    assert (done.exit_code, outcomes(company)) == (3, [None, "replayed"])


# --- stopping


def test_what_was_stopped_goes_on_by_the_same_command(company: Company) -> None:
    """Ctrl-C at the wrong fault must not cost what was done, nor do it twice."""
    bury(company, 5)

    def run(most: int) -> Tally:
        chosen = [letter.given_up for letter in _open(company)]
        left = iter(range(most))
        *_, tally = one_by_one(
            chosen,
            lambda one: replaying.replay(company.runtimes, one.id, one.service, ADA),
            lambda: next(left, None) is None,
        )
        return tally

    assert (run(2).done, outcomes(company)) == (2, [None] * 3 + ["replayed"] * 2)
    assert (run(99).done, outcomes(company)) == (3, ["replayed"] * 5)


def test_ctrl_c_says_where_it_stood(company: Company, protools: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in hand is ended, and exit code 130 is told from a refusal."""
    bury(company, 3)
    interrupt = replaying.replay

    def replay(*arguments: Any) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return interrupt(*arguments)

    monkeypatch.setattr(replaying, "replay", replay)
    done = protools("replay", "--all", *WHY)
    assert (done.exit_code, outcomes(company)) == (130, [None, None, "replayed"])
    assert done.stderr == "stopped at 1 of 3: the same command goes on from there\n"


def test_a_database_that_goes_away_is_told_with_where_it_stood(
    company: Company, protools: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is done; nobody has to guess how much that was."""
    bury(company, 2)
    done: list[str] = []

    def replay(_runtimes: Runtimes, identifier: str, *_: Any) -> bool:
        if done:
            raise Unavailable("the database is away")
        done.append(identifier)
        return True

    monkeypatch.setattr(replaying, "replay", replay)
    ended = protools("replay", "--all", *WHY)
    assert isinstance(ended.exception, Unavailable)
    assert ended.stderr == "broke off at 1 of 2: the same command goes on from there\n"


def test_a_second_ctrl_c_ends_the_program() -> None:
    """The database may be what hangs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it runs behind
    try:
        with bulk_commands.stoppable() as is_stopped:
            os.kill(os.getpid(), signal.SIGINT)
            assert is_stopped()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


# --- the archive


@pytest.mark.parametrize("company", BOTH, indirect=True)
def test_what_is_discarded_lies_in_the_archive_and_is_still_shown(company: Company, protools: Type) -> None:
    """The table that operators look at holds what is theirs to look at; history stays."""
    bury(company, 2)
    done = protools("discard", "--all", *WHY)
    assert (done.exit_code, done.stdout) == (0, "discard: 2 of 2 done\n")
    assert (company["generador"].count(dead_letter), company["generador"].count(dead_letter_archive)) == (0, 2)
    (first, _) = company["generador"].rows(dead_letter_archive)
    assert "outcome: discarded" in protools("show", first["id"]).stdout
    assert protools("list").stdout == "0 dead letters\n"
    assert protools("list", "--all").stdout.endswith("2 dead letters\n")
    assert protools("replay", first["id"], *WHY).exception.code == "discarded"
    assert all(row["closed_at"] for row in company["generador"].rows(incident))


def test_a_message_whose_letter_was_discarded_is_no_news_when_it_comes_again(company: Company, protools: Type) -> None:
    """A broker delivers again what nobody can read; an operator has said what is to become of it."""
    poison = deliver(GeneratePassword("ada"))
    poison = poison._replace(wire=poison.wire._replace(body=b"\xff\xff\xff"))
    for _ in range(2):
        company["generador"].worker.settle([poison])
        company["generador"].retry_until_buried()
        protools("discard", "--all", *WHY)
    assert (company["generador"].count(dead_letter), company["generador"].count(dead_letter_archive)) == (0, 1)


@pytest.mark.parametrize("company", BOTH, indirect=True)
def test_retention_archives_the_letters_that_were_dealt_with_long_ago(company: Company) -> None:
    """Replayed ones leave the table, too, and are found; what is open stays, however old."""
    identifiers = bury(company, 2)
    assert replaying.replay(company.runtimes, identifiers[0], None, ADA)
    assert archive_dealt_with(SYSTEM, company.settings, SHORTEST_S) == 0
    later = replace(company.settings, clock_offset=SHORTEST_S + 1)
    assert archive_dealt_with(SYSTEM, later, SHORTEST_S) == 1
    assert [row["id"] for row in company["generador"].rows(dead_letter)] == [identifiers[1]]
    assert letters.find(company.runtimes, identifiers[0]).row["outcome"] == "replayed"
    with pytest.raises(DomainError, match="replayed"):
        replaying.discard(company.runtimes, identifiers[0], None, BOB)


# --- choosing


def test_a_group_is_what_died_of_the_same_and_its_id_stays() -> None:
    """Numbers differ from message to message; what a server answers does not."""
    one, other = (GivenUp("s", str(n), "t", f"RuntimeError: row {n}7 is gone (x.py:{n})", n) for n in (1, 2))
    assert (one.reason, one.code, one.group) == ("RuntimeError: row … is gone", "RuntimeError", other.group)
    answers = [GivenUp("s", "x", "host:443", f"answered {status}", 0.0) for status in (404, 500, 500)]
    assert [len(group) for group in grouped(answers).values()] == [2, 1]


@pytest.mark.parametrize("form", ["HTTP {}: no", "said status={}", "({}, b'no')", "answered {}."])
def test_a_status_stands_in_its_group_however_it_is_written(form: str) -> None:
    """What is gone for good and what is too busy are no one reason: who replays one does not mean the other."""
    one, other = (GivenUp("s", "x", "host:443", f"E: {form.format(status)}", 0.0) for status in (450, 550))
    assert one.group != other.group
    assert GivenUp("s", "x", "t", "E: row=27, no", 0.0).reason == "E: … no"


def test_conditions_of_one_name_are_choices_and_of_several_names_all_hold() -> None:
    """As people say it: of this topic or that one, and since then."""
    one = GivenUp("stock", "1", "a", "E: x", 100.0, {"topic": "a"})
    names = ("topic", "service")
    assert Where.read(["topic=a", "topic=b", "service=stock"], names).holds(one)
    assert not Where.read(["topic=a", "service=shop"], names).holds(one)
    assert not Where.read(["since=1970-01-01T00:02:00Z"], names).holds(one)
    assert Where.read(["since=1970-01-01T00:01:00Z"], names).holds(one)


def test_a_letter_that_is_gone_meanwhile_is_refused_by_itself() -> None:
    """Somebody else works on the same group."""

    def act(one: GivenUp) -> bool:
        raise click.UsageError("there is no dead letter")

    *_, tally = one_by_one([GivenUp("s", "1", "t", "E: x", 0.0)], act, lambda: False)
    assert [why for _, why in tally.refused] == ["there is no dead letter"]


LOCKED = OperationalError("SELECT", {}, psycopg.errors.LockNotAvailable("could not obtain lock"))


@pytest.mark.parametrize("error", [LOCKED, SchemaIncompatible("field x"), Stale("changed"), RuntimeError("what?")])
def test_what_is_nobodys_being_down_is_one_refusal(error: Exception) -> None:
    """The next one may succeed, and this one again later."""

    def act(one: GivenUp) -> bool:
        if one.id == "1":
            raise error
        return True

    *_, tally = one_by_one([GivenUp("s", n, "t", "E: x", 0.0) for n in "12"], act, lambda: False)
    assert (tally.done, len(tally.refused)) == (1, 1)
