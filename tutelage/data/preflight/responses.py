"""What was said of responses as wholes: comparisons, labels, ratings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import Tokens
from tutelage.data.encoding import Unusable
from tutelage.data.preflight.unfit import (
    CUT,
    IDENTICAL,
    UNPROMPTED,
    WORDLESS,
    why_not_comparison,
)
from tutelage.data.preflight.work import Prepared, Work, one_sequence
from tutelage.data.table import Examples, Table
from tutelage.data.template import (
    Encoded,
    PairTokens,
    encode,
)
from tutelage.records import (
    Comparison,
    Labelled,
    Rating,
)

GOOD = "good"  # of a labelled response
ANNOTATOR, PROMPT = (
    " annotator",
    " prompt",
)  # of a rating, beside its criteria; no criterion begins with a space
NUMBERS = ("p_chosen", "margin", "weight", "group", "prompt")  # of a comparison, kept beside its tokens


def prepare_comparisons(
    tokenizer: Tokenizer,
    rows: Iterable[Comparison],
    *,
    max_length: int,
    truncate_prompts: bool = True,
    cut_responses: Literal["keep", "drop"] = "keep",
    groups: Sequence[str] = (),
    keep_records: bool = False,
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[PairTokens]:
    """Pairs of responses; both keep the same prompt ids, cut by what the longer response needs.

    An empty response is one like any other: its end is trained and scored.  `groups`: the groups of annotators that are
    told apart; rows of none of them are dropped.  `keep_records`: keep the comparisons as well (`comparisons_of`).
    """
    options = {
        "max_length": max_length,
        "truncate_prompts": truncate_prompts,
        "cut_responses": cut_responses,
        "groups": list(groups),
        "keep_records": keep_records,
    }
    work = Work[PairTokens](
        "comparisons", source, rows, tokenizer, console, options, sequences_per_unit=2, numbers=NUMBERS
    )

    def accept(row: Comparison, pair: tuple[Encoded, Encoded]) -> None:
        if not pair[0].prompt:
            raise Unusable(UNPROMPTED)
        if pair[0].response == pair[1].response:
            raise Unusable(IDENTICAL)
        if not (pair[0].response and pair[1].response):
            raise Unusable(WORDLESS)
        sides = [item.tokens() for item in work.fit(row.prompt, pair)]
        work.keep(sides, _numbers(row, groups), row.to_json() if keep_records else None)

    work.go(
        lambda chunk: _encode_pairs(tokenizer, chunk),
        accept,
        lambda row: why_not_comparison(row, cut_responses),
    )
    return work.finish(_pair, max_dropped_share)


def prepare_labelled(
    tokenizer: Tokenizer,
    rows: Iterable[Labelled],
    *,
    max_length: int,
    truncate_prompts: bool = True,
    cut_responses: Literal["keep", "drop"] = "keep",
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[Tokens]:
    """Responses with the number `good` beside them: 1 or 0."""
    options = {
        "max_length": max_length,
        "truncate_prompts": truncate_prompts,
        "cut_responses": cut_responses,
    }
    work = Work[Tokens]("labelled responses", source, rows, tokenizer, console, options, numbers=(GOOD,))

    def numbers(row: Labelled, item: Encoded) -> dict[str, float]:
        if not item.response:
            raise Unusable(WORDLESS)
        return {GOOD: float(row.good)}

    _keep_responses(work, tokenizer, numbers, cut_responses)
    return work.finish(one_sequence, max_dropped_share)


def prepare_ratings(
    tokenizer: Tokenizer,
    rows: Iterable[Rating],
    *,
    max_length: int,
    criteria: Sequence[str],
    truncate_prompts: bool = True,
    cut_responses: Literal["keep", "drop"] = "keep",
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[Tokens]:
    """Rated responses, with their ratings by `criteria` beside them (NaN: not rated), who rated them, and the prompt."""
    options = {
        "max_length": max_length,
        "criteria": list(criteria),
        "truncate_prompts": truncate_prompts,
        "cut_responses": cut_responses,
    }
    kept = (*criteria, ANNOTATOR, PROMPT)
    work = Work[Tokens]("ratings", source, rows, tokenizer, console, options, numbers=kept)

    def numbers(row: Rating, item: Encoded) -> dict[str, float]:
        rated = {name: float(row.values.get(name, np.nan)) for name in criteria}
        if not any(map(np.isfinite, rated.values())):
            raise Unusable(f"that is rated by none of the criteria {', '.join(criteria)}")
        who = int(hashlib.sha256(row.annotator.encode()).hexdigest()[:12], 16)
        return {**rated, ANNOTATOR: who, PROMPT: int(row.prompt.id[:12], 16)}

    _keep_responses(work, tokenizer, numbers, cut_responses)
    return work.finish(one_sequence, max_dropped_share)


Single = TypeVar("Single", Labelled, Rating)


def _keep_responses(
    work: Work[Tokens],
    tokenizer: Tokenizer,
    numbers: Callable[[Single, Encoded], dict[str, float]],
    cut_responses: Literal["keep", "drop"],
) -> None:
    """Keep responses about which something was said by itself, with the numbers that say it."""

    def accept(row: Single, item: Encoded) -> None:
        if not item.prompt:
            raise Unusable(UNPROMPTED)
        said = numbers(row, item)
        [fitting] = work.fit(row.prompt, [item])
        work.keep([fitting.tokens()], said)

    work.go(
        lambda chunk: encode(tokenizer, [(row.prompt, row.response, row.finish) for row in chunk]),
        accept,
        lambda row: CUT if row.finish == "length" and cut_responses == "drop" else None,
    )


def comparisons_of(prepared: Prepared[PairTokens]) -> Examples[Comparison]:
    """The comparisons that pairs were made of, prepared with `keep_records`."""
    return Examples(
        prepared.examples.table,
        lambda table, unit: Comparison.from_json(table.record(unit), table.place(unit)),
    )


def _numbers(row: Comparison, groups: Sequence[str]) -> dict[str, float]:
    """`group` is its number in `groups`, `prompt` what the prompt's id begins with: as much of it as a float64 holds."""
    if groups and row.group not in groups:
        said = f"of the group {row.group!r}" if row.group else "of no group"
        raise Unusable(f"{said}, where groups has {', '.join(groups)}")
    if not 0 <= row.weight < float("inf"):
        raise Unusable(f"whose weight is {row.weight:g}, but a weight is 0 or more")
    return {
        "p_chosen": row.p_chosen,
        "margin": row.margin,
        "weight": row.weight,
        "group": groups.index(row.group) if groups else 0,
        "prompt": int(row.prompt.id[:12], 16),
    }


def _pair(table: Table, unit: int) -> PairTokens:
    chosen, rejected = table.unit(unit)
    p_chosen, margin, weight, group = (float(table.numbers(name)[unit]) for name in NUMBERS[:4])
    return PairTokens(chosen, rejected, p_chosen, margin, weight, int(group))


def _encode_pairs(tokenizer: Tokenizer, rows: Sequence[Comparison]) -> list[Any]:
    sides = encode(
        tokenizer,
        [
            (row.prompt, text, finish)
            for row in rows
            for text, finish in ((row.chosen, row.chosen_finish), (row.rejected, row.rejected_finish))
        ],
    )
    return [
        next((side for side in pair if isinstance(side, Unusable)), pair)
        for pair in zip(sides[::2], sides[1::2], strict=True)
    ]
