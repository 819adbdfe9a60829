"""Do what docs/adding.md says, in an empty folder, and use the system that it builds as its author would."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from lxml import etree
from tests.system.conftest import Mode
from tests.system.folders import Repository, is_in_house_style
from tests.system.harness import eventually

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "adding.md").read_text()
FILES = dict(re.findall(r"^```(?:python|toml)\n# ([^\n]+)\n(.*?)^```$", GUIDE, re.M | re.S))
COMMANDS = re.findall(r"^\$ (.+)$", GUIDE, re.M)
DOCUMENTS = ("openapi.json", "asyncapi.json", "schema.xsd", "problem.xsd")
PAGES = ("", "docs", "docs/messages")
KIND = re.compile(r"^```(\w*)$", re.M)


def lines_of(place: str) -> int:
    """Count the lines of a file of the guide that somebody has to write, blank ones left out."""
    return sum(1 for line in FILES[place].splitlines() if line.strip())


class Shop(Repository):
    """The folder that the guide fills."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, environment, "shop")
        for place, text in FILES.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text)


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
        shown = shop.do("protools sagas list --status all")
        assert re.findall(r"(COMPLETED|COMPENSATED)  place-order@1  (o-\d)", shown) == [
            ("COMPLETED", "o-1"),
            ("COMPENSATED", "o-2"),
        ]
        replay_what_a_fault_killed(shop, asks[0])
        assert "nothing lost, doubled or stuck; 3 sagas" in eventually(shop.is_clean)


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


def test_what_the_guide_writes_is_in_house_style(tmp_path: Path) -> None:
    """A reader who copies an example must not be sent back by the linter."""
    for place, text in FILES.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    is_in_house_style(tmp_path)


def test_every_block_of_the_guide_is_tried() -> None:
    """A block that is no file and no command would be read by nobody but readers."""
    opened = KIND.findall(GUIDE)[::2]
    assert opened.count("python") + opened.count("toml") == len(FILES)
    assert set(opened) == {"python", "toml", "console"}
