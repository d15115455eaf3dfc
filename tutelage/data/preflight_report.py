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

# What to do about rows that are dropped, by the setting that the reason names.
REMEDIES = {
    "max_length": "raise max_length",
    "max_prompt_length": "raise max_prompt_length",
    "max_new_tokens": "lower max_new_tokens",
    "cut_responses": "set cut_responses=keep",
}
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
    first_dropped: dict[str, list[int]] = field(
        default_factory=dict
    )  # reason -> up to five row numbers, from 1
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
    def dropped_share(self) -> float:
        return sum(self.dropped.values()) / self.rows if self.rows else 0.0

    def state(self) -> dict[str, Any]:
        """All of it as JSON; `from_state` is the inverse."""
        return asdict(self)

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Preflight:
        example = [(text, trained) for text, trained in state["example"]]
        return Preflight(**{**state, "example": example})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"example": self.example_text(), "dropped_share": self.dropped_share}

    def example_text(self) -> str:
        """The example with ⟦trained⟧ text marked."""
        return "".join(f"{OPEN}{text}{CLOSE}" if trained else text for text, trained in self.example)

    def show(self, console: Console | None = None) -> None:
        """Print the report."""
        (console or Console()).print(self)

    def __rich__(self) -> Group:
        title = f"Data: {self.what}" + (f" from {self.source}" if self.source else "")
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in self._lines():
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

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield (
            "rows",
            f"{self.rows:,} read, {self.kept:,} kept"
            + (f", {self.truncated:,} of them with a shortened prompt" if self.truncated else ""),
        )
        for reason, count in self.dropped.items():
            numbers = ", ".join(map(str, self.first_dropped.get(reason, [])))
            at = (
                f" (row {numbers}{', ...' if count > len(self.first_dropped[reason]) else ''})"
                if numbers
                else ""
            )
            yield "dropped", f"{count:,} {reason}{at}"
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

    def check(self, max_dropped_share: float) -> None:
        """Raises ValueError when no row of some is left, or when more than the given share was dropped."""
        if not self.rows or (self.kept and self.dropped_share <= max_dropped_share):
            return
        count = sum(self.dropped.values())
        reasons = (
            ", ".join(f"{number} {reason}" for reason, number in self.dropped.items()) or "there are none"
        )
        advice = "".join(
            f"{remedy}, "
            for setting, remedy in REMEDIES.items()
            if any(f"{setting}=" in reason for reason in self.dropped)
        )
        where = f" from {self.source}" if self.source else ""
        limit = f"more than max_dropped_share={max_dropped_share:g}" if self.kept else "so nothing is left"
        raise ValueError(
            f"{count} of {self.rows} {self.what}{where} would be dropped, {limit}: {reasons}; {advice}correct these rows"
            + (" or raise max_dropped_share" if self.kept else "")
        )


def percentiles(lengths: Sequence[int] | np.ndarray) -> dict[str, int]:
    if not len(lengths):
        return {}
    names = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}
    values = np.percentile(lengths, list(names.values()), method="nearest")
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def runs_of_text(tokenizer: Tokenizer, tokens: Tokens) -> list[tuple[str, bool]]:
    """The sequence as runs of text that are trained or not."""
    edges = [0, *(np.flatnonzero(np.diff(tokens.loss_mask)) + 1).tolist(), len(tokens)]
    return [
        (str(tokenizer.decode(tokens.ids[start:stop].tolist())), bool(tokens.loss_mask[start]))
        for start, stop in pairwise(edges)
    ]
