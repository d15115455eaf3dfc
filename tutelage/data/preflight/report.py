"""What preflight reports of a data set: rows kept and dropped, lengths, and one row with its trained tokens marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import Tokens
from tutelage.records import Place

# What to do about rows that are dropped, by the setting that the reason names.
REMEDIES = {
    "max_length": "raise max_length",
    "max_prompt_length": "raise max_prompt_length",
    "longer than max_new_tokens": "raise max_new_tokens",
    "max_new_tokens": "lower max_new_tokens",
    "cut_responses": "set cut_responses=keep",
}
OTHER_SPLIT = "another split_seed holds out others, and eval_data what you choose"
SHOWN, FIRST = 8, 5  # names of columns, and places of dropped rows, that are shown
OPEN, CLOSE = "⟦", "⟧"  # around trained tokens, where there is no colour


@dataclass
class Preflight:
    """What became of a data set.  `to_json()` goes into the run folder, `show()` onto the screen."""

    what: str  # "demonstrations" ...
    source: str
    rows: int = 0  # read, including those dropped
    kept: int = 0
    truncated: int = 0  # of the kept: prompts cut from the left
    cut: int = 0  # responses among the kept that have no end: they were cut when they were written
    merged: int = 0  # of the kept: system turns put into the user's, where the template takes none
    apart: int = 0  # of the kept: conversations whose answers have a sequence each
    unclosed: int = 0  # finished responses that never end the reasoning that the template's prompt opens
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows
    dropped_places: dict[str, dict[str, list[int]]] = field(
        default_factory=dict
    )  # reason -> file, with what is counted ("data.jsonl line") -> the numbers of the dropped rows
    left_out: list[str] = field(
        default_factory=list
    )  # reasons that are no fault: rows that say it themselves
    unused: dict[str, int] = field(
        default_factory=dict
    )  # column that nobody used -> rows in which it says something
    unanswered: int = (
        0  # of the kept: conversations whose last turns nobody answers; these turns are left out
    )
    tools: int = 0  # of the kept: rows with a list of tools that the template does not write
    glued: int = 0  # of the kept: plain text in which the response follows its prompt without white space
    max_length: int | None = None  # tokens
    tokens: int = 0
    trained_tokens: int = 0  # that get a loss: all marked ones but a sequence's first
    lengths: dict[str, int] = field(default_factory=dict)  # tokens per sequence: min, p5, median, p95, max
    response_lengths: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    example: list[tuple[str, bool]] = field(
        default_factory=list
    )  # runs of text, and whether they are trained

    @property
    def faults(self) -> int:
        """How many rows were dropped for a fault of theirs."""
        return sum(number for reason, number in self.dropped.items() if reason not in self.left_out)

    @property
    def dropped_share(self) -> float:
        """Of the rows that were meant to be used, those that were dropped."""
        meant = self.rows - sum(self.dropped.get(reason, 0) for reason in self.left_out)
        return self.faults / meant if meant else 0.0

    def drop(self, reason: str, place: Place | None, number: int, meant: bool = False) -> None:
        """Note a dropped row: the `number`-th, from 1, where it has no place of its own."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if meant and reason not in self.left_out:
            self.left_out.append(reason)
        file = "row" if place is None else f"{place.file} {place.unit}"
        numbers = self.dropped_places.setdefault(reason, {}).setdefault(file, [])
        if place is None or not place.copy:
            numbers.append(number if place is None else place.number)

    def dropped_rows(self) -> list[dict[str, Any]]:
        """Every dropped row: {"file", "line" (or row, document), "reason"}."""
        return [
            _place_json(file, number) | {"reason": reason}
            for reason, places in self.dropped_places.items()
            for file, numbers in places.items()
            for number in numbers
        ]

    def state(self) -> dict[str, Any]:
        """All of it as JSON; `from_state` is the inverse."""
        return asdict(self)

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Preflight:
        example = [(text, trained) for text, trained in state["example"]]
        return Preflight(**{**state, "example": example})

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        del found["dropped_places"]
        return found | {
            "example": self.example_text(),
            "dropped_share": self.dropped_share,
            "dropped_rows": self.dropped_rows(),
        }

    def example_text(self) -> str:
        """The example with ⟦trained⟧ text marked."""
        return "".join(f"{OPEN}{text}{CLOSE}" if trained else text for text, trained in self.example)

    def show(self, console: Console | None = None) -> None:
        """Print the report."""
        (console or Console()).print(self)

    def __rich__(self) -> Group:
        title = f"Data: {self.what}" + (f" from {self.source}" if self.source else "")
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in self.lines():
            table.add_row(name, value)
        example = Text()
        for text, trained in self.example:
            example.append(
                f"{OPEN}{text}{CLOSE}" if trained else text, style="bold green" if trained else "dim"
            )
        caption = f"one row as the model sees it, trained tokens {OPEN}marked{CLOSE}"
        heading = Text(title, "italic")
        if not self.example:
            return Group(heading, table)
        return Group(heading, table, Panel(example, title=caption, title_align="left"))

    def lines(self) -> Iterator[tuple[str, str]]:
        """What is said of the data set: (what about, in words)."""
        yield (
            "rows",
            f"{self.rows:,} read, {self.kept:,} kept"
            + (f", {self.truncated:,} of them with a shortened prompt" if self.truncated else ""),
        )
        yield from self._dropped_lines()
        if self.unused:
            found = sorted(self.unused.items(), key=lambda item: -item[1])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            yield "not used", ", ".join(f"{name} ({count:,} rows)" for name, count in found[:SHOWN]) + more
        if self.unanswered:
            yield "cut off", f"{self.unanswered:,} conversations end with turns that nobody answers: not read"
        if self.tools:
            yield "tools", f"{self.tools:,} rows list tools, which the chat template does not write"
        if self.glued:
            yield (
                "glued",
                f"{self.glued:,} responses follow their prompt without white space, as plain text: for turns of a chat set "
                "columns={instruction: prompt}",
            )
        if self.cut:
            yield "cut", f"{self.cut:,} responses have no end: they were cut when they were written"
        if self.merged:
            yield "system", f"{self.merged:,} system turns begin the user's: the template takes none"
        if self.unclosed:
            yield "reasoning", f"{self.unclosed:,} responses never end the reasoning that the prompt opens"
        if self.apart:
            yield "apart", f"{self.apart:,} conversations, one sequence per answer: turns are rewritten"
        yield (
            "tokens",
            f"{self.tokens:,}"
            + (
                f", {self.trained_tokens:,} trained ({self.trained_tokens / self.tokens:.0%})"
                if self.trained_tokens
                else ""
            ),
        )
        for name, lengths in (("length", self.lengths), ("response", self.response_lengths)):
            if lengths:
                limit = f"; at most {self.max_length}" if name == "length" and self.max_length else ""
                yield name, ", ".join(f"{key} {value}" for key, value in lengths.items()) + f" tokens{limit}"

    def show_held_out(self, train: Preflight, console: Console | None = None) -> None:
        """Print what became of the rows held out, beside those to train on."""
        lines = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        share = self.tokens / max(self.tokens + train.tokens, 1)
        lines.add_row(
            "held out",
            f"{self.kept:,} of {self.rows:,} rows kept, {self.tokens:,} tokens ({share:.1%} of all)",
        )
        for name, value in self._dropped_lines():
            lines.add_row(name, value)
        rows = self.kept / max(self.kept + train.kept, 1)
        if share > max(0.5, 2 * rows):
            lines.add_row(
                "beware", f"{rows:.1%} of the rows held out are {share:.1%} of the text: {OTHER_SPLIT}"
            )
        (console or Console()).print(lines)

    def _dropped_lines(self) -> Iterator[tuple[str, str]]:
        for reason, count in self.dropped.items():
            name = "left out" if reason in self.left_out else "dropped"
            yield name, f"{count:,} {reason} ({self._first(reason)})"

    def _first(self, reason: str) -> str:
        """Where the first rows stand that were dropped for a reason."""
        places = self.dropped_places.get(reason, {})
        numbers = sum(map(len, places.values()))
        shown, left = [], FIRST
        for file, found in places.items():
            if left:
                name = file.removeprefix(f"{self.source} ")  # which file, where there are several
                shown.append(f"{name} {', '.join(map(str, found[:left]))}")
                left -= len(found[:left])
        return "; ".join(shown) + (", ..." if numbers > FIRST else "")


def check(reports: Sequence[Preflight], max_dropped_share: float) -> None:
    """One share over all rows of what goes together, such as the rows to train on and those held out.

    Raises ValueError when no row of the first is left, or when more than the given share was dropped.
    """
    first = reports[0]
    rows, count = sum(report.rows for report in reports), sum(report.faults for report in reports)
    meant = rows - sum(sum(r.dropped.get(reason, 0) for reason in r.left_out) for r in reports)
    if not rows or (first.kept and count <= max_dropped_share * meant):
        return
    where = f" from {first.source}" if first.source else ""
    limit = f"more than max_dropped_share={max_dropped_share:g}" if first.kept else "so nothing is left"
    raise ValueError(
        f"{count if first.kept else sum(first.dropped.values())} of {rows} {first.what}{where} would be dropped, {limit}: "
        f"{_reasons(reports)}; {_advice(reports)}correct these rows"
        + (" or raise max_dropped_share" if first.kept else "")
    )


def _reasons(reports: Sequence[Preflight]) -> str:
    lines = [
        f"{number} {reason} ({report._first(reason)})"
        for report in reports
        for reason, number in report.dropped.items()
    ]
    return ", ".join(lines[:SHOWN]) or "there are none"


def _advice(reports: Sequence[Preflight]) -> str:
    named = [reason for report in reports for reason in report.dropped]
    remedies = (
        f"{remedy}, "
        for setting, remedy in REMEDIES.items()
        if any(f"{setting}=" in reason for reason in named)
    )
    return "".join(remedies)


def _place_json(file: str, number: int) -> dict[str, Any]:
    name, _, unit = file.rpartition(" ")
    return ({"file": name} if name else {}) | {unit: number}


def runs_of_text(tokenizer: Tokenizer, tokens: Tokens) -> list[tuple[str, bool]]:
    """The sequence as runs of text that are trained or not."""
    edges = [0, *(np.flatnonzero(np.diff(tokens.loss_mask)) + 1).tolist(), len(tokens)]
    return [
        (str(tokenizer.decode(tokens.ids[start:stop].tolist())), bool(tokens.loss_mask[start]))
        for start, stop in pairwise(edges)
    ]
