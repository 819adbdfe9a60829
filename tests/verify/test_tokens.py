"""Signals that only the bearer of a token may send, on real databases: who tries, when, and under which key."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from tests.verify.flows import begin, fate_of, flow, lab_of, progress_of, step
from tests.verify.lab import SILENCE_S, Lab, defects

from pulsaga.delivery.tables import dead_letter, event, incident
from pulsaga.saga.definition import Saga
from pulsaga.saga.steps import BEARER, Await
from pulsaga.saga.tables import saga
from pulsaga.saga.tokens import TOKEN_KEY, digest_of
from pulsaga.settings import Settings

NEXT_KEY = base64.b64encode(b"k" * 32).decode()


def permitted(pool: ModuleType, *, early: bool = False, **rest: Any) -> Saga[Any]:
    """A workflow that goes on to its second step once whoever bears the token of its first one says so."""
    asks = step(pool, 0, fate_of, token_for=pool.Permit, **rest)
    return flow(pool, asks, Await(pool.Permit, by=BEARER, deadline=60.0, early=early), step(pool, 1, lambda _: "do"))


@pytest.fixture
def lab(pool: ModuleType, settings: Settings) -> Iterator[Lab]:
    made = lab_of(pool, settings, permitted(pool))
    yield made
    made.close()


def goes_on(lab: Lab, saga_id: str) -> bool:
    """Tell whether a saga has passed its signal."""
    lab.deliver_all()
    return "2" in progress_of(lab, saga_id).steps


def refusals(lab: Lab) -> list[str]:
    return [row["type"] for row in lab.coordinator.rows(event) if row["type"] == "lab.command-refused"]


def test_nobody_else_may_signal(lab: Lab, pool: ModuleType) -> None:
    """Who has none, another's, one that was never given out, or what is kept of one: refused, and nothing moves."""
    own, other = begin(lab, pool, "do"), begin(lab, pool, "do")
    tokens = dict(lab.tokens())
    assert tokens.keys() == {own, other}
    before = progress_of(lab, own)
    wrong = [None, (own, tokens[other]), (own, ""), (own, "x" * 43), (own, digest_of(tokens[own])), (own, own)]
    for bears in wrong:
        lab.signal(own, pool.Permit(), bears)
        assert not goes_on(lab, own)
    assert progress_of(lab, own) == before
    assert len(refusals(lab)) == len(wrong)
    lab.signal(own, pool.Permit(), (own, tokens[own]))
    assert goes_on(lab, own)
    assert not goes_on(lab, other)
    lab.signal(own, pool.Permit(), (own, tokens[own]))
    lab.come_to_rest()
    assert [row["status"] for row in lab.coordinator.rows(saga)] == ["COMPLETED", "COMPENSATED"]
    lab.signal(other, pool.Permit(), (other, tokens[other]))
    lab.deliver_all()
    assert lab.coordinator.count(dead_letter) == 0
    assert [row["kind"] for row in lab.coordinator.rows(incident)] == ["parked"], "it came late, and an operator knows"
    assert defects(lab.report()) == {}


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_one_that_comes_early_is_kept_where_that_is_declared_and_proven_before(
    pool: ModuleType, settings: Settings
) -> None:
    """A receiver may be faster than its answer: what counts is whose token it is."""
    lab = lab_of(pool, settings, permitted(pool, early=True))
    saga_id = begin(lab, pool, "later")
    ((_, token),) = lab.tokens()
    lab.signal(saga_id, pool.Permit(), (saga_id, "wrong"))
    lab.deliver_all()
    assert progress_of(lab, saga_id).early == {}
    lab.signal(saga_id, pool.Permit(), (saga_id, token))
    lab.deliver_all()
    assert progress_of(lab, saga_id).early == {"lab.permit": {}}
    lab.finish()
    assert goes_on(lab, saga_id)
    lab.close()


def test_a_command_that_is_sent_again_brings_the_same_token_and_a_new_one_another(
    pool: ModuleType, settings: Settings
) -> None:
    """Its receiver may have either of two copies; and of two commands, one that was refused may have been read."""
    lab = lab_of(pool, settings, permitted(pool, retryable=("refused",), tries=2))
    saga_id = begin(lab, pool, "later")
    lab.pass_time(SILENCE_S)
    ((_, first), (_, again)) = lab.tokens()
    assert first == again
    refused = begin(lab, pool, "refuse")
    lab.pass_time(SILENCE_S)
    one, another = (token for owner, token in lab.tokens() if owner == refused)
    assert one != another
    lab.finish()
    lab.deliver_all()
    lab.signal(saga_id, pool.Permit(), (saga_id, first))
    assert goes_on(lab, saga_id)
    lab.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_token_outlives_the_change_of_its_key(pool: ModuleType, settings: Settings) -> None:
    """Who was sent a link does not know of keys; once the old one is gone, its links are, too."""
    workflow = permitted(pool)
    lab = lab_of(pool, settings, workflow)
    sagas = [begin(lab, pool, "do") for _ in range(2)]
    tokens = dict(lab.tokens())
    lab.close()
    old, environment = settings.environment[TOKEN_KEY], {**settings.environment, TOKEN_KEY: NEXT_KEY}
    for saga_id, known, passes in ((sagas[0], {f"{TOKEN_KEY}_OLD": old}, True), (sagas[1], {}, False)):
        next_one = Lab(lab.system, Settings.read({**environment, **known}), lab.finishing)
        next_one.signal(saga_id, pool.Permit(), (saga_id, tokens[saga_id]))
        assert goes_on(next_one, saga_id) is passes
        next_one.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_token_is_kept_nowhere(lab: Lab, pool: ModuleType, settings: Settings) -> None:
    """Whoever reads a database or listens to the broker cannot use what is found there."""
    begin(lab, pool, "do")
    lab.tidy()
    ((_, token),) = lab.tokens()
    kept = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file()]
    told = [wire.body + repr(wire.properties).encode() for desk in lab.desks.values() for wire in desk.broker.published]
    assert any(digest_of(token).encode() in text for text in kept)
    assert any(digest_of(token).encode() in text for text in told)
    assert not any(token.encode() in text for text in kept + told)
