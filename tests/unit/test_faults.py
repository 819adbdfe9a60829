"""Hold what rules of faults say and when they fire: a test that hurts must know whether it did."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pulsaga import faults
from pulsaga.errors import SettingError
from pulsaga.faults import FaultRuleError, InjectedFault, RuleBook, check_rule, parse_rule, parse_rules
from pulsaga.settings import Settings
from pulsaga_program.cli import commands, plain_errors
from pulsaga_program.preflight import check_values
from system import SYSTEM

ADA, BOB = {"subject": "ada"}, {"subject": "bob"}


@pytest.fixture
def book(tmp_path: Path) -> RuleBook:
    return RuleBook(tmp_path / "faults.sqlite")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuleBook:
    """Rules that happen in this process until the test ends."""
    monkeypatch.setattr(faults, "_installed", None)
    file = tmp_path / "faults.sqlite"
    faults.install("generador", file)
    return RuleBook(file)


def fires(book: RuleBook, *passes: dict[str, str]) -> list[bool]:
    return [bool(book.count("generador.handled", [facts])) for facts in passes]


def test_a_rule_reads_as_it_is_written() -> None:
    """What an operator types at night must mean what it says."""
    rule = parse_rule("generador.handled action=sleep=2.5 match=subject=ada nth=3 times=2")
    assert (rule.action, rule.seconds, rule.match, rule.nth, rule.times) == ("sleep", 2.5, ("subject", "ada"), 3, 2)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("generador.nowhere action=crash", "generador.nowhere is no seam"),
        ("generador.handled", "names no action"),
        ("generador.handled action=explode", "action=explode"),
        ("generador.handled action=sleep=long", "'long' is not a number"),
        ("generador.handled action=drop", "nothing can be dropped"),
        ("generador.handled action=crash nth=0", "nth=0"),
        ("generador.handled action=crash when=now", "'when=now'"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_by_its_word(text: str, named: str) -> None:
    """A misspelt rule that silently never fires would prove whatever one likes."""
    with pytest.raises(FaultRuleError, match=named):
        check_rule(text, SYSTEM.seams)


def test_a_rule_fires_from_its_nth_matching_pass_as_often_as_it_says(book: RuleBook) -> None:
    """Crash points are enumerated by the number of their pass."""
    book.add("generador.handled action=raise match=subject=ada nth=2 times=2")
    assert fires(book, ADA, BOB, ADA, ADA, ADA) == [False, False, True, True, False]
    (told,) = book.rules()
    assert (told.passes, told.fired) == (4, 2)
    assert book.passes() == {"generador.handled": 5}


def test_a_rule_without_a_match_takes_any_pass(book: RuleBook) -> None:
    """Some seams have no message in hand."""
    book.add("generador.handled action=raise")
    assert fires(book, BOB, ADA) == [True, False]


def test_the_same_rule_twice_is_refused(book: RuleBook) -> None:
    """Its counts would be of two rules, and of neither."""
    book.add("generador.handled action=raise")
    with pytest.raises(FaultRuleError, match="there already"):
        book.add("generador.handled action=raise")


def test_nothing_happens_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without PROTOOLS_FAULTS has no faults but its own."""
    monkeypatch.setattr(faults, "_installed", None)
    assert faults.reach("handled") is False


def test_what_a_rule_says_happens(installed: RuleBook) -> None:
    """To raise and to drop are seen here, to crash in the crash matrix."""
    installed.add("generador.handled action=raise")
    installed.add("generador.publishing action=drop")
    with pytest.raises(InjectedFault, match=r"generador\.handled"):
        faults.reach("handled")
    assert faults.reach("publishing") is True
    assert faults.reach("publishing") is False


def test_the_setting_allows_faults_with_or_without_rules() -> None:
    """`on` lets an operator add rules later."""
    assert parse_rules("on") == ()
    assert parse_rules("generador.handled action=crash; correo.sent action=raise") == (
        "generador.handled action=crash",
        "correo.sent action=raise",
    )
    assert Settings.read({}).faults is None
    with pytest.raises(SettingError, match="PROTOOLS_FAULTS"):
        check_values(SYSTEM, Settings.read({"PROTOOLS_FAULTS": "x action=crash"}))


def protools(home: Path, *arguments: str) -> Result:
    with plain_errors():
        return CliRunner().invoke(commands, arguments, env={"PROTOOLS_HOME": str(home)}, catch_exceptions=False)


def test_a_system_that_does_not_allow_faults_refuses_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody makes production crash by a command typed into the wrong terminal."""
    with pytest.raises(SystemExit) as ended:
        protools(tmp_path, "faults", "add", "generador.handled action=crash")
    assert ended.value.code == 1
    assert "does not allow faults" in capsys.readouterr().err


def test_rules_are_added_listed_and_cleared_by_command(tmp_path: Path) -> None:
    """Whoever hurts a system by hand sees whether it was hurt."""
    RuleBook(tmp_path / "faults.sqlite")
    assert protools(tmp_path, "faults", "add", "generador.handled action=crash").exit_code == 0
    assert "1  0  0  generador.handled action=crash" in protools(tmp_path, "faults", "list").output
    protools(tmp_path, "faults", "clear")
    assert protools(tmp_path, "faults", "list").output == "0 rules\n"
    assert all(seam in protools(tmp_path, "faults", "seams").output for seam in SYSTEM.seams)


def test_faults_are_refused_on_anything_but_loopback() -> None:
    """A front door on the open internet must not be told to crash."""
    with pytest.raises(SettingError, match="loopback only"):
        check_values(SYSTEM, Settings.read({"PROTOOLS_FAULTS": "on", "BIND_HOST": "0.0.0.0"}))
