"""What a language model learns from or answers: documents, demonstrations, prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import Tokens
from tutelage.data.encoding import Unusable
from tutelage.data.preflight.unfit import (
    UNPROMPTED,
    why_not_demonstration,
    why_not_document,
    why_not_prompt,
)
from tutelage.data.preflight.work import Prepared, Work, one_sequence
from tutelage.data.reading.formats import Dropped
from tutelage.data.table import Table
from tutelage.data.template import (
    Encoded,
    encode,
    encode_chats,
    encode_documents,
    encode_prompts,
)
from tutelage.records import (
    Conversation,
    Demonstration,
    Document,
    Prompt,
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
    return work.finish(one_sequence, max_dropped_share)


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
    return work.finish(one_sequence, max_dropped_share)


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
