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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from tutelage.data.formats import digest_of, skipped_of
from tutelage.data.preflight_report import Preflight, percentiles, runs_of_text
from tutelage.data.progress import patient, watched
from tutelage.data.table import Examples, Table, Writer
from tutelage.data.template import Encoded, truncate_prompt
from tutelage.files import sha256_of
from tutelage.records import Comparison, Conversation, Demonstration, Document, Prompt

CHUNK = 500  # rows tokenised at once
CHUNK_CHARACTERS = 2**22  # of documents
MARK_EVERY = 30.0  # seconds between marks from which the work can go on
E = TypeVar("E")


@dataclass
class Prepared(Generic[E]):
    """A data set ready for training: `examples`, and for each the index of its row among the records given.

    Both are read from the disk when they are asked for.
    """

    examples: Examples[E]
    rows: Examples[int]
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
            rows = islice(watched(self.rows, f"tokenising {self.what}", self.console), self.row, None)
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
        reasons = [why_not(row) for row in chunk]
        encoded = iter(
            encode_rows([row for row, reason in zip(chunk, reasons, strict=True) if reason is None])
        )
        for row, reason in zip(chunk, reasons, strict=True):
            try:
                if reason is not None:
                    raise Unusable(reason)
                item = next(encoded)
                if isinstance(item, Unusable):
                    raise item
                self.shortened, before = False, self.writer.units
                accept(row, item)
                self._count(row, self.writer.units - before)
            except Unusable as reason_to_drop:
                self._drop(str(reason_to_drop))
            self.row += 1

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
        self.writer.add(self.row, sequences, numbers, record)
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

    def finish(self, read: Callable[[Table, int], E], max_dropped_share: float) -> Prepared[E]:
        report = Preflight.from_state(self.table.report)
        report.source = self.source
        report.check(max_dropped_share)
        rows = Examples(self.table, lambda table, unit: int(table.rows[unit]))
        return Prepared(Examples(self.table, read), rows, report)

    def _close_report(self, seconds: float) -> None:
        report, skipped = self.report, skipped_of(self.rows)  # what the reader could not represent
        report.rows = self.row + sum(skipped.values())
        report.dropped = {
            reason: skipped.get(reason, 0) + report.dropped.get(reason, 0)
            for reason in [*skipped, *report.dropped]
        }
        report.first_dropped = {reason: report.first_dropped.get(reason, []) for reason in report.dropped}
        report.max_length = self.options.get("max_length")
        lengths, trained = self.writer.lengths()
        report.lengths = percentiles(lengths)
        report.response_lengths = percentiles(trained[(trained > 0) & (trained < lengths)])
        report.seconds = seconds

    def _drop(self, reason: str) -> None:
        self.report.dropped[reason] = self.report.dropped.get(reason, 0) + 1
        first = self.report.first_dropped.setdefault(reason, [])
        if len(first) < 5:
            first.append(self.row + 1)


def cut_responses_in(row: Any) -> int:
    """How many responses of a row were cut before their end."""
    ends = [getattr(row, name, "eos") for name in ("finish", "chosen_finish", "rejected_finish")]
    return ends.count("length")


def _has_system_turn(row: Any) -> bool:
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
    files = [*sorted(here.glob("*.py")), Path(records.__file__)]
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
