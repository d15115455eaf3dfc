"""Readers: rows of any known format -> records.

The format is recognised by the columns of a file's row; the names are TRL's, next to Anthropic HH text, Alpaca,
question/answer pairs (GSM8K) and ShareGPT.  Every file is read as what it holds (a text, a conversation, a prompt, a
demonstration or a comparison) and then used for what is asked: a comparison is also a demonstration (its chosen
response), a demonstration also a prompt and a text.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any, Generic, TypeVar

from tutelage.data.sources import Row, Source, any_hub, local_paths, read_rows
from tutelage.files import sha256_of
from tutelage.records import Comparison, Conversation, Demonstration, Document, Finish, Message, Prompt

Record = Document | Conversation | Demonstration | Prompt | Comparison
Content = str | tuple[Message, ...]
Pair = tuple[Content, str, str]  # prompt, chosen, rejected
T = TypeVar("T")


class Records(Generic[T]):
    """The records of a source, read anew at every walk: they are never all in memory.

    skipped: how many rows no record can hold, by reason, in the last whole walk (preflight shows it).
    """

    def __init__(self, source: Source, purpose: str, convert: Callable[[Record], T | None]) -> None:
        self._source, self._purpose, self._convert = source, purpose, convert
        self._stamps: list[tuple[int, int]] = []
        self.skipped: dict[str, int] = {}

    def __iter__(self) -> Iterator[T]:
        """Raises ValueError (file, line, columns) as `sources.read_rows` does and for rows of the wrong shape."""
        skipped: Counter[str] = Counter()
        for row in read_rows(self._source):
            layout = _layout(row, self._purpose)
            try:
                record = self._convert(layout.read(row))
            except _Skip as reason:
                skipped[str(reason)] += 1
                continue
            if record is None:
                raise _wrong_columns(row, self._purpose, f", which hold {layout.holds}")
            yield record
        self.skipped = dict(skipped)
        if self._stamps and self._stamps != _stamps(self._source):
            raise ValueError(f"{self._source} was changed while it was read: start again")

    @cached_property
    def digest(self) -> str | None:
        """sha256 (hex) of what is read: of the files' bytes.  None where a source is not files."""
        if any_hub(self._source):
            return None
        self._stamps = _stamps(self._source)
        files = [[path.suffixes, sha256_of(path)] for path in local_paths(self._source)]
        return hashlib.sha256(json.dumps([self._purpose, files]).encode()).hexdigest()


def digest_of(rows: Iterable[Any]) -> str:
    """sha256 (hex) of records, and of how many were skipped; files are not parsed for that."""
    if (known := getattr(rows, "digest", None)) is not None:
        return str(known)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode() + b"\n")
    digest.update(repr(skipped_of(rows)).encode())
    return digest.hexdigest()


def skipped_of(rows: Iterable[Any]) -> dict[str, int]:
    """How many rows could not become one of the records that were just walked through, by reason."""
    return dict(getattr(rows, "skipped", {}))


def _stamps(source: Source) -> list[tuple[int, int]]:
    return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, local_paths(source))]


class _Skip(Exception):
    """This row is well formed, but no record can hold it."""


def read_documents(source: Source) -> Records[Document | Conversation]:
    """Text for language modelling.  A demonstration is read as its prompt and response in one text."""
    return Records(source, "pretraining text", _as_document)


def read_demonstrations(source: Source) -> Records[Demonstration | Conversation]:
    """Responses to imitate: prompt-completion rows, conversations, or the chosen side of comparisons."""
    return Records(source, "demonstrations", _as_demonstration)


def read_prompts(source: Source) -> Records[Prompt]:
    """Prompts to answer: prompt-only rows, or the prompts of demonstrations and comparisons."""
    return Records(source, "prompts", _as_prompt)


def read_comparisons(source: Source) -> Records[Comparison]:
    """Pairs of responses.  Identical pairs are kept here: preflight counts and drops them."""
    return Records(source, "comparisons", _as_comparison)


# ---- what a record may be used for -----------------------------------------------------------------------------------


def _as_document(record: Record) -> Document | Conversation | None:
    if isinstance(record, Comparison):
        record = Demonstration(record.prompt, record.chosen, record.chosen_finish)
    if isinstance(record, Demonstration):
        content = record.prompt.content
        if isinstance(content, str):
            return Document(content + record.response, record.finish)
        texts = [*(message.content for message in content), record.response]
        return Document("\n".join(texts), record.finish)
    return record if isinstance(record, Document | Conversation) else None


def _as_demonstration(record: Record) -> Demonstration | Conversation | None:
    if isinstance(record, Comparison):
        return Demonstration(record.prompt, record.chosen, record.chosen_finish)
    if isinstance(record, Conversation) and all(message.role != "assistant" for message in record.messages):
        raise _Skip("no assistant turn")
    return record if isinstance(record, Demonstration | Conversation) else None


def _as_prompt(record: Record) -> Prompt | None:
    if isinstance(record, Conversation):
        messages = record.messages
        while messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        if not messages:
            raise _Skip("no user turn")
        return Prompt(messages)
    if isinstance(record, Demonstration | Comparison):
        return record.prompt
    return record if isinstance(record, Prompt) else None


def _as_comparison(record: Record) -> Comparison | None:
    return record if isinstance(record, Comparison) else None


# ---- columns -> records ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    columns: tuple[str, ...]
    holds: str
    read: Callable[[Row], Record]


def _layout(row: Row, purpose: str) -> _Layout:
    for layout in LAYOUTS:
        if all(column in row.columns for column in layout.columns):
            return layout
    raise _wrong_columns(row, purpose)


def _wrong_columns(row: Row, purpose: str, detail: str = "") -> ValueError:
    found = ", ".join(row.columns) or "none"
    usable = [layout for layout in LAYOUTS if layout.holds in _USES[purpose]]
    known = "; ".join("+".join(layout.columns) for layout in usable)
    return ValueError(
        f"{row.where}: found the columns {found}{detail}; {purpose} can be read from the columns {known}"
    )


def _read_comparison(row: Row) -> Comparison:
    chosen, rejected = row.columns["chosen"], row.columns["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        content, first, second = _chat_pair(row)
    elif isinstance(chosen, str) and isinstance(rejected, str):
        content, first, second = _text_pair(row, chosen, rejected)
    else:
        raise _wrong_type(row, "chosen and rejected", "both text or both lists of messages", rejected)
    if not content:
        raise _Skip("chosen and rejected have no shared start that could be the prompt")
    p_chosen = _number(row, "p_chosen", 1.0)
    if not 0.0 <= p_chosen <= 1.0:
        raise ValueError(f"{row.where}: p_chosen is {p_chosen}, but a probability lies between 0 and 1")
    margin, ends = _number(row, "margin", 0.0), (_finish(row, "chosen"), _finish(row, "rejected"))
    return Comparison(_prompt(row, content), first, second, p_chosen, margin, *ends)


def _chat_pair(row: Row) -> Pair:
    shared, chosen, rejected = _split_turns(_messages(row, "chosen"), _messages(row, "rejected"))
    if isinstance(row.columns.get("prompt"), list):
        return (*_messages(row, "prompt"), *shared), chosen, rejected
    if "prompt" in row.columns and not shared:  # otherwise chosen and rejected hold the prompt already
        return (Message("user", _text(row, "prompt")),), chosen, rejected
    return shared, chosen, rejected


def _text_pair(row: Row, chosen: str, rejected: str) -> Pair:
    if "prompt" in row.columns:
        return _content(row), chosen, rejected
    if _is_hh(chosen) and _is_hh(rejected):
        return _split_turns(_parse_hh(chosen), _parse_hh(rejected))
    return _split_texts(chosen, rejected)


def _read_completion(row: Row) -> Demonstration:
    content = _content(row)
    finish = _finish(row, "completion")
    if isinstance(row.columns["completion"], str):
        return Demonstration(_prompt(row, content), _text(row, "completion"), finish)
    turns = _messages(row, "completion")
    if len(turns) != 1 or turns[0].role != "assistant":
        raise ValueError(
            f"{row.where}: completion must be one assistant message, found {len(turns)} message(s); put conversations of "
            "several turns into a column named messages"
        )
    if isinstance(content, str):
        content = (Message("user", content),)
    return Demonstration(_prompt(row, content), turns[0].content, finish)


def _read_alpaca(row: Row) -> Demonstration:
    parts = [_text(row, "instruction"), _text(row, "input") if "input" in row.columns else ""]
    content = (Message("user", "\n\n".join(part for part in parts if part.strip())),)
    return Demonstration(_prompt(row, content), _text(row, "output"))


def _read_question(row: Row) -> Demonstration:
    """The answer is also the reference: what a verifier needs in order to grade another response to the question."""
    answer = _text(row, "answer")
    prompt = _prompt(row, (Message("user", _text(row, "question")),))
    if prompt.reference is None:
        prompt = replace(prompt, reference={"answer": answer})
    return Demonstration(prompt, answer)


def _read_sharegpt(row: Row) -> Conversation:
    return Conversation(_messages(row, "conversations", "from", "value"))


LAYOUTS = (
    _Layout(("prompt", "chosen", "rejected"), "comparisons", _read_comparison),
    _Layout(("chosen", "rejected"), "comparisons", _read_comparison),
    _Layout(("prompt", "completion"), "demonstrations", _read_completion),
    _Layout(("instruction", "output"), "demonstrations", _read_alpaca),
    _Layout(("question", "answer"), "demonstrations", _read_question),
    _Layout(("messages",), "conversations", lambda row: Conversation(_messages(row, "messages"))),
    _Layout(("conversations",), "conversations", _read_sharegpt),
    _Layout(("prompt",), "prompts", lambda row: _prompt(row, _content(row))),
    _Layout(("text",), "plain text", lambda row: Document(_text(row, "text"))),
)
_USES = {
    "comparisons": ("comparisons",),
    "demonstrations": ("demonstrations", "conversations", "comparisons"),
    "prompts": ("prompts", "demonstrations", "conversations", "comparisons"),
    "pretraining text": ("plain text", "conversations", "demonstrations", "comparisons"),
}

# ---- cells -----------------------------------------------------------------------------------------------------------


def _prompt(row: Row, content: Content) -> Prompt:
    return Prompt(content, _text(row, "task") if "task" in row.columns else "", _reference(row))


def _reference(row: Row) -> dict[str, Any] | None:
    """An object, or its JSON as text: in Parquet, objects of different shapes have no common type."""
    found = value = row.columns.get("reference")
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if value is not None and not isinstance(value, dict):
        raise _wrong_type(row, "reference", "a JSON object", found)
    return value


def _content(row: Row) -> Content:
    """The column `prompt`: text, or the messages so far."""
    value = row.columns["prompt"]
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _wrong_type(row, "prompt", "text or a list of messages", value)
    messages = _messages(row, "prompt")
    if messages[-1].role == "assistant":
        raise ValueError(
            f"{row.where}: prompt ends with an assistant message, but it must end with what is to be answered"
        )
    return messages


def _text(row: Row, key: str) -> str:
    value = row.columns[key]
    if not isinstance(value, str):
        raise _wrong_type(row, key, "text", value)
    return value


def _number(row: Row, key: str, default: float) -> float:
    value = row.columns.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong_type(row, key, "a finite number", value)
    return float(value)


def _finish(row: Row, key: str) -> Finish:
    """The column `KEY_finish`: how the response in the column `key` ended."""
    value = row.columns.get(f"{key}_finish", "eos")
    if value == "eos" or value == "length":
        return value
    raise _wrong_type(row, f"{key}_finish", '"eos" (it ended) or "length" (it was cut)', value)


def _messages(row: Row, key: str, role: str = "role", content: str = "content") -> tuple[Message, ...]:
    value = row.columns[key]
    if not isinstance(value, list) or not value:
        raise _wrong_type(row, key, "a list of messages", value)
    messages = []
    for number, item in enumerate(value):
        who, said = (item.get(role), item.get(content)) if isinstance(item, dict) else (None, None)
        if not isinstance(who, str) or not isinstance(said, str):
            shape = f'a message {{"{role}": text, "{content}": text}}'
            raise _wrong_type(row, f"{key}[{number}]", shape, item)
        messages.append(Message(_ROLES.get(who, who), said))
    return tuple(messages)


_ROLES = {"human": "user", "gpt": "assistant", "Human": "user", "Assistant": "assistant"}


def _wrong_type(row: Row, key: str, expected: str, found: Any) -> ValueError:
    shown = repr(found) if len(repr(found)) <= 60 else repr(found)[:57] + "..."
    return ValueError(f"{row.where}: {key} must be {expected}, found {type(found).__name__} {shown}")


# ---- implicit prompts: what chosen and rejected share ----------------------------------------------------------------


def _is_hh(text: str) -> bool:
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def _parse_hh(text: str) -> tuple[Message, ...]:
    """Anthropic's transcript: turns that start with two newlines and "Human:" or "Assistant:"."""
    parts = re.split(r"\n\n(Human|Assistant):", "\n\n" + text.lstrip())
    return tuple(
        Message(_ROLES[role], said.strip()) for role, said in zip(parts[1::2], parts[2::2], strict=True)
    )


def _split_turns(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> Pair:
    """(shared start, chosen's last turn, rejected's last turn).  Identical conversations share all but the last turn."""
    pairs = zip(chosen[:-1], rejected[:-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if shared != len(chosen) - 1 or shared != len(rejected) - 1:
        raise _Skip("chosen and rejected differ in more than one turn")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise _Skip("chosen or rejected does not end with an assistant turn")
    return chosen[:shared], chosen[-1].content, rejected[-1].content


def _split_texts(chosen: str, rejected: str) -> Pair:
    """Cut two texts where they part, but never inside a word: the cut goes back to before the last white space."""
    pairs = zip(chosen, rejected, strict=False)
    shared = chosen[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]
    if chosen == rejected or not _ends_word(shared, chosen, rejected):
        shared = re.sub(r"\s*\S*$", "", shared)
    else:
        shared = shared.rstrip()
    return shared, chosen[len(shared) :], rejected[len(shared) :]


def _ends_word(shared: str, chosen: str, rejected: str) -> bool:
    return all(not rest or rest[0].isspace() for rest in (chosen[len(shared) :], rejected[len(shared) :]))
