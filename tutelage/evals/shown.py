"""Results on a terminal: one line per measure, one column per model, each number above its interval (a dash where there is
none).  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tutelage.evals.findings import METRICS, display, number, one
from tutelage.evals.rows import OVERALL, Row

GAP = 2  # characters between two columns
LONGEST_NAME = 20  # characters of a column's name on a line


def models_table(
    rows: Sequence[Row], models: Sequence[str], metrics: Sequence[str], title: str, width: int
) -> Group:
    """The main numbers of the models; what no model has is left out."""
    measures = [name for name in metrics if any(one(rows, model, name) for model in models)]
    columns = {display(model): [cell(rows, model, name) for name in measures] for model in models}
    return columns_table(title, "measure", [_heading(name) for name in measures], columns, width)


def _heading(metric: str) -> str:
    """What a measure is called; a part of a score as its judge calls it."""
    return METRICS[metric][0] if metric in METRICS else f"  {metric.partition('/')[2]}"


def columns_table(
    title: str, heading: str, names: Sequence[str], columns: Mapping[str, Sequence[str]], width: int
) -> Group:
    """Columns of cells beside the names of the lines; what does not fit into `width` characters of text comes below,
    beside the same names, so that no cell is broken."""
    tables: list[Text | Table] = [Text(title, "italic")]
    for part in _parts(columns, width - max(map(len, [heading, *names]))):
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        table.add_column(heading, no_wrap=True)
        for name in part:
            table.add_column(Text(name), justify="right", overflow="fold", max_width=LONGEST_NAME)
        for place, name in enumerate(names):
            table.add_row(name, *(Text(columns[column][place]) for column in part))
        tables.append(table)
    return Group(*tables)


def cell(rows: Sequence[Row], model: str, metric: str, task: str = OVERALL) -> str:
    """A number with its interval below it; a dash where there is none."""
    row = one(rows, model, metric, task)
    found = number(row) if row is not None else None
    return f"{found.text}\n{found.interval or '–'}" if found else "–"


def _parts(columns: Mapping[str, Sequence[str]], width: int) -> Iterator[list[str]]:
    """The columns in groups that fit into `width` characters beside each other; at least one in each."""
    part: list[str] = []
    used = 0
    for name, cells in columns.items():
        lines = [line for cell in cells for line in cell.split("\n")]
        size = GAP + max(map(len, [name[:LONGEST_NAME], *lines]))
        if part and used + size > width:
            yield part
            part, used = [], 0
        part.append(name)
        used += size
    if part:
        yield part
