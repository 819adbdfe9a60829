"""Ask every route of every web process in every role, over real sockets, and hold the answers to the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tests.patience import PATIENCE_S
from tests.service.rooms import Room, eventually, room
from tests.service.stage import counted
from tests.service.web import Serving

from bff.tables import password
from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import audit
from pulsaga.settings import Settings
from pulsaga.web.access import keys
from pulsaga.web.access.callers import ROLES
from pulsaga.web.access.gatekeeper import KEPT_S
from pulsaga.web.access.keys import api_key
from pulsaga.web.access.rights import SERVICE, Right
from pulsaga.web.access.tokens import issue, service_token
from pulsaga.web.front_door.tables import acceptance, command
from system import SYSTEM

SECRET = "correct horse battery staple, 32 bytes and more"
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "front-door.md"
ROW = re.compile(r"^\| (\w+) \| `(\w+) (\S+)` \| (\S+) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)
WHO = ("nobody", *ROLES)
WEBS = [service.name for service in SYSTEM.all if service.web]
SOMETHING = {
    "whole:username": "ada",
    "identifier": new_id(),
    "id_orden": new_id(),
    "id_producto": new_id(),
    "user_id": new_id(),
    "path:filename": "reveal.js",
}


def expected() -> Iterator[tuple[str, str, str, str, bool]]:
    """Read the guide's table: service, method, route, who, and whether they may."""
    for process, method, route, *cells in ROW.findall(GUIDE.read_text()):
        for service in WEBS if process == "every" else (process,):
            for who, cell in zip(WHO, cells, strict=True):
                yield service, method, route, who, cell != "–"


def token_of(settings: Settings, role: str, subject: str = "shop") -> dict[str, str]:
    """Return the header that proves a role."""
    return {"Authorization": f"Bearer {issue(settings, subject, role, 60)}"} if role in ROLES else {}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Room]]:
    """Every service, asking who is there."""
    home = tmp_path_factory.mktemp("home")
    made = {name: room(name, home, AUTH="", JWT_SECRET=SECRET, GENERADOR_URL="http://127.0.0.1:1") for name in WEBS}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def doors(rooms: dict[str, Room]) -> Iterator[dict[str, Serving]]:
    """The same, served."""
    running = {name: Serving(one.app) for name, one in rooms.items()}
    yield running
    for one in running.values():
        one.stop()


def filled(route: str) -> str:
    """Put something in the place of each variable of a route."""
    return re.sub(r"<([\w:]+)>", lambda found: SOMETHING[found[1]], route)


def rights_of(served: Room) -> dict[str, Right | None]:
    """Who may use each route of a service, as its view says."""
    views, rules = served.app.view_functions, served.app.url_map.iter_rules()
    return {
        f"{method} {rule.rule}": getattr(views[rule.endpoint], "right", None)
        for rule in rules
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }


@pytest.mark.parametrize(("service", "method", "route", "who", "may"), list(expected()))
def test_a_role_gets_through_exactly_where_the_table_says(
    rooms: dict[str, Room],
    doors: dict[str, Serving],
    client: urllib3.PoolManager,
    service: str,
    method: str,
    route: str,
    who: str,
    may: bool,
) -> None:
    """One cell that is wrong is a hole, or somebody who cannot work."""
    headers = token_of(rooms[service].runtime.settings, who)
    answer = client.request(method, doors[service].url + filled(route), headers=headers)
    is_service = rights_of(rooms[service])[f"{method} {route}"] == SERVICE
    assert answer.status not in (404, 405) or re.search("identifier|username|id_producto|user_id", route)
    assert (answer.status not in (401, 403)) == may
    if not may:
        assert answer.status == (401 if who == "nobody" or is_service else 403)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("service", WEBS)
def test_every_route_says_who_may_use_it_and_is_in_the_guide(rooms: dict[str, Room], service: str) -> None:
    """A route that says nothing is refused to everybody."""
    routes = rights_of(rooms[service])
    assert [route for route, right in routes.items() if not right] == []
    assert {f"{method} {route}" for name, method, route, *_ in expected() if name == service} == routes.keys()


def test_a_route_that_no_table_names_is_refused_to_everybody(tmp_path: Path) -> None:
    """Forgotten is shut, not open."""
    made = room("correo", tmp_path, AUTH="", JWT_SECRET=SECRET)
    made.app.add_url_rule("/forgotten", view_func=lambda: "secret")
    headers = token_of(made.runtime.settings, "admin")
    assert made.http.get("/forgotten", headers=headers).status_code == 403
    made.close()


def test_a_service_needs_a_token_for_this_very_route(rooms: dict[str, Room]) -> None:
    """A token that leaks from one use must not open another one."""
    generador = rooms["generador"]
    key = generador.runtime.settings.key("INTERNAL_TOKEN")
    for route, status in (("generador POST /internal/reveals", 422), ("generador POST /internal/else", 401)):
        headers = {"Authorization": f"Bearer {service_token(key, 'bff', route)}"}
        assert generador.http.post("/internal/reveals", json={}, headers=headers).status_code == status


# --- own and others'


@pytest.fixture
def bff(tmp_path: Path) -> Iterator[Room]:
    made = room("bff", tmp_path, AUTH="", JWT_SECRET=SECRET)
    yield made
    made.close()


def shown(bff: Room, role: str, subject: str, path: str) -> int:
    """Ask for something in somebody's name; return the status."""
    return bff.http.get(path, headers=token_of(bff.runtime.settings, role, subject)).status_code


def test_anothers_command_is_not_found(bff: Room) -> None:
    """403 would tell that it exists. It holds before a saga has moved and after; who oversees sees it."""
    mine = token_of(bff.runtime.settings, "caller", "shop")
    path = bff.http.post("/passwords", json={"username": "ada"}, headers=mine).headers["Location"]
    assert [shown(bff, "caller", name, path) for name in ("shop", "rival")] == [200, 404]
    row = {"version": 1, "type": "issue-password", "subject": "ada", "status": "running", "cancellable": True}
    rest = {"reason_code": "", "reason_detail": "", "created_at": 1.0, "updated_at": 2.0}
    bff.write_view(command, id=path.rpartition("/")[2], actor="shop", **row, **rest)
    assert [shown(bff, "caller", name, path) for name in ("shop", "rival")] == [200, 404]
    assert [shown(bff, role, "boss", path) for role in ("reader", "operator", "admin")] == [200, 200, 200]


def test_a_list_holds_what_is_ones_own(bff: Room) -> None:
    """A list is the easiest way to learn others' names."""
    for username, actor in (("ada", "shop"), ("bob", "rival"), ("cyd", None)):
        times = {"issued_at": 1.0, "changed_at": 2.0}
        bff.write_view(password, username=username, actor=actor, version=1, status="issued", **times)

    def listed(role: str, subject: str) -> list[str]:
        answer = bff.http.get("/passwords", headers=token_of(bff.runtime.settings, role, subject))
        return [one["username"] for one in answer.json["passwords"]]

    assert listed("caller", "shop") == ["ada"]
    assert listed("caller", "nobody's child") == []
    assert listed("reader", "boss") == ["ada", "bob", "cyd"]
    assert [shown(bff, "caller", "shop", f"/passwords/{name}") for name in ("ada", "bob", "cyd")] == [200, 404, 404]


def test_one_callers_key_is_not_anothers(bff: Room) -> None:
    """Who guesses a key must not be shown what was accepted under it."""
    ids = set()
    for subject in ("shop", "rival"):
        headers = {**token_of(bff.runtime.settings, "caller", subject), "Idempotency-Key": "order-1"}
        ids.add(bff.http.post("/passwords", json={"username": "ada"}, headers=headers).json["id"])
    assert len(ids) == 2


def test_with_none_said_there_is_one_nobody_who_may_everything(tmp_path: Path) -> None:
    """`make run` works without a token, and says whose its commands are."""
    made = room("bff", tmp_path)
    path = made.http.post("/passwords", json={"username": "ada"}).headers["Location"]
    assert made.http.get(path).status_code == made.http.get("/metrics").status_code == 200
    made.close()


STRANGERS = (
    "evil.example",
    "evil.example:3000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "[::2]",
)


@pytest.mark.parametrize("service", WEBS)
def test_with_none_said_only_this_machines_names_are_answered(tmp_path: Path, service: str) -> None:
    """A page whose name leads to 127.0.0.1 would drive the system from a browser on this machine (DNS rebinding)."""
    made = room(service, tmp_path, PUBLIC_URL="https://passwords.example.test")
    paths = ("/livez", "/metrics", "/nowhere", "/static/reveal.js", "/passwords")
    for host in STRANGERS:
        answers = [made.http.get(path, headers={"Host": host}) for path in paths]
        answers += [made.http.post("/passwords", json={"username": "ada"}, headers={"Host": host})]
        assert {(one.status_code, one.json["code"]) for one in answers} == {(421, "misdirected-request")}
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:3000", "127.1.2.3", "[::1]:80", "passwords.example.test"):
        assert made.http.get("/livez", headers={"Host": host}).status_code == 200
    if service == "bff":
        assert made.rows(acceptance) == []
    made.close()


def test_who_must_say_who_they_are_may_come_by_any_name(rooms: dict[str, Room]) -> None:
    """A page that lures a browser has no token; proxies and containers use names of their own."""
    assert rooms["bff"].http.get("/livez", headers={"Host": "door.internal"}).status_code == 200


def test_strangers_do_not_use_up_what_callers_may_ask_for(
    rooms: dict[str, Room], doors: dict[str, Serving], client: urllib3.PoolManager
) -> None:
    """The gate counts commands before anybody knows who sends them; a flood without a token must not shut the door."""
    url = f"{doors['bff'].url}/passwords"
    load = rooms["bff"].app.extensions["gate"]._load
    accepted = len(rooms["bff"].rows(acceptance))  # by the tests above
    answers = {client.request("POST", url, json={"username": "ada"}).status for _ in range(50)}
    assert answers == {401}
    eventually(lambda: load._admitted == accepted)
    headers = token_of(rooms["bff"].runtime.settings, "caller")
    assert client.request("POST", url, json={"username": "ada"}, headers=headers).status == 202
    assert load._admitted == accepted + 1


# --- keys of machines


def protools(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the program on the databases of a test."""
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    own = {
        "PROTOOLS_SYSTEM": "system:SYSTEM",
        "PROTOOLS_HOME": str(home),
        "JWT_SECRET": SECRET,
        "OPERATOR": "ada",
        **settings,
    }
    command = [sys.executable, "-m", "pulsaga_program", *arguments]
    return subprocess.run(command, env=path | own, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_key_is_shown_once_opens_what_its_role_may_and_is_revoked(tmp_path: Path, bff: Room) -> None:
    """Its life from the command line to the audit: nobody can read it again, and it ends within seconds."""
    home = bff.runtime.settings.home
    made = protools(home, "keys", "create", "--role", "caller", "--subject", "shop", "--why", "a new shop")
    assert made.returncode == 0, made.stderr
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert bff.http.post("/passwords", json={"username": "ada"}, headers=key).status_code == 202
    assert bff.rows(acceptance)[0]["actor"] == "shop"
    assert bff.http.get("/metrics", headers=key).status_code == 403

    (row,) = bff.rows(api_key)
    assert made.stdout.strip() not in str(dict(row))
    shown = protools(home, "keys", "list").stdout
    assert row["id"] in shown
    assert "ptk_" not in shown

    revoked = protools(home, "keys", "revoke", row["id"], "--why", "lost")
    assert revoked.returncode == 0, revoked.stderr
    eventually(lambda: bff.http.get("/passwords", headers=key).status_code == 401, within_s=KEPT_S + 5)
    assert protools(home, "keys", "revoke", row["id"], "--why", "again").returncode == 1
    told = [(one["who"], one["action"], one["why"]) for one in bff.rows(audit)]
    assert told == [("ada", "create-key", "a new shop"), ("ada", "revoke-key", "lost")]


def test_a_key_that_was_seen_costs_no_query(bff: Room) -> None:
    """The hot route must not pay for the way in."""
    with bff.runtime.write.begin() as tx:
        _, key = keys.create(tx, "shop", "reader", 1.0)
    headers = {"Authorization": f"Bearer {key}"}
    assert bff.http.get("/passwords", headers=headers).status_code == 200
    with counted(bff.runtime.write) as bill:
        assert {bff.http.get("/passwords", headers=headers).status_code for _ in range(10)} == {200}
    assert bill.statements == 0


def test_a_key_opens_the_front_door_only(rooms: dict[str, Room]) -> None:
    """The other services cannot look it up, so they must not guess."""
    for name in ("protools_saga", "generador", "correo"):
        answer = rooms[name].http.get("/metrics", headers={"Authorization": "Bearer ptk_" + "A" * 43})
        assert answer.status_code == 401


def test_an_operator_issues_a_token_that_opens(tmp_path: Path, bff: Room) -> None:
    """`protools token issue`, as the first steps say it; a subject that is none is named."""
    done = protools(tmp_path, "token", "issue", "--role", "reader", "--subject", "grafana")
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    assert bff.http.get("/metrics", headers=headers).status_code == 200
    assert protools(tmp_path, "token", "issue", "--role", "reader", "--subject", "").returncode == 2


# --- two operators

FOUR_EYES = {"OPERATOR_APPROVALS": "2"}
FOR_ADMIN = ("--role", "admin", "--subject", "boss", "--why", "a new boss")
WAYS_IN = [("keys", "create"), ("token", "issue")]


@pytest.mark.parametrize("way", WAYS_IN)
def test_where_two_operators_have_to_agree_nobody_makes_a_way_in_alone(bff: Room, way: tuple[str, str]) -> None:
    """With a key of an admin one person could do everything. The first hears nothing secret, nor is anything made."""
    home = bff.runtime.settings.home
    for expected in (3, 1):  # recorded; the same operator again is refused
        done = protools(home, *way, *FOR_ADMIN, **FOUR_EYES)
        assert (done.returncode, done.stdout) == (expected, ""), done.stderr
        assert bff.rows(api_key) == []
    other = protools(home, *way, "--as", "bob", "--role", "caller", *FOR_ADMIN[2:], **FOUR_EYES)
    assert (other.returncode, other.stdout) == (3, "")  # another role is another wish
    done = protools(home, *way, "--as", "bob", *FOR_ADMIN, **FOUR_EYES)
    assert done.returncode == 0, done.stderr
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    assert bff.http.get("/metrics", headers=headers).status_code == 200
    action = "create-key" if way[0] == "keys" else "issue-token"
    told = [(row["who"], row["action"]) for row in bff.rows(audit)]
    assert told == [("ada", f"{action} wanted"), ("bob", f"{action} wanted"), ("bob", action)]
    assert done.stdout.strip() not in repr(bff.rows(audit))
    again = protools(home, *way, "--as", "eve", *FOR_ADMIN, **FOUR_EYES)
    assert (again.returncode, again.stdout) == (3, "")  # agreed upon once, made once


@pytest.mark.parametrize("way", WAYS_IN)
def test_what_could_not_be_made_is_not_recorded_as_a_wish(bff: Room, way: tuple[str, str]) -> None:
    """Else a second operator would agree to nothing; a reason is asked for as well."""
    home = bff.runtime.settings.home
    assert protools(home, *way, "--role", "admin", "--subject", "", "--why", "x", **FOUR_EYES).returncode == 2
    assert protools(home, *way, "--role", "admin", "--subject", "boss", **FOUR_EYES).returncode == 2
    assert bff.rows(audit) == []


def test_a_key_that_leaked_is_revoked_by_one_operator(bff: Room) -> None:
    """To take a way in away is not to wait for a second person at 3 a.m."""
    with bff.runtime.write.begin() as tx:
        identifier, _ = keys.create(tx, "shop", "reader", 1.0)
    done = protools(bff.runtime.settings.home, "keys", "revoke", identifier, "--why", "leaked", **FOUR_EYES)
    assert done.returncode == 0, done.stderr
    assert [(row["who"], row["action"]) for row in bff.rows(audit)] == [("ada", "revoke-key")]
