"""THE one tokenisation: prompt and response -> ids and loss mask, for training and for generation alike.

The pieces of a sequence (prompt, response with its end token) are tokenised apart and joined, so that no token spans the
boundary: training sees the very ids that generation starts from.  Nothing is ever decoded and encoded again.  Text that
happens to spell a control token ("<|im_end|>") is encoded as ordinary text; only the template writes control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

import numpy as np
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import Tokens
from tutelage.data.conversations import Apart, encode_conversations
from tutelage.data.encoding import Encoder, Unusable
from tutelage.records import Conversation, Document, Finish, Message, Prompt

T = TypeVar("T")
Answered = tuple[Prompt, str, Finish]  # a prompt, the response to it, and how that ended


@dataclass(frozen=True)
class Encoded:
    """Ids of a prompt and of a response, which ends with its end token unless it was cut."""

    prompt: list[int]
    response: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)

    def tokens(self, train_on_prompt: bool = False) -> Tokens:
        """One sequence; trained are the response and its end token (and the prompt if asked)."""
        mask = np.ones(len(self), dtype=bool)
        mask[: len(self.prompt)] = train_on_prompt
        return Tokens(np.array(self.prompt + self.response, dtype=np.int32), mask)


@dataclass(frozen=True)
class PairTokens:
    """A tokenised comparison: two sequences that start with the same prompt ids, trained on the responses.

    weight: how much it counts.  group: the number of the annotators' group whose taste it is.
    """

    chosen: Tokens
    rejected: Tokens
    p_chosen: float
    margin: float
    weight: float = 1.0
    group: int = 0


# ---- one row ---------------------------------------------------------------------------------------------------------


def tokenize_prompt(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """The ids that generation starts from; a chat prompt ends with the template's start of an assistant turn."""
    return _usable(encode_prompts(tokenizer, [prompt])[0])


def tokenize(
    tokenizer: Tokenizer,
    prompt: Prompt,
    response: str,
    finish: Finish = "eos",
    train_on_prompt: bool = False,
) -> Tokens:
    """Prompt + response + end token, trained on the response and its end token (and on the prompt if asked).

    `ids[:P]` are `tokenize_prompt(tokenizer, prompt)` exactly, P being their number.  A response that was cut
    (`finish` "length") has no end token.
    """
    return _usable(encode(tokenizer, [(prompt, response, finish)])[0]).tokens(train_on_prompt)


def tokenize_conversation(tokenizer: Tokenizer, conversation: Conversation) -> list[Tokens]:
    """A conversation up to its last assistant turn; every assistant turn with its end token is trained.

    One sequence, or one per answer where the template writes earlier turns otherwise once others follow.
    """
    found = encode_chats(tokenizer, [conversation])[0]
    if isinstance(found, Unusable):
        raise found
    return [found] if isinstance(found, Tokens) else [answer.tokens() for _, answer in found]


def tokenize_document(tokenizer: Tokenizer, document: Document) -> Tokens:
    """The text and the end-of-sequence token (not where the text was cut), all of it trained."""
    return encode_documents(tokenizer, [document])[0]


def end_token_id(tokenizer: Tokenizer, chat: bool) -> int:
    """The token that ends a response, where generation stops: the template's end of turn, else end-of-sequence."""
    return Encoder(tokenizer).end_id(chat)


def _usable(item: T | Unusable) -> T:
    if isinstance(item, Unusable):
        raise item
    return item


# ---- many rows at once: one call of the tokenizer for all --------------------------------------------------------------


def encode_documents(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[Tokens]:
    """`tokenize_document` for many."""
    encoder = Encoder(tokenizer)
    texts = [encoder.shield(_without_ends(tokenizer, document.text)) for document in documents]
    rows = [
        np.array([*encoder.start_ids, *ids, *([encoder.eos_id] * (document.finish == "eos"))], dtype=np.int32)
        for document, ids in zip(documents, encoder.encode(texts), strict=True)
    ]
    return [Tokens(ids, np.ones(len(ids), dtype=bool)) for ids in rows]


def encode_chats(
    tokenizer: Tokenizer, rows: Sequence[Conversation]
) -> list[Tokens | list[tuple[Prompt, Encoded]] | Unusable]:
    """`tokenize_conversation` for many; answers that need sequences of their own come with what they answer."""
    found = encode_conversations(tokenizer, rows)
    apart = [answer for row in found if isinstance(row, Apart) for answer in row.answers]
    encoded = iter(encode(tokenizer, [(prompt, text, "eos") for prompt, text in apart]))
    chats: list[Tokens | list[tuple[Prompt, Encoded]] | Unusable] = []
    for row in found:
        if not isinstance(row, Apart):
            chats.append(row)
            continue
        answers = [(prompt, next(encoded)) for prompt, _ in row.answers]
        refused = next((answer for _, answer in answers if isinstance(answer, Unusable)), None)
        chats.append(refused or [(p, answer) for p, answer in answers if isinstance(answer, Encoded)])
    return chats


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> list[list[int] | Unusable]:
    """`tokenize_prompt` for many; in the place of a prompt that the template refuses stands its `Unusable`."""
    encoder = Encoder(tokenizer)
    return _encode_prompt_texts(encoder, prompts, _prompt_texts(encoder, prompts))


def encode(tokenizer: Tokenizer, rows: Sequence[Answered]) -> list[Encoded | Unusable]:
    """Prompts and responses as ids, apart; in the place of a row that cannot be tokenised stands its `Unusable`."""
    encoder = Encoder(tokenizer)
    prompts = list(dict.fromkeys(prompt for prompt, _, _ in rows))  # responses to one prompt share its ids
    texts = _prompt_texts(encoder, prompts)
    ids = dict(zip(prompts, _encode_prompt_texts(encoder, prompts, texts), strict=True))
    responses = _encode_responses(encoder, rows, dict(zip(prompts, texts, strict=True)))
    encoded: list[Encoded | Unusable] = []
    for (prompt, _, _), response in zip(rows, responses, strict=True):
        before = ids[prompt]
        if isinstance(before, Unusable):
            encoded.append(before)
        else:
            encoded.append(response if isinstance(response, Unusable) else Encoded(before, response))
    return encoded


def _prompt_texts(encoder: Encoder, prompts: Sequence[Prompt]) -> list[str | Unusable]:
    """What of each prompt is tokenised: its text, or what the template makes of it, open for an answer."""
    chats = [prompt.content for prompt in prompts if not isinstance(prompt.content, str)]
    tools = [prompt.tools for prompt in prompts if prompt.is_chat]
    rendered = iter(encoder.render(chats, open_turn=True, tools=tools) if chats else [])
    return [
        encoder.shield(_without_ends(encoder.tokenizer, prompt.content, end=False))
        if isinstance(prompt.content, str)
        else next(rendered)
        for prompt in prompts
    ]


def _encode_prompt_texts(
    encoder: Encoder, prompts: Sequence[Prompt], texts: Sequence[str | Unusable]
) -> list[list[int] | Unusable]:
    """The template writes its own BOS, plain text gets the tokenizer's: BOS stands there once either way."""
    ids = encoder.encode([text if isinstance(text, str) else "" for text in texts])
    return [
        text if isinstance(text, Unusable) else (own if prompt.is_chat else [*encoder.start_ids, *own])
        for prompt, text, own in zip(prompts, texts, ids, strict=True)
    ]


def _encode_responses(
    encoder: Encoder, rows: Sequence[Answered], prompt_texts: dict[Prompt, str | Unusable]
) -> list[list[int] | Unusable]:
    """Ids of what follows each prompt, up to and with its end token."""
    texts: list[str | Unusable] = [""] * len(rows)
    chats: dict[int, list[Message]] = {}
    for i, (prompt, response, _) in enumerate(rows):
        if isinstance(prompt.content, str):
            texts[i] = encoder.shield(_without_ends(encoder.tokenizer, response, start=False))
        else:
            chats[i] = [*prompt.content, Message("assistant", encoder.without_turn_end(response))]
    tools = [rows[i][0].tools for i in chats]
    for (i, chat), whole in zip(
        chats.items(), encoder.render(list(chats.values()), tools=tools), strict=True
    ):
        before, words = prompt_texts[rows[i][0]], encoder.shield(chat[-1].content)
        texts[i] = before
        if isinstance(before, str):
            texts[i] = encoder.answer_text(before, whole, words, rows[i][2])
    ids = encoder.encode([text if isinstance(text, str) else "" for text in texts], continued=True)
    return [
        text if isinstance(text, Unusable) else close(own, encoder.end_id(prompt.is_chat), finish)
        for (prompt, _, finish), text, own in zip(rows, texts, ids, strict=True)
    ]


def close(ids: list[int], end: int, finish: Finish) -> list[int]:
    """The ids with exactly one end token, at the end; with none where the response was cut: where it would have ended is
    not known.  What a template writes after the end of turn is left out."""
    said = ids[: ids.index(end)] if end in ids else ids
    return [*said, end] if finish == "eos" else said


def _without_ends(tokenizer: Tokenizer, text: str, start: bool = True, end: bool = True) -> str:
    """Without the BOS and EOS that some data sets spell out: they are added as tokens, once."""
    if start and tokenizer.bos_token:
        text = text.removeprefix(tokenizer.bos_token)
    if end and tokenizer.eos_token:
        text = text.removesuffix(tokenizer.eos_token)
    return text


# ---- prompts that are too long -----------------------------------------------------------------------------------------


def truncate_prompt(tokenizer: Tokenizer, prompt: Prompt, ids: list[int], room: int) -> list[int]:
    """The prompt's ids cut to `room` tokens by leaving out its oldest text.

    What stands before that stays: BOS, and in a chat everything up to the words of the first user turn (a system
    message, the turn's own start), and at the end the start of the answer.  Raises `Unusable` when this alone does not
    fit together with at least one token of words.
    """
    if len(ids) <= room:
        return ids
    head, tail = _frame(tokenizer, prompt, ids)
    if room <= head + tail:
        raise Unusable("whose prompt does not fit even when shortened")
    return ids[:head] + ids[len(ids) - (room - head) :]


def _frame(tokenizer: Tokenizer, prompt: Prompt, ids: list[int]) -> tuple[int, int]:
    """How many ids at the start and at the end are not words that may be left out: what another prompt has as well."""
    if isinstance(prompt.content, str):
        return len(Encoder(tokenizer).start_ids), 0
    first_user = next((i for i, message in enumerate(prompt.content) if message.role == "user"), 0)
    first = prompt.content[first_user]
    other = Message(first.role, "B" if first.content.startswith("A") else "A")
    turns = (*prompt.content[:first_user], other)
    shorter = encode_prompts(tokenizer, [Prompt(turns, tools=prompt.tools)])[0]
    if isinstance(shorter, Unusable):
        return 1, 0
    head = _shared(ids, shorter)
    return head, _shared(ids[head:][::-1], shorter[head:][::-1])


def _shared(ids: list[int], others: list[int]) -> int:
    """The length of the common start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, others, strict=False)))
