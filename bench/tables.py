"""Show what was measured as tables: a column a contestant, the targets, and what each process took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.lineup import ENTRIES
from bench.report import FEWEST_ROUNDS, Figure

Measured = dict[str, Any]
"""The file's content: contestants by key, beside `machine` and `at`."""

ROWS = (
    ("sagas_per_s", "sagas/s, accepted in process"),
    ("preloaded_per_s", "sagas/s, preloaded"),
    ("sagas_per_s_http", "sagas/s, accepted over HTTP"),
    ("accepted_per_s_http", "accepted/s over HTTP"),
    ("p50_ms", "alone p50, ms"),
    ("p95_ms", "alone p95, ms"),
    ("p99_ms", "alone p99, ms"),
    ("loaded_p50_ms", "loaded p50, ms"),
    ("loaded_p95_ms", "loaded p95, ms"),
    ("loaded_p99_ms", "loaded p99, ms"),
    ("http_p50_ms", "over HTTP p50, ms"),
    ("http_p99_ms", "over HTTP p99, ms"),
    ("statements_per_saga", "statements per saga"),
    ("commits_per_saga", "commits per saga"),
    ("preloaded_statements_per_saga", "statements per saga, preloaded"),
    ("preloaded_commits_per_saga", "commits per saga, preloaded"),
    ("wal_bytes_per_saga", "PostgreSQL log bytes per saga"),
    ("alone_statements_per_saga", "statements per saga, alone"),
    ("alone_commits_per_saga", "commits per saga, alone"),
    ("messages_per_saga", "messages per saga"),
    ("bytes_per_saga", "message bytes per saga"),
    ("cpu_s_per_1000", "CPU s per 1,000"),
    ("memory_mib", "memory, MiB"),
    ("idle_cpu_percent", "CPU while idle, % of one core"),
)


def comparison(measured: Measured) -> list[str]:
    """Return every figure of everybody, as a Markdown table."""
    columns = [measured[key] for key in _present(measured)]
    rows = [["", *(column["name"] for column in columns)]]
    for name, title in ROWS:
        if any(name in column["figures"] for column in columns):
            rows.append([title, *(str(figure(column, name) or "–") for column in columns)])
    return markdown(rows)


def targets(measured: Measured) -> list[str]:
    """Return what this run says about the targets, as a Markdown table."""
    return markdown([["figure", "target", "measured", ""], *_targets(measured)])


def processes(measured: Measured) -> list[str]:
    """Return, for each contestant, its settings and what each of its processes took."""
    return [line for key in _present(measured) for line in _processes(measured[key])]


def figure(contestant: Measured, name: str) -> Figure | None:
    """Return one figure of one contestant."""
    shown = contestant["figures"].get(name)
    return Figure(shown["rounds"]) if shown else None


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out as a Markdown table whose columns line up."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in padded)
    return [head, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *body]


def _present(measured: Measured) -> list[str]:
    return [entry.key for entry in ENTRIES if measured.get(entry.key, {}).get("figures")]


def _targets(measured: Measured) -> Iterator[list[str]]:
    present = {key: measured[key] for key in _present(measured)}
    ours, floor = present.get("protools"), present.get("floor")
    if embedded := present.get("embedded"):
        yield _judged("embedded: sagas/s", figure(embedded, "sagas_per_s"), at_least=300)
        yield _judged("embedded: alone p50, ms", figure(embedded, "p50_ms"), at_most=25)
    if ours is None:
        return
    yield from _against_peers(ours, [contestant for contestant in present.values() if contestant["peer"]])
    if floor:
        yield _judged("sagas/s ÷ floor", ratio(ours, floor, "sagas_per_s"), at_least=0.5)
        yield _judged("alone p50 ÷ floor", ratio(ours, floor, "p50_ms"), at_most=1.5)
    yield _judged("accepted/s over HTTP", figure(ours, "accepted_per_s_http"), at_least=1500)
    yield _judged("commits per saga", figure(ours, "commits_per_saga"), at_most=0.2)
    yield _judged("statements per saga", figure(ours, "statements_per_saga"), at_most=1)
    workers = [size for name, size in ours["memory_mib_by_process"].items() if name.endswith(".worker")]
    yield _judged("largest worker, MiB", Figure([max(workers)] * FEWEST_ROUNDS), at_most=120)
    yield _judged("our processes while idle, % of one core", figure(ours, "idle_cpu_percent"), at_most=1)


def _against_peers(ours: Measured, peers: Sequence[Measured]) -> Iterator[list[str]]:
    if not peers:
        return
    best = max(peers, key=lambda peer: peer["figures"]["sagas_per_s"]["median"])
    quickest = min(peers, key=lambda peer: peer["figures"]["p50_ms"]["median"])
    yield _judged(f"sagas/s ÷ best peer ({best['name']})", ratio(ours, best, "sagas_per_s"), at_least=10)
    over_http = ratio(ours, best, "sagas_per_s_http", "sagas_per_s")
    yield _judged(f"sagas/s over HTTP ÷ best peer ({best['name']})", over_http, at_least=4)
    yield _judged(f"alone p50 ÷ quickest peer ({quickest['name']})", ratio(ours, quickest, "p50_ms"), at_most=2)


def ratio(above: Measured, below: Measured, name: str, below_name: str | None = None) -> Figure | None:
    """Return a figure of one contestant divided by another's, round by round."""
    ours, theirs = figure(above, name), figure(below, below_name or name)
    if ours is None or theirs is None:
        return None
    return Figure([one / other for one, other in zip(ours.rounds, theirs.rounds, strict=False)])


def _judged(title: str, measured: Figure | None, at_least: float = 0, at_most: float = float("inf")) -> list[str]:
    target = f"≥ {at_least:,g}" if at_least else f"≤ {at_most:,g}"
    if measured is None or measured.value is None:
        return [title, target, str(measured or "–"), "no figure"]
    return [title, target, str(measured), "met" if at_least <= measured.value <= at_most else "missed"]


def _processes(contestant: Measured) -> Iterator[str]:
    yield f"{contestant['name']}: " + ", ".join(f"{name} {version}" for name, version in contestant["versions"].items())
    for name, value in contestant["settings"].items():
        yield f"  {name}: {value}"
    memory = contestant["memory_mib_by_process"]
    for name, seconds in sorted(contestant["cpu_s_per_1000_by_process"].items(), key=lambda item: -item[1]):
        yield f"  {name:<22} {seconds:8.3f} CPU s per 1,000  {memory[name]:6.0f} MiB"
    if depths := [depth for samples in contestant["outbox_depth"] for _, depth in samples]:
        yield f"  outbox: at most {max(depths):,} rows"
    if contestant["failure"]:
        yield f"  FAILED: {contestant['failure']}"
    yield ""
