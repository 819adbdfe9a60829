"""Plant misspelt names where mistakes happen, and see the type checker find each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
from dataclasses import dataclass, replace
from typing import TypedDict

from sqlalchemy import Column, Integer, MetaData, String

from pulsaga import Handler, Message, Projection, Rows, Saga, Step, UnitOfWork, command, event, one_of


@event("stock.reserved")
@dataclass(frozen=True)
class Reserved:
    left: int


@command("stock.reserve", replies=(Reserved,))
@dataclass(frozen=True)
class Reserve:
    sku: str


@command("shop.order")
@dataclass(frozen=True)
class Order:
    sku: str


@dataclass(frozen=True)
class Known(Order):
    left: int = 0


class Item(TypedDict):
    sku: str
    free: int


item = Rows[Item]("item", MetaData(), Column("sku", String, primary_key=True), Column("free", Integer))

LEFT = one_of(item, item.c.free > 0, order_by=item.c.sku)


def reserve(message: Message[Reserve], uow: UnitOfWork) -> None:
    row = uow.get(item, message.body.sku)
    if row is not None:
        uow.put(item, {**row, "free": row["free"] - 1})
    uow.put(item, {"sku": message.body.sku, "free": 1})
    taken, found = uow.take(LEFT), uow.find(item, item.c.sku, "tea")
    if taken is not None and found is not None:
        uow.put(item, {**taken, "free": taken["free"] + found["free"]})


def learn(known: Known, reply: Reserved) -> Known:
    return replace(known, left=reply.left)


HANDLER = Handler(Reserve, reserve, reads=lambda m: [(item, m.body.sku), LEFT, (item.c.sku, "tea")])
PROJECTION = Projection(Reserved, lambda m: [(item, {"sku": m.id, "free": m.body.left})])
ORDER = Saga[Known](
    "order",
    starts=Order,
    data=Known,
    subject=lambda known: known.sku,
    steps=[Step(lambda known: Reserve(known.sku), learn=learn, deadline=60)],
)
"""
PLANTS = {
    "a message field in a handler": ("uow.get(item, message.body.sku)", "uow.get(item, message.body.skuu)", "skuu"),
    "a message field in reads": ("(item, m.body.sku)", "(item, m.body.skuu)", "skuu"),
    "a column of a row of a pool": ('taken["free"]', 'taken["fre"]', "fre"),
    "a column of a row that was found": ('found["free"]', 'found["fre"]', "fre"),
    "a field of a projected event": ("m.body.left", "m.body.lefft", "lefft"),
    "a handler of another message": ("Handler(Reserve, reserve", "Handler(Order, reserve", "reserve|Handler"),
    "a column that is read": ('row["free"]', 'row["fre"]', "fre"),
    "a column that is written": ('"sku": message.body.sku, "free"', '"sku": message.body.sku, "fre"', "Item"),
    "a column of a changed row": ('{**row, "free"', '{**row, "fre"', "Item"),
    "a field of the data in a step": ("Reserve(known.sku)", "Reserve(known.skuu)", "skuu"),
    "a field of the data in the subject": ("known: known.sku,", "known: known.skuu,", "skuu"),
    "a field of the command that a step sends": ("Reserve(known.sku)", "Reserve(skuu=known.sku)", "skuu"),
    "a field of the reply": ("left=reply.left", "left=reply.lefft", "lefft"),
    "a field that is learned": ("left=reply.left", "lefft=reply.left", "lefft"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of the good module and of every spoiled one: one run."""
    folder = tmp_path_factory.mktemp("planted")
    files = {"good": GOOD, **{name: GOOD.replace(old, new) for name, (old, new, _) in PLANTS.items()}}
    named = {f"planted_{number}": name for number, name in enumerate(files)}
    for module, name in named.items():
        (folder / f"{module}.py").write_text(files[name])
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(folder / "cache")]
    done = subprocess.run(
        [*command, *(f"{module}.py" for module in named)],
        cwd=folder,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    return {name: [line for line in lines if line.startswith(f"{module}.py")] for module, name in named.items()}


def test_what_is_right_has_no_complaint(told: dict[str, list[str]]) -> None:
    """Otherwise the complaints below would say nothing."""
    assert told["good"] == []


@pytest.mark.parametrize("plant", PLANTS)
def test_a_misspelt_name_fails_the_type_checker(told: dict[str, list[str]], plant: str) -> None:
    """What the checker does not find, the first message finds, in production."""
    old, _, named = PLANTS[plant]
    assert old in GOOD
    assert told[plant]
    assert any(re.search(named, line) for line in told[plant])
