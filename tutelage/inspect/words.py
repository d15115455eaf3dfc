"""What console and page say alike: numbers, places, verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from tutelage.inspect.facts import Drop, Facts, Lengths, Spread, Use
from tutelage.inspect.mistakes.common import rows
from tutelage.records import Place

_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
_FOUND = re.compile(r"^[^\n]*?: found the columns [^\n]*?; ")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Names:
    """How places are said: without the file where there is one only, and by its last name where that is enough."""

    short: Mapping[str, str]

    @staticmethod
    def of(facts: Facts) -> Names:
        files = {file.name for file in facts.files}
        last = {PurePath(name).name for name in files}
        if len(files) == 1:
            return Names({next(iter(files)): ""})
        return Names({name: PurePath(name).name if len(last) == len(files) else name for name in files})

    def place(self, place: Place | None) -> str:
        if place is None:
            return ""
        file = self.short.get(place.file, PurePath(place.file).name)
        return f"{file} {place.unit} {place.number}".strip()

    def places(self, places: Iterable[Place], first: int, total: int) -> str:
        """The first places, grouped by file: "line 4, 8, 11, ..."."""
        groups: dict[str, list[str]] = {}
        for place in list(places)[:first]:
            groups.setdefault(self.place(place).rpartition(" ")[0], []).append(str(place.number))
        listed = "; ".join(f"{file} {', '.join(numbers)}" for file, numbers in groups.items())
        return listed + (", ..." if total > first else "")


def size(count: int | None) -> str:
    """Bytes as people say them; "" where nobody knows."""
    if count is None:
        return ""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {UNITS[unit]}" if unit else f"{count} B"


def printable(text: str) -> str:
    """A text without characters that steer a terminal."""
    return text.translate(_CONTROLS)


def records(use: Use) -> str:
    """ "1,596 comparisons"."""
    plural = {"pretraining text": "texts"}.get(use.what, use.what)
    return f"{use.records:,} {plural if use.records != 1 else plural.removesuffix('s')}"


def verdicts(facts: Facts) -> list[tuple[str, bool, str]]:
    """(commands, whether they would start, what they make of the data or why not); neighbours that say the same as one."""
    found: list[tuple[str, bool, str]] = []
    for use in facts.uses:
        starts, said = not use.why_not, _why_not(facts, use) or _kept(use)
        if found and not starts and found[-1][2] == said:
            found[-1] = (f"{found[-1][0]}, {commands(use)}", starts, said)
        else:
            found.append((commands(use), starts, said))
    return found


def _kept(use: Use) -> str:
    """What commands make of the data, where they would start."""
    parts = [records(use)]
    if use.faults:
        parts.append(f"{rows(use.faults)} dropped")
    if use.left_out:
        parts.append(f"{rows(use.left_out)} left out")
    return ", ".join(parts)


def _why_not(facts: Facts, use: Use) -> str:
    """The sentence with which commands stop.

    Rows of a known layout need no other names for their columns; columns that all rows have are listed once, above.
    """
    sentence, other_names, rest = use.why_not.partition("; for other names")
    if not any(other.records for other in facts.uses):
        sentence += other_names + rest
    if len(facts.layouts) == 1:
        sentence = _FOUND.sub("", sentence)
    more = f" (and so would {rows(use.stops - 1)} more)" if use.records and use.stops > 1 else ""
    return sentence + more


def commands(use: Use) -> str:
    return ", ".join(use.commands)


def drops(facts: Facts) -> list[tuple[Drop, str]]:
    """Every reason once, with the commands that drop rows for it ("every command").

    Commands that drop every row for one reason say it where they say that nothing is left.
    """
    reading = [use for use in facts.uses if use.records or len(use.dropped) > 1]
    found: dict[str, list[Use]] = {}
    first: dict[str, Drop] = {}
    for use in reading:
        for drop in use.dropped:
            found.setdefault(drop.reason, []).append(use)
            if drop.rows > getattr(first.get(drop.reason), "rows", 0):
                first[drop.reason] = drop
    return [
        (drop, "every command" if len(found[reason]) == len(reading) else "; ".join(commands(use) for use in found[reason]))
        for reason, drop in first.items()
    ]  # fmt: skip


def numbers(spread: Spread) -> list[tuple[str, str]]:
    return [(name, f"{value:,}") for name, value in spread.numbers.items()]


def over(lengths: Lengths) -> str:
    """What is longer than may be; "" where there is no limit."""
    if not lengths.limit:
        return ""
    if not lengths.over:
        return (
            f"None of {lengths.sequences:,} sequences is longer than {lengths.limit:,} tokens (max_length)."
        )
    share = lengths.over / max(lengths.sequences, 1)
    become = "they are dropped"
    if lengths.shortened:
        become = f"{rows(lengths.shortened)} would lose the start of the prompt, the others are dropped"
    return (
        f"{lengths.over:,} of {lengths.sequences:,} sequences ({share:.1%}) are longer than {lengths.limit:,} tokens "
        f"(max_length): {become}."
    )


def headline(facts: Facts) -> str:
    """What this is, in one sentence."""
    kinds = " and ".join(layout.name for layout in facts.layouts[:2])
    if len(facts.layouts) > 2:
        kinds += f" and {len(facts.layouts) - 2} more layouts"
    files = "" if len(facts.files) == 1 else f" in {len(facts.files)} files"
    return f"{rows(facts.rows)}{files}: {kinds}" if kinds else f"{rows(facts.rows)}{files}"


def found(facts: Facts) -> str:
    """How much there is to look at, in one sentence."""
    likely = sum(mistake.level == "mistake" for mistake in facts.mistakes)
    if facts.damaged_rows:
        return f"{rows(facts.damaged_rows)} cannot be read: every command would stop there."
    if not likely:
        return "No likely mistake was found."
    return "1 likely mistake was found." if likely == 1 else f"{likely} likely mistakes were found."
