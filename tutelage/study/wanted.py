"""What the report of a study is to compare: checked before anything runs.  No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.settings.base import nearest
from tutelage.settings.describe import plain
from tutelage.settings.pipeline import StudySettings
from tutelage.study.grid import Axis, Cell, cell_of, require_axis, require_label, text_of


@dataclass(frozen=True)
class _There:
    """What can be compared: the axes, and the cells that have results."""

    settings: StudySettings
    axes: Mapping[str, Axis]
    cells: Sequence[Cell]

    def require(self, axis: str, where: str) -> Axis:
        """The axis.  Raises ValueError for one along which results cannot be compared."""
        require_axis(axis, self.axes, where)
        if axis == self.settings.repeats:
            raise ValueError(
                f"{where}: {axis} is what is repeated (repeats={axis}): compare what should matter."
            )
        if not all(axis in cell for cell in self.cells):
            raise ValueError(
                f"{where}: '{self.settings.results}' does not depend on {axis}: nothing differs."
            )
        return self.axes[axis]


def check_wanted(
    settings: StudySettings, names: Sequence[str], axes: Mapping[str, Axis], cells: Sequence[Cell]
) -> None:
    """Raises ValueError for settings that no result can satisfy.  names: of the stages; cells: those with results."""
    if settings.results not in names:
        near = nearest(settings.results, names)
        raise ValueError(
            f"results={settings.results} names no stage: "
            + (f"did you mean '{near}'?" if near else f"there are {', '.join(names) or 'none'}.")
        )
    there = _There(settings, axes, cells)
    for axis, labels in settings.compare.items():
        found = there.require(axis, "compare")
        wanted = {require_label(found, text_of(label), "compare") for label in labels}
        if len(wanted) < 2:
            raise ValueError(f"compare: {axis} has {', '.join(wanted) or 'no label'}: name two or more.")
    for number, one in enumerate(settings.contrasts, 1):
        _check_contrast(one, f"contrasts: number {number}", there)
    for axis in settings.tuning:
        there.require(axis, "tuning")
        if axis in settings.compare:
            raise ValueError(f"tuning: {axis} is compared, too: it is either to be chosen or to be compared.")
    for axis in settings.against:
        there.require(axis, "against")


def _check_contrast(one: Mapping[str, Mapping[str, Any]], where: str, there: _There) -> None:
    first, second = one.get("first", {}), one.get("second", {})
    if set(one) != {"first", "second"} or not first or set(first) != set(second):
        raise ValueError(f"{where} is {plain(one)}: give `first` and `second`, with labels of the same axes.")
    for cell in (first, second):
        for axis, label in cell.items():
            require_label(there.require(axis, where), text_of(label), where)
    if cell_of(first) == cell_of(second):
        raise ValueError(f"{where}: first and second are the same, {plain(first)}: nothing differs.")
