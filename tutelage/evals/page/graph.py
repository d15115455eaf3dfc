"""Lineage as a picture: which run read the files of which, as a small layered graph in SVG."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from tutelage.evals.folders import RunFolder, parents

NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y, MARGIN = 116, 32, 22, 30, 6
FREE_WIDTH = 12  # of a place that only lets a line through
MIN_WIDTH = 360  # narrower pictures are centred in a phone's width, so that text keeps its size


def edges(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Run name -> the names of the runs it came from, without those that are reached through another one."""
    direct = {run.name: list(dict.fromkeys(parent.name for parent, _ in parents(run, runs))) for run in runs}

    def ancestors(name: str, seen: frozenset[str]) -> set[str]:
        above = [parent for parent in direct[name] if parent not in seen]
        return set(above).union(*(ancestors(parent, seen | {name}) for parent in above)) if above else set()

    reduced = {}
    for name, above in direct.items():
        indirect = (
            set().union(*(ancestors(parent, frozenset({name})) for parent in above)) if above else set()
        )
        reduced[name] = [parent for parent in above if parent not in indirect]
    return reduced


def layers(graph: dict[str, list[str]]) -> list[list[str]]:
    """Names by their distance from a start: every run stands below all the runs it came from."""
    level: dict[str, int] = {}

    def place(name: str, seen: frozenset[str]) -> int:
        if name not in level:
            above = [place(parent, seen | {name}) for parent in graph[name] if parent not in seen]
            level[name] = 1 + max(above, default=-1)
        return level[name]

    for name in graph:
        place(name, frozenset())
    return [[name for name in graph if level[name] == k] for k in range(max(level.values(), default=-1) + 1)]


def routed(graph: dict[str, list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """(rows of names, paths from parent to child): a path that skips rows gets a free place in each of them.

    Free places are named with a leading NUL; rows are sorted so that a name stands near what it came from.
    """
    rows = layers(graph)
    level = {name: k for k, row in enumerate(rows) for name in row}
    paths = []
    for name, above in graph.items():
        for parent in above:
            places = [f"\0{parent}\0{name}\0{k}" for k in range(level[parent] + 1, level[name])]
            for k, place in enumerate(places, level[parent] + 1):
                rows[k].append(place)
            paths.append([parent, *places, name])
    sources: dict[str, list[str]] = {}
    for path in paths:
        for start, end in itertools.pairwise(path):
            sources.setdefault(end, []).append(start)
    for upper, row in itertools.pairwise(rows):
        seat = {name: i - (len(upper) - 1) / 2 for i, name in enumerate(upper)}

        def middle(name: str, seat: dict[str, float] = seat) -> float:
            found = [seat[source] for source in sources.get(name, []) if source in seat]
            return sum(found) / len(found) if found else 0.0

        row.sort(key=middle)
    return rows, paths


def draw(runs: Sequence[RunFolder], slots: dict[str, int]) -> str:
    """The graph as an <svg> in the page's colours; `slots` gives the series colour of each run. Empty without runs."""
    graph = edges(runs)
    rows, paths = routed(graph)
    if not rows:
        return ""
    width = max(MIN_WIDTH, *(_row_width(row) + 2 * MARGIN for row in rows))
    height = len(rows) * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    at: dict[str, tuple[float, float]] = {}
    for k, row in enumerate(rows):
        x = (width - _row_width(row)) / 2
        for name in row:
            at[name] = (x + _width(name) / 2, MARGIN + k * (NODE_HEIGHT + GAP_Y))
            x += _width(name) + GAP_X
    parts = [_edge([at[place] for place in path]) for path in paths]
    parts += [_node(name, *at[name], slots.get(name, 0)) for name in graph]
    label = "; ".join(f"{name} from {', '.join(above)}" for name, above in graph.items() if above)
    return (
        f'<svg viewBox="0 0 {width:g} {height}" class="graph" style="max-width:{width * 1.15:.0f}px" role="img" '
        f'aria-label="{escape("Lineage: " + (label or "runs without recorded inputs"))}">{"".join(parts)}</svg>'
    )


def _width(name: str) -> float:
    return FREE_WIDTH if name.startswith("\0") else NODE_WIDTH


def _row_width(row: Sequence[str]) -> float:
    return sum(_width(name) + GAP_X for name in row) - GAP_X


def _edge(places: Sequence[tuple[float, float]]) -> str:
    """A smooth line from the bottom of the first place through the free ones to the top of the last, with a head."""
    x, y = places[0][0], places[0][1] + NODE_HEIGHT
    path = [f"M{x:.1f} {y:.1f}"]
    for i, (x2, y2) in enumerate(places[1:], 1):
        last = i == len(places) - 1
        bend = (y2 - y) / 2
        path.append(f"C{x:.1f} {y + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2 - 5 * last:.1f}")
        if not last:
            path.append(f"V{y2 + NODE_HEIGHT:.1f}")
        x, y = x2, y2 + NODE_HEIGHT
    x, y = places[-1]
    head = f"M{x - 3.5:.1f} {y - 6:.1f}L{x:.1f} {y:.1f}L{x + 3.5:.1f} {y - 6:.1f}z"
    return (
        f'<path d="{"".join(path)}" style="fill:none;stroke:var(--muted);stroke-width:1.2"/>'
        f'<path d="{head}" style="fill:var(--muted)"/>'
    )


def _node(name: str, middle: float, y: float, slot: int) -> str:
    short = name if len(name) <= 16 else "…" + name[-15:]
    ink = f"var(--s{slot})" if slot else "var(--muted)"
    return (
        f'<rect x="{middle - NODE_WIDTH / 2:.1f}" y="{y:.1f}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="6" '
        f'style="fill:var(--card);stroke:{ink};stroke-width:1.4"/>'
        f'<text x="{middle:.1f}" y="{y + NODE_HEIGHT / 2 + 4:.1f}" '
        f'style="font-size:12px;text-anchor:middle;fill:var(--ink)">{escape(short)}</text>'
    )
