"""The tidy row: one measured number with its interval, its n and its unit. Every evaluation returns a list of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tutelage.files import write_json_atomic, write_text_atomic
from tutelage.statistics import Interval

OVERALL = "all"


@dataclass(frozen=True)
class Row:
    """One number: `metric` of `model` on `task` ("all" = every task together).

    `low` and `high` bound the 95 % interval and are None where none is computed; `n` is how many things the number
    is over (prompts, pairs, responses, tokens); `unit` is what it is measured in ("share" is a fraction of 1).
    `signature`: which library with which settings gives the same number, in the manner of sacreBLEU; "" where this
    project's own code is all there is to say.
    """

    model: str
    metric: str
    task: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = ""
    signature: str = ""


def row(model: str, metric: str, task: str, found: Interval, unit: str, signature: str = "") -> Row:
    """A row from an interval; numbers that do not exist (n = 0) become None, so that the JSON stays valid."""
    value, low, high = (x if math.isfinite(x) else None for x in (found.value, found.low, found.high))
    return Row(model, metric, task, value, low, high, found.n, unit, signature)


def to_json(rows: Iterable[Row]) -> list[dict]:
    """The rows as plain dictionaries with the columns in a fixed order; `signature` only where there is one."""
    return [{k: v for k, v in asdict(r).items() if k != "signature" or v} for r in rows]


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write results.json, and results.csv with the same rows, into the folder."""
    write_json_atomic(folder / "results.json", to_json(rows))
    write_text_atomic(folder / "results.csv", to_csv(rows))


def to_csv(rows: Iterable[Row]) -> str:
    """The rows with a line of the columns' names above them; what there is none of is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def read(path: Path) -> list[Row]:
    """The rows of a `results.json`. Raises ValueError when the file is not a list of such rows."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise ValueError(f"{where}: not valid JSON ({error.msg}); write it again with its command.") from None
    names = {f.name for f in fields(Row)}
    needed = {"model", "metric", "task", "value"}
    if not isinstance(found, list):
        raise ValueError(f"{path} is not a list of rows; write it again with its command.")
    for number, item in enumerate(found, 1):
        if not isinstance(item, dict) or not needed <= set(item) <= names:
            known = ", ".join(sorted(names))
            raise ValueError(
                f"{path}, row {number}: a row needs {', '.join(sorted(needed))} and knows {known}."
            )
    return [Row(**item) for item in found]
