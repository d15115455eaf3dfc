"""The axes of a study, its cells, and what "$AXIS" in a value stands for.  No torch.

    axes:
      method: [ppo, dpo]                                  # values; their texts are the labels
      feedback: {human: {judge: world, pairs: 4}, ...}    # label -> value; a mapping has variables: $feedback.judge

A cell is one label of each of some axes.  "$method" alone in a value is the value itself, a number or a list as well; within a
text it is its text.  ${method} is the same where letters follow, and $$ is a dollar.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.settings.base import nearest
from tutelage.settings.describe import plain

Cell = dict[str, str]
"""Axis -> label, in the order of the axes."""

_DOLLAR = re.compile(r"\$(?:(\$)|\{([A-Za-z]\w*)(?:\.(\w+))?\}|([A-Za-z]\w*)(?:\.([A-Za-z]\w*))?)")
_NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True)
class Axis:
    """What is varied: label -> value."""

    name: str
    values: dict[str, Any]

    @property
    def has_variables(self) -> bool:
        return any(isinstance(value, dict) for value in self.values.values())


def read_axes(given: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes by name.  Raises ValueError for one that has no values, a bad name, or a label twice."""
    axes = {}
    for name, values in given.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"axes: '{name}' is no name of an axis: take letters, digits and underscores, a letter first."
            )
        if not isinstance(values, list | dict) or not values:
            raise ValueError(
                f"axes: {name} is {plain(values)}, but it wants a list of values, or labels with a value each."
            )
        labels = [text_of(value) for value in values]  # of a mapping: its keys
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"axes: {name} has '{label}' twice: keep one.")
        for value in values if isinstance(values, list) else ():
            if isinstance(value, dict | list):
                raise ValueError(
                    f"axes: {name} has the value {plain(value)} without a label: write {name}: {{LABEL: {plain(value)}}}."
                )
        axes[name] = Axis(
            name, dict(zip(labels, values if isinstance(values, list) else values.values(), strict=True))
        )
    return axes


def text_of(value: Any) -> str:
    """A scalar as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def cell_of(labels: Mapping[str, object]) -> Cell:
    """A cell as somebody writes it: labels as text."""
    return {axis: text_of(label) for axis, label in labels.items()}


def cells(axes: Mapping[str, Axis], names: Sequence[str]) -> Iterator[Cell]:
    """Every combination of the labels of these axes; the last axis changes fastest."""
    for labels in itertools.product(*(axes[name].values for name in names)):
        yield dict(zip(names, labels, strict=True))


def axes_in(value: Any, axes: Mapping[str, Axis]) -> set[str]:
    """The axes that a value mentions.  Raises ValueError for one that there is not."""
    if isinstance(value, dict):
        return set().union(*(axes_in(item, axes) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(axes_in(item, axes) for item in value))
    if not isinstance(value, str):
        return set()
    found = set()
    for match in _DOLLAR.finditer(value):
        if not match[1]:
            found.add(require_axis(match[2] or match[4], axes, f"'{value}'"))
    return found


def require_axis(name: str, axes: Mapping[str, Axis], where: str) -> str:
    """`name`, if there is such an axis; ValueError that begins with `where` otherwise."""
    if name not in axes:
        near = nearest(name, axes)
        hint = f"did you mean '{near}'?" if near else f"there are {', '.join(axes) or 'none'}."
        raise ValueError(f"{where}: there is no axis '{name}': {hint}")
    return name


def require_label(axis: Axis, label: str, where: str) -> str:
    """`label`, if the axis has it; ValueError that begins with `where` otherwise."""
    if label not in axis.values:
        near = nearest(label, axis.values)
        hint = f"did you mean '{near}'?" if near else f"it has {', '.join(axis.values)}."
        raise ValueError(f"{where}: {axis.name} has no value '{label}': {hint}")
    return label


def substitute(value: Any, cell: Cell, axes: Mapping[str, Axis]) -> Any:
    """The value with what the cell has in place of every "$AXIS".  Raises ValueError for a variable that it has not."""
    if isinstance(value, dict):
        return {key: substitute(item, cell, axes) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, cell, axes) for item in value]
    if not isinstance(value, str):
        return value
    whole = _DOLLAR.fullmatch(value)
    if whole and not whole[1]:
        found, rest = _meant(whole, cell, axes)
        return f"{_text(found, value)}{rest}" if rest else found

    def put(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        found, rest = _meant(match, cell, axes)
        return f"{_text(found, value)}{rest}"

    return _DOLLAR.sub(put, value)


def put_in(value: Any, constants: Mapping[str, Any]) -> Any:
    """The value with what `constants` has in place of every "$NAME" of theirs; all other dollars stay as they are."""
    if isinstance(value, dict):
        return {key: put_in(item, constants) for key, item in value.items()}
    if isinstance(value, list):
        return [put_in(item, constants) for item in value]
    if not isinstance(value, str):
        return value
    whole = _DOLLAR.fullmatch(value)
    if whole and not (whole[3] or whole[5]) and (whole[2] or whole[4]) in constants:
        return constants[whole[2] or whole[4]]

    def put(match: re.Match[str]) -> str:
        name = match[2] or match[4]
        if name not in constants:
            return match[0]
        return _text(constants[name], value) + (f".{match[5]}" if match[5] else "")

    return _DOLLAR.sub(put, value)


def require_constants(constants: Mapping[str, Any], axes: Mapping[str, Any], said: str) -> None:
    """Raises ValueError for a name that is none or an axis's, or that nothing (`said`: the study as text) uses."""
    for name in constants:
        if not _NAME.fullmatch(name) or name in axes:
            why = "is an axis, too" if name in axes else "is no name: take letters, digits and underscores"
            raise ValueError(f"constants: '{name}' {why}.")
        if not re.search(rf"\$(?:{name}\b|\{{{name}\}})", said):
            raise ValueError(
                f"constants: nothing uses {name}: write ${name} where it should stand, or leave it out."
            )


def _meant(match: re.Match[str], cell: Cell, axes: Mapping[str, Axis]) -> tuple[Any, str]:
    """(what a "$..." stands for, the text behind it that is none of it: of an axis without variables a dot ends the name)."""
    axis, variable = axes[match[2] or match[4]], match[3] or match[5]
    label = cell[axis.name]
    value = axis.values[label]
    if variable and not axis.has_variables and match[4]:
        return value, f".{variable}"
    if not variable:
        return (label if isinstance(value, dict) else value), ""
    if not isinstance(value, dict) or variable not in value:
        has = ", ".join(value) if isinstance(value, dict) and value else "none"
        raise ValueError(
            f"'{match[0]}': {axis.name}={label} has no variable '{variable}' (it has {has}): give it one, or write "
            f"${{{axis.name}}} where a dot follows."
        )
    return value[variable], ""


def _text(found: Any, where: str) -> str:
    if isinstance(found, list | dict):
        raise ValueError(f"'{where}': {plain(found)} cannot stand within a text: let it be the whole value.")
    return text_of(found)


def folder_of(cell: Cell) -> str:
    """A short and safe name of a cell: its labels, those that begin with a digit behind their axis's name."""
    parts = [f"{axis}{label}" if not label[:1].isalpha() else label for axis, label in cell.items()]
    return "-".join(re.sub(r"[^A-Za-z0-9_+]+", "_", part) for part in parts)


def said(cell: Cell) -> str:
    """A cell in words: "method=ppo, seed=0"."""
    return ", ".join(f"{axis}={label}" for axis, label in cell.items())
