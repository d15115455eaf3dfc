"""Comparisons whose responses have an assistant's critique behind them, made on the way to training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

from tutelage.data.reading.formats import Dropped, Walkable, digest_of, walk
from tutelage.data.reading.sources import content_hash
from tutelage.judges.assist.assistant import Assistant
from tutelage.judges.assist.build import build_assistant
from tutelage.judges.assist.critique import TEMPLATE, critiqued, without_critique
from tutelage.parallel import World
from tutelage.records import Comparison, Response
from tutelage.runs import Run, result_folder
from tutelage.settings.assist import read_assistant
from tutelage.settings.reward import RewardSettings

AT_ONCE = 256  # comparisons that the assistant is shown together


def with_critiques(
    settings: RewardSettings,
    world: World,
    run: Run,
    train: Iterable[Comparison],
    held_out: Iterable[Comparison],
) -> tuple[Iterable[Comparison], Iterable[Comparison]]:
    """Both sides with the critiques of the settings' assistant, whose models are inputs of the run."""
    for model in read_assistant(settings.assistant).models:
        run.input("assistant", result_folder(model))
    assistant = build_assistant(settings.assistant, world, settings.micro_batch_tokens)
    return Critiqued(train, assistant, settings.assistant), Critiqued(held_out, assistant, settings.assistant)


def bare(rows: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons without critiques: for whoever grades responses."""
    return [
        replace(row, chosen=without_critique(row.chosen), rejected=without_critique(row.rejected))
        for row in rows
    ]


class Critiqued(Walkable[Comparison]):
    """The rows with critiques, asked for anew at every walk; known by the rows, the assistant and its weights."""

    def __init__(self, rows: Iterable[Comparison], assistant: Assistant, given: Any) -> None:
        self._rows, self._assistant = rows, assistant
        spec = read_assistant(given)
        weights = [content_hash(result_folder(model)) for model in spec.models]
        self._of = [TEMPLATE, assistant.template, spec.name, spec.options.model_dump(), weights]

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all that decides what the rows say."""
        content = json.dumps([digest_of(self._rows), *self._of], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def walk(self) -> Iterator[Comparison | Dropped]:
        rows = iter(walk(self._rows))
        while some := list(islice(rows, AT_ONCE)):
            yield from self._criticised(some)

    def _criticised(self, some: list[Comparison | Dropped]) -> Iterator[Comparison | Dropped]:
        there = [row for row in some if not isinstance(row, Dropped)]
        both = [
            Response.written(row.prompt, text, finish)
            for row in there
            for text, finish in ((row.chosen, row.chosen_finish), (row.rejected, row.rejected_finish))
        ]
        found = iter(self._assistant.review(both) if both else [])
        for row in some:
            if isinstance(row, Dropped):
                yield row
            else:
                chosen = critiqued(row.chosen, next(found).text)
                yield replace(row, chosen=chosen, rejected=critiqued(row.rejected, next(found).text))
