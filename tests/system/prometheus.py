"""A real Prometheus with the configuration and rules that ship, over a running system."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
import yaml
from tests.patience import PATIENCE_S
from tests.servers import cannot_run
from tests.system.harness import System, eventually

from pulsaga_program.local.process import free_ports

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
OFTEN = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
"""A process of which a database hangs takes a second to answer."""


class Prometheus:
    """A running Prometheus that scrapes a system."""

    def __init__(self, system: System, folder: Path, port: int) -> None:
        self._system, self._folder = system, folder
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def find_targets(self) -> None:
        """Scrape the processes that run now, as operators do it: a process that was started anew has another port."""
        done = self._system.run("targets")
        assert done.returncode == 0, done.stderr
        (self._folder / "targets.new").write_text(done.stdout)
        (self._folder / "targets.new").rename(self._folder / "targets.json")

    def firing(self) -> list[dict[str, Any]]:
        """Return the alerts that fire."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return [alert for alert in found if alert["state"] == "firing"]

    def fires(self, name: str, **labels: str) -> bool:
        """Tell whether an alert fires, with these labels, and says so in words."""
        for alert in self.firing():
            if alert["labels"].items() >= {"alertname": name, **labels}.items():
                assert "template" not in alert["annotations"]["summary"], alert
                return True
        return False

    def is_scraping(self) -> bool:
        """Tell whether every process was scraped."""
        health = [target["health"] for target in self._get("targets")["activeTargets"]]
        return bool(health) and set(health) == {"up"}

    def _get(self, path: str) -> Any:
        answer = urllib3.request("GET", f"{self._url}/{path}", timeout=PATIENCE_S, retries=False)
        return answer.json()["data"]


def configuration(folder: Path) -> str:
    """Return the configuration that ships, for a folder of its own, and hurried."""
    shipped = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    shipped["global"] |= OFTEN
    shipped["rule_files"] = [str(SHIPPED / name) for name in shipped["rule_files"]]
    (job,) = shipped["scrape_configs"]
    job["file_sd_configs"] = [{"files": [str(folder / "targets.json")], "refresh_interval": "1s"}]
    return yaml.safe_dump(shipped)


@contextmanager
def prometheus(system: System, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus over a system while the block runs."""
    program = shutil.which("prometheus")
    if program is None:
        cannot_run("prometheus is missing: install Debian's package of that name")
    (port,) = free_ports(1)
    running = Prometheus(system, folder, port)
    running.find_targets()
    (folder / "prometheus.yml").write_text(configuration(folder))
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        eventually(lambda: _scrapes(running, process), PATIENCE_S, folder / "prometheus.log")
        yield running
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def _scrapes(running: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "prometheus ended"
    try:
        return running.is_scraping()
    except (urllib3.exceptions.HTTPError, ValueError):  # it does not listen, or is not ready
        return False
