"""The results as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.measure import Result


def table(results: Sequence[Result]) -> Table:
    """One line per side of every case; fits 120 columns."""
    shown = Table(title="Time per step; the sides take turns, step by step", title_justify="left")
    for name in ("case", "side"):
        shown.add_column(name, overflow="fold")
    for name in ("tokens/s", "step, ms", "from - to, ms", "peak, MiB", "of matmul", "ours faster"):
        shown.add_column(name, justify="right", no_wrap=True)
    before = None
    for result in results:
        here = f"{result.case} {result.size}"
        if before not in (None, here):
            shown.add_section()
        shown.add_row(here if before != here else "", *_cells(result))
        before = here
    return shown


def _cells(result: Result) -> list[str]:
    return [
        result.side,
        f"{result.tokens_per_s:,.0f}",
        f"{1e3 * result.step_s:,.0f}",
        f"{1e3 * result.low_s:,.0f} - {1e3 * result.high_s:,.0f}",
        f"{result.peak_mib:,.0f}",
        f"{result.share:.0%}",
        "" if result.speedup is None else f"{result.speedup:.2f} x",
    ]
