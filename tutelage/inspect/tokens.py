"""With a model's tokenizer: rows exactly as training makes them, and what that drops.  Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.preflight.report import Preflight, runs_of_text
from tutelage.data.preflight.responses import prepare_comparisons
from tutelage.data.preflight.steps import prepare_step_marks
from tutelage.data.preflight.texts import prepare_demonstrations, prepare_documents, prepare_prompts
from tutelage.data.preflight.work import Prepared
from tutelage.data.reading.formats import (
    read_comparisons,
    read_demonstrations,
    read_documents,
    read_prompts,
    read_step_marks,
)
from tutelage.data.reading.layouts import Purpose
from tutelage.data.reading.sources import Source
from tutelage.data.table import Table
from tutelage.inspect.facts import Drop, Lengths, Run, Shown
from tutelage.inspect.lengths import lengths
from tutelage.inspect.shown import evenly, piece
from tutelage.models.loading import context_at, load_tokenizer
from tutelage.records import Place
from tutelage.runs import result_folder

ENDLESS = 2**31 - 1


@dataclass(frozen=True)
class Tokenised:
    """What a tokenizer makes of the data."""

    records: int
    dropped: tuple[Drop, ...]
    lengths: Lengths
    shown: tuple[Shown, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Work:
    """One data set and how it is tokenised, at most so many tokens long."""

    purpose: Purpose
    source: Source
    columns: Mapping[str, str]
    tokenizer: Tokenizer
    cut_responses: Literal["keep", "drop"]
    console: Console | None

    def prepare(self, max_length: int) -> Prepared[Any]:
        common: dict[str, Any] = {"max_dropped_share": None, "console": self.console}
        rows = _READ[self.purpose](self.source, self.columns)
        if self.purpose == "pretraining text":
            return prepare_documents(self.tokenizer, rows, **common)
        if self.purpose == "prompts":
            too_long = f"longer than max_length={max_length}"
            return prepare_prompts(self.tokenizer, rows, max_length=max_length, too_long=too_long, **common)
        if self.purpose == "step marks":
            return prepare_step_marks(self.tokenizer, rows, max_length=max_length, separator="\n", **common)
        prepare: Callable[..., Prepared[Any]] = (
            prepare_comparisons if self.purpose == "comparisons" else prepare_demonstrations
        )
        return prepare(
            self.tokenizer, rows, max_length=max_length, cut_responses=self.cut_responses, **common
        )


_READ: dict[Purpose, Callable[..., Any]] = {
    "comparisons": read_comparisons,
    "demonstrations": read_demonstrations,
    "prompts": read_prompts,
    "pretraining text": read_documents,
    "step marks": read_step_marks,
}


def tokenised(
    purpose: Purpose,
    source: Source,
    model: str,
    columns: Mapping[str, str],
    *,
    max_length: int,
    cut_responses: Literal["keep", "drop"],
    console: Console | None,
) -> Tokenised:
    """The data as the commands for this purpose would tokenise them.

    Raises ValueError where there is no tokenizer, or it has no chat template for conversations.
    """
    folder = result_folder(model)
    tokenizer = load_tokenizer(folder)
    limit = 0 if purpose == "pretraining text" else min(max_length, _context(folder) or max_length)
    work = _Work(purpose, source, columns, tokenizer, cut_responses, console)
    prepared = work.prepare(limit or ENDLESS)
    report, table = prepared.report, prepared.examples.table
    whole = table
    if report.truncated or any("max_length" in reason for reason in report.dropped):
        whole = work.prepare(ENDLESS).examples.table  # with the lengths that rows have before they are cut
    shown = tuple(_shown(tokenizer, table, unit) for unit in evenly(len(table)))
    return Tokenised(
        report.kept, _drops(report), _lengths(purpose, whole, limit, report.truncated), shown, _notes(report)
    )


def _context(folder: str) -> int | None:
    """None also where there is a tokenizer alone."""
    try:
        return context_at(folder)
    except ValueError:
        return None


def _lengths(purpose: Purpose, table: Table, limit: int, shortened: int) -> Lengths:
    """Tokens of what is trained, of what stands around it, and of both together."""
    whole, trained = np.asarray(table.lengths), np.asarray(table.trained)
    if purpose == "pretraining text":
        named = {"text": whole}
    elif purpose == "prompts":
        named = {"prompt": whole}
    else:
        every = 2 if purpose == "comparisons" else 1  # both sides have one prompt
        named = {"prompt": (whole - trained)[::every], "response": trained, "sequence": whole}
    over = int((whole > limit).sum()) if limit else 0
    found = {name: own for name, own in named.items() if len(own)}
    return lengths("tokens", found, limit, len(whole), over, shortened)


def _drops(report: Preflight) -> tuple[Drop, ...]:
    found = []
    for reason, count in sorted(report.dropped.items(), key=lambda item: -item[1]):
        places = tuple(
            Place(*_file_and_unit(file, number))
            for file, numbers in report.dropped_places.get(reason, {}).items()
            for number in numbers
        )
        found.append(Drop(reason, count, reason in report.left_out, places))
    return tuple(found)


def _file_and_unit(name: str, number: int) -> tuple[str, int, str]:
    file, _, unit = name.rpartition(" ")
    return file, number, unit


def _notes(report: Preflight) -> tuple[str, ...]:
    """What the tokenizer does to rows, in the words of the preflight."""
    return tuple(text for name, text in report.lines() if name in ("tools", "system", "reasoning", "apart"))


def _shown(tokenizer: Tokenizer, table: Table, unit: int) -> Shown:
    names = ("chosen", "rejected") if len(table.unit(unit)) == 2 else ("",)
    runs: list[Run] = []
    for name, tokens in zip(names, table.unit(unit), strict=True):
        own = runs_of_text(tokenizer, tokens)
        runs += [piece(name if i == 0 else "", text, trained) for i, (text, trained) in enumerate(own)]
    return Shown(table.place(unit), tuple(runs))
