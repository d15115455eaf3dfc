"""What is found in a data set.  Console, page and JSON are made from these alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from tutelage.records import Place


@dataclass(frozen=True)
class File:
    """One file (or hub data set): how it is read, its size (None where it is not on this machine), its rows."""

    name: str
    kind: str  # "JSON lines", ...
    bytes: int | None
    rows: int


@dataclass(frozen=True)
class Layout:
    """A layout by its usual name, and how many rows have it."""

    name: str
    columns: tuple[str, ...]
    rows: int
    first: Place


@dataclass(frozen=True)
class Column:
    """A column: in how many rows it is there, of what types, in how many it says something that nobody uses."""

    name: str
    rows: int  # where it is there, and not null
    blank: int  # of these: where it says nothing
    types: Mapping[str, int]
    unused: int  # rows in which it says something that no command uses
    example: str

    @property
    def use(self) -> Literal["used", "not used", "in part", "blank"]:
        if self.blank == self.rows:
            return "blank"
        if not self.unused:
            return "used"
        return "not used" if self.unused >= self.rows - self.blank else "in part"


@dataclass(frozen=True)
class Drop:
    """Rows that give no record for one reason (which goes on after "a row").  meant: they say so themselves."""

    reason: str
    rows: int
    meant: bool
    places: tuple[Place, ...]  # the first of them


@dataclass(frozen=True)
class Use:
    """How some commands would read the data."""

    commands: tuple[str, ...]
    what: str  # "demonstrations", ...
    records: int
    dropped: tuple[Drop, ...]
    why_not: str = ""  # the sentence with which these commands stop; "" where they would start
    stops: int = 0  # rows at which they would stop, one after the other

    @property
    def faults(self) -> int:
        """Rows dropped for a fault of theirs."""
        return sum(drop.rows for drop in self.dropped if not drop.meant)

    @property
    def left_out(self) -> int:
        """Rows that say themselves that they are not to be used."""
        return sum(drop.rows for drop in self.dropped if drop.meant)


@dataclass(frozen=True)
class Spread:
    """Lengths of one thing: min, p5, median, p95, max, and how many lie between `edges` (one more than counts)."""

    name: str  # "prompt", "response", "sequence" (both together), "text"
    numbers: Mapping[str, int]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Lengths:
    """Lengths in one unit.  Of the sequences, `over` are longer than `limit`: `shortened` lose the start of their prompt."""

    unit: Literal["characters", "tokens"]
    spreads: tuple[Spread, ...]
    limit: int = 0  # 0: none
    sequences: int = 0
    over: int = 0
    shortened: int = 0


@dataclass(frozen=True)
class Run:
    """A piece of a row: who says it ("" where tokens are shown), the words, whether they are trained, and how many
    characters were left out behind them."""

    who: str
    text: str
    trained: bool
    more: int = 0


@dataclass(frozen=True)
class Shown:
    """A row as the model sees it, or as turns where there is no model."""

    place: Place | None
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Pair:
    """Two rows that say the same; `words` are what they share, where that is not all."""

    one: Place
    other: Place
    words: str = ""


@dataclass(frozen=True)
class Repeats:
    """Rows that say again what a row before them said, in one sense of "the same"."""

    name: str
    rows: int
    largest: int  # rows in the largest group
    pairs: tuple[Pair, ...]  # (first of its group, repetition)


@dataclass(frozen=True)
class Leak:
    """Rows on one side of a split (or held-out file) that stand on the other side, in one sense of "the same"."""

    name: str
    held_out: int  # rows held out that are found in the training rows
    train: int  # training rows in which they are found
    pairs: tuple[Pair, ...]  # (held out, training)


@dataclass(frozen=True)
class Split:
    """The split that the commands would make."""

    share: float
    seed: int
    held_out: int
    rows: int
    leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class Overlap:
    """What a held-out file and the data share."""

    against: str
    held_out: int  # rows of the held-out file that were looked at
    left: int  # rows of it beyond the limit
    words: int  # of an n-gram
    leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class Seen:
    """One row in which something was found."""

    place: Place
    text: str


@dataclass(frozen=True)
class Mistake:
    """Something that is likely a mistake (or, as a note, worth knowing): a sentence with its count, and what to do."""

    name: str
    level: Literal["mistake", "note"]
    sentence: str
    advice: str
    rows: int
    of: int
    examples: tuple[Seen, ...]


@dataclass(frozen=True)
class Facts:
    """All that was found."""

    source: str
    model: str
    files: tuple[File, ...]
    rows: int
    records: int  # that were looked at, after trees and several answers are taken apart
    damaged: tuple[Seen, ...]  # lines at which every command stops
    damaged_rows: int
    layouts: tuple[Layout, ...]
    columns: tuple[Column, ...]
    uses: tuple[Use, ...]
    lengths: tuple[Lengths, ...]
    languages: Mapping[str, int]
    repeats: tuple[Repeats, ...]
    split: Split | None
    overlap: Overlap | None
    mistakes: tuple[Mistake, ...]
    shown: tuple[Shown, ...]
    notes: tuple[str, ...] = field(default=())  # what was not looked at, and why


def to_json(value: Any) -> Any:
    """The facts as JSON: places are {"file", "line" (or row, document)}."""
    if isinstance(value, Place):
        return value.to_json()
    if is_dataclass(value):
        return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, tuple | list) else value
