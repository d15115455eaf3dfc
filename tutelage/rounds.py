"""Rounds: the stages of a block are done several times, each time from what the time before has made.

    stages:
      - {command: sft, ...}
      - repeat: 4
        stages:
          - {command: sample, model: "@prev/ppo | @sft", project: "round-{round}", ...}
          - {command: label, project: "round-{round}"}
          - {command: reward, model: "@sft", data: "store:round-{rounds}", previous: "@prev/reward | "}
          - {command: ppo, model: "@sft", reward: "@reward", ...}
      - {command: eval, models: ["sft=@sft", "round-{rounds}=@all/ppo"], ...}

What stands in a value of a stage:

    @NAME           the folder of the stage of this round, or of a stage outside; behind the block: of the last round
    @prev/X | Y     @prev/X is the stage of the round before, and in the first round the whole value is Y (nothing: left out)
    @round-2/NAME   the stage of that round
    @all/NAME       the stage of every round so far: an item of a list stands there once for each, a text becomes a list
    {round}         the number of this round, from 1
    {rounds}        the numbers of all rounds so far, this one included; an item or a text that holds it becomes several

With `until: {stage: reward, metric: "accuracy@round-{round}", below: 0.55}` beside `repeat` the first round in which that holds
is the last: what stands behind the block is planned as if `repeat` had been its number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.evals import rows
from tutelage.evals.folders import round_name
from tutelage.resume import read_metrics
from tutelage.settings.base import nearest
from tutelage.settings.describe import plain

RESERVED = re.compile(r"prev|all|round-\d+")
_REFERENCE = re.compile(r"@(?:(prev|all|round-\d+)/)?([\w.-]*\w)")
_SEVERAL = re.compile(r"@all/|\{rounds\}")
LEFT_OUT = object()


def named_in(values: Mapping[str, Any]) -> set[str]:
    """The stages that a stage's settings refer to, as `Known.resolve` reads them.  Raises ValueError for those of rounds."""
    return set().union(*(_named(value, False) for value in values.values()))


def _named(value: Any, inside: bool) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_named(item, True) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_named(item, inside) for item in value))
    if not isinstance(value, str) or (inside and not value.startswith("@")):
        return set()
    found = _REFERENCE.findall(value)[: 1 if inside else None]
    if any(of for of, _ in found) or _SEVERAL.search(value):
        raise ValueError(f"'{value}' is about rounds, and there are none here.")
    return {name for _, name in found}


@dataclass
class Known:
    """What a stage may refer to: the folders of the stages before it, by name and by round."""

    out: Path
    folders: dict[str, Path] = field(default_factory=dict)
    rounds: list[dict[str, Path]] = field(default_factory=list)
    block: tuple[str, ...] = ()  # the names of the stages of the block
    round: int | None = None  # which round is planned; None outside of the block

    def begin_round(self, names: Sequence[str]) -> None:
        """From here on stages are of the next round, and none of its names is known yet."""
        self.block = tuple(names)
        self.rounds.append({})
        self.round = len(self.rounds)
        for name in names:
            self.folders.pop(name, None)

    def add(self, name: str) -> Path:
        """The folder of a stage of that name, known from here on.  Raises ValueError for a name that is taken."""
        if RESERVED.fullmatch(name):
            raise ValueError(f"the name '{name}' means something else behind an @: give it another 'name'.")
        if name in self.folders:
            raise ValueError(f"the name '{name}' is taken by an earlier stage: give it another 'name'.")
        if self.round is None:
            self.folders[name] = self.out / name
        else:
            self.folders[name] = self.rounds[-1][name] = self.out / round_name(self.round) / name
        return self.folders[name]

    def resolve(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A stage's settings with folders and numbers in place of references.  Raises ValueError that begins with `where`."""
        found = {}
        for key, value in values.items():
            try:
                several = isinstance(value, str) and _SEVERAL.search(value)
                resolved = self._list([value], False) if several else self._value(value, False)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if resolved is not LEFT_OUT:
                found[key] = resolved
        return found

    def _value(self, value: Any, inside: bool) -> Any:
        """inside: within a mapping a reference begins its text, for a reward's options may have an @ of their own."""
        if isinstance(value, list):
            return self._list(value, inside)
        if isinstance(value, dict):
            inner = {key: self._value(item, inside=True) for key, item in value.items()}
            return {key: item for key, item in inner.items() if item is not LEFT_OUT}
        return self._text(value, inside) if isinstance(value, str) else value

    def _list(self, items: Sequence[Any], inside: bool) -> list[Any]:
        found: list[Any] = []
        for item in items:
            if isinstance(item, str) and _SEVERAL.search(item):
                found += self._several(item, inside)
            else:
                found.append(self._value(item, inside))
        return [item for item in found if item is not LEFT_OUT]

    def _several(self, text: str, inside: bool) -> list[Any]:
        """One text for every round so far that has the stages it names."""
        if not self.rounds:
            raise ValueError(f"'{text}' is about rounds, and no block with 'repeat' stands before it.")
        found = []
        for number, stages in enumerate(self.rounds, 1):
            names = re.findall(r"@all/([\w.-]*\w)", text)
            for name in names:
                self._require_in_block("all", name)
            if all(name in stages for name in names):
                of_round = text.replace("@all/", f"@{round_name(number)}/").replace("{rounds}", str(number))
                found.append(self._text(of_round, inside))
        return found

    def _text(self, text: str, inside: bool) -> Any:
        if "@prev/" in text and (not inside or text.startswith("@prev/")):
            text = self._of_round(text)
            if not text:
                return LEFT_OUT
        if "{round}" in text:
            if self.round is None:
                raise ValueError(f"'{text}': {{round}} is the number of a round, and this stage is in none.")
            if text == "{round}":
                return self.round
            text = text.replace("{round}", str(self.round))
        if inside and not text.startswith("@"):
            return text
        return _REFERENCE.sub(lambda match: str(self._folder(*match.groups())), text, count=int(inside))

    def _of_round(self, text: str) -> str:
        """Which side of `@prev/NAME | OTHER` holds in this round."""
        if self.round is None:
            raise ValueError(
                f"'{text}': @prev is the round before, and this stage is in no block with 'repeat'."
            )
        later, bar, first = (part.strip() for part in text.partition("|"))
        for name in re.findall(r"@prev/([\w.-]*\w)", later):
            self._require_in_block("prev", name)
        if "@prev/" in first:
            raise ValueError(
                f"'{text}': behind the bar stands what the first round has, which knows no @prev."
            )
        if not bar:
            raise ValueError(
                f"'{text}': before the first round there is none: say what it has instead, as in '{text} | @sft'."
            )
        return later if self.round > 1 else first

    def _folder(self, of: str | None, name: str) -> Path:
        if of is None:
            if name not in self.folders:
                raise ValueError(f"'@{name}' names no earlier stage: {self._hint(name)}")
            return self.folders[name]
        number = self.round - 1 if of == "prev" and self.round else int(of.removeprefix("round-"))
        self._require_in_block(of, name)
        if not 1 <= number <= len(self.rounds):
            raise ValueError(f"'@{of}/{name}': there are only {len(self.rounds)} rounds before this stage.")
        if name not in self.rounds[number - 1]:
            raise ValueError(f"'@{of}/{name}' comes later than this stage: name one before it.")
        return self.rounds[number - 1][name]

    def _require_in_block(self, of: str, name: str) -> None:
        if not self.block:
            raise ValueError(f"'@{of}/{name}' is about rounds, and no block with 'repeat' stands before it.")
        if name not in self.block:
            near = nearest(name, self.block)
            hint = f"did you mean '@{of}/{near}'?" if near else f"it has {', '.join(self.block)}."
            raise ValueError(f"'@{of}/{name}' names no stage of the block: {hint}")

    def _hint(self, name: str) -> str:
        if name in self.block:
            return f"it comes later in the round; '@prev/{name} | ...' is that of the round before."
        if RESERVED.fullmatch(name):
            return f"write '@{name}/NAME'."
        near = nearest(name, self.folders)
        return f"did you mean '@{near}'?" if near else f"there are {', '.join(self.folders) or 'none'}."


# ---- until -----------------------------------------------------------------------------------------------------------------

BOUNDS = ("below", "above")


def check_until(until: Any, names: Sequence[str], where: str) -> None:
    """Raises ValueError, beginning with `where`, unless `until` names a stage of the block (`names`), a metric and one bound."""
    example = "{stage: reward, metric: accuracy, below: 0.55}"
    given = set(until) if isinstance(until, dict) else set()
    bounds = given & set(BOUNDS)
    if given - bounds != {"stage", "metric"} or len(bounds) != 1:
        raise ValueError(f"{where}: until is {plain(until)}: write it like {example}.")
    value = until[bounds.pop()]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(until["metric"], str):
        raise ValueError(f"{where}: until is {plain(until)}: a bound is a number, as in {example}.")
    if until["stage"] not in names:
        raise ValueError(
            f"{where}: until names the stage '{until['stage']}', and the block has {', '.join(names)}."
        )


def last_round(block: Mapping[str, Any], folder: Path) -> tuple[int, str] | None:
    """(number of its round, why) where the stage that has just ended in `folder` makes its round the last of the block.

    Raises ValueError where `until` asks for a metric that it has not written.
    """
    until = block.get("until")
    number = re.fullmatch(r"round-(\d+)", folder.parent.name)
    if not until or not number or folder.name != until["stage"]:
        return None
    this = int(number[1])
    metric = until["metric"].replace("{round}", str(this))
    measured = _measured(folder)
    if metric not in measured:
        near = nearest(metric, measured)
        hint = f"did you mean '{near}'?" if near else f"it has {', '.join(measured) or 'none'}."
        raise ValueError(f"until: {folder} has not measured '{metric}': {hint}")
    [bound] = set(until) & set(BOUNDS)
    value, limit = measured[metric], until[bound]
    if not (value < limit if bound == "below" else value > limit):
        return None
    return this, f"{until['stage']}: {metric} is {value:.4g}, {bound} {limit:g}"


def _measured(folder: Path) -> dict[str, float]:
    """The last value of every metric of a run, and what its results say of everything together (which goes before)."""
    found = {name: value for line in read_metrics(folder) for name, value in line.items() if name != "step"}
    with suppress(FileNotFoundError):
        results = rows.read(folder / "results.json")
        found |= {
            row.metric: row.value for row in results if row.task == rows.OVERALL and row.value is not None
        }
    return found
