"""The rows of one data set on their way to a table: found where they were tokenised before, else tokenised now.

A table lies in the cache under a hash of all that it depends on: the rows, the tokenizer, the options, our own code.  Rows
are walked through once, a few at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import tokenizers
import transformers
from rich.console import Console
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage import records
from tutelage.cache import PARTIAL, claim
from tutelage.data.batch import Tokens
from tutelage.data.encoding import Encoder, Unusable, starts_with_system
from tutelage.data.preflight.progress import patient, watched
from tutelage.data.preflight.report import Preflight, check, runs_of_text
from tutelage.data.preflight.unfit import cut_responses_in, is_glued
from tutelage.data.reading.formats import Dropped, digest_of, unused_of, walk
from tutelage.data.table import Examples, Table, Writer
from tutelage.data.template import Encoded, truncate_prompt
from tutelage.files import sha256_of
from tutelage.records import Comparison, Conversation, Demonstration, Document, Place, Prompt, Tool
from tutelage.statistics import percentiles

CHUNK = 500  # rows tokenised at once
CHUNK_CHARACTERS = 2**22  # of documents
MARK_EVERY = 30.0  # seconds between marks from which the work can go on
E = TypeVar("E")


@dataclass
class Prepared(Generic[E]):
    """A data set ready for training: `examples`, read from the disk when they are asked for."""

    examples: Examples[E]
    report: Preflight


class Work(Generic[E]):
    """The rows of one data set on their way to a table: kept ones written, dropped ones counted.

    `options` is all that decides what becomes of a row, besides the tokenizer and our own code.
    """

    def __init__(
        self,
        what: str,
        source: str,
        rows: Iterable[Any],
        tokenizer: Tokenizer,
        console: Console | None,
        options: Mapping[str, Any],
        sequences_per_unit: int = 1,
        numbers: Sequence[str] = (),
    ) -> None:
        self.what, self.source, self.rows = what, source, rows
        self.tokenizer, self.console, self.options = tokenizer, console, options
        self.layout: tuple[int, Sequence[str]] = (sequences_per_unit, numbers)
        self.encoder = Encoder(tokenizer)
        self.shortened = False
        self.place: Place | None = None  # of the row at hand

    def go(
        self,
        encode_rows: Callable[[list[Any]], Sequence[Any]],
        accept: Callable[[Any, Any], None],
        why_not: Callable[[Any], str | None],
    ) -> None:
        """Find the table of these rows, or make it: each through `why_not` (a reason to drop it), `encode_rows`, `accept`."""

        def wait() -> None:
            (self.console or Console()).print(
                f"Another process is tokenising these {self.what}: waiting for it."
            )

        with patient(f"looking whether these {self.what} are known", self.console):
            key = self._key()
        with claim("tables", key, wait) as folder:
            if not folder.exists():
                self._make(folder, lambda chunk: self._take(chunk, encode_rows, accept, why_not))
            self.table = Table(folder)

    def _key(self) -> str:
        """What the table depends on, as one hash."""
        parts = {
            "what": self.what,
            "rows": digest_of(self.rows),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "options": dict(self.options),
            "code": code_digest(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def _make(self, folder: Path, take: Callable[[list[Any]], None]) -> None:
        """Write the table, chunk by chunk; killed on the way, it goes on from what it marked last."""
        started = marked = time.monotonic()
        partial = folder.with_name(folder.name + PARTIAL)
        try:
            vocabulary = max(self.tokenizer.get_vocab().values(), default=0) + 1
            self.writer = Writer(partial, vocabulary, *self.layout)
            state = self.writer.state or {"rows": 0, "report": Preflight(self.what, "").state()}
            self.report, self.row = Preflight.from_state(state["report"]), state["rows"]
            total = len(self.rows) if isinstance(self.rows, Sized) else None
            seen = watched(walk(self.rows), f"tokenising {self.what}", self.console, total)
            rows = islice(seen, self.row, None)
            while chunk := _chunk(rows):
                take(chunk)
                self.writer.flush()
                if time.monotonic() - marked > MARK_EVERY:
                    self.writer.mark({"rows": self.row, "report": self.report.state()})
                    marked = time.monotonic()
            self._close_report(round(time.monotonic() - started, 3))
            self.writer.finish(folder, self.report.state())
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _take(
        self,
        chunk: list[Any],
        encode_rows: Callable[[list[Any]], Sequence[Any]],
        accept: Callable[[Any, Any], None],
        why_not: Callable[[Any], str | None],
    ) -> None:
        reasons = [row if isinstance(row, Dropped) else self._why_not(row, why_not) for row in chunk]
        encoded = iter(
            encode_rows([row for row, reason in zip(chunk, reasons, strict=True) if reason is None])
        )
        for row, reason in zip(chunk, reasons, strict=True):
            self.place = row.place
            if reason is None:
                reason = self._accepted(row, next(encoded), accept)
            if reason is not None:
                self.report.drop(reason.reason, reason.place, self.row + 1, reason.meant)
            self.row += 1

    def _why_not(self, row: Any, why_not: Callable[[Any], str | None]) -> Dropped | None:
        reason = why_not(row)
        return None if reason is None else Dropped(row.place, reason)

    def _accepted(self, row: Any, item: Any, accept: Callable[[Any, Any], None]) -> Dropped | None:
        """Write what a row was made into; why not, where it cannot be used."""
        try:
            if isinstance(item, Unusable):
                raise item
            self.shortened, before = False, self.writer.units
            accept(row, item)
        except Unusable as reason:
            return Dropped(row.place, str(reason))
        self._count(row, self.writer.units - before)
        return None

    def fit(self, prompt: Prompt, items: Sequence[Encoded]) -> list[Encoded]:
        """The items with their common prompt cut so that the longest fits into max_length."""
        limit = self.options["max_length"]
        room = limit - max(len(item.response) for item in items)
        ids = items[0].prompt
        if len(ids) <= room:
            return list(items)
        if room < 1:
            raise Unusable(f"whose response alone is longer than max_length={limit}")
        if not self.options["truncate_prompts"]:
            raise Unusable(f"longer than max_length={limit}")
        ids = truncate_prompt(self.tokenizer, prompt, ids, room)
        self.shortened = True
        return [Encoded(ids, item.response) for item in items]

    def keep(
        self, sequences: Sequence[Tokens], numbers: Mapping[str, float] | None = None, record: Any = None
    ) -> None:
        """Write a unit (see `table.Writer.add`)."""
        report = self.report
        if not self.writer.units:
            runs = [runs_of_text(self.tokenizer, tokens) for tokens in sequences]
            report.example = [
                run for i, own in enumerate(runs) for run in ([("\n\n", False)] * (i > 0) + own)
            ]
        self.writer.add(self.row, sequences, numbers, record, self.place)
        for tokens in sequences:
            report.tokens += len(tokens)
            # nothing comes before the first token
            report.trained_tokens += int(tokens.loss_mask.sum()) - int(tokens.loss_mask[0])

    def _count(self, row: Any, units: int) -> None:
        """Note what was made of a row that was kept."""
        report, answers = self.report, _chat_answers(row)
        report.kept += 1
        report.truncated += self.shortened
        report.cut += cut_responses_in(row)
        report.apart += units > 1
        report.merged += _has_system_turn(row) and not self.encoder.takes_system
        report.unclosed += sum(self.encoder.reasoning_end not in text for text in answers)
        report.unanswered += isinstance(row, Conversation) and row.messages[-1].role != "assistant"
        report.tools += bool(_tools_of(row)) and not self.encoder.takes_tools
        report.glued += is_glued(row)

    def finish(self, read: Callable[[Table, int], E], max_dropped_share: float | None) -> Prepared[E]:
        """The data set.  max_dropped_share: None leaves it to the caller to check the report."""
        report = Preflight.from_state(self.table.report)
        report.source = self.source
        if max_dropped_share is not None:
            check([report], max_dropped_share)
        return Prepared(Examples(self.table, read), report)

    def _close_report(self, seconds: float) -> None:
        report = self.report
        report.rows, report.unused = self.row, unused_of(self.rows)
        report.max_length = self.options.get("max_length")
        lengths, trained = self.writer.lengths()
        report.lengths = percentiles(lengths)
        report.response_lengths = percentiles(trained[(trained > 0) & (trained < lengths)])
        report.seconds = seconds


def _has_system_turn(row: Any) -> bool:
    """Whether the row has a system turn before its first user turn."""
    chat = row.messages if isinstance(row, Conversation) else getattr(row, "prompt", row)
    chat = chat.content if isinstance(chat, Prompt) else chat
    return not isinstance(chat, str | Document) and starts_with_system(chat)


def _tools_of(row: Any) -> tuple[Tool, ...]:
    found: tuple[Tool, ...] = getattr(getattr(row, "prompt", row), "tools", ())
    return found


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


def _chunk(rows: Iterator[Any]) -> list[Any]:
    """The next rows to tokenise at once: so many, or so much text."""
    chunk, characters = [], 0
    for row in islice(rows, CHUNK):
        chunk.append(row)
        characters += len(row.text) if isinstance(row, Document) else 0
        if characters > CHUNK_CHARACTERS:
            break
    return chunk


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """sha256 (hex) of all that a tokenizer's files say, its chat template with them, and of the libraries' versions."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sha256_of(folder)
    return hashlib.sha256(f"{files} {transformers.__version__} {tokenizers.__version__}".encode()).hexdigest()


@cache
def code_digest() -> str:
    """sha256 (hex) of our own code from rows to tokens: when that changes, tables are made anew."""
    here = Path(__file__).parent
    files = [*sorted(here.rglob("*.py")), Path(records.__file__)]
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def one_sequence(table: Table, unit: int) -> Tokens:
    """A unit that is one sequence, as examples are read."""
    [tokens] = table.unit(unit)
    return tokens
