"""Let a process die, stall, fail or forget at a named point of its own life: faults are part of the product.

A seam is a point at which dying matters, `<service>.<point>`. A rule names a seam and what happens there:

    stock.handled action=crash match=sku=tea nth=2 times=1

It fires from the `nth` matching pass on, `times` times, counted over all processes that share a home folder. Without
an installed file `reach` does nothing. The rules can only take away, never weaken a guard.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pulsaga.broker import Wire
from pulsaga.delivery.messages import AnyMessage, Message
from pulsaga.errors import ProtoolsError

Action = Literal["crash", "sleep", "raise", "drop"]
ACTIONS: tuple[Action, ...] = ("crash", "sleep", "raise", "drop")
FOREVER = 1_000_000_000

WORKER = {
    "received": "a batch has come, nothing is done yet",
    "handled": "inside the transaction, one message is handled, nothing is written",
    "acking": "the transaction is committed, the batch is not acknowledged (drop: it never is)",
    "acked": "the batch is acknowledged, its messages are not published",
}
RELAY = {
    "flushed": "everything is written, the transaction is not committed",
    "committed": "the transaction is committed, nothing is acknowledged or published",
    "publishing": "messages are about to be published (drop: they are not, and nobody says so)",
    "published": "the broker confirmed the messages, their outbox rows are still there",
    "clearing": "outbox rows of confirmed messages are about to be deleted",
    "sweeping": "the sweep has taken due outbox rows, they are not published",
}
PROJECTOR = {
    "projecting": "a batch of events has come, nothing is written",
    "projected": "the read model is committed, the batch is not acknowledged",
}


def seams_of(handles: bool, projects: bool) -> dict[str, str]:
    """Return the points that every service has, with what has happened and what has not when a process passes one."""
    return (WORKER if handles else {}) | RELAY | (PROJECTOR if projects else {})


class FaultRuleError(ProtoolsError, ValueError):
    """Say what is wrong with a rule."""


class InjectedFault(Exception):
    """Be the error that a rule raises: of no kind that anybody expects."""


@dataclass(frozen=True)
class Rule:
    """Hold one rule; `match` is a fact that a message at the seam must show, `seconds` belongs to sleep."""

    seam: str
    action: Action
    seconds: float = 0.0
    match: tuple[str, str] | None = None
    nth: int = 1
    times: int = 1

    def matches(self, facts: Iterable[Mapping[str, Any]]) -> bool:
        """Tell whether one of the messages shows the fact that the rule asks for."""
        if self.match is None:
            return True
        name, value = self.match
        return any(str(shown.get(name)) == value for shown in facts)


@dataclass(frozen=True)
class Told:
    """Tell of one rule how many matching passes there were and how often it fired."""

    number: int
    text: str
    passes: int
    fired: int


def parse_rule(text: str) -> Rule:
    """Read a rule; raise FaultRuleError naming the word that cannot be read."""
    seam, *words = text.split() or [""]
    values = dict(_word(word) for word in words)
    if "action" not in values:
        raise FaultRuleError(f"{text!r} names no action: action={'|'.join(ACTIONS)} is needed")
    action, seconds = _action(values["action"])
    match = values.get("match", "").partition("=") if "match" in values else None
    return Rule(
        seam=seam,
        action=action,
        seconds=seconds,
        match=(match[0], match[2]) if match else None,
        nth=_count("nth", values.get("nth", "1")),
        times=_count("times", values.get("times", "1")),
    )


def check_rule(text: str, seams: Mapping[str, str]) -> None:
    """Raise FaultRuleError for a rule that cannot be read, or that names no seam of a system."""
    rule = parse_rule(text)
    if rule.seam not in seams:
        raise FaultRuleError(f"{rule.seam} is no seam: `protools faults seams` lists them")
    if rule.action == "drop" and "(drop:" not in seams[rule.seam]:
        raise FaultRuleError(f"nothing can be dropped at {rule.seam}")


def parse_rules(text: str) -> tuple[str, ...]:
    """Read PROTOOLS_FAULTS: `on`, or rules separated by semicolons; return the texts, none for `on`."""
    texts = () if text.strip() == "on" else tuple(part.strip() for part in text.split(";") if part.strip())
    for one in texts:
        parse_rule(one)
    return texts


def _word(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    if name not in ("action", "match", "nth", "times") or not value:
        raise FaultRuleError(f"{word!r} is none of action=…, match=FACT=VALUE, nth=N, times=N or times=forever")
    return name, value


def _action(text: str) -> tuple[Action, float]:
    name, _, seconds = text.partition("=")
    action = next((known for known in ACTIONS if known == name), None)
    if action is None:
        raise FaultRuleError(f"action={text} is none of {', '.join(ACTIONS)}")
    try:
        return action, float(seconds or "0")
    except ValueError:
        raise FaultRuleError(f"action={text}: {seconds!r} is not a number of seconds") from None


def _count(name: str, text: str) -> int:
    if name == "times" and text == "forever":
        return FOREVER
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise FaultRuleError(f"{name}={text} is not a whole number from 1")
    return int(text)


class RuleBook:
    """Keep rules and counts in one SQLite file that all processes of a home folder share."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS seam (name TEXT PRIMARY KEY, passes INTEGER NOT NULL)")
            tx.execute(
                "CREATE TABLE IF NOT EXISTS rule (number INTEGER PRIMARY KEY, seam TEXT NOT NULL,"
                " text TEXT UNIQUE NOT NULL, passes INTEGER NOT NULL, fired INTEGER NOT NULL)"
            )

    def add(self, text: str) -> None:
        """Add a rule; raise FaultRuleError when it cannot be read or is there already."""
        rule = parse_rule(text)
        try:
            with self._open() as tx:
                tx.execute("INSERT INTO rule (seam, text, passes, fired) VALUES (?, ?, 0, 0)", (rule.seam, text))
        except sqlite3.IntegrityError:
            raise FaultRuleError(f"{text!r} is there already: `protools faults clear` removes all") from None

    def remove(self, text: str) -> None:
        """Forget one rule with its counts."""
        with self._open() as tx:
            tx.execute("DELETE FROM rule WHERE text = ?", (text,))

    def ensure(self, texts: Iterable[str]) -> None:
        """Add those rules that are not there yet."""
        with self._open() as tx:
            for text in texts:
                row = (parse_rule(text).seam, text)
                tx.execute("INSERT OR IGNORE INTO rule (seam, text, passes, fired) VALUES (?, ?, 0, 0)", row)

    def clear(self) -> None:
        """Forget all rules and counts."""
        with self._open() as tx:
            tx.execute("DELETE FROM rule")
            tx.execute("DELETE FROM seam")

    def rules(self) -> list[Told]:
        """Return every rule with its counts."""
        with self._open() as tx:
            return [Told(*row) for row in tx.execute("SELECT number, text, passes, fired FROM rule ORDER BY number")]

    def told(self, text: str) -> Told:
        """Return one rule with its counts."""
        return next(told for told in self.rules() if told.text == text)

    def passes(self) -> dict[str, int]:
        """Return how often each seam was passed."""
        with self._open() as tx:
            return dict(tx.execute("SELECT name, passes FROM seam ORDER BY name"))

    def count(self, seam: str, facts: list[Mapping[str, Any]]) -> list[Rule]:
        """Count one pass of a seam; return the rules that fire at it."""
        with self._open() as tx:
            tx.execute("INSERT INTO seam VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET passes = passes + 1", (seam,))
            rows = tx.execute("SELECT number, text, passes, fired FROM rule WHERE seam = ?", (seam,)).fetchall()
            return [rule for row in rows if (rule := self._pass(tx, Told(*row), facts)) is not None]

    @staticmethod
    def _pass(tx: sqlite3.Connection, told: Told, facts: list[Mapping[str, Any]]) -> Rule | None:
        rule = parse_rule(told.text)
        if not rule.matches(facts):
            return None
        fires = told.passes + 1 >= rule.nth and told.fired < rule.times
        counts = (told.passes + 1, told.fired + fires, told.number)
        tx.execute("UPDATE rule SET passes = ?, fired = ? WHERE number = ?", counts)
        return rule if fires else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=10, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")  # a SIGKILL of ours loses nothing; only the machine's end does
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection


@dataclass(frozen=True)
class _Installed:
    service: str
    book: RuleBook


_installed: _Installed | None = None


def install(service: str, file: Path) -> None:
    """Let the rules of a file happen in this process, which belongs to this service."""
    global _installed
    _installed = _Installed(service, RuleBook(file))


def reach(point: str, in_hand: Iterable[AnyMessage | Wire | Mapping[str, Any]] = ()) -> bool:
    """Pass a seam: die, stall or raise when a rule says so; return True when what is in hand is to be dropped."""
    if _installed is None:
        return False
    shown = [facts_of(one) for one in in_hand]
    dropped = False
    for rule in _installed.book.count(f"{_installed.service}.{point}", shown):
        dropped |= _happens(rule)
    return dropped


def facts_of(one: AnyMessage | Wire | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a rule can match: `type`, `id`, `saga`, `subject`, and the fields of a message's body or a row."""
    if isinstance(one, Message):
        return {**vars(one.body), "type": one.contract.name, "id": one.id, "saga": one.saga_id, "subject": one.subject}
    if isinstance(one, Wire):
        told = one.properties
        return {"type": one.topic, "id": told["ce_id"], "saga": one.key, "subject": told["ce_subject"]}
    return one


def _happens(rule: Rule) -> bool:
    match rule.action:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(rule.seconds)
        case "raise":
            raise InjectedFault(f"a rule of faults raised this at {rule.seam}")
    return rule.action == "drop"
