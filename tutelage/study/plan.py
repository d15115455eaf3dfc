"""Which stages a study has, once for each combination of the axes that it depends on.  No torch, and nothing is run.

A stage depends on the axes that its values use, on those of its `where`, on those of the stages that it refers to, and, where
it reads or writes the feedback store, on those of the stage whose store it takes up.

Stores: in a cell the stages that write into the store (`sample`, `label`) are a chain in the order of the file.  Each has a
store of its own and begins with a copy of that of the one before it, so that cells which share the first do not see each
other's votes.  Who only reads has the store of the last one before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.pipeline import Stage, stage_class, stage_settings
from tutelage.rounds import RESERVED, Known, named_in
from tutelage.settings.base import nearest
from tutelage.settings.describe import plain
from tutelage.settings.feedback import AssistSettings, LabelSettings
from tutelage.settings.groups import RunSettings
from tutelage.settings.irl import ContrastSettings
from tutelage.settings.pipeline import StudySettings
from tutelage.settings.refine import RefineSettings
from tutelage.settings.rollout import SampleSettings
from tutelage.study.grid import (
    Axis,
    Cell,
    axes_in,
    cells,
    folder_of,
    put_in,
    read_axes,
    require_axis,
    require_constants,
    require_label,
    said,
    substitute,
    text_of,
)
from tutelage.study.wanted import check_wanted

OURS = ("figures", "logs")
"""Folders of the study that are no stage's."""
STORE = "store.sqlite"
BEGINS = (SampleSettings, RefineSettings, ContrastSettings)
"""Who needs nothing in the store to write into it."""


@dataclass(frozen=True)
class Instance:
    """A stage in one cell, ready to run.

    needs: names of the instances that must be done before.  store: the file that it writes votes or responses into, None where it
    writes none; store_from: the instance whose store that begins as a copy of.
    """

    stage: Stage
    of: str
    cell: Cell
    needs: tuple[str, ...]
    store: Path | None = None
    store_from: str | None = None

    @property
    def name(self) -> str:
        return self.stage.name


@dataclass(frozen=True)
class Study:
    """axes: by name.  instances: by name, each behind those it needs.  results: those whose results make the tables."""

    axes: dict[str, Axis]
    instances: dict[str, Instance]
    results: list[Instance]

    def behind(self, name: str) -> list[Instance]:
        """An instance and all that it needs, in the order in which they run."""
        wanted, stack = set(), [name]
        while stack:
            one = stack.pop()
            if one not in wanted:
                wanted.add(one)
                stack += self.instances[one].needs
        return [one for key, one in self.instances.items() if key in wanted]


@dataclass
class Given:
    """A stage as it is written, with the axes it depends on once they are known.  where: axis -> the labels at which it is."""

    place: str
    name: str
    command: str
    cls: type[RunSettings]
    where: dict[str, tuple[str, ...]]
    values: dict[str, Any]
    axes: tuple[str, ...] = ()
    made: dict[tuple[tuple[str, str], ...], Instance] = field(default_factory=dict)

    def fits(self, cell: Cell) -> bool | None:
        """Whether it is in the cell; None where the cell does not say enough."""
        if any(axis in cell and cell[axis] not in labels for axis, labels in self.where.items()):
            return False
        return True if all(axis in cell for axis in self.where) else None

    def at(self, cell: Cell) -> Instance:
        """The instance of a cell that it is in."""
        return self.made[tuple((axis, cell[axis]) for axis in self.axes)]


def plan(settings: StudySettings) -> Study:
    """Check every stage in every cell before the first one runs.  Raises ValueError that names the stage at fault."""
    constants = settings.constants
    require_constants(constants, settings.axes, json.dumps([settings.axes, settings.stages], default=str))
    axes = read_axes(put_in(settings.axes, constants))
    planner = _Planner(settings, axes)
    for number, given in enumerate(put_in(settings.stages, constants), 1):
        planner.add(_given(given, f"stage {number}", axes))
    planner.require_axes_used()
    names = list(dict.fromkeys(given.name for given in planner.given))
    results = [one for one in planner.instances.values() if one.of == settings.results]
    check_wanted(settings, names, axes, [one.cell for one in results])
    return Study(axes, planner.instances, results)


def _given(given: Mapping[str, Any], place: str, axes: Mapping[str, Axis]) -> Given:
    """A stage as it is written.  Raises ValueError for what no stage of a study has."""
    if "repeat" in given:
        raise ValueError(
            f"{place}: a study has no 'repeat': make what is repeated an axis, or run the rounds with `tutelage run`."
        )
    if "command" not in given:
        raise ValueError(f"{place} has no 'command': say which command it runs.")
    if "out" in given:
        raise ValueError(f"{place} has an 'out', but its folder is OUT/NAME: give it a 'name' instead.")
    command = str(given["command"])
    name = str(given.get("name", command)).replace(" ", "-")
    if RESERVED.fullmatch(name) or name in OURS or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{place}: '{name}' cannot be the name of a stage: give it another 'name'.")
    where = given.get("where", {})
    if not isinstance(where, dict):
        raise ValueError(
            f"{place}: where is {plain(where)}, but it says at which labels the stage is: {{AXIS: LABEL}}."
        )
    wanted = {}
    for axis, labels in where.items():
        require_axis(axis, axes, f"{place}: where")
        listed = labels if isinstance(labels, list) else [labels]
        wanted[axis] = tuple(require_label(axes[axis], text_of(label), f"{place}: where") for label in listed)
    values = {key: value for key, value in given.items() if key not in ("command", "name", "where")}
    return Given(place, name, command, stage_class(command, place), wanted, values)


class _Planner:
    """The stages so far and their instances."""

    def __init__(self, settings: StudySettings, axes: dict[str, Axis]) -> None:
        self.settings, self.axes = settings, axes
        self.given: list[Given] = []
        self.instances: dict[str, Instance] = {}

    def add(self, given: Given) -> None:
        """One stage more, in all its cells."""
        for other in self.named(given.name):
            if not any(
                axis in other.where and not set(labels) & set(other.where[axis])
                for axis, labels in given.where.items()
            ):
                raise ValueError(
                    f"{given.place}: the name '{given.name}' is taken by {other.place}: give it another 'name', or both "
                    "a 'where' that keeps them apart."
                )
        try:
            given.axes = self._axes_of(given)
            for cell in cells(self.axes, given.axes):
                if given.fits(cell):
                    instance = self._instance(given, cell)
                    given.made[tuple(cell.items())] = instance
                    self.instances[instance.name] = instance
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(given.place) else f"{given.place}: {text}") from None
        self.given.append(given)

    def named(self, name: str) -> list[Given]:
        """The stages of that name so far, which have cells of their own."""
        return [given for given in self.given if given.name == name]

    def require_axes_used(self) -> None:
        """Raises ValueError for an axis on which nothing depends."""
        used = {axis for given in self.given for axis in given.axes}
        for name in self.axes:
            if name not in used:
                raise ValueError(
                    f"axes: no stage uses {name}: write ${name} where it should matter, or leave it out."
                )

    def _axes_of(self, given: Given) -> tuple[str, ...]:
        """Grows until every cell says which stages stand before this one."""
        found = axes_in(given.values, self.axes) | set(given.where)
        while True:
            more = set(found)
            for cell in cells(self.axes, self._ordered(found)):
                if given.fits(cell):
                    more |= self._needed(given, cell)
            if more == found:
                return self._ordered(found)
            found = more

    def _ordered(self, names: set[str]) -> tuple[str, ...]:
        return tuple(axis for axis in self.axes if axis in names)

    def _needed(self, given: Given, cell: Cell) -> set[str]:
        """The axes of the stages that stand before this one in the cell, as far as it says which these are."""
        values = substitute(given.values, cell, self.axes)
        before = [other for name in named_in(values) for other in self._alternatives(name)]
        before += self._writers(given, values)
        found: set[str] = set()
        for other in before:
            fits = other.fits(cell)
            if fits is None:
                found |= set(other.where)
            elif fits:
                found |= set(other.axes)
            if fits is not False and other in self._writers(given, values) and fits:
                break  # the nearest writer hides those before it
        return found

    def _alternatives(self, name: str) -> list[Given]:
        """The stages of that name.  Raises ValueError where there is none."""
        if found := self.named(name):
            return found
        names = list(dict.fromkeys(other.name for other in self.given))
        near = nearest(name, names)
        hint = f"did you mean '@{near}'?" if near else f"there are {', '.join(names) or 'none'}."
        raise ValueError(f"'@{name}' names no earlier stage: {hint}")

    def _writers(self, given: Given, values: Mapping[str, Any]) -> list[Given]:
        """The stages that may have written into the store that this one uses, the last one first."""
        if not uses_store(given.cls, values):
            return []
        return [other for other in reversed(self.given) if writes_store(other.cls, other.values)]

    def _instance(self, given: Given, cell: Cell) -> Instance:
        """The stage in a cell, with folders in place of references."""
        values = substitute(given.values, cell, self.axes)
        before = {name: self._before(name, cell) for name in sorted(named_in(values))}
        known = Known(self.settings.out, {name: instance.stage.folder for name, instance in before.items()})
        name = f"{given.name}/{folder_of(cell)}" if cell else given.name
        if name in self.instances:
            raise ValueError(
                f"{said(cell)} and {said(self.instances[name].cell)} would have the same folder {name}: give one of them another "
                "label."
            )
        folder = self.settings.out / name
        shared: dict[str, Any] = {"seed": self.settings.seed, "split_seed": self.settings.split_seed}
        store, source = self._store(given, values, cell, folder)
        if place := store or (source and source.store):
            shared["store"] = str(place)
        place_said = f"{given.place} at {said(cell)}" if cell else given.place
        resolved = known.resolve(values, place_said)
        settings = stage_settings(given.command, resolved, shared, folder, place_said)
        needs = [instance.name for instance in before.values()] + ([source.name] if source else [])
        return Instance(
            Stage(name, given.command, settings),
            given.name,
            cell,
            tuple(dict.fromkeys(needs)),
            store,
            source.name if source and store else None,
        )

    def _before(self, name: str, cell: Cell) -> Instance:
        """The instance that "@NAME" means in the cell."""
        found = [other for other in self._alternatives(name) if other.fits(cell)]
        if not found:
            raise ValueError(f"'@{name}': at {said(cell)} there is no stage '{name}', its 'where' says.")
        return found[0].at(cell)

    def _store(
        self, given: Given, values: Mapping[str, Any], cell: Cell, folder: Path
    ) -> tuple[Path | None, Instance | None]:
        """(the store that it writes into, the instance whose store it takes up)."""
        if not uses_store(given.cls, values):
            return None, None
        before = next((other for other in self._writers(given, values) if other.fits(cell)), None)
        source = before.at(cell) if before else None
        if source is None and not issubclass(given.cls, BEGINS):
            raise ValueError(
                f"{given.command} reads the feedback store, and at {said(cell) or 'this place'} no stage before it writes "
                "into it: sample first, or name a `store`."
            )
        if not writes_store(given.cls, values):
            return None, source
        return folder.with_name(f"{folder.name}.store") / STORE, source


def writes_store(cls: type[RunSettings], values: Mapping[str, Any]) -> bool:
    """Whether a stage writes into the store of its cell."""
    if "store" in values or (issubclass(cls, ContrastSettings) and not values.get("project")):
        return False
    return issubclass(cls, (*BEGINS, LabelSettings, AssistSettings))


def uses_store(cls: type[RunSettings], values: Mapping[str, Any]) -> bool:
    """Whether a stage writes into the store of its cell or reads from it: not where it names a store of its own."""
    if "store" not in cls.model_fields or "store" in values:
        return False
    return writes_store(cls, values) or any(_from_store(_value(cls, values, key)) for key in cls.model_fields)


def _value(cls: type[RunSettings], values: Mapping[str, Any], key: str) -> Any:
    return values.get(key, cls.model_fields[key].get_default(call_default_factory=True))


def _from_store(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_from_store, value))
    return isinstance(value, str) and value.startswith("store:")
