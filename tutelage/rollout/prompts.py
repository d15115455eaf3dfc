"""Which prompts a model can answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property

from rich.console import Console
from transformers import PreTrainedTokenizerBase

from tutelage.data.preflight.texts import prepare_prompts
from tutelage.data.preflight.work import Prepared
from tutelage.data.reading.formats import Dropped, Walkable, digest_of, unused_of, walk
from tutelage.records import Prompt

ENDLESS = 2**31 - 1


class Distinct(Walkable[Prompt]):
    """Prompts without repetitions (of the same id), each where it stands first, with the rows that were dropped."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self._prompts = prompts

    def walk(self) -> Iterator[Prompt | Dropped]:
        seen: set[str] = set()
        for prompt in walk(self._prompts):
            if isinstance(prompt, Dropped):
                yield prompt
            elif prompt.id not in seen:
                seen.add(prompt.id)
                yield prompt

    @property
    def unused(self) -> dict[str, int]:
        """The columns that were not used (see `Records`)."""
        return unused_of(self._prompts)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of what decides which prompts these are."""
        return hashlib.sha256(f"distinct {digest_of(self._prompts)}".encode()).hexdigest()


def answerable(
    prompts: Iterable[Prompt | Dropped],
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
    max_new_tokens: int,
    *,
    max_prompt_length: int = ENDLESS,
    source: str,
    max_dropped_share: float | None,
    console: Console,
) -> Prepared[Prompt]:
    """The prompts that leave room for `max_new_tokens` in a context of so many tokens (None: without end).

    `max_prompt_length` leaves out longer ones even where there is room.  Raises ValueError when the responses alone fill
    the context, or when more than `max_dropped_share` is dropped.
    """
    room = (context or ENDLESS) - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt in the model's context of {context} tokens: "
            "lower it."
        )
    too_long = f"longer than the {room} tokens that max_new_tokens={max_new_tokens} leaves of the context"
    if max_prompt_length <= room:
        too_long = f"longer than max_prompt_length={max_prompt_length}"
    return prepare_prompts(
        tokenizer,
        prompts,
        max_length=min(room, max_prompt_length),
        too_long=too_long,
        source=source,
        max_dropped_share=max_dropped_share,
        console=console,
    )
