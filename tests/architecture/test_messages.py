"""Hold what services say to each other against what is committed, and against every version before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pulsaga.broker.compatibility import check_compatible
from pulsaga.delivery.avro import Codec, CommittedSchemas, versions_of
from pulsaga.delivery.messages import CommandFailed, contract_of, event, has_field, owned
from pulsaga.errors import DefinitionError, SchemaIncompatible
from pulsaga.service import Service
from pulsaga_program.schemas import derive, path_of, write
from system import SYSTEM

SOURCES = Path(__file__).resolve().parents[2] / "src"
LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))
"""
SPEAKERS = [name for name in SYSTEM.names if SYSTEM[name].messages]
MESSAGES: list[Any] = [cls for name in SYSTEM.names for cls in SYSTEM[name].messages]
KNOWN = {contract_of(cls).name for cls in MESSAGES}


def name_of(cls: Any) -> str:
    """Name a message as the wire does."""
    return str(contract_of(cls).name)


def loaded_by(module: str) -> set[str]:
    """Return the top-level packages outside the standard library that importing a module loads."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(SOURCES)!r})\n{LOADED}", module]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {name for name in done.stdout.split() if not name.startswith(("_", "sitecustomize"))}


@pytest.mark.parametrize("service", SPEAKERS)
def test_knowing_a_service_loads_no_framework(service: str) -> None:
    """Who only wants to speak with a service must not carry its libraries, nor wait for them."""
    assert loaded_by(f"{service}.messages") <= {*SYSTEM.names, "pulsaga"}


def test_a_declared_system_loads_nothing_of_the_web() -> None:
    """Every worker imports it, and would carry what only web processes need."""
    assert not {"flask", "werkzeug", "marshmallow", "lxml"} & loaded_by("system")


@pytest.mark.parametrize("module", ["system", "pulsaga_program.processes", "usuarios.service"])
def test_what_every_process_loads_loads_no_grpc(module: str) -> None:
    """It takes time and memory, starts threads, and one kind of process has a use for it."""
    assert not {"grpc", "google"} & loaded_by(module)


def test_a_process_that_exports_no_spans_loads_nothing_for_it() -> None:
    """Whoever has no collector pays for none, in none of ten processes."""
    assert "opentelemetry" not in loaded_by("pulsaga_program.processes") | loaded_by("pulsaga.web.webapp")


def test_a_framework_would_be_seen() -> None:
    """Otherwise the test above would pass whatever is loaded."""
    assert {"flask", "sqlalchemy"} <= loaded_by("generador.routes")
    assert {"grpc", "google"} <= loaded_by("usuarios.sessions.process")
    assert "opentelemetry" in loaded_by("pulsaga.telemetry.otlp")


@pytest.mark.parametrize("cls", MESSAGES, ids=name_of)
def test_a_message_is_what_its_committed_schema_says(cls: Any) -> None:
    """The schema is what other languages and old replicas read by; a class that drifts from it is not readable."""
    assert path_of(cls).read_text() == derive(cls)


@pytest.mark.parametrize("cls", MESSAGES, ids=name_of)
def test_every_version_of_a_schema_reads_and_is_read_by_every_other(cls: Any) -> None:
    """Topics keep old messages and replicas of two versions run side by side (FULL_TRANSITIVE)."""
    texts = versions_of(contract_of(cls))
    for number, text in enumerate(texts):
        check_compatible(contract_of(cls).name, text, texts[:number])


@dataclass(frozen=True)
class Part:
    """A part of a message, which has a default of its own."""

    name: str
    number: int = 1


@dataclass(frozen=True)
class Before:
    """A message as it was."""

    name: str


@dataclass(frozen=True)
class After(Before):
    """The same message with a field of every kind more."""

    number: int = 7
    note: str | None = None
    names: tuple[str, ...] = ("ada",)
    part: Part = Part("first")
    perhaps: Part | None = Part("second", 2)
    parts: list[Part] = field(default_factory=lambda: [Part("third")])


def test_a_field_that_has_a_default_may_be_added_or_left_out() -> None:
    """Its schema must say the default, or no message could ever change."""
    old, new = event("anybody.changed")(Before), event("anybody.changed", 2)(After)
    texts = {contract_of(cls).dataschema: derive(cls) for cls in (old, new)}
    one, two = texts.values()
    check_compatible("anybody.changed", two, [one])
    codec = Codec(texts)
    assert codec.decode(new, codec.encode(old("ada")), one) == new("ada")
    assert codec.decode(old, codec.encode(new("ada")), two) == old("ada")


@dataclass(frozen=True)
class Odd:
    """A message with a field that Avro cannot hold."""

    things: set[str]


def test_a_field_that_avro_cannot_hold_is_named_before_any_schema_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the schemas of a change are worse than none."""
    module = ModuleType("odd")
    module.__file__ = str(tmp_path / "odd.py")
    monkeypatch.setitem(sys.modules, "odd", module)
    for cls in (
        fine := type("Fine", (Before,), {"__module__": "odd"}),
        odd := type("Odd", (Odd,), {"__module__": "odd"}),
    ):
        event(f"anybody.{cls.__name__.lower()}")(cls)
    with pytest.raises(DefinitionError, match=r"message anybody\.odd: .*set\[str\] for field things"):
        list(write([fine, odd]))
    assert list(tmp_path.iterdir()) == []


def test_each_folder_has_its_own_class_of_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two systems of one name may be loaded one after the other; one must not read the schemas of the other."""
    schemas = {}
    for name in ("here", "there"):
        module = ModuleType(name)
        module.__file__ = str(tmp_path / name / f"{name}.py")
        home = tmp_path / name / "avro" / "market"
        home.mkdir(parents=True)
        (home / "command-failed.v1.avsc").write_text(name)
        monkeypatch.setitem(sys.modules, name, module)
        answer = contract_of(owned(CommandFailed, "market", name))
        schemas[name] = (versions_of(answer), CommittedSchemas()[answer.dataschema])
        monkeypatch.delitem(sys.modules, name)
    assert schemas == {name: ([name], name) for name in schemas}


def test_an_incompatible_version_would_be_seen() -> None:
    """There is one version of everything so far, so the test above needs its proof: a field without default."""
    (text,) = versions_of(contract_of(MESSAGES[0]))
    schema = json.loads(text)
    schema["fields"].append({"name": "reason", "type": "string"})
    with pytest.raises(SchemaIncompatible, match="reason"):
        check_compatible("x", json.dumps(schema), [text])


def test_no_schema_is_committed_that_no_message_has() -> None:
    """A schema left behind would be registered by nobody and believed by somebody."""
    committed = {path for name in SYSTEM.names for path in (SOURCES / name / "avro").glob("*")}
    assert committed == set(_of_all_versions(MESSAGES))


def _of_all_versions(messages: Iterable[Any]) -> Iterable[Path]:
    for cls in messages:
        current = path_of(cls)
        for version in range(1, contract_of(cls).version + 1):
            yield current.with_name(current.name.replace(f".v{contract_of(cls).version}.", f".v{version}."))


def test_wire_names_are_unique_and_belong_to_the_service_that_declares_them() -> None:
    """A name is a topic: two classes under one name would read each other's bytes."""
    declared = [(contract_of(cls).name, service) for service in SYSTEM.names for cls in SYSTEM[service].messages]
    assert len(KNOWN) == len(declared)
    assert {name.partition(".")[0] for name, _ in declared} <= set(SYSTEM.names)
    assert [name for name, service in declared if name.partition(".")[0] != service] == []


@pytest.mark.parametrize("service", [SYSTEM[name] for name in SYSTEM.names], ids=SYSTEM.names)
def test_what_a_service_hears_is_a_message_that_somebody_declares(service: Service) -> None:
    """Bootstrap makes topics of declared messages; a subscription on any other would hear nothing for ever."""
    assert set(service.consumes) | set(service.projects) <= KNOWN


def test_every_command_is_handled_by_its_owner_and_nobody_else() -> None:
    """A command without a handler waits until its saga's deadline; one with two is done twice."""
    commands = {contract_of(cls).name: contract_of(cls).owner for cls in MESSAGES if contract_of(cls).kind == "command"}
    handled = [(topic, name) for name in SYSTEM.names for topic in SYSTEM[name].consumes if topic in commands]
    assert sorted(handled) == sorted(commands.items())


@pytest.mark.parametrize("service", [SYSTEM[name] for name in SYSTEM.names], ids=SYSTEM.names)
def test_who_takes_commands_can_refuse_and_fail(service: Service) -> None:
    """Without these answers a saga would wait for a no that nobody can say."""
    if service.commands:
        assert {service.refused, service.failed} <= set(service.messages)


@pytest.mark.parametrize("service", [SYSTEM[name] for name in SYSTEM.names], ids=SYSTEM.names)
def test_who_undoes_commands_can_say_that_there_was_nothing_to_undo(service: Service) -> None:
    """And nobody else can; a cancel, which nobody waits for, is no compensation."""
    undoes = [cls for cls in service.commands if has_field(cls, "undoes") and cls is not SYSTEM.sagas.cancel]
    assert (service.withdrawn in service.messages) == bool(undoes)
