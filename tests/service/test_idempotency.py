"""Hold the front door to one command per key, and to what it forgets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from tests.service.desk import Desk, make_desk
from tests.service.rooms import Room
from tests.service.stage import BOTH, settings_on
from tests.service.web import Serving
from tests.service.wishes import wish

from pulsaga.delivery.messages import first_id
from pulsaga.delivery.tables import outbox
from pulsaga.web.formats import Problem
from pulsaga.web.front_door import acceptance as front
from pulsaga.web.front_door.forgetting import PAGE, forget_keys
from pulsaga.web.front_door.tables import acceptance, command

TWINS = 50
WISH = wish("ada", body_hash="h", idempotency_key="k-1")
KEY = {"Idempotency-Key": "k-1"}
DAY_S = 24 * 3600.0
TIMES = {"created_at": 1.0, "updated_at": 2.0}
ENDS = {"completed": True, "refused": True, "suspended": False, "running": False}


@pytest.fixture(params=BOTH)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(settings_on(request, tmp_path), "bff")
    yield made
    made.runtime.write.dispose()


def test_fifty_posts_of_one_key_at_once_are_one_command(bff: Room, web: Serving, client: urllib3.PoolManager) -> None:
    """A client whose retries pile up gets one password, and the same answer to the byte from every try."""

    def post(_number: int) -> urllib3.BaseHTTPResponse:
        return client.request("POST", f"{web.url}/passwords", json={"username": "ada"}, headers=KEY)

    with ThreadPoolExecutor(TWINS) as threads:
        answers = list(threads.map(post, range(TWINS)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.data for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert len(bff.rows(acceptance)) == len(bff.rows(outbox)) == 1


def test_fifty_twins_at_two_front_doors_are_one_command(desk: Desk) -> None:
    """What one process holds in memory does not bind the other; the unique index makes it wait."""
    doors = [front.GroupCommit(desk.runtime.transactions, desk.runtime.write) for _ in range(2)]
    with ThreadPoolExecutor(TWINS) as threads:
        accepted = list(threads.map(lambda number: doors[number % 2].accept(WISH), range(TWINS)))
    assert len({one.id for one in accepted}) == 1
    assert sum(not one.replayed for one in accepted) == 1
    assert desk.count(acceptance) == desk.count(outbox) == 1


def test_a_key_is_its_callers_own(desk: Desk) -> None:
    """Two callers count from 1; the second must get neither the first one's command nor a refusal."""
    doors = front.GroupCommit(desk.runtime.transactions, desk.runtime.write)
    first, other = doors.accept(WISH), doors.accept(replace(WISH, actor="eve", body_hash="other"))
    assert first.id != other.id
    with pytest.raises(Problem, match="idempotency-key-reused"):
        doors.accept(replace(WISH, body_hash="other"))


def test_json_and_xml_of_the_same_content_are_one_request(bff: Room) -> None:
    """The hash is over what was said, not over how; order and white space say nothing."""
    said: Sequence[dict[str, Any]] = (
        {"json": {"username": "ada", "email": "ada@lovelace.test"}},
        {"data": b'{"email":"ada@lovelace.test", "username":"ada"}', "content_type": "application/json"},
        {
            "data": "<x>\n <email>ada@lovelace.test</email><username>ada</username></x>",
            "content_type": "application/xml",
        },
    )
    answers = [bff.http.post("/passwords", headers=KEY | {"Accept": "application/json"}, **one) for one in said]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len({answer.data for answer in answers}) == 1
    other = bff.http.post("/passwords", headers=KEY, json={"username": "ada"})
    assert (other.status_code, other.json["code"]) == (422, "idempotency-key-reused")


# --- forgetting


def accept_and_end(bff: Room, status: str) -> str:
    answer = bff.http.post("/passwords", json={"username": status}, headers={"Idempotency-Key": status})
    row = {"id": answer.json["id"], "version": 9, "type": "issue-password", "subject": status, "status": status}
    bff.write_view(command, **row, reason_code="", reason_detail="", cancellable=False, **TIMES)
    return str(answer.json["id"])


def forget(bff: Room, kept_s: float) -> int:
    return forget_keys(bff.runtime.write, bff.app.extensions["read"], kept_s)


def test_a_key_is_forgotten_after_its_time_and_the_acceptance_stays(bff: Room) -> None:
    """The key is the caller's for a day; the row answers for the command as long as anybody may ask."""
    identifier = accept_and_end(bff, "completed")
    assert forget(bff, DAY_S) == 0
    assert forget(bff, 0.0) == 1
    (row,) = bff.rows(acceptance)
    assert (row["id"], row["idempotency_key"]) == (identifier, None)
    again = bff.http.post("/passwords", json={"username": "completed"}, headers={"Idempotency-Key": "completed"})
    assert (again.status_code, again.json["id"] == identifier) == (202, False)


@pytest.mark.parametrize(("status", "is_forgotten"), ENDS.items())
def test_the_key_of_what_may_still_move_is_kept_however_old(bff: Room, status: str, is_forgotten: bool) -> None:
    """A repeat while an operator looks at the saga must not begin a second one beside it."""
    identifier = accept_and_end(bff, status)
    assert forget(bff, 0.0) == is_forgotten
    again = bff.http.post("/passwords", json={"username": status}, headers={"Idempotency-Key": status})
    assert (again.json["id"] == identifier) is not is_forgotten


def test_a_key_whose_command_nobody_has_seen_move_is_kept(bff: Room) -> None:
    """The read side may be hours behind; what it does not know has not ended."""
    bff.http.post("/passwords", json={"username": "ada"}, headers=KEY)
    assert forget(bff, 0.0) == 0


def test_what_may_not_be_forgotten_does_not_hide_what_may(bff: Room) -> None:
    """A page full of suspended sagas stands before everything younger, for weeks."""
    wishes = [replace(WISH, subject=f"u{n}", idempotency_key=f"k{n}") for n in range(PAGE + 1)]
    ids = sorted(one.id for one in front.accept_many(bff.runtime.transactions, wishes))
    row = {"version": 1, "type": "issue-password", "subject": "x", "reason_code": "", "reason_detail": ""}
    bff.write_view(command, id=ids[-1], status="completed", cancellable=False, **TIMES, **row)
    assert ids[-1] < first_id(time.time() + 1)
    assert forget(bff, -1.0) == 1
    assert [row["id"] for row in bff.rows(acceptance) if row["idempotency_key"] is None] == [ids[-1]]
