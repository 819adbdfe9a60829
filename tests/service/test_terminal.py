"""Show what strangers chose on an operator's terminal: nothing of it acts, and each row stays one line."""

from __future__ import annotations

import pytest
from sqlalchemy import Table, update
from tests.service.desk import KEYS
from tests.service.passwords import FOUND
from tests.service.scene import Scene, play
from tests.system.harness import Program

from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import audit, dead_letter, incident
from pulsaga.faults import RuleBook
from pulsaga.saga.tables import saga
from pulsaga.settings import Settings, Side
from pulsaga.web.access.keys import api_key
from pulsaga.web.front_door.tables import command

HOSTILE = "a\x1b]P;owned\x07\x1b[J\nfake line\r\x9b31m\x85\u2028\u202eevil\u200f \\x00"
ESCAPED = "\\x1b]P;owned\\x07"
ESCAPED_TWICE = "\\u001b]P;owned\\u0007"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Every text that a stranger can choose is hostile."""
    scene = play(Settings.read({"PROTOOLS_HOME": str(tmp_path_factory.mktemp("hostile")), **KEYS}))
    for service in scene.desks:
        _spoil(scene.settings, service, dead_letter, error=HOSTILE)
        _spoil(scene.settings, service, incident, code=HOSTILE, detail=HOSTILE)
        _spoil(scene.settings, service, audit, who=HOSTILE, why=HOSTILE)
    _spoil(scene.settings, "protools_saga", saga, subject=HOSTILE)
    _spoil(scene.settings, "bff", command, "read", actor=HOSTILE)
    with scene.desks["bff"].runtime.write.begin() as tx:
        key = {"id": new_id(), "subject": HOSTILE, "role": "operator", "hash": b"x", "created_at": 1.0}
        tx.execute(api_key.insert().values(key))
    RuleBook(scene.settings.fault_file).add("bff.committed action=sleep=0 match=username=\x1b]P;owned\x07\u202eada")
    return scene


def _spoil(settings: Settings, service: str, table: Table, side: Side = "write", **values: str) -> None:
    engine = open_database(settings, service, side, "owner")
    with engine.begin() as tx:
        tx.execute(update(table).values(**values))
    engine.dispose()


@pytest.fixture
def program(scene: Scene) -> Program:
    return Program(scene.settings.home, {**FOUND, **KEYS})


LISTS = (
    ["incidents", "list"],
    ["dead-letters", "list"],
    ["dead-letters", "list", "--all"],
    ["sagas", "list"],
    ["sagas", "list", "--status", "ALL"],
    ["verify"],
    ["keys", "list"],
    ["faults", "list"],
)


@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_a_list_shows_what_strangers_chose_as_it_is_written_in_python(program: Program, arguments: list[str]) -> None:
    """At 3 a.m. a terminal must not be cleared, renamed, coloured or answered for by a username."""
    _is_plain(program.run(*arguments).stdout, ESCAPED)


def test_what_is_shown_of_one_letter_and_one_saga_is_plain_too(program: Program, scene: Scene) -> None:
    """There every text stands in full."""
    for group, identifier in (("dead-letters", scene.ids["dead"]), ("sagas", scene.ids["suspended"])):
        _is_plain(program.run(group, "show", identifier).stdout, ESCAPED)


@pytest.mark.parametrize("arguments", [*LISTS[:6], ["dead-letters", "show"], ["sagas", "show"]], ids=" ".join)
def test_json_is_ascii(program: Program, scene: Scene, arguments: list[str]) -> None:
    """JSON escapes ESC, and by itself neither C1 controls nor marks of direction; it is shown on terminals, too."""
    shown = {"dead-letters": scene.ids["dead"], "sagas": scene.ids["suspended"]}
    subject = [shown[arguments[0]]] if arguments[-1] == "show" else []
    told = program.run(*arguments, *subject, "--json").stdout
    assert told.isascii()
    _is_plain(told, ESCAPED_TWICE)


def test_a_refusal_is_plain(program: Program, scene: Scene) -> None:
    """It repeats who was faster."""
    _spoil(scene.settings, "protools_saga", dead_letter, outcome=HOSTILE)
    refused = program.run("dead-letters", "discard", scene.ids["dead"], "--why", "x")
    assert refused.returncode == 1
    assert "\x1b" not in refused.stderr + refused.stdout


def _is_plain(output: str, escaped: str) -> None:
    lines = output.split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.startswith("fake line")] == []
    assert escaped in output
