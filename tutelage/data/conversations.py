"""Conversations of several turns -> one sequence in which every assistant turn is trained.

That takes a template that writes a turn alike whatever comes after it, or says itself what the assistant writes.  Other
templates take the reasoning out of earlier answers, or put a system turn into the latest question: then every answer needs
a sequence of its own, behind the prompt that generation would start from (`Apart`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from tutelage.data.batch import Tokens
from tutelage.data.encoding import Encoder, Tools, Unusable
from tutelage.records import Conversation, Message, Prompt


@dataclass(frozen=True)
class Apart:
    """The answers of a conversation that the template cannot write in one sequence, each with what it answers."""

    answers: list[tuple[Prompt, str]]


def encode_conversations(
    tokenizer: Tokenizer, rows: Sequence[Conversation]
) -> list[Tokens | Apart | Unusable]:
    """Each conversation in one sequence, where the template allows it."""
    encoder = Encoder(tokenizer)
    pieces = [_pieces(encoder, row) for row in rows]
    usable = [row for row in pieces if isinstance(row, list)]
    first = iter(encoder.encode([row[0][0] for row in usable]))
    later = iter(encoder.encode([text for row in usable for text, _ in row[1:]], continued=True))
    return [_join(encoder, row, first, later) if isinstance(row, list) else row for row in pieces]


Piece = tuple[str, bool]  # rendered text, and whether the assistant wrote it


def _pieces(encoder: Encoder, row: Conversation) -> list[Piece] | Apart | Unusable:
    """The rendered conversation in pieces, alternately not by the assistant and by it."""
    last = max((i for i, message in enumerate(row.messages) if _is_trained(message)), default=-1)
    if last < 0:
        return Unusable("with no assistant turn")
    messages = encoder.merged(row.messages[: last + 1])
    whole = encoder.render([messages], tools=[row.tools])[0]
    if isinstance(whole, Unusable):
        return whole
    marked = _MARKS.search(encoder.tokenizer.chat_template) is not None
    spans = _marked_spans(encoder, messages, row.tools) if marked else None
    found = spans or _prefix_spans(encoder, messages, whole, row.tools)
    if found is None:
        return _apart(messages, row.tools)
    pieces: list[Piece] = []
    position = 0
    for start, stop in found:
        pieces += [(whole[position:start], False), (whole[start:stop], True)]
        position = stop
    return [*pieces, (whole[position:], False)]


def _is_trained(message: Message) -> bool:
    return message.role == "assistant" and message.trained


def _apart(messages: Sequence[Message], tools: Tools) -> Apart | Unusable:
    """What the assistant says before anybody has asked is no answer: it is part of the prompts that follow."""
    asked = next((i for i, message in enumerate(messages) if message.role == "user"), len(messages))
    answers = [i for i, message in enumerate(messages) if _is_trained(message) and i > asked]
    if not answers:
        return Unusable("with no assistant turn after a user's")
    if any(messages[i].tool_calls for i in answers):
        return Unusable(
            "with tool calls, in a template that writes earlier turns otherwise once others follow"
        )
    return Apart([(Prompt(tuple(messages[:i]), tools=tools), messages[i].content) for i in answers])


_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
Spans = list[tuple[int, int]]


def _marked_spans(encoder: Encoder, messages: Sequence[Message], tools: Tools) -> Spans | None:
    """Where the template's own {% generation %} marks say that the assistant writes; None where they do not tell its turns
    apart and it matters: where some are context only, or call tools (which some templates leave unmarked)."""
    listed: Any = encoder.listed(tools)
    rendered: Any = render_jinja_template(
        conversations=[encoder.plain(messages)],
        tools=listed,
        chat_template=encoder.tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **encoder.tokenizer.special_tokens_map,
    )
    spans = list(rendered[1][0])
    trained = [message.trained for message in messages if message.role == "assistant"]
    if len(spans) == len(trained):
        return [span for span, own in zip(spans, trained, strict=True) if own]
    return spans if all(trained) and not any(message.tool_calls for message in messages) else None


def _prefix_spans(encoder: Encoder, messages: Sequence[Message], whole: str, tools: Tools) -> Spans | None:
    """From where each answer's prompt ends to where the next message starts: each prefix rendered, and checked.

    None where the template writes one of them otherwise than generation would have found it.
    """
    spans: Spans = []
    for i, message in enumerate(messages):
        if not _is_trained(message):
            continue
        if i == 0:
            return None
        before = encoder.render([messages[:i]], open_turn=True, tools=[tools])[0]
        after = encoder.render([messages[: i + 1]], tools=[tools])[0]
        if isinstance(before, Unusable) or isinstance(after, Unusable):
            return None
        if not (after.startswith(before) and whole.startswith(after)):
            return None
        said = encoder.shield(encoder.without_turn_end(message.content))
        if not message.tool_calls and encoder.answer_text(before, after, said, "eos") != after[len(before) :]:
            return None
        spans.append((len(before), len(after)))
    return spans


def _join(
    encoder: Encoder, row: list[Piece], first: Iterator[list[int]], later: Iterator[list[int]]
) -> Tokens:
    """Pieces -> one sequence.  An assistant's piece is trained up to its end token, wherever the template puts that."""
    ids: list[int] = []
    mask: list[bool] = []
    awaits_end = False
    for number, (_, by_assistant) in enumerate(row):
        own = next(first) if number == 0 else next(later)
        trained = len(own) if by_assistant else 0
        if by_assistant and encoder.turn_end_id in own:
            trained = own.index(encoder.turn_end_id) + 1
        elif not by_assistant and awaits_end and own[:1] == [encoder.turn_end_id]:
            trained = 1
        awaits_end = by_assistant and own[trained - 1 : trained] != [encoder.turn_end_id]
        ids += own
        mask += [True] * trained + [False] * (len(own) - trained)
    stop = len(mask) - mask[::-1].index(True)
    if ids[stop - 1] != encoder.turn_end_id:
        ids[stop:], mask[stop:], stop = [encoder.turn_end_id], [True], stop + 1
    return Tokens(np.array(ids[:stop], dtype=np.int32), np.array(mask[:stop], dtype=bool))
