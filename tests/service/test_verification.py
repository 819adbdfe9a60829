"""Verify passwords over the HTTP between front door and vault: yes or no, and only so many wrong guesses."""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from tests.patience import PATIENCE_S
from tests.service.desk import Desk, make_desk
from tests.service.rooms import Room, eventually, keep_password, room
from tests.service.stage import BOTH, POSTGRESQL, Gate, counted, pass_time, settings_on
from tests.service.web import serving

from bff.vault import VERIFICATIONS
from generador import verification
from generador.domain import destroyed, shown
from generador.tables import guess_budget, password
from pulsaga.delivery.database import now, open_database
from pulsaga.delivery.transaction.rows import Row
from pulsaga.settings import Settings
from pulsaga.web.access import guesses
from pulsaga.web.access.limits import Rate
from pulsaga.web.access.tokens import issue, service_token
from pulsaga_program.databases import prepare_databases
from system import SYSTEM

ROUTE = f"generador POST {VERIFICATIONS}"
RIGHT = "a-password-that-was-drawn"
SECRET = "correct horse battery staple, 32 bytes and more"


@pytest.fixture
def bff(tmp_path: Path, generador: Room) -> Iterator[Room]:
    with serving(generador.app) as web:
        made = room("bff", tmp_path, GENERADOR_URL=web.url)
        yield made
        made.close()


@pytest.fixture
def ada(generador: Room) -> None:
    keep_password(generador, "ada", RIGHT, "token")


def change(generador: Room, values: Row) -> None:
    """Change ada's row."""
    with generador.runtime.write.begin() as tx:
        tx.execute(password.update().values(values))


def ask(bff: Room, username: str, given: str, address: str = "127.0.0.1") -> Any:
    """Ask whether it is the password."""
    body = {"username": username, "password": given}
    return bff.http.post("/verifications", json=body, environ_base={"REMOTE_ADDR": address})


@pytest.mark.usefixtures("ada")
def test_a_valid_password_is_known_before_and_after_it_was_shown(bff: Room, generador: Room) -> None:
    """The plain text is destroyed when it is shown; from then on it is its user who has it."""
    assert ask(bff, "ada", RIGHT).status_code == 204
    change(generador, shown("revealed", 1.0))
    answer = ask(bff, "ada", RIGHT)
    assert (answer.status_code, answer.data, answer.headers["Cache-Control"]) == (204, b"", "no-store")


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("username", ["ada", "nobody-there"])
def test_a_wrong_password_and_an_unknown_user_are_told_alike(bff: Room, username: str) -> None:
    """Else whoever asks learns who has an account."""
    answer = ask(bff, username, "wrong")
    assert (answer.status_code, answer.json["code"]) == (401, "wrong-password")
    assert answer.json == ask(bff, "another", "wrong").json
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("username", ["ada", "nobody-there"])
def test_the_same_work_is_done_whoever_is_named(
    generador: Room, username: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time tells, too: one hash and one comparison of 32 bytes, always."""
    compared: list[tuple[int, int]] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append((len(known), len(given)))
        return hmac.compare_digest(known, given)

    class Watched:
        compare_digest = staticmethod(compare)
        digest = staticmethod(hmac.digest)

    monkeypatch.setattr(verification, "hmac", Watched)
    assert not verification.verify(generador.runtime, username, "wrong", "a", "shop")
    assert compared == [(32, 32)]


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("status", ["revoked", "expired", "superseded"])
def test_a_password_that_is_not_valid_any_more_is_wrong(bff: Room, generador: Room, status: str) -> None:
    """Revoked is revoked, even for who remembers it."""
    change(generador, destroyed(status, 1.0))
    assert ask(bff, "ada", RIGHT).status_code == 401


@pytest.mark.usefixtures("ada")
def test_it_is_spoken_in_xml_as_well(bff: Room) -> None:
    """Both faces, here too."""
    body = f"<verification><username>ada</username><password>{RIGHT}</password></verification>"
    answer = bff.http.post("/verifications", data=body, headers={"Content-Type": "application/xml"})
    assert answer.status_code == 204


@pytest.mark.parametrize("body", [{}, {"username": "ada"}, {"username": "", "password": "x"}, {"password": 1}, []])
def test_what_cannot_be_a_password_of_anybody_is_not_asked(bff: Room, body: object) -> None:
    """422, and nothing is counted."""
    assert bff.http.post("/verifications", json=body).status_code == 422


# --- only so many wrong guesses

HOME = ("10.0.0.1", "shop")
"""The source of whoever has the password: an address, and who asks there."""
STRANGERS: dict[str, Callable[[int], tuple[str, str]]] = {
    "one stranger": lambda _: ("10.6.6.6", "eve"),
    "another caller at the same address": lambda _: (HOME[0], "eve"),
    "the same caller at another address": lambda _: ("10.6.6.6", HOME[1]),
    "a stranger at a new address each time": lambda n: (f"10.6.{n // 256}.{n % 256}", "eve"),
}
stranger = pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
Source = tuple[str, str]


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "front-door.md"
ROW = re.compile(r"^\| of one [^|]+\| ([\d,]+) \| (\d+) a second[^|]*\|", re.MULTILINE)


def test_the_guide_tells_the_bounds_in_force() -> None:
    """Whoever signs this off reads them there."""
    told = [(int(burst.replace(",", "")), int(rate)) for burst, rate in ROW.findall(GUIDE.read_text())]
    rates = (guesses.OF_SOURCE, guesses.OF_USER, guesses.OF_ALL_USERS)
    assert told == [(rate.burst, 1 / rate.interval_s) for rate in rates]
    assert f"for {guesses.KNOWN_S / 86400:.0f} days (the latest {guesses.KNOWN_SOURCES} are)" in GUIDE.read_text()


@pytest.fixture(params=BOTH)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A vault that holds ada's password."""
    desk = make_desk(settings_on(request, tmp_path), "generador")
    keep_password(desk, "ada", RIGHT, "token")
    yield desk
    desk.runtime.write.dispose()


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a source guess so seldom that a machine that is held up makes no difference."""
    monkeypatch.setattr(guesses, "OF_SOURCE", Rate(3600.0, 10))


def tried(desk: Desk, given: str, source: Source, username: str = "ada") -> bool | None:
    """Try a password; None when it was not looked at."""
    try:
        return verification.verify(desk.runtime, username, given, *source) is not None
    except guesses.TooManyAttempts:
        return None


@stranger
def test_strangers_guesses_do_not_hold_up_who_was_right_before(vault: Desk, stranger: Callable[[int], Source]) -> None:
    """A lock by name is a weapon: two wrong guesses a second would keep any user out for as long as they last."""
    answers = [tried(vault, RIGHT, HOME)]
    for number in range(60):
        for _ in range(2):
            tried(vault, "wrong", stranger(number))
            pass_time(vault, 0.5)
        answers.append(tried(vault, RIGHT, HOME))
    assert answers == [True] * 61


@stranger
def test_strangers_guesses_do_not_hold_up_who_was_never_here(vault: Desk, stranger: Callable[[int], Source]) -> None:
    """The first log-in, or one from elsewhere: whoever guesses has used up what is its own before what all share."""
    for number in range(60):
        tried(vault, "wrong", stranger(number))
        pass_time(vault, 0.5)
    assert tried(vault, RIGHT, HOME) is True


def test_who_comes_first_while_very_many_guess_is_let_in_after_some_tries(vault: Desk) -> None:
    """A bound that strangers share can be used up by many of them; even then it is no lock."""
    for number in range(500):
        tried(vault, "wrong", (f"10.6.{number // 256}.{number % 256}", "eve"))

    def rush(again: int) -> bool | None:
        for number in range(5):
            tried(vault, "wrong", (f"10.7.{again % 256}.{number}", "eve"))
            pass_time(vault, 0.01)
        return tried(vault, RIGHT, HOME)

    assert any(rush(again) for again in range(300))


def test_one_source_guesses_at_the_rate_of_a_source(vault: Desk) -> None:
    """Ten at once, then at most one a second, whatever is sent before it is due."""
    began = vault_now(vault)
    looked_at = 0
    for _ in range(200):
        looked_at += tried(vault, "wrong", ("10.6.6.6", "eve")) is False
        pass_time(vault, 0.1)
    assert 10 + 5 <= looked_at <= 10 + (vault_now(vault) - began)


def test_all_strangers_together_guess_at_the_rate_of_a_user(vault: Desk) -> None:
    """NIST SP 800-63B §5.2.2: many addresses guess no faster than the account's bound; who is known is not in it."""
    assert tried(vault, RIGHT, HOME) is True
    began = vault_now(vault)
    looked_at = sum(tried(vault, "wrong", (f"10.6.{n // 256}.{n % 256}", f"caller {n}")) is False for n in range(400))
    assert 100 <= looked_at <= 100 + 10 * (vault_now(vault) - began) + 1
    assert tried(vault, RIGHT, HOME) is True
    assert tried(vault, "wrong", ("10.9.9.9", "eve"), "bob") is False


def test_one_source_guesses_at_all_users_at_a_bounded_rate(vault: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tries one password with every name would never fail twice with the same. A known source is not held up."""
    monkeypatch.setattr(guesses, "OF_ALL_USERS", Rate(1.0, 20))
    assert tried(vault, RIGHT, HOME) is True
    told = [tried(vault, "wrong", HOME, f"u{number}") for number in range(40)]
    assert 20 <= told.count(False) < 40
    assert tried(vault, RIGHT, HOME) is True
    assert tried(vault, "wrong", ("10.9.9.9", "shop"), "another") is False


@pytest.mark.usefixtures("seldom")
def test_a_success_forgives_its_own_source_and_nobody_else(vault: Desk) -> None:
    """Else whoever logs in would give strangers new guesses."""
    for _ in range(9):
        tried(vault, "wrong", HOME)
        tried(vault, "wrong", ("10.6.6.6", "eve"))
    before = sorted(row["full_at"] for row in vault.rows(guess_budget))
    assert tried(vault, RIGHT, HOME) is True
    after = sorted(row["full_at"] for row in vault.rows(guess_budget))
    assert len(set(before) - set(after)) == 1
    assert [tried(vault, "wrong", HOME) for _ in range(9)] == [False] * 9


@pytest.mark.usefixtures("ada", "seldom")
@pytest.mark.parametrize("known", [False, True])
def test_unknown_users_cost_the_same_statements_and_rows(generador: Room, known: bool) -> None:
    """Also what is kept must not tell who has an account, nor whether anybody is known for one."""
    if known:
        assert verification.verify(generador.runtime, "ada", RIGHT, *HOME)
    bills = []
    for username in ("ada", "nobody-there"):
        before = len(generador.rows(guess_budget))
        with counted(generador.runtime.write) as bill:
            answers = [verification.verify(generador.runtime, username, "wrong", "10.6.6.6", "eve") for _ in range(10)]
            with pytest.raises(guesses.TooManyAttempts):
                verification.verify(generador.runtime, username, "wrong", "10.6.6.6", "eve")
        bills.append((answers, bill.statements, bill.commits, len(generador.rows(guess_budget)) - before))
    (ada, nobody) = bills
    assert ada[:3] == nobody[:3]
    assert (ada[3], nobody[3]) == (
        2 if known else 3,
        2,
    )  # one source has one row for all users, a known user's is there


@pytest.mark.usefixtures("ada", "seldom")
@pytest.mark.parametrize("username", ["ada", "nobody-there"])
def test_who_guesses_too_often_is_told_when_to_come_back(bff: Room, generador: Room, username: str) -> None:
    """429 with Retry-After, for unknown names as well; the right password is not looked at before, either."""
    statuses = [ask(bff, username, "wrong").status_code for _ in range(10)]
    early = ask(bff, username, RIGHT)
    assert statuses == [401] * 10
    assert (early.status_code, early.json["code"]) == (429, "too-many-attempts")
    assert 3600 - PATIENCE_S < int(early.headers["Retry-After"]) <= 7200
    pass_time(generador, 7200)
    assert ask(bff, username, RIGHT).status_code == (204 if username == "ada" else 401)


@pytest.mark.usefixtures("ada", "seldom")
def test_a_source_is_who_asks_and_where(generador: Room, tmp_path: Path) -> None:
    """Over HTTP: what a token proves and what the front door names of the address, an IPv6 network at the least."""
    with serving(generador.app) as web:
        door = room("bff", tmp_path, GENERADOR_URL=web.url, AUTH="", JWT_SECRET=SECRET)

        def status(given: str, address: str, caller: str) -> int:
            headers = {"Authorization": f"Bearer {issue(door.runtime.settings, caller, 'caller', 60)}"}
            place = {"REMOTE_ADDR": address}
            body = {"username": "ada", "password": given}
            return door.http.post("/verifications", json=body, headers=headers, environ_base=place).status_code

        assert [status("wrong", f"2001:db8::{n}", "eve") for n in range(11)] == [401] * 10 + [429]
        assert status(RIGHT, "2001:db8::1", "shop") == 204
        assert status(RIGHT, "2001:db8:0:1::1", "eve") == 204
        door.close()


@pytest.fixture(params=[POSTGRESQL])
def vaults(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Desk]]:
    """Two processes of the vault on one database that locks rows; the other kind of database locks whole."""
    settings = settings_on(request, tmp_path)
    desks = [make_desk(settings, "generador") for _ in range(2)]
    keep_password(desks[0], "ada", RIGHT, "token")
    yield desks
    for desk in desks:
        desk.runtime.write.dispose()


@contextmanager
def guessing(desk: Desk, source: Source, outcomes: list[bool | None]) -> Iterator[None]:
    """Hold a stranger's guess in the middle of its commit."""
    gate = Gate(desk)
    thread = threading.Thread(target=lambda: outcomes.append(tried(desk, "wrong", source)))
    thread.start()
    assert gate.reached.wait(PATIENCE_S)
    yield
    gate.open.set()
    thread.join(PATIENCE_S)


@pytest.mark.parametrize("guessed_before", [False, True])
def test_a_known_source_waits_for_no_guess_that_is_being_counted(vaults: list[Desk], guessed_before: bool) -> None:
    """Who guesses without a pause holds the rows that strangers share without a pause."""
    stranger, user = vaults
    assert tried(user, RIGHT, HOME) is True
    if guessed_before:
        tried(user, "wrong", ("10.6.6.6", "eve"))
    with guessing(stranger, ("10.6.6.6", "eve"), []):
        assert tried(user, RIGHT, HOME) is True


@pytest.mark.parametrize("source", [("10.6.6.6", "eve"), HOME])
def test_of_two_first_guesses_at_the_same_moment_both_are_looked_at_and_counted(
    vaults: list[Desk], source: Source
) -> None:
    """Guesses side by side must not be free, and a stranger's must not send anybody back."""
    first, second = vaults
    outcomes: list[bool | None] = []
    with guessing(first, HOME, outcomes):
        thread = threading.Thread(target=lambda: outcomes.append(tried(second, "wrong", source)))
        thread.start()
        eventually(lambda: waits_for_a_lock(second), PATIENCE_S)
    thread.join(PATIENCE_S)
    assert outcomes == [False, False]
    revisions = sorted(row["revision"] for row in first.rows(guess_budget))
    assert revisions == ([2, 2, 2] if source == HOME else [1, 1, 1, 1, 2])


def test_guesses_side_by_side_are_not_free(vaults: list[Desk]) -> None:
    """However many come at once, no more are looked at than one after the other would be."""
    outcomes: list[bool | None] = []

    def guess(desk: Desk) -> None:
        outcomes.extend(tried(desk, "wrong", ("10.6.6.6", "eve")) for _ in range(5))

    began = vault_now(vaults[0])
    threads = [threading.Thread(target=guess, args=(vaults[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert outcomes.count(True) == 0
    assert 10 <= outcomes.count(False) <= 10 + (vault_now(vaults[0]) - began) + 1


def test_attempts_side_by_side_never_wait_for_each_other(vaults: list[Desk]) -> None:
    """A deadlock is an error for one of two, a second later; whatever users and sources come in whatever order."""
    sources = [(f"10.6.6.{number}", "eve") for number in range(3)]
    forget = verification.GUESSES.forget(vaults[0].runtime)

    def attempt(number: int) -> None:
        for turn in range(12):
            username, source = ("ada", "bob")[(number + turn) % 2], sources[(number * turn) % 3]
            tried(vaults[number % 2], RIGHT if turn % 4 == 3 else "wrong", source, username)
            if number == 0:
                forget.work()

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert tried(vaults[0], RIGHT, HOME) is True


def waits_for_a_lock(desk: Desk) -> bool:
    """Tell whether anybody waits for a lock on this desk's server."""
    with desk.runtime.write.connect() as connection:
        return connection.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted")).first() is not None


def vault_now(desk: Desk) -> float:
    """Read the vault's clock, moved on as it is."""
    with desk.runtime.write.connect() as connection:
        return now(connection, desk.runtime.transactions.outbox.speaker.clock_offset)


def test_what_is_kept_names_nobody_and_is_forgotten(vault: Desk) -> None:
    """Wrong guesses for an hour, a source that was right for a month."""
    source = ("hedy's address", "hedy's shop")
    tried(vault, "wrong", source, "hedy")
    tried(vault, RIGHT, HOME)
    assert "hedy" not in repr(vault.rows(guess_budget))  # whose letters no hexadecimal has
    forget = verification.GUESSES.forget(vault.runtime)
    forget.work()
    assert len(vault.rows(guess_budget)) == 6
    pass_time(vault, guesses.FORGET_S + 3)
    forget.work()
    assert [row["full_at"] for row in vault.rows(guess_budget)] == [0.0]
    pass_time(vault, guesses.KNOWN_S)
    forget.work()
    assert vault.rows(guess_budget) == []


def test_what_a_wrong_clock_counted_locks_nobody_out(vault: Desk) -> None:
    """A clock that was a year ahead for a minute would have spent every budget for that year."""
    pass_time(vault, 365 * 86400)
    for _ in range(11):
        tried(vault, "wrong", HOME)
    pass_time(vault, -365 * 86400)
    assert tried(vault, "wrong", HOME) is False
    assert tried(vault, RIGHT, HOME) is True


def test_of_the_sources_of_a_user_the_latest_are_known(vault: Desk) -> None:
    """The table is bounded for whoever logs in from a new address each time; most log-ins write nothing."""
    sources = [(f"10.1.0.{number}", "shop") for number in range(guesses.KNOWN_SOURCES + 3)]
    for source in sources:
        assert tried(vault, RIGHT, source)
        pass_time(vault, 1)
    assert sum(row["known_until"] > 0 for row in vault.rows(guess_budget)) == guesses.KNOWN_SOURCES
    revisions = sum(row["revision"] for row in vault.rows(guess_budget))
    assert tried(vault, RIGHT, sources[-1])
    assert sum(row["revision"] for row in vault.rows(guess_budget)) == revisions
    pass_time(vault, guesses.RENEWED_S + 1)
    assert tried(vault, RIGHT, sources[-1])
    assert sum(row["revision"] for row in vault.rows(guess_budget)) == revisions + 1


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)


def test_a_vault_of_the_release_before_is_migrated(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passwords stay; what was counted by name and address goes, as it would have within the hour."""
    service, upgrade = SYSTEM["generador"], command.upgrade
    with monkeypatch.context() as before:
        before.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        prepare_databases(SYSTEM, settings, service)
    engine = open_database(settings, "generador", "write", "owner")
    with engine.begin() as tx:
        tx.execute(text("INSERT INTO failed_attempt VALUES ('an HMAC', 1, 7, 1700000000.5)"))
    engine.dispose()
    desk = make_desk(settings, "generador")
    keep_password(desk, "ada", RIGHT, "token")
    assert tried(desk, RIGHT, HOME) is True
    desk.runtime.write.dispose()


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("authorization", [None, "Bearer nonsense", f"Bearer {service_token(b'x' * 32, 'bff', ROUTE)}"])
def test_the_vault_answers_the_front_door_alone(generador: Room, authorization: str | None) -> None:
    """Past the front door nobody would be slowed down by its address."""
    headers = {"Authorization": authorization} if authorization else {}
    body = {"username": "ada", "password": RIGHT, "address": "x", "caller": "shop"}
    answer = generador.http.post("/internal/verifications", json=body, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
