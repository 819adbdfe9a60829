"""Send XML with document types of every kind to every address that takes a body, and watch what the process opens."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tests.patience import PATIENCE_S
from tests.service.rooms import room
from tests.service.web import serving

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1")
SERVICES = ("bff", "protools_saga", "generador", "correo")


class Trap:
    """A FIFO and a listening port: whoever reaches for one of them is seen, and nobody is held up for long."""

    def __init__(self, folder: Path) -> None:
        self._fifo = folder / "fifo"
        os.mkfifo(self._fifo)
        self._port = socket.create_server(("127.0.0.1", 0))
        self.is_opened = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def addresses(self) -> list[str]:
        return [f"file://{self._fifo}", str(self._fifo), f"http://127.0.0.1:{self._port.getsockname()[1]}/x.dtd"]

    def _watch(self) -> None:
        with open(self._fifo, "wb"):  # returns once somebody reads
            self.is_opened.set()

    def caught(self) -> bool:
        return self.is_opened.is_set() or bool(select.select([self._port], [], [], 0)[0])

    def close(self) -> None:
        os.close(os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK))
        self._watcher.join(PATIENCE_S)
        self._port.close()


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    made = Trap(tmp_path)
    yield made
    made.close()


def document_types(address: str) -> list[str]:
    return [
        f'<!DOCTYPE r SYSTEM "{address}"><r/>',
        f'<!DOCTYPE r PUBLIC "-//W3C//DTD XHTML 1.0//EN" "{address}"><r/>',
        f'<!DOCTYPE r [<!ENTITY % p SYSTEM "{address}"> %p;]><r/>',
        f'<!DOCTYPE r [<!ENTITY % p PUBLIC "p" "{address}"> %p;]><r/>',
        f'<!DOCTYPE r [<!ENTITY e SYSTEM "{address}">]><r>&e;</r>',
        f'<!DOCTYPE r [<!ENTITY e SYSTEM "{address}">]><r a="&e;"/>',
        f'<!-- --><?p?>\n<!DOCTYPE r SYSTEM "{address}" [<!ATTLIST r a CDATA "x">]><r/>',
        f'<r xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{address}" parse="text"/></r>',
        f'<?xml-stylesheet type="text/xsl" href="{address}"?><r/>',
        f'<r xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="{address}"/>',
    ]


def bodies(addresses: list[str]) -> Iterator[tuple[str, bytes]]:
    for address in addresses:
        for text in document_types(address):
            for encoding in ENCODINGS:
                declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
                yield "application/xml", (declared + text).encode(encoding)
            yield "application/xml", text.encode()
            yield "text/xml; charset=utf-16", text.encode("utf-16")


@pytest.mark.parametrize("service", SERVICES)
def test_no_document_opens_a_file_or_a_connection(service: str, tmp_path: Path, trap: Trap) -> None:
    """A stranger's DTD on a FIFO stopped the front door for good, and told whether a file exists."""
    made = room(service, tmp_path / "home", GENERADOR_URL="http://127.0.0.1:1")
    paths = [rule.rule for rule in made.app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    with serving(made.app) as web, urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as client:
        for path in [*paths, "/nowhere"]:
            for media_type, body in bodies(trap.addresses):
                answer = client.request("POST", web.url + path, body=body, headers={"Content-Type": media_type})
                assert 400 <= answer.status < 500, (path, body)
                assert not trap.caught(), (path, body)
    made.close()
