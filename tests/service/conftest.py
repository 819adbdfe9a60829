"""Serve the front door of a test over a real socket, and ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import urllib3
from tests.service.rooms import Room
from tests.service.web import Serving, serving


@pytest.fixture
def web(bff: Room) -> Iterator[Serving]:
    with serving(bff.app) as running:
        yield running


@pytest.fixture
def client() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False, timeout=10) as pool:
        yield pool
