"""Survey a system without a password of its databases: each service answers for its own data on its operators' ports.

Operators ask one process of the coordinator, which hears where all others answer, and asks them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import urllib3

from pulsaga.broker import Owed
from pulsaga.delivery.waiting import Backlog
from pulsaga.errors import Unavailable
from pulsaga.operate.status import survey as databases
from pulsaga.operate.status.survey import (
    ANSWER_WITHIN_S,
    Asked,
    Broker,
    Letters,
    Picture,
    Read,
    Sagas,
    Write,
    at_once,
    is_alive,
    questions,
)
from pulsaga.running.operators_port import SETTINGS
from pulsaga.running.runtime import Runtime, open_runtime
from pulsaga.saga.silence import Silence, Usual
from pulsaga.settings import Settings
from pulsaga.system import System
from pulsaga.web.access.tokens import service_token

CALL_S = 4.0
"""Seconds for one call; several processes of a service may be tried."""


# --- what a process answers


def own_part(system: System, settings: Settings, service: str) -> bytes:
    """Return what one service knows, as JSON; the coordinator also of its sagas and of the broker."""
    asked = {"/".join(key): ask for key, ask in questions(system, settings).items() if _is_of(system, service, key)}
    said, down = at_once(asked, ANSWER_WITHIN_S)
    return json.dumps({"said": {key: _plain(one) for key, one in said.items()}, "down": down}).encode()


def _is_of(system: System, service: str, key: tuple[str, ...]) -> bool:
    return key[1:] == (service,) or (len(key) == 1 and service == system.name)


def _plain(one: Asked) -> dict[str, Any]:
    plain = asdict(one)
    if isinstance(one, Sagas):
        plain["expected"] = [[*process, *known] for process, known in one.expected.items()]
    return plain


# --- what the coordinator asks of the others


def relay(runtime: Runtime, beats: Sequence[Mapping[str, Any]], path: str) -> bytes:
    """Ask every process that beats for a path; return by its name what it said, and why it did not, as JSON.

    Each is shown a token for this very service and path: whoever pretends to be another can do nothing else with it.
    """
    key = runtime.settings.key("INTERNAL_TOKEN")
    asked = {
        f"{one['service']} {one['kind']} {one['replica']}": partial(
            _get,
            f"http://{one['address']}{path}",
            service_token(key, runtime.service, f"{one['service']} GET {path}"),
        )
        for one in beats
        if one["address"]
    }
    said, down = at_once(asked, ANSWER_WITHIN_S + CALL_S)
    return json.dumps({"said": {name: json.loads(part) for name, part in said.items()}, "down": down}).encode()


# --- what operators see of that


def survey(system: System, url: str, token: str) -> Picture:
    """Ask the coordinator how all services are; one that no process answered for is down."""
    found = json.loads(_get(f"{url}/operate/system", token))
    parts = {name: part for name in system.names if (part := _part_of(name, found["said"]))}
    unreached = {name: _why(name, found["down"]) for name in system.names if name not in parts}

    def of(cls: type[Any], service: str, key: str) -> Any:
        if service in unreached:
            return cls(down=unreached[service])
        part = parts[service]
        return READERS[cls](part["said"][key]) if key in part["said"] else cls(down=part["down"].get(key, "not said"))

    return Picture(
        system=system.name,
        at=time.time(),
        write={name: of(Write, name, f"write/{name}") for name in system.names},
        read={one.name: of(Read, one.name, f"read/{one.name}") for one in system.all if one.projections},
        sagas=of(Sagas, system.name, "sagas"),
        broker=of(Broker, system.name, "broker"),
        unreached=unreached,
    )


def _part_of(service: str, said: Mapping[str, Any]) -> Any:
    """Return what the first process of a service said; one that spoke of another's data is not believed."""
    parts = (part for name, part in said.items() if name.partition(" ")[0] == service)
    return next((part for part in parts if f"write/{service}" in {*part["said"], *part["down"]}), None)


def _why(service: str, down: Mapping[str, str]) -> str:
    reasons = (why for name, why in down.items() if name.partition(" ")[0] == service)
    return next(reasons, f"no process of {service} is heard")


def processes(system: System, settings: Settings) -> list[dict[str, Any]]:
    """Return the heartbeat of every process that runs and answers operators, with its service.

    It is asked over HTTP with OPERATORS_URL, else of the databases. Raise Unavailable where a service does not say.
    """
    if settings.operators_url:
        beats = json.loads(_get(f"{settings.operators_url}/operate/processes", settings.token or ""))
    else:
        beats = list(_running(databases.survey(system, settings)))
    if not beats:
        raise Unavailable("no process is running")
    return [one for one in beats if one["address"]]


def _running(picture: Picture) -> Iterator[dict[str, Any]]:
    for service, write in picture.write.items():
        if write.down:
            raise Unavailable(f"the write database of {service} does not say what runs: {write.down}")
        yield from ({**beat, "service": service} for beat in write.beats if is_alive(beat, write.now))


def settings_in_force(system: System, settings: Settings) -> dict[str, dict[str, str]]:
    """Return the settings that each running process uses, secrets hidden, by its name; raise Unavailable for none."""
    if settings.operators_url:
        found = json.loads(_get(f"{settings.operators_url}/operate/system/settings", settings.token or ""))
    else:
        runtime = open_runtime(system, settings, system.name)
        try:
            found = json.loads(relay(runtime, processes(system, settings), SETTINGS))
        finally:
            runtime.broker.close()
    if found["down"] or not found["said"]:
        why = "; ".join(f"{name}: {one}" for name, one in found["down"].items())
        raise Unavailable(why or "no process is running")
    said: dict[str, dict[str, str]] = found["said"]
    return said


def _get(url: str, token: str) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = urllib3.Timeout(connect=CALL_S, read=ANSWER_WITHIN_S + CALL_S)
    try:
        answer = urllib3.request("GET", url, headers=headers, timeout=timeout, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"{url} does not answer: {error}") from error
    if answer.status in (401, 403):
        raise Unavailable(f"{url} wants a token that may see everything: set PROTOOLS_TOKEN")
    if answer.status != 200:
        raise Unavailable(f"{url} answered {answer.status}: ask a process of the coordinator")
    return answer.data


def _read_write(said: dict[str, Any]) -> Write:
    backlogs = {"outbox": Backlog(*said["outbox"]), "waiting": [Backlog(*one) for one in said["waiting"]]}
    return Write(**{**said, **backlogs, "letters": [Letters(**one) for one in said["letters"]]})


def _read_sagas(said: dict[str, Any]) -> Sagas:
    owed = [Silence(target, count, oldest_s, Usual(**usual)) for target, count, oldest_s, usual in said["silences"]]
    expected = {(service, kind): (count, at) for service, kind, count, at in said["expected"]}
    live = [tuple(one) for one in said["live"]]
    return Sagas(**{**said, "silences": owed, "expected": expected, "live": live})


READERS: Mapping[type[Any], Any] = {
    Write: _read_write,
    Read: lambda said: Read(unprojected=Backlog(*said["unprojected"])),
    Sagas: _read_sagas,
    Broker: lambda said: Broker(owed=[Owed(*one) for one in said["owed"]]),
}
