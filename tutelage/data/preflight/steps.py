"""Responses in steps: marked ones, and solutions that are to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.encoding import Unusable
from tutelage.data.preflight.unfit import (
    UNPROMPTED,
    why_not_solution,
    why_not_step_marks,
)
from tutelage.data.preflight.work import Prepared, Work
from tutelage.data.steps import (
    About,
    Neutral,
    StepEnds,
    StepTokens,
    learnt,
    response_of,
    scored_at,
    steps_of,
    written,
)
from tutelage.data.table import Examples, Table
from tutelage.data.template import (
    Encoded,
    encode,
)
from tutelage.records import (
    Conversation,
    Demonstration,
    Prompt,
    Response,
    StepMarks,
)


def prepare_step_marks(
    tokenizer: Tokenizer,
    rows: Iterable[StepMarks],
    *,
    max_length: int,
    separator: str,
    about: About = "steps",
    neutral: Neutral = "positive",
    first_error: bool = True,
    truncate_prompts: bool = True,
    keep_records: bool = False,
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[StepTokens]:
    """Responses whose steps are marked; trained are the ends of those that say something (`steps.targets`).  With another
    `about` the outcome is trained instead, where there is one.

    `keep_records`: keep the marks as well (`step_marks_of`).
    """
    options = {
        "max_length": max_length,
        "separator": separator,
        "about": about,
        "neutral": neutral,
        "first_error": first_error,
        "truncate_prompts": truncate_prompts,
        "keep_records": keep_records,
    }
    work = Work[StepTokens]("step marks", source, rows, tokenizer, console, options)
    find = StepEnds(tokenizer, separator)

    def encoded(chunk: Sequence[StepMarks]) -> list[Any]:
        return encode(
            tokenizer, [(row.prompt, response_of(row, separator, about), row.finish) for row in chunk]
        )

    def accept(row: StepMarks, item: Encoded) -> None:
        if not item.prompt:
            raise Unusable(UNPROMPTED)
        [item] = work.fit(row.prompt, [item])
        found = scored_at(about, find, item.response, row.finish)
        labels = learnt(row, len(found), separator, about, neutral, first_error)
        ends = [len(item.prompt) + end for end in found]
        tokens = item.tokens()
        tokens.loss_mask[:] = False
        tokens.loss_mask[[end for end, label in zip(ends, labels, strict=True) if label is not None]] = True
        kept = {"ends": ends, "labels": [label for label in labels if label is not None]}
        work.keep([tokens], record=kept | ({"row": row.to_json()} if keep_records else {}))

    work.go(encoded, accept, partial(why_not_step_marks, about=about, neutral=neutral))
    return work.finish(_step_tokens, max_dropped_share)


def prepare_solutions(
    tokenizer: Tokenizer,
    rows: Iterable[StepMarks | Demonstration | Conversation],
    *,
    separator: str,
    max_new_tokens: int,
    context: int | None,
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[Response]:
    """Responses that steps can be told apart in, of at most `max_new_tokens` tokens, to prompts that leave room for as many
    in a `context` (None: without end).  What was said of their steps is not kept."""
    options = {"separator": separator, "max_new_tokens": max_new_tokens, "context": context}
    work = Work[Response]("solutions", source, rows, tokenizer, console, options)
    find = StepEnds(tokenizer, separator)

    def encoded(chunk: Sequence[StepMarks | Demonstration]) -> list[Any]:
        return encode(tokenizer, [(row.prompt, written(row, separator), row.finish) for row in chunk])

    def accept(row: StepMarks | Demonstration, item: Encoded) -> None:
        if not item.prompt:
            raise Unusable(UNPROMPTED)
        if len(item.response) > max_new_tokens:
            raise Unusable(f"longer than max_new_tokens={max_new_tokens}")
        if context is not None and len(item.prompt) + max_new_tokens > context:
            room = context - max_new_tokens
            raise Unusable(
                f"to a prompt longer than the {room} tokens that max_new_tokens={max_new_tokens} leaves of the context"
            )
        text = written(row, separator)
        if len(find(item.response, row.finish)) != len(steps_of(text, separator)):
            raise Unusable("whose steps are not found again in its tokens (separator)")
        prompt = [row.prompt.content_json(), row.prompt.task, row.prompt.reference]
        work.keep([item.tokens()], record=[prompt, text, row.finish])

    work.go(encoded, accept, why_not_solution)
    return work.finish(_solution, max_dropped_share)


def _solution(table: Table, unit: int) -> Response:
    [tokens] = table.unit(unit)
    prompt, text, finish = table.record(unit)
    asked = replace(Prompt.from_json(*prompt), place=table.place(unit))
    ids, own = tokens.ids, tokens.loss_mask
    return Response(asked, text, tuple(ids[~own].tolist()), tuple(ids[own].tolist()), (), finish)


def step_marks_of(prepared: Prepared[StepTokens]) -> Examples[StepMarks]:
    """The marks that examples were made of, prepared with `keep_records`."""
    return Examples(
        prepared.examples.table,
        lambda table, unit: StepMarks.from_json(table.record(unit)["row"], table.place(unit)),
    )


def _step_tokens(table: Table, unit: int) -> StepTokens:
    [tokens] = table.unit(unit)
    kept = table.record(unit)
    return StepTokens(tokens, np.array(kept["labels"], np.float32), tuple(kept["ends"]))
