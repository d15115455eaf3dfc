"""Figures as inline SVG that follow the page's theme: every colour becomes a CSS variable, text stays text.

Each figure is small (a phone's width), so that a page can set several side by side or one below the other.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

P = ParamSpec("P")

WIDTH, HEIGHT = 4.2, 2.7  # inches at 72 points: 302 x 194 units in the SVG, a column of the page
WIDE, TALL = 5.2, 3.2  # for rows with names, two columns to the page
Size = tuple[float, float]
SMALL, LARGE = (WIDTH, HEIGHT), (WIDE, TALL)
"""Width and height.  A page scales figures to its columns, so that those in one grid must be equally wide for their text to be of
one size."""
LEAST = 1e-4  # of the values, which a vertical axis spans: what moves less is level, and its ticks would be all digits
ROOM = 52  # characters of a legend, with three for each mark, on one line of a wide figure
LEGEND = 0.2  # inches that a line of a legend below the axes takes
MARKERS = "osD^v"  # of models that share a colour
SERIES = 6  # colours --s1 to --s6 of the page's style sheet; --s0 is a quiet one
# Stand-ins that matplotlib draws with; `_svg` puts the page's variables in their place.
INK, MUTED, LINE = "#010101", "#020202", "#030303"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)"}
VARIABLES |= {f"#0400{i:02x}": f"var(--s{i})" for i in range(SERIES + 1)}

LIGHT = {"ink": "#1d2023", "muted": "#62686f", "line": "#dcdcd8"}  # as in report.css
LIGHT |= {
    f"s{i}": value
    for i, value in enumerate(("#a3a8ae", "#2b6cb0", "#c2571a", "#17806a", "#7a52b3", "#6b7280", "#b23a6b"))
}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tutelage",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,  # "+5e-1" above an axis of 1e-5 is read by nobody
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Line:
    """A named curve: x and y of equal length, drawn in the page's series colour `slot` (0 to 6).

    reach, across: how far the interval of each y, and of each x, goes below and above it, [2, n] (NaN: it has none).
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    slot: int
    reach: ArrayLike | None = None
    across: ArrayLike | None = None


@dataclass(frozen=True)
class Dot:
    """A value with its interval (NaN: none is drawn) on the row `group`, drawn in the colour `slot`.

    size: of the mark in `panels`, in points.
    """

    name: str
    group: str
    value: float
    low: float
    high: float
    slot: int
    size: float = 5


def colour(slot: int) -> str:
    """The stand-in colour of a series."""
    return f"#0400{slot:02x}"


def _styled(draw: Callable[P, str]) -> Callable[P, str]:
    """Draw with this module's style, whatever style the caller has set."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> str:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def curves(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    whole: bool = False,
    log: bool = False,
    size: Size = SMALL,
) -> str:
    """Curves over training, each with a name when there is more than one; `whole`: x counts a few things, each a dot; `log`: x
    is drawn by its logarithm."""
    figure, axes = _start(title, size)
    for line in lines:
        marker = "o" if whole or np.size(line.x) < 3 else None
        axes.plot(line.x, line.y, color=colour(line.slot), label=line.name, marker=marker, markersize=4)
        if line.reach is not None:
            axes.errorbar(line.x, line.y, yerr=line.reach, fmt="none", ecolor=colour(line.slot), elinewidth=1)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(x=0.02, y=0.08)
    _span(axes)
    _few_ticks(axes, whole=True)  # steps, rounds, per cents
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    if y_label == "share":
        axes.set_ylabel("")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    if len(lines) > 1:
        axes.legend(loc="best", labelcolor=INK, handlelength=1.4)
    return _svg(figure, title)


@_styled
def histogram(
    title: str, bars: Sequence[Line], x_label: str, *, middle: float | None = None, size: Size = SMALL
) -> str:
    """Shares in equal bins around each x, several over each other; `middle` draws a line from top to bottom."""
    figure, axes = _start(title, size)
    for bar in bars:
        x = np.asarray(bar.x, float)
        width = x[1] - x[0] if x.size > 1 else 1.0
        axes.bar(x, bar.y, width, color=colour(bar.slot), alpha=0.55, label=bar.name, linewidth=0)
    if middle is not None:
        axes.axvline(middle, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlabel(x_label)
    _few_ticks(axes)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    if len(bars) > 1:
        axes.legend(loc="best", labelcolor=INK, handlelength=1)
    return _svg(figure, title)


@_styled
def dots(title: str, found: Sequence[Dot], x_label: str, *, share: bool, middle: float | None = None) -> str:
    """Values from 0 to 1 with intervals, one row per group, models beside each other.

    `share` writes the axis in per cent; `middle` draws a reference line.
    """
    groups, names = list(dict.fromkeys(d.group for d in found)), list(dict.fromkeys(d.name for d in found))
    columns = max(1, min(4, ROOM // (max(map(len, names)) + 3)))
    legend = -(-len(names) // columns) if len(names) > 1 else 0
    height = 1.2 + 0.55 * len(groups) + LEGEND * max(0, legend - 1)
    figure, axes = _start(title, (WIDE, height))
    step = 0.62 / max(1, len(names))
    for name in names:
        mine = [d for d in found if d.name == name]
        shift = (names.index(name) - (len(names) - 1) / 2) * step
        y = [groups.index(d.group) + shift for d in mine]
        x = np.array([d.value for d in mine])
        reach = np.abs(np.array([[d.value - d.low, d.high - d.value] for d in mine]).T)
        ink = colour(mine[0].slot)
        axes.errorbar(
            x, y, xerr=reach, fmt="o", color=ink, ecolor=ink, elinewidth=1.8, markersize=5.5, label=name
        )
    _named_rows(axes, groups, x_label, middle)
    axes.set_xlim(-0.02, 1.02)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, [f"{100 * t:.0f} %" if share else f"{t:g}" for t in ticks])
    if len(names) > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=columns,
            labelcolor=INK,
            handlelength=1,
            columnspacing=1.2,
        )
        axes.set_title(title, pad=8 + 14 * legend)
    return _svg(figure, title)


@_styled
def panels(
    title: str, found: Sequence[tuple[str, Sequence[Dot], float | None]], *, width: float = 1.2 * WIDE
) -> str:
    """Dots with intervals on named rows, several quantities side by side over the same rows.

    found: of each quantity (label with unit, its dots, where a dashed line stands); rows are those of the first.
    """
    groups = list(dict.fromkeys(d.group for d in found[0][1]))
    figure = Figure(figsize=(width, 0.9 + 0.3 * len(groups)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=STYLE["axes.titlesize"], fontweight="bold")
    for axes, (label, dots, middle) in zip(
        np.atleast_1d(figure.subplots(1, len(found), sharey=True)), found, strict=True
    ):
        for dot in dots:
            reach = np.abs([[dot.value - dot.low], [dot.high - dot.value]])
            ink = colour(dot.slot)
            axes.errorbar(
                [dot.value],
                [groups.index(dot.group)],
                xerr=reach,
                fmt="o",
                color=ink,
                elinewidth=1.8,
                markersize=dot.size,
            )
        _named_rows(axes, groups, label, middle)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    return _svg(figure, title)


@_styled
def frontier(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    starts: Sequence[Line] = (),
    size: Size = SMALL,
) -> str:
    """Score against KL: of a path an open circle marks the start, a filled one the end; a line of one point is a model by itself.

    starts: models that others began from, open circles.  The marks of lines of one colour differ in shape.
    """
    known = len(lines) + len(starts)
    rows = -(-known // 2) if known > 1 else 0
    figure, axes = _start(title, (size[0], size[1] + (LEGEND * rows if size != SMALL else 0)))
    shapes: Counter[int] = Counter()
    for line in lines:
        ink, shape = colour(line.slot), MARKERS[shapes[line.slot] % len(MARKERS)]
        shapes[line.slot] += 1
        x, y = np.asarray(line.x), np.asarray(line.y)
        if x.size > 1:
            axes.plot(x, y, color=ink, linewidth=1.1, alpha=0.75)
            axes.plot(x, y, "o", color=ink, markersize=2.6 if line.reach is None else 4, alpha=0.75)
            axes.plot(x[0], y[0], "o", markersize=7, markerfacecolor="none", markeredgecolor=ink)
        _crosses(axes, line)
        axes.plot(x[-1], y[-1], shape, markersize=7, color=ink, label=line.name)
    for line in starts:
        _crosses(axes, line)
        hollow = {"markerfacecolor": "none", "markeredgecolor": colour(line.slot), "markersize": 7}
        axes.plot(line.x, line.y, "o", label=line.name, **hollow)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(0.06)
    _few_ticks(axes)
    if known > 1 and size == SMALL:
        axes.legend(loc="lower right", labelcolor=INK, handlelength=1)
    elif known > 1:  # many names leave no room inside
        figure.legend(loc="outside lower left", ncols=2, labelcolor=INK, handlelength=1, columnspacing=1.2)
    return _svg(figure, title)


def _crosses(axes: Any, line: Line) -> None:
    """The intervals of its points, where it has them."""
    for reach, way in ((line.reach, "yerr"), (line.across, "xerr")):
        if reach is not None:
            bars = {way: np.asarray(reach), "ecolor": colour(line.slot), "elinewidth": 1.1, "alpha": 0.7}
            axes.errorbar(line.x, line.y, fmt="none", **bars)


@dataclass(frozen=True)
class Optimised:
    """Proxy and gold over the distance `x`, by rising x; `low` and `high` bound gold (NaN: no bounds).

    fitted: x and y of the fitted curve.  peak: which point has the highest gold.
    """

    name: str
    slot: int
    x: NDArray[np.float64]
    proxy: NDArray[np.float64]
    gold: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    fitted: tuple[NDArray[np.float64], NDArray[np.float64]]
    peak: int


@_styled
def overoptimisation(title: str, found: Sequence[Optimised]) -> str:
    """Proxy above, gold below, over the same distance; the highest gold is marked, the fitted form dashed."""
    figure = Figure(figsize=(WIDE, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    above.set_title(title, pad=8)
    for curve in found:
        ink = colour(curve.slot)
        above.plot(curve.x, curve.proxy, "o-", color=ink, markersize=3.5, label=curve.name)
        below.fill_between(curve.x, curve.low, curve.high, color=ink, alpha=0.15, linewidth=0)
        below.plot(curve.x, curve.gold, "o-", color=ink, markersize=3.5)
        below.plot(*curve.fitted, color=ink, linewidth=1.2, linestyle=(0, (4, 3)))
        top = curve.x[curve.peak]
        for axes in (above, below):
            axes.axvline(top, color=ink, linewidth=0.9, linestyle=(0, (1, 2)))
        below.plot(
            top, curve.gold[curve.peak], "o", markersize=9, markerfacecolor="none", markeredgecolor=ink
        )
    below.set_xlabel("distance from the reference: √KL (√nats)")
    above.set_ylabel("proxy")
    below.set_ylabel("gold")
    for axes in (above, below):
        _few_ticks(axes)
    figure.align_ylabels()
    if len(found) > 1:
        above.legend(loc="best", labelcolor=INK, handlelength=1.4)
    return _svg(figure, title)


@_styled
def reliability(
    title: str,
    confidence: Sequence[float],
    found: Sequence[Dot],
    x_label: str = "confidence of the reward model",
    y_label: str = "ordered as people did",
) -> str:
    """Share that was right against the model's confidence; on the dashed line the two agree."""
    figure, axes = _start(title, LARGE)
    y = np.array([d.value for d in found])
    reach = np.abs(np.array([[d.value - d.low, d.high - d.value] for d in found]).T)
    ink = colour(found[0].slot)
    axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.errorbar(
        confidence,
        y,
        yerr=reach,
        fmt="o-",
        color=ink,
        ecolor=ink,
        elinewidth=1.2,
        linewidth=1.2,
        markersize=5,
    )
    bottom = min(0.5, float((y - reach[0]).min()))
    axes.set(xlim=(0.49, 1.01), ylim=(bottom - 0.02, 1.02))
    ticks = [0.5, 0.6, 0.7, 0.8, 0.9, 1]
    axes.set_xticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set(xlabel=x_label, ylabel=y_label)
    return _svg(figure, title)


def standalone(svg: str) -> str:
    """A figure as a file of its own: in the light colours of the page, on white, in a font without serifs."""
    for variable, value in LIGHT.items():
        svg = svg.replace(f"var(--{variable})", value)
    head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    style = 'font-family="system-ui, Helvetica, Arial, sans-serif" style="background: #ffffff"'
    return svg.replace("<svg ", f"<svg {head} {style} ", 1) + "\n"


def _start(title: str, size: Size = SMALL) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, pad=8)
    return figure, axes


def _named_rows(axes: Any, groups: Sequence[str], x_label: str, middle: float | None) -> None:
    """Rows with their names, from above; `middle` draws a line from top to bottom."""
    if middle is not None:
        axes.axvline(middle, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=0.5)
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(x_label)


def _span(axes: Any) -> None:
    """Let the vertical axis span enough for its ticks to be told apart in few digits."""
    low, high = axes.get_ylim()
    more = LEAST * max(abs(low), abs(high)) - (high - low)
    if more > 0:
        axes.set_ylim(low - more / 2, high + more / 2)


def _few_ticks(axes: Any, whole: bool = False) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _svg(figure: Figure, label: str) -> str:
    """The figure as an <svg> element: no prolog, no metadata, its own ids, the page's colours and font."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    mark = (
        "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    )  # ids must be unique in a page with several figures
    text = text.replace(' id="', f' id="{mark}-').replace('href="#', f'href="#{mark}-')
    text = text.replace("url(#", f"url(#{mark}-")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None, "matplotlib writes a viewBox"
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}">{body.strip()}'
