"""Offer the services of the pool, and a database of each kind."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from tests.service.stage import BOTH, settings_on
from tests.verify.flows import child, fate_of, flow, step, system_of
from tests.verify.loading import commit, load

from pulsaga.saga.steps import BEARER, Await
from pulsaga.settings import Settings


@pytest.fixture(scope="package")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The services of the pool, with what their author would commit for any workflow of them."""
    module = load("pool", tmp_path_factory.mktemp("pool"))
    borne = [step(module, 0, fate_of, token_for=module.Permit), Await(module.Permit, by=BEARER, deadline=60.0)]
    first = flow(module, Await(module.Confirm, deadline=60.0), *borne, child(module, 1), child(module, 2))
    others = (flow(module, step(module, 0, fate_of), number=number) for number in (1, 2))
    commit(system_of(module, first, *others))
    return module


@pytest.fixture(params=BOTH)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_on(request, tmp_path)
