"""Lineage as a picture: which run read the files of which, as a small layered graph in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tutelage.evals.folders import RunFolder, parents

NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y, MARGIN = 116, 32, 22, 30, 6
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


def draw(runs: Sequence[RunFolder], slots: dict[str, int]) -> str:
    """The graph as an <svg> in the page's colours; `slots` gives the series colour of each run. Empty without runs."""
    graph = edges(runs)
    rows = layers(graph)
    if not rows:
        return ""
    width = max(MIN_WIDTH, max(len(row) for row in rows) * (NODE_WIDTH + GAP_X) - GAP_X + 2 * MARGIN)
    height = len(rows) * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    at: dict[str, tuple[float, float]] = {}
    for k, row in enumerate(rows):
        total = len(row) * (NODE_WIDTH + GAP_X) - GAP_X
        for i, name in enumerate(row):
            at[name] = ((width - total) / 2 + i * (NODE_WIDTH + GAP_X), MARGIN + k * (NODE_HEIGHT + GAP_Y))
    parts = [_edge(at[parent], at[name]) for name, above in graph.items() for parent in above if parent in at]
    parts += [_node(name, *at[name], slots.get(name, 0)) for name in at]
    label = "; ".join(f"{name} from {', '.join(above)}" for name, above in graph.items() if above)
    return (
        f'<svg viewBox="0 0 {width} {height}" class="graph" style="max-width:{width * 1.15:.0f}px" role="img" '
        f'aria-label="{escape("Lineage: " + (label or "runs without recorded inputs"))}">{"".join(parts)}</svg>'
    )


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + NODE_WIDTH / 2, start[1] + NODE_HEIGHT
    x2, y2 = end[0] + NODE_WIDTH / 2, end[1]
    bend = (y2 - y1) / 2
    path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2 - 5:.1f}"
    head = f"M{x2 - 3.5:.1f} {y2 - 6:.1f}L{x2:.1f} {y2:.1f}L{x2 + 3.5:.1f} {y2 - 6:.1f}z"
    return (
        f'<path d="{path}" style="fill:none;stroke:var(--muted);stroke-width:1.2"/>'
        f'<path d="{head}" style="fill:var(--muted)"/>'
    )


def _node(name: str, x: float, y: float, slot: int) -> str:
    short = name if len(name) <= 16 else "…" + name[-15:]
    ink = f"var(--s{slot})" if slot else "var(--muted)"
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="6" '
        f'style="fill:var(--card);stroke:{ink};stroke-width:1.4"/>'
        f'<text x="{x + NODE_WIDTH / 2:.1f}" y="{y + NODE_HEIGHT / 2 + 4:.1f}" '
        f'style="font-size:12px;text-anchor:middle;fill:var(--ink)">{escape(short)}</text>'
    )
