"""Do what docs/adding.md says, in an empty folder, and use the system that it builds as its author would."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import msgpack
import pytest
import urllib3
from lxml import etree
from tests.system.conftest import Mode
from tests.system.folders import Repository, is_in_house_style
from tests.system.harness import eventually

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "adding.md").read_text()
SCENARIO = (ROOT / "docs" / "scenarios" / "03-modifiability.md").read_text()
FILES = dict(re.findall(r"^```(?:python|toml)\n# ([^\n]+)\n(.*?)^```$", GUIDE, re.M | re.S))
CHANGES = dict(re.findall(r"^```diff\n# ([^\n]+)\n(.*?)^```$", GUIDE, re.M | re.S))
MSGPACK = "application/vnd.msgpack"
COMMANDS = re.findall(r"^\$ (.+)$", GUIDE, re.M)
DOCUMENTS = ("openapi.json", "asyncapi.json", "schema.xsd", "problem.xsd")
PAGES = ("", "docs", "docs/messages")
KIND = re.compile(r"^```(\w*)$", re.M)


def lines_of(place: str) -> int:
    """Count the lines of a file of the guide that somebody has to write, blank ones left out."""
    return sum(1 for line in FILES[place].splitlines() if line.strip())


def changed(place: str) -> str:
    """Return a file of the guide as it is in the end."""
    parts = [(line[:1], line[1:]) for line in CHANGES.get(place, "").splitlines(keepends=True)]
    before, after = ("".join(text for mark, text in parts if mark != other) for other in "+-")
    assert FILES[place].count(before) == 1 or not parts, f"the change does not fit {place}"
    return FILES[place].replace(before, after)


def write_files(folder: Path) -> None:
    """Write what the guide writes, changed where it changes it."""
    for place in FILES:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(changed(place))


class Shop(Repository):
    """The folder that the guide fills."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, environment, "shop")
        write_files(folder)


@pytest.fixture(params=["embedded", pytest.param("pulsar", marks=[pytest.mark.pulsar, pytest.mark.postgres])])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """The guide's files, with a broker and databases of their own."""
    mode: Mode = request.getfixturevalue(f"{request.param}_mode")
    return Shop(tmp_path, mode.environment())


@pytest.mark.slow
def test_the_guide_builds_a_system_that_works(shop: Shop) -> None:
    """A guide that no longer fits the code costs its reader an afternoon."""
    make = [line for line in COMMANDS if line.startswith("protools make")]
    asks = [line for line in COMMANDS if line.startswith("curl")]
    assert len(make) + len(asks) + 3 == len(COMMANDS), "a command that nobody would try"
    for line in make:
        assert "written: " in shop.do(line)
    assert " passed" in shop.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert "Success" in shop.python("-m", "mypy", "--strict", "-p", "shop")
    shop.environment["PROTOOLS_FAULTS"] = "on"
    with shop.up():
        completed, refused = (shop.do(line) for line in asks)
        assert (json.loads(completed)["status"], "<code>declined</code>" in refused) == ("completed", True)
        it_describes_itself(shop, asks[1])
        it_speaks_a_third_format(shop)
        shown = shop.do("protools sagas list --status all")
        assert re.findall(r"(COMPLETED|COMPENSATED)  place-order@1  (o-\d)", shown) == [
            ("COMPLETED", "o-4"),
            ("COMPENSATED", "o-2"),
            ("COMPLETED", "o-1"),
        ]
        replay_what_a_fault_killed(shop, asks[0])
        assert "nothing lost, doubled or stuck; 4 sagas" in eventually(shop.is_clean)


def it_describes_itself(shop: Shop, ask: str) -> None:
    """Ask the front door for every document and page; hold the guide's own XML against the XML Schema."""
    told = {name: shop.do(f"curl -sf localhost:3000/{name}") for name in (*DOCUMENTS, *PAGES)}
    assert "/workflows/place-order" in json.loads(told["openapi.json"])["paths"]
    assert "stock.reserve" in json.loads(told["asyncapi.json"])["components"]["messages"]
    assert all("<title>shop: " in told[page] for page in PAGES)
    document = etree.fromstring(shlex.split(ask)[-1])
    document.tag = "placeOrder"
    etree.XMLSchema(etree.fromstring(told["schema.xsd"].encode())).assertValid(document)
    made = shop.do("protools make documents")
    assert re.findall(r"/shop/contract/front_door/(\S+)", made) == list(DOCUMENTS)


def it_speaks_a_third_format(shop: Shop) -> None:
    """Order in MessagePack and read the answer, then a problem, as a client in another language would."""
    order = {"order_id": "o-4", "sku": "tea", "quantity": 1, "card": "4242"}
    completed = in_msgpack(shop, order)
    assert (completed.status, completed.headers["Content-Type"]) == (201, MSGPACK)
    assert (told := msgpack.unpackb(completed.data))["status"] == "completed", told
    refused = in_msgpack(shop, {**order, "quantity": "many"})
    assert (refused.status, refused.headers["Content-Type"]) == (422, MSGPACK)
    assert msgpack.unpackb(refused.data)["errors"][0]["pointer"] == "/quantity"


def in_msgpack(shop: Shop, said: object) -> urllib3.BaseHTTPResponse:
    url = f"http://{shop.door}/workflows/place-order"
    headers = {"Content-Type": MSGPACK, "Accept": MSGPACK, "Prefer": "wait=10"}
    return urllib3.request("POST", url, body=msgpack.packb(said), headers=headers)


def replay_what_a_fault_killed(shop: Shop, ask: str) -> None:
    """Break a handler of the new service until its command dies; replay that, and see the saga end."""
    shop.do('protools faults add "payments.handled action=raise match=order_id=o-3 times=3"')
    shop.do(ask.replace("o-1", "o-3").replace("wait=10", "respond-async"))
    letter = eventually(lambda: json.loads(shop.do("protools dead-letters list --json")), log=shop.log)[0]["letters"][0]
    assert "SUSPENDED  place-order@1  o-3" in shop.do("protools sagas list")
    shop.do(f"protools dead-letters replay {letter['id']} --as ada --why mended")
    eventually(lambda: "COMPLETED  place-order@1  o-3" in shop.do("protools sagas list --status completed"))


def test_a_service_with_a_compensation_and_a_workflow_are_short() -> None:
    """The measures of how easy the framework is to build on."""
    assert lines_of("shop/payments.py") <= 60
    assert lines_of("shop/stock.py") <= 80
    steps = re.findall(
        r"^        Step\(.*?^        \),$|^        Step\(.*\),$", FILES["shop/place_order.py"], re.M | re.S
    )
    assert len(steps) == 2
    assert all(len(step.splitlines()) <= 12 for step in steps)


def test_a_third_format_is_one_short_file_and_its_name_in_the_system() -> None:
    """The quality scenario of modifiability: nothing that reads or writes knows which formats there are."""
    assert set(CHANGES) == {"shop/system.py"}
    new = [line for line in CHANGES["shop/system.py"].splitlines() if line.startswith("+")]
    assert f"(`shop/formats.py`) | 1 | {lines_of('shop/formats.py')} |" in SCENARIO
    assert f"(`shop/system.py`) | 1 | {len(new)} |" in SCENARIO
    assert (lines_of("shop/formats.py") <= 12, len(new)) == (True, 2), "its import, and its name"


def test_what_the_guide_writes_is_in_house_style(tmp_path: Path) -> None:
    """A reader who copies an example must not be sent back by the linter."""
    write_files(tmp_path)
    is_in_house_style(tmp_path)


def test_every_block_of_the_guide_is_tried() -> None:
    """A block that is no file and no command would be read by nobody but readers."""
    opened = KIND.findall(GUIDE)[::2]
    assert opened.count("python") + opened.count("toml") == len(FILES)
    assert opened.count("diff") == len(CHANGES)
    assert set(opened) == {"python", "toml", "console", "diff"}
