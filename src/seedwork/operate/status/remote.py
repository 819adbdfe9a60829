"""Survey a system without a password of its databases: each service answers for its own data on its operators' ports.

Begin with the address of one process of the coordinator: it hears all others, and says where they answer.
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
from pulsaga.saga.silence import Silence, Usual
from pulsaga.settings import Settings
from pulsaga.system import System

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


# --- what operators put together


def survey(system: System, url: str, token: str) -> Picture:
    """Ask every service over HTTP, all at once; one that no process answers for is down."""
    get = partial(_get, token=token)
    places = json.loads(get(f"{url}/operate/processes"))
    addresses = {
        name: [f"http://{one['address']}" for one in places if one["service"] == name and one["address"]]
        for name in system.names
    }
    asked = {name: partial(_first, get, f"{name}", found) for name, found in addresses.items()}
    parts, unreached = at_once(asked, 2 * ANSWER_WITHIN_S)

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


def processes(system: System, settings: Settings) -> list[dict[str, Any]]:
    """Return the heartbeat of every process that runs and answers operators, with its service.

    It is asked over HTTP with OPERATORS_URL, else of the databases. Raise Unavailable where a service does not say.
    """
    if settings.operators_url:
        beats = json.loads(_get(f"{settings.operators_url}/operate/processes", settings.token or ""))
    else:
        beats = list(_running(databases.survey(system, settings)))
    return [one for one in beats if one["address"]]


def _running(picture: Picture) -> Iterator[dict[str, Any]]:
    for service, write in picture.write.items():
        if write.down:
            raise Unavailable(f"the write database of {service} does not say what runs: {write.down}")
        yield from ({**beat, "service": service} for beat in write.beats if is_alive(beat, write.now))


def settings_in_force(system: System, settings: Settings) -> dict[str, dict[str, str]]:
    """Return the settings that each running process uses, secrets hidden, by its name; raise Unavailable for none."""
    places = {f"{one['service']} {one['kind']} {one['replica']}": one["address"] for one in processes(system, settings)}
    asked = {name: partial(_settings_at, address, settings.token or "") for name, address in places.items()}
    said, down = at_once(asked, ANSWER_WITHIN_S)
    if down or not said:
        raise Unavailable("; ".join(f"{name}: {why}" for name, why in down.items()) or "no process is running")
    return said


def _settings_at(address: str, token: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(_get(f"http://{address}/operate/settings", token))
    return found


def _first(get: Any, service: str, urls: Sequence[str]) -> Mapping[str, Any]:
    """Return what the first process of a service that answers says."""
    failed = Unavailable(f"no process of {service} is heard")
    for url in urls:
        try:
            part: Mapping[str, Any] = json.loads(get(f"{url}/operate/survey"))
        except Unavailable as error:
            failed = error
        else:
            return part
    raise failed


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
