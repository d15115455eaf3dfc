"""Preflight: the tokenised data set, and a report of what became of the rows, shown before training starts.

Tokens and report are kept on disk (`work`), and rows that were tokenised before are not read again.  What is dropped is
counted by reason and never silent; when more than a set share would be dropped, training does not start.  The report shows
one row as the model will see it, with the trained tokens marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import Tokens
from tutelage.data.encoding import Unusable
from tutelage.data.reading.formats import Dropped
from tutelage.data.steps import About, Neutral, StepEnds, StepTokens, learnt, response_of, scored_at
from tutelage.data.table import Examples, Table
from tutelage.data.template import (
    Encoded,
    PairTokens,
    encode,
    encode_chats,
    encode_documents,
    encode_prompts,
)
from tutelage.data.unfit import (
    CUT,
    IDENTICAL,
    UNPROMPTED,
    WORDLESS,
    why_not_comparison,
    why_not_demonstration,
    why_not_document,
    why_not_prompt,
    why_not_step_marks,
)
from tutelage.data.work import Prepared, Work
from tutelage.records import (
    Comparison,
    Conversation,
    Demonstration,
    Document,
    Labelled,
    Prompt,
    Rating,
    StepMarks,
)


def prepare_documents(
    tokenizer: Tokenizer,
    documents: Iterable[Document | Conversation],
    *,
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[Tokens]:
    """Texts for language modelling, whole: `packing` cuts what is longer than a row."""
    work = Work[Tokens]("documents", source, documents, tokenizer, console, {})

    def accept(row: Document | Conversation, found: Tokens | Answers) -> None:
        for tokens in [found] if isinstance(found, Tokens) else [item.tokens() for _, item in found]:
            work.keep([tokens])

    work.go(lambda rows: _encode_language(tokenizer, rows), accept, why_not_document)
    return work.finish(_tokens, max_dropped_share)


def prepare_demonstrations(
    tokenizer: Tokenizer,
    rows: Iterable[Demonstration | Conversation],
    *,
    max_length: int,
    train_on_prompt: bool = False,
    truncate_prompts: bool = True,
    cut_responses: Literal["keep", "drop"] = "keep",
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[Tokens]:
    """Responses to imitate, at most `max_length` tokens with their prompt.

    A prompt that is too long is cut from the left (or its row dropped, without `truncate_prompts`); a response that
    does not fit is never cut: its row is dropped.  One that was cut when it was written is kept without an end, or its
    row dropped (`cut_responses`).  A conversation may give several examples (`template.encode_chats`).
    """
    options = {
        "max_length": max_length,
        "train_on_prompt": train_on_prompt,
        "truncate_prompts": truncate_prompts,
        "cut_responses": cut_responses,
    }
    work = Work[Tokens]("demonstrations", source, rows, tokenizer, console, options)

    def accept(row: Demonstration | Conversation, found: Tokens | Answers) -> None:
        sequences = (
            [found]
            if isinstance(found, Tokens)
            else [work.fit(prompt, [item])[0].tokens(train_on_prompt) for prompt, item in found]
        )
        if max(map(len, sequences)) > max_length:
            raise Unusable(f"longer than max_length={max_length}")
        for tokens in sequences:
            work.keep([tokens])

    work.go(
        lambda chunk: _encode_mixed(tokenizer, chunk),
        accept,
        lambda row: why_not_demonstration(row, cut_responses),
    )
    return work.finish(_tokens, max_dropped_share)


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
    return work.finish(_tokens, max_dropped_share)


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
    return work.finish(_tokens, max_dropped_share)


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


def prepare_prompts(
    tokenizer: Tokenizer,
    prompts: Iterable[Prompt | Dropped],
    *,
    max_length: int,
    too_long: str,
    source: str = "",
    max_dropped_share: float | None = 0.1,
    console: Console | None = None,
) -> Prepared[Prompt]:
    """Prompts to answer, of at most `max_length` tokens (the context less the room for a response).

    `too_long` says in the report what is wrong with a longer one, in the words of the command's settings.
    """
    options = {"max_length": max_length, "too_long": too_long}
    work = Work[Prompt]("prompts", source, prompts, tokenizer, console, options)

    def accept(prompt: Prompt, ids: list[int]) -> None:
        if len(ids) > max_length:
            raise Unusable(too_long)
        tokens = Tokens(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=bool))
        work.keep([tokens], record=[prompt.content_json(), prompt.task, prompt.reference])

    work.go(lambda chunk: encode_prompts(tokenizer, chunk), accept, why_not_prompt)

    def read(table: Table, unit: int) -> Prompt:
        return replace(Prompt.from_json(*table.record(unit)), place=table.place(unit))

    return work.finish(read, max_dropped_share)


def comparisons_of(prepared: Prepared[PairTokens]) -> Examples[Comparison]:
    """The comparisons that pairs were made of, prepared with `keep_records`."""
    return Examples(
        prepared.examples.table,
        lambda table, unit: Comparison.from_json(table.record(unit), table.place(unit)),
    )


def step_marks_of(prepared: Prepared[StepTokens]) -> Examples[StepMarks]:
    """The marks that examples were made of, prepared with `keep_records`."""
    return Examples(
        prepared.examples.table,
        lambda table, unit: StepMarks.from_json(table.record(unit)["row"], table.place(unit)),
    )


GOOD = "good"  # of a labelled response
ANNOTATOR, PROMPT = (
    " annotator",
    " prompt",
)  # of a rating, beside its criteria; no criterion begins with a space
NUMBERS = ("p_chosen", "margin", "weight", "group", "prompt")  # of a comparison, kept beside its tokens


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


def _tokens(table: Table, unit: int) -> Tokens:
    [tokens] = table.unit(unit)
    return tokens


def _pair(table: Table, unit: int) -> PairTokens:
    chosen, rejected = table.unit(unit)
    p_chosen, margin, weight, group = (float(table.numbers(name)[unit]) for name in NUMBERS[:4])
    return PairTokens(chosen, rejected, p_chosen, margin, weight, int(group))


def _step_tokens(table: Table, unit: int) -> StepTokens:
    [tokens] = table.unit(unit)
    kept = table.record(unit)
    return StepTokens(tokens, np.array(kept["labels"], np.float32), tuple(kept["ends"]))


Answers = list[tuple[Prompt, Encoded]]  # each with what it answers


def _encode_mixed(tokenizer: Tokenizer, rows: Sequence[Demonstration | Conversation]) -> list[Any]:
    demonstrations = [row for row in rows if isinstance(row, Demonstration)]
    encoded = iter(encode(tokenizer, [(row.prompt, row.response, row.finish) for row in demonstrations]))
    chats = iter(encode_chats(tokenizer, [row for row in rows if isinstance(row, Conversation)]))
    return [
        _alone(row.prompt, next(encoded)) if isinstance(row, Demonstration) else next(chats) for row in rows
    ]


def _alone(prompt: Prompt, item: Encoded | Unusable) -> Answers | Unusable:
    if isinstance(item, Encoded) and not item.prompt:
        return Unusable(UNPROMPTED)
    return item if isinstance(item, Unusable) else [(prompt, item)]


def _encode_language(tokenizer: Tokenizer, rows: Sequence[Document | Conversation]) -> list[Any]:
    documents = iter(encode_documents(tokenizer, [row for row in rows if isinstance(row, Document)]))
    chats = iter(encode_chats(tokenizer, [row for row in rows if isinstance(row, Conversation)]))
    return [next(documents) if isinstance(row, Document) else next(chats) for row in rows]


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
