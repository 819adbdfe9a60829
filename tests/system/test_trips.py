"""Run the example that uses every kind of step, forward and back, on both sets of servers."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3
from sqlalchemy import text
from tests.system.conftest import Mode
from tests.system.folders import Repository, is_in_house_style
from tests.system.harness import eventually
from tests.system.trips import EXAMPLE, copy_to, new_key, token_of

from pulsaga.delivery.database import open_database
from pulsaga.settings import Settings

COMMANDS = re.findall(r"^\$ (.+)$", (EXAMPLE / "README.md").read_text(), re.M)


class Trips(Repository):
    """A copy of the example, as a new user has it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, environment, "trips")
        copy_to(folder)
        self._pool = urllib3.PoolManager(retries=False)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask the front door; return status and JSON."""
        answer = self._pool.request(method, f"http://{self.door}{path}", json=body, headers=headers)
        return answer.status, answer.json()

    def plan(self, city: str, *travellers: str, nights: int = 1, **rest: Any) -> str:
        """Ask for a trip; return the id of the command."""
        asked = {"city": city, "nights": nights, "travellers": [{"name": name} for name in travellers], **rest}
        status, command = self.ask("POST", "/workflows/plan-trip", asked)
        assert status == 202, command
        return str(command["id"])

    def ends(self, identifier: str, status: str, code: str | None = None) -> None:
        """Expect a command to have ended so."""

        def ended() -> Any:
            shown = self.ask("GET", f"/commands/{identifier}")[1]
            return shown if shown["status"] != "running" and shown["status"] != "accepted" else None

        shown = eventually(ended, log=self.log)
        assert (shown["status"], shown.get("reason", {}).get("code")) == (status, code), shown

    def rows(self, service: str, query: str, **values: Any) -> list[Any]:
        """Look into the write database of a service."""
        engine = open_database(self.settings, service, "write", "owner")
        try:
            with engine.connect() as connection:
                return list(connection.execute(text(query), values))
        finally:
            engine.dispose()

    @property
    def settings(self) -> Settings:
        """Its settings, as its processes read them."""
        return Settings.read(self.environment)

    def token_for(self, identifier: str) -> str:
        """Wait for the letter that asks for a trip."""
        return eventually(lambda: token_of(self.rows, self.settings, identifier), log=self.log)

    def approve(self, token: str) -> int:
        """Send the signal; return the status of the answer, none of which tells whom it reaches."""
        status, answer = self.ask("POST", "/signals/approve", {"token": token, "name": "the boss"})
        assert status != 202 or answer == {"signal": "approve"}
        return int(status)


@pytest.fixture(params=["embedded", pytest.param("pulsar", marks=[pytest.mark.pulsar, pytest.mark.postgres])])
def trips(request: pytest.FixtureRequest, tmp_path: Path) -> Trips:
    """The example, with a broker and databases of its own."""
    mode: Mode = request.getfixturevalue(f"{request.param}_mode")
    return Trips(tmp_path, {**mode.environment(), **new_key()})


@pytest.mark.slow
def test_every_kind_of_step_goes_forward_and_back(trips: Trips) -> None:
    """Bookings at once and one by one, approval by a link, a child, a rest, the calendar: nothing is left over."""
    for line in COMMANDS:
        if line.startswith("protools make"):
            assert "written: " in trips.do(line)
    assert " passed" in trips.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert "Success" in trips.python("-m", "mypy", "--strict", "-p", "trips")
    with trips.up():
        as_the_readme_says(trips)
        approved_by_whoever_bears_the_token(trips)
        given_back_from_wherever_it_stands(trips)
        started_by_the_calendar(trips)
        assert "nothing lost, doubled or stuck" in eventually(trips.is_clean, log=trips.log)
    assert {what for (what,) in trips.rows("hotels", "SELECT what FROM booking WHERE booked")} == {"Rome", "Paris"}
    assert trips.rows("payments", "SELECT sum(amount) FROM payment") == [(280 + 580,)]
    assert len(trips.rows("flights", "SELECT 1 FROM booking WHERE booked")) == 2


def as_the_readme_says(trips: Trips) -> None:
    """A trip that goes well, and one that is undone from its end, with its payment."""
    asked = [json.loads(trips.do(line)) for line in COMMANDS if line.startswith("curl")]
    assert (asked[0]["status"], asked[1]["code"]) == ("completed", "unreachable")
    for workflow, status in (("pay", "COMPLETED"), ("pay", "COMPLETED"), ("pay-back", "COMPLETED")):
        assert re.search(rf"{status}  {workflow}@1", trips.do("protools sagas list --status all"))


def approved_by_whoever_bears_the_token(trips: Trips) -> None:
    """Nobody else, once, and not after its end."""
    dear, other = trips.plan("Paris", "ada", nights=5), trips.plan("Oslo", "bob", nights=5)
    token, others = trips.token_for(dear), trips.token_for(other)
    assert [trips.approve(wrong) for wrong in ("", token[:-1], token[::-1], dear)] == [422, 404, 404, 404]
    assert trips.ask("POST", f"/commands/{dear}/signals/approve", {"name": "eve"})[0] == 404
    eventually(lambda: trips.approve(token) in (202, 409), log=trips.log)
    trips.ends(dear, "completed")
    assert trips.approve(token) == 409
    assert trips.ask("GET", f"/commands/{other}")[1]["status"] == "running"
    assert trips.ask("DELETE", f"/commands/{other}")[0] == 202
    trips.ends(other, "refused", "cancelled")
    assert trips.approve(others) == 409


def given_back_from_wherever_it_stands(trips: Trips) -> None:
    """Refused in either branch, or cancelled in its sleep."""
    trips.ends(trips.plan("Atlantis", "ada", "bob"), "refused", "no-such-place")
    trips.ends(trips.plan("Rome", "ada", "Nemo", "bob"), "refused", "no-passport")
    asleep = trips.plan("Rome", "ada", remind_at=time.time() + 86400)
    eventually(lambda: '"sleeping"' in trips.do(f"protools sagas show {asleep} --json"), log=trips.log)
    assert trips.ask("DELETE", f"/commands/{asleep}")[0] == 202
    trips.ends(asleep, "refused", "cancelled")


def started_by_the_calendar(trips: Trips) -> None:
    """By hand, since it is not night."""
    trips.do("protools schedules run nightly --as ada --why 'to see it'")
    eventually(lambda: re.search(r"COMPLETED  tidy-up@1", trips.do("protools sagas list --status all")), log=trips.log)


def test_the_example_is_in_house_style_and_every_command_of_it_is_tried(tmp_path: Path) -> None:
    """Whoever copies it must not be sent back."""
    copy_to(tmp_path)
    is_in_house_style(tmp_path)
    assert {shlex.split(line)[0] for line in COMMANDS} == {"protools", "curl", "AUTH=none"}
