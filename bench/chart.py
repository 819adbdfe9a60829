"""Draw lines over seconds, or over a few named places, as an SVG, with nothing but text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 900, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 40, 40
COLOURS = ("#888888", "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")


def lines(
    title: str,
    series: Mapping[str, Sequence[float]],
    unit: str,
    *,
    axis: str = "seconds",
    places: Sequence[str] = (),
) -> str:
    """Return an SVG of these series, one value a second each, or one a place, on one axis from 0."""
    top = _round_up(max(max(values) for values in series.values()))
    seconds = max(len(values) for values in series.values())
    parts = [_text(LEFT, TOP - 16, title, size=15), _text(LEFT, HEIGHT - 6, axis), _text(4, TOP - 4, unit)]
    parts += [_rule(top, share / 5) for share in range(6)]
    parts += [_text(_x(at, seconds), HEIGHT - BOTTOM + 16, name) for at, name in _ticks(seconds, places)]
    parts += [_line(values, seconds, top, COLOURS[row]) for row, values in enumerate(series.values())]
    parts += [_legend(row, name, COLOURS[row]) for row, name in enumerate(series)]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _ticks(seconds: int, places: Sequence[str]) -> Iterator[tuple[int, str]]:
    return enumerate(places) if places else ((second, str(second)) for second in range(0, seconds, 10))


def _round_up(value: float) -> float:
    step = 10.0 ** floor(log10(max(value, 5))) / 5
    return ceil(value / step) * step


def _x(second: float, seconds: int) -> float:
    return LEFT + second * (WIDTH - LEFT - RIGHT) / max(1, seconds - 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM) / top


def _text(x: float, y: float, text: str, *, size: int = 11, colour: str = "#333333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _rule(top: float, share: float) -> str:
    y = _y(top * share, top)
    rule = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
    return rule + _text(4, y + 4, f"{top * share:g}")


def _line(values: Sequence[float], seconds: int, top: float, colour: str) -> str:
    points = " ".join(f"{_x(second, seconds):.1f},{_y(value, top):.1f}" for second, value in enumerate(values))
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>'


def _legend(row: int, name: str, colour: str) -> str:
    return _text(WIDTH - RIGHT + 12, TOP + 12 + row * 18, name, size=12, colour=colour)
