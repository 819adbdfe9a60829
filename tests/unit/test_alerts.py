"""Hold rules, dashboards and run-book against each other, and against what processes show."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.servers import cannot_run

from pulsaga_program.cli import commands
from system import SYSTEM

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS, GRAFANA, RUNBOOK = ROOT / "deploy/prometheus", ROOT / "deploy/grafana", ROOT / "docs/runbook"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
BOARDS = sorted(GRAFANA.glob("*.json"))
METRIC = re.compile(r"\b(?:protools|http_server)_\w+")
OF_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
PARTS = ["## What it means", "## See it", "## What to do", "## When it is over"]
FILLED = {"$__rate_interval": "5m", "$service": "stock", "$workflow": "order"}


def promtool(*arguments: str | Path) -> str:
    """Run promtool; return what it said, and fail unless it is content."""
    program = shutil.which("promtool")
    if program is None:
        cannot_run("promtool is missing: install Debian's package prometheus")
    done = subprocess.run([program, *map(str, arguments)], cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- rules


def test_the_rules_and_configurations_are_sound() -> None:
    """Prometheus does not start with a file that it cannot read."""
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yml")
    for name in ("prometheus.yml", "compose.yml"):
        promtool("check", "config", "--syntax-only", name)


def test_every_rule_fires_when_it_should_and_not_before() -> None:
    """An alert that never fires is found out on the worst day."""
    promtool("test", "rules", "alerts_test.yml")


def test_every_rule_is_tested_both_ways() -> None:
    """The test above passes for a rule that it does not mention."""
    for rule in RULES:
        (case,) = (one for one in cases() if one["name"] == rule["alert"])
        said = [str(look["exp_samples"]) for look in case["promql_expr_test"]]
        assert [f'alertname="{rule["alert"]}"' in samples for samples in said] == [False, True]


def cases() -> Iterator[dict[str, Any]]:
    """Yield the cases of the unit tests."""
    yield from yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_rule_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Whoever is woken up reads three lines and a page."""
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook/{rule['alert']}.md"
    assert (ROOT / rule["annotations"]["runbook_url"]).exists()
    operators = (ROOT / "docs/operators.md").read_text()
    assert f"| [`{rule['alert']}`](runbook/{rule['alert']}.md) | {rule['labels']['severity']} |" in operators


def test_rules_know_every_process_of_compose() -> None:
    """A process that is scraped by nobody is missed by nobody."""
    (job,) = yaml.safe_load((PROMETHEUS / "compose.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    named = {"bff" if process == ("bff", "web") else "-".join(process) for process in SYSTEM.processes}
    assert set(found["names"]) == named


# --- run-book


@pytest.mark.parametrize("page", sorted(RUNBOOK.glob("*.md")), ids=lambda page: page.stem)
def test_every_page_belongs_to_a_rule_and_has_its_parts(page: Path) -> None:
    """At 3 a.m. nobody looks for where a page says what to do."""
    text = page.read_text()
    (rule,) = (one for one in RULES if one["alert"] == page.stem)
    assert f"a **{rule['labels']['severity']}**" in text
    assert re.findall(r"^## .*", text, re.MULTILINE) == PARTS
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (RUNBOOK / link).exists(), link


def test_the_run_book_asks_only_for_commands_that_there_are() -> None:
    """A command that was renamed helps nobody."""
    for page in RUNBOOK.glob("*.md"):
        for line in re.findall(r"^protools [^#\n]*|(?<=`)protools [^`]*", page.read_text(), re.MULTILINE):
            assert is_command(line.split()[1:]), f"{page.name}: {line}"


def is_command(words: list[str]) -> bool:
    """Tell whether the first words name a command of the program, and its options are known."""
    found: click.Command | None = commands
    while isinstance(found, click.Group) and words:
        found = found.get_command(click.Context(found), words.pop(0))
    if found is None or isinstance(found, click.Group):
        return found is commands or (found is not None and not words)
    known = {option for parameter in found.params for option in parameter.opts}
    return {word for word in words if word.startswith("--")} <= known


# --- metrics and dashboards


def known() -> set[str]:
    """Return the metrics that docs/metrics.md names; tests/service/test_metrics.py holds it against a scrape."""
    return set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that an expression names, histograms by their own name."""
    return {name if name in known() else OF_HISTOGRAM.sub("", name) for name in METRIC.findall(expression)}


def queries(board: Path) -> list[str]:
    """Return the queries of a dashboard's panels, with something in place of its variables."""
    panels = json.loads(board.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    for variable, value in FILLED.items():
        found = [query.replace(variable, value) for query in found]
    return found


def test_rules_name_metrics_that_there_are() -> None:
    """A rule over a metric that was renamed is silent for ever."""
    for rule in RULES:
        assert metrics_of(rule["expr"]) <= known(), rule["alert"]
        assert metrics_of(rule["expr"]) or "up{" in rule["expr"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_dashboards_ask_for_metrics_that_there_are(board: Path, tmp_path: Path) -> None:
    """An empty panel looks like good news."""
    asked = queries(board)
    assert set[str]().union(*map(metrics_of, asked)) <= known()
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


def test_dashboards_fit_together() -> None:
    """Two boards of one id are one, and a panel that asks another source shows another system."""
    boards = [json.loads(board.read_text()) for board in BOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) == 3
    for board in boards:
        assert board["templating"]["list"][0]["name"] == "datasource"
        assert all(panel["datasource"]["uid"] == "${datasource}" for panel in board["panels"])
        names = {f"${variable['name']}" for variable in board["templating"]["list"]}
        used = {
            name
            for target in re.findall(r'"expr": ".*"', json.dumps(board, indent=1))
            for name in FILLED
            if name in target
        }
        assert used - {"$__rate_interval"} <= names
