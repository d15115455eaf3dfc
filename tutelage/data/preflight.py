"""Preflight: the tokenised data set, and a report of what became of the rows, shown before training starts.

What is dropped is counted by reason and never silent; when more than a set share would be dropped, training does not
start.  The report shows one row as the model will see it, with the trained tokens marked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import Tokens
from tutelage.data.encoding import Encoder, Unusable, starts_with_system
from tutelage.data.preflight_report import Preflight, percentiles, runs_of_text
from tutelage.data.template import (
    Encoded,
    PairTokens,
    encode,
    encode_chats,
    encode_documents,
    encode_prompts,
    truncate_prompt,
)
from tutelage.records import Comparison, Conversation, Demonstration, Document, Prompt

CHUNK = 500  # rows tokenised at once, between two moves of the progress bar
PATIENCE = 2.0  # seconds until a progress bar appears
E = TypeVar("E")


@dataclass
class Prepared(Generic[E]):
    """A data set ready for training: `examples`, and for each the index of its row among the records given."""

    examples: list[E]
    rows: list[int]
    report: Preflight


def prepare_documents(
    tokenizer: Tokenizer,
    documents: Sequence[Document | Conversation],
    *,
    source: str = "",
    max_dropped_share: float = 0.1,
    console: Console | None = None,
) -> Prepared[Tokens]:
    """Texts for language modelling, whole: `packing` cuts what is longer than a row."""
    work = _Work[Tokens]("documents", source, documents, None, tokenizer, console)

    def accept(row: Document | Conversation, found: Tokens | Answers) -> None:
        for tokens in [found] if isinstance(found, Tokens) else [item.tokens() for _, item in found]:
            work.keep(tokens, [tokens])

    work.go(lambda rows: _encode_language(tokenizer, rows), accept, _why_not_document)
    return work.finish(max_dropped_share)


def prepare_demonstrations(
    tokenizer: Tokenizer,
    rows: Sequence[Demonstration | Conversation],
    *,
    max_length: int,
    train_on_prompt: bool = False,
    truncate_prompts: bool = True,
    cut_responses: Literal["keep", "drop"] = "keep",
    source: str = "",
    max_dropped_share: float = 0.1,
    console: Console | None = None,
) -> Prepared[Tokens]:
    """Responses to imitate, at most `max_length` tokens with their prompt.

    A prompt that is too long is cut from the left (or its row dropped, without `truncate_prompts`); a response that
    does not fit is never cut: its row is dropped.  One that was cut when it was written is kept without an end, or its
    row dropped (`cut_responses`).  A conversation may give several examples (`template.encode_chats`).
    """
    work = _Work[Tokens]("demonstrations", source, rows, max_length, tokenizer, console)

    def accept(row: Demonstration | Conversation, found: Tokens | Answers) -> None:
        sequences = (
            [found]
            if isinstance(found, Tokens)
            else [
                work.fit(prompt, [item], truncate_prompts)[0].tokens(train_on_prompt)
                for prompt, item in found
            ]
        )
        if max(map(len, sequences)) > max_length:
            raise Unusable(f"longer than max_length={max_length}")
        for tokens in sequences:
            work.keep(tokens, [tokens])

    work.go(
        lambda chunk: _encode_mixed(tokenizer, chunk),
        accept,
        lambda row: _why_not_demonstration(row, cut_responses),
    )
    return work.finish(max_dropped_share)


def prepare_comparisons(
    tokenizer: Tokenizer,
    rows: Sequence[Comparison],
    *,
    max_length: int,
    truncate_prompts: bool = True,
    cut_responses: Literal["keep", "drop"] = "keep",
    source: str = "",
    max_dropped_share: float = 0.1,
    console: Console | None = None,
) -> Prepared[PairTokens]:
    """Pairs of responses; both keep the same prompt ids, cut by what the longer response needs.

    An empty response is one like any other: its end is trained and scored.
    """
    work = _Work[PairTokens]("comparisons", source, rows, max_length, tokenizer, console)

    def accept(row: Comparison, pair: tuple[Encoded, Encoded]) -> None:
        if pair[0].response == pair[1].response:
            raise Unusable(IDENTICAL)
        if not (pair[0].response and pair[1].response):
            raise Unusable(WORDLESS)
        chosen, rejected = (item.tokens() for item in work.fit(row.prompt, pair, truncate_prompts))
        work.keep(PairTokens(chosen, rejected, row.p_chosen, row.margin), [chosen, rejected])

    work.go(
        lambda chunk: _encode_pairs(tokenizer, chunk),
        accept,
        lambda row: _why_not_comparison(row, cut_responses),
    )
    return work.finish(max_dropped_share)


def prepare_prompts(
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    max_length: int,
    too_long: str,
    source: str = "",
    max_dropped_share: float = 0.1,
    console: Console | None = None,
) -> Prepared[Prompt]:
    """Prompts to answer, of at most `max_length` tokens (the context less the room for a response).

    `too_long` says in the report what is wrong with a longer one, in the words of the command's settings.
    """
    work = _Work[Prompt]("prompts", source, prompts, max_length, tokenizer, console)

    def accept(prompt: Prompt, ids: list[int]) -> None:
        if len(ids) > max_length:
            raise Unusable(too_long)
        work.keep(prompt, [Tokens(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=bool))])

    work.go(lambda chunk: encode_prompts(tokenizer, chunk), accept, lambda prompt: None)
    return work.finish(max_dropped_share)


IDENTICAL, EMPTY = "with identical chosen and rejected", "with an empty response"
CUT, WORDLESS = (
    "with a response that was cut (cut_responses=drop)",
    "with a response that was cut before its first word",
)
Answers = list[tuple[Prompt, Encoded]]  # each with what it answers


def _why_not_document(row: Document | Conversation) -> str | None:
    return "with no text" if isinstance(row, Document) and not row.text.strip() else None


def _why_not_demonstration(row: Demonstration | Conversation, cut_responses: str) -> str | None:
    """An empty demonstration is a gap in the data, not somebody's example of saying nothing: it would teach silence."""
    if isinstance(row, Conversation):
        said = [message.content for message in row.messages if message.role == "assistant"]
        return None if all(text.strip() for text in said) else "with an empty assistant turn"
    if not row.response.strip():
        return EMPTY
    return CUT if row.finish == "length" and cut_responses == "drop" else None


def _why_not_comparison(row: Comparison, cut_responses: str) -> str | None:
    if (row.chosen, row.chosen_finish) == (row.rejected, row.rejected_finish):
        return IDENTICAL
    return CUT if _cut(row) and cut_responses == "drop" else None


def _cut(row: Any) -> int:
    """How many responses of a row were cut before their end."""
    ends = [getattr(row, name, "eos") for name in ("finish", "chosen_finish", "rejected_finish")]
    return ends.count("length")


def _system_turn(row: Any) -> bool:
    """Whether the row has a system turn before its first user turn."""
    chat = row.messages if isinstance(row, Conversation) else getattr(row, "prompt", row)
    chat = chat.content if isinstance(chat, Prompt) else chat
    return not isinstance(chat, str | Document) and starts_with_system(chat)


def _chat_answers(row: Any) -> list[str]:
    """The finished answers of a row in which people and an assistant talk."""
    if isinstance(row, Conversation):
        return [message.content for message in row.messages if message.role == "assistant"]
    if isinstance(row, Demonstration) and row.prompt.is_chat:
        return [row.response] if row.finish == "eos" else []
    if isinstance(row, Comparison) and row.prompt.is_chat:
        sides = ((row.chosen, row.chosen_finish), (row.rejected, row.rejected_finish))
        return [text for text, finish in sides if finish == "eos"]
    return []


def _encode_mixed(tokenizer: Tokenizer, rows: Sequence[Demonstration | Conversation]) -> list[Any]:
    demonstrations = [row for row in rows if isinstance(row, Demonstration)]
    encoded = iter(encode(tokenizer, [(row.prompt, row.response, row.finish) for row in demonstrations]))
    chats = iter(encode_chats(tokenizer, [row for row in rows if isinstance(row, Conversation)]))
    return [
        _alone(row.prompt, next(encoded)) if isinstance(row, Demonstration) else next(chats) for row in rows
    ]


def _alone(prompt: Prompt, item: Encoded | Unusable) -> Answers | Unusable:
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


class _Work(Generic[E]):
    """The rows of one data set on their way to examples: kept ones collected, dropped ones counted."""

    def __init__(
        self,
        what: str,
        source: str,
        rows: Sequence[Any],
        max_length: int | None,
        tokenizer: Tokenizer,
        console: Console | None,
    ) -> None:
        skipped: dict[str, int] = dict(getattr(rows, "skipped", {}))  # what the reader could not represent
        self.report = Preflight(
            what, source, len(rows) + sum(skipped.values()), max_length=max_length, dropped=skipped
        )
        self.report.first_dropped = {reason: [] for reason in skipped}
        self.data, self.tokenizer, self.console = rows, tokenizer, console
        self.encoder = Encoder(tokenizer)
        self.examples: list[E] = []
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self.response_lengths: list[int] = []
        self.shortened = False
        self.started = time.monotonic()

    def go(
        self,
        encode_rows: Callable[[list[Any]], Sequence[Any]],
        accept: Callable[[Any, Any], None],
        why_not: Callable[[Any], str | None],
    ) -> None:
        """Every row through `why_not` (a reason to drop it), `encode_rows` and `accept`."""
        for start in self._chunks():
            chunk = range(start, min(start + CHUNK, len(self.data)))
            reasons = {i: why_not(self.data[i]) for i in chunk}
            encoded = iter(encode_rows([self.data[i] for i in chunk if reasons[i] is None]))
            for i in chunk:
                try:
                    if (reason := reasons[i]) is not None:
                        raise Unusable(reason)
                    item = next(encoded)
                    if isinstance(item, Unusable):
                        raise item
                    self.row, self.shortened = i, False
                    accept(self.data[i], item)
                    self._count(self.data[i])
                except Unusable as reason_to_drop:
                    self._drop(i, str(reason_to_drop))

    def fit(self, prompt: Prompt, items: Sequence[Encoded], truncate: bool) -> list[Encoded]:
        """The items with their common prompt cut so that the longest fits into max_length."""
        limit = self.report.max_length
        assert limit is not None
        room = limit - max(len(item.response) for item in items)
        ids = items[0].prompt
        if len(ids) <= room:
            return list(items)
        if room < 1:
            raise Unusable(f"whose response alone is longer than max_length={limit}")
        if not truncate:
            raise Unusable(f"longer than max_length={limit}")
        ids = truncate_prompt(self.tokenizer, prompt, ids, room)
        self.shortened = True
        return [Encoded(ids, item.response) for item in items]

    def keep(self, example: E, sequences: Sequence[Tokens]) -> None:
        report = self.report
        if not self.examples:
            runs = [runs_of_text(self.tokenizer, tokens) for tokens in sequences]
            report.example = [
                run for i, own in enumerate(runs) for run in ([("\n\n", False)] * (i > 0) + own)
            ]
        self.examples.append(example)
        self.rows.append(self.row)
        for tokens in sequences:
            trained = int(tokens.loss_mask.sum())
            report.tokens += len(tokens)
            report.trained_tokens += trained - int(
                tokens.loss_mask[0]
            )  # nothing comes before the first token
            self.lengths.append(len(tokens))
            if 0 < trained < len(tokens):
                self.response_lengths.append(trained)

    def _count(self, row: Any) -> None:
        """Note what was made of a row that was kept."""
        report, answers = self.report, _chat_answers(row)
        report.kept += 1
        report.truncated += self.shortened
        report.cut += _cut(row)
        report.apart += len(self.rows) > 1 and self.rows[-2] == self.row
        report.merged += _system_turn(row) and not self.encoder.takes_system
        report.unclosed += sum(self.encoder.reasoning_end not in text for text in answers)

    def finish(self, max_dropped_share: float) -> Prepared[E]:
        self.report.lengths = percentiles(self.lengths)
        self.report.response_lengths = percentiles(self.response_lengths)
        self.report.seconds = round(time.monotonic() - self.started, 3)
        self.report.check(max_dropped_share)
        return Prepared(self.examples, self.rows, self.report)

    def _drop(self, row: int, reason: str) -> None:
        self.report.dropped[reason] = self.report.dropped.get(reason, 0) + 1
        first = self.report.first_dropped.setdefault(reason, [])
        if len(first) < 5:
            first.append(row + 1)

    def _chunks(self) -> Iterator[int]:
        """Starts of chunks, with a progress bar once it takes longer than `PATIENCE`."""
        progress = Progress(console=self.console, transient=True)
        task = progress.add_task(f"tokenising {self.report.what}", total=len(self.data))
        try:
            for start in range(0, len(self.data), CHUNK):
                if time.monotonic() - self.started > PATIENCE:
                    progress.start()
                    progress.update(task, completed=start)
                yield start
        finally:
            if progress.live.is_started:
                progress.stop()
