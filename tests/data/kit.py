"""Tokenizers and files for the tests of `data/`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tutelage.data.reading.formats import Dropped, Walkable
from tutelage.models.tiny import train_tokenizer
from tutelage.records import Message, Prompt

CORPUS = [
    "The cat sat on the mat. How many cats sat? Three cats sat.\n\nAnswer: 3",
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72",
    "user assistant system question answer, please tell me; sorry, I do not know that.",
]
# ChatML as it is published: no generation marks, the end of turn is not end-of-sequence, a new line after each turn.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Llama-2-like: BOS written by the template, content trimmed, roles must alternate, no turn end but end-of-sequence.
STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Roles as words, and nothing at all that ends a turn.
BARE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@cache
def tiny() -> PreTrainedTokenizerFast:
    """The project's own: generation marks, end-of-sequence ends a turn, no BOS."""
    return train_tokenizer(CORPUS, vocab_size=320)


@cache
def byte_level(template: str | None = None, bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with <s>, </s>, ChatML's tokens; `bos`: it starts plain text with <s>."""
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


@cache
def sentencepiece_like() -> PreTrainedTokenizerFast:
    """As Llama 2's: a text starts with a space of the tokenizer's own, BOS in front, bytes for unknown characters."""
    special = ["<pad>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    backend.train_from_iterator([text.replace("\n", " ") for text in CORPUS], trainer)
    vocabulary = json.loads(backend.to_str())
    vocabulary["added_tokens"] = vocabulary["added_tokens"][:3]  # the bytes are ordinary tokens
    backend = Tokenizer.from_str(json.dumps(vocabulary))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=STRICT
    )


class WithDropped(Walkable[Any]):
    """Records, and behind them rows that gave none."""

    def __init__(
        self, rows: Iterable[Any], dropped: Iterable[Dropped], unused: dict[str, int] | None = None
    ) -> None:
        self._rows = list(rows)
        self._dropped, self.unused = list(dropped), unused or {}

    def walk(self) -> Iterator[Any]:
        return iter([*self._rows, *self._dropped])


def chat(*contents: str, system: str = "") -> tuple[Message, ...]:
    """User and assistant by turns."""
    turns = [Message(("user", "assistant")[i % 2], content) for i, content in enumerate(contents)]
    return (*([Message("system", system)] if system else []), *turns)


def ask(*contents: str, system: str = "") -> Prompt:
    return Prompt(chat(*contents, system=system))


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """One JSON value per line; gzipped when the name says so."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path
