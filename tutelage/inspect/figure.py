"""Histograms as inline SVG that follow the page's theme: every colour is a CSS variable, text stays text."""

from __future__ import annotations

import math
from bisect import bisect_right
from html import escape

from tutelage.inspect.facts import Lengths, Spread

WIDTH, HEIGHT, TITLE, AXIS, LEFT = 320, 64, 18, 16, 2  # units of the drawing: of a panel, and around its bars
TICKS = 5
COLOURS = {"text": "var(--s3)", "prompt": "var(--s0)", "response": "var(--s1)", "sequence": "var(--s2)"}


def histograms(lengths: Lengths) -> str:
    """One panel for each spread, above one axis; bins grow by one factor, so the axis is (nearly) logarithmic."""
    panels = [_panel(lengths, spread, i) for i, spread in enumerate(lengths.spreads)]
    height = len(panels) * (TITLE + HEIGHT) + AXIS
    label = escape(f"How many {lengths.unit}: " + ", ".join(spread.name for spread in lengths.spreads))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}" font-size="10">'
        f"{''.join(panels)}{_axis(lengths, height)}</svg>"
    )


def _panel(lengths: Lengths, spread: Spread, number: int) -> str:
    top = number * (TITLE + HEIGHT) + TITLE
    most, total = max(spread.counts, default=0) or 1, sum(spread.counts)
    step = _step(spread)
    bars = []
    for i, count in enumerate(spread.counts):
        high = HEIGHT * count / most
        low, end = spread.edges[i], spread.edges[i + 1]
        said = f"{low:,.0f} to {end - 1:,.0f} {lengths.unit}: {count:,}"
        bars.append(
            f'<rect x="{LEFT + i * step:.2f}" y="{top + HEIGHT - high:.2f}" width="{max(step - 1, 0.5):.2f}" '
            f'height="{high:.2f}" fill="{COLOURS[spread.name]}"><title>{said}</title></rect>'
        )
    title = f'<text x="{LEFT}" y="{top - 5}" fill="var(--ink)" font-weight="600">{spread.name}s</text>'
    note = f'<text x="{WIDTH}" y="{top - 5}" fill="var(--muted)" text-anchor="end">{total:,} of them</text>'
    base = f'<line x1="{LEFT}" x2="{WIDTH}" y1="{top + HEIGHT}" y2="{top + HEIGHT}" stroke="var(--line)"/>'
    return title + note + "".join(bars) + _limit(lengths, spread, top) + base


def _limit(lengths: Lengths, spread: Spread, top: int) -> str:
    """A dashed line where max_length lies, in what it limits: the last panel."""
    if (
        spread is not lengths.spreads[-1]
        or not lengths.limit
        or not spread.edges[0] < lengths.limit < spread.edges[-1]
    ):
        return ""
    x = _x(spread, lengths.limit)
    place = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + HEIGHT}"'
    return (
        f'<line {place} stroke="var(--ink)" stroke-width="1.5" stroke-dasharray="4 3">'
        f"<title>max_length {lengths.limit:,}</title></line>"
    )


def _axis(lengths: Lengths, height: int) -> str:
    spread = lengths.spreads[0]
    ticks = []
    for value in _round_numbers(spread.edges[0], spread.edges[-1]):
        x = _x(spread, value)
        anchor = "start" if x < 20 else "end" if x > WIDTH - 20 else "middle"
        place = f'x="{x:.1f}" y="{height - 4}" text-anchor="{anchor}"'
        ticks.append(f'<text {place} fill="var(--muted)">{value:,}</text>')
    return "".join(ticks)


def _round_numbers(low: float, high: float) -> list[int]:
    """A few of 1, 2, 5, 10, 20, ... in the range; its own ends where there are fewer than two."""
    found = [
        step * 10**power for power in range(1 + math.ceil(math.log10(max(high, 1)))) for step in (1, 2, 5)
    ]
    inside = [value for value in found if low <= value < high]
    if len(inside) < 2:
        return [int(low), int(high) - 1] if high - low > 1 else [int(low)]
    every = math.ceil(len(inside) / TICKS)
    return inside[::every]


def _step(spread: Spread) -> float:
    return (WIDTH - LEFT) / max(len(spread.counts), 1)


def _x(spread: Spread, value: float) -> float:
    """Where a length stands: within its bin by its share."""
    i = min(max(bisect_right(spread.edges, value) - 1, 0), len(spread.counts) - 1)
    low, high = spread.edges[i], spread.edges[i + 1]
    return LEFT + (i + min(max((value - low) / (high - low), 0), 1)) * _step(spread)
