"""Which prompts a model can answer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from transformers import PreTrainedTokenizerBase

from tutelage.data.preflight import Prepared, prepare_prompts
from tutelage.records import Prompt

ENDLESS = 2**31 - 1


def answerable(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
    max_new_tokens: int,
    *,
    source: str,
    max_dropped_share: float,
    console: Console,
) -> Prepared[Prompt]:
    """The prompts that leave room for `max_new_tokens` in a context of so many tokens (None: without end).

    Raises ValueError when the responses alone fill the context, or when more than `max_dropped_share` is dropped.
    """
    room = (context or ENDLESS) - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt in the model's context of {context} tokens: "
            "lower it."
        )
    return prepare_prompts(
        tokenizer,
        prompts,
        max_length=room,
        too_long=f"longer than the {room} tokens that max_new_tokens={max_new_tokens} leaves of the context",
        source=source,
        max_dropped_share=max_dropped_share,
        console=console,
    )
