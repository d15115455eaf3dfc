"""Two objectives in one update: what an algorithm learns from, and text.

    loss = loss of the algorithm + mix_coef * negative log-likelihood of text, nats per token

With `ppo` this is PPO-ptx (Ouyang et al. 2022, arXiv 2203.02155, section 3.5), which keeps what pretraining taught.  Each
objective is averaged over its own counts, so neither depends on how large the other's batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.packing import Packing
from tutelage.data.preflight.texts import prepare_documents
from tutelage.data.reading.formats import read_documents
from tutelage.data.reading.sources import shown
from tutelage.models.policy import PolicyModule
from tutelage.records import Place
from tutelage.runs import Run
from tutelage.settings.onpolicy import RLSettings
from tutelage.settings.preference import DPOSettings, KTOSettings
from tutelage.train.algorithm import Algorithm, Loss, Updates
from tutelage.train.pretrain import segments_batch
from tutelage.train.sft import LanguageModelling
from tutelage.train.stage import context_limit

OBJECTIVE = "mix"
Where = Callable[[int], Place | None]
"""Where a row of a batch stands in its file."""


class Mixed:
    """An algorithm whose every update learns from text, too.  `text`: (step, number of the update in it) -> batch."""

    def __init__(
        self,
        algorithm: Algorithm,
        policy: PolicyModule,
        text: Callable[[int, int], TokenBatch],
        coefficient: float,
    ) -> None:
        self.trained: dict[str, nn.Module] = algorithm.trained
        self._algorithm, self._text, self._coefficient = algorithm, text, coefficient
        self._language = LanguageModelling(policy, lambda step: text(step, 0))

    def batches(self, step: int) -> Updates:
        """The algorithm's updates, each with text beside it."""
        updates, reply, number = self._algorithm.batches(step), None, 0
        while True:
            try:
                update = updates.send(reply)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration:
                return
            reply = yield [*update, self._text(step, number)]
            number += 1

    def loss(self, batch: TokenBatch) -> Loss:
        """The algorithm's, or that of text, weighted."""
        if batch.objective != OBJECTIVE:
            return self._algorithm.loss(batch)
        found = self._language.loss(batch)
        terms = {name: replace(term, weight=self._coefficient) for name, term in found.terms.items()}
        return Loss(terms, found.metrics)


def mixed(
    algorithm: Algorithm,
    policy: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    settings: RLSettings | DPOSettings | KTOSettings,
    run: Run,
    place: Where,
    updates: int = 1,
) -> tuple[Algorithm, Where]:
    """The algorithm with the text that the settings name mixed in, or as it is where they name none; and where rows stand.

    updates: the most that a step can have.  Rows of text have negative numbers, so that an error can tell them from others.
    Raises ValueError for unusable text.
    """
    if not settings.mix_data:
        return algorithm, place
    run.input("mix_data", settings.mix_data)
    prepared = prepare_documents(
        tokenizer,
        read_documents(settings.mix_data),
        source=shown(settings.mix_data),
        max_dropped_share=settings.max_dropped_share,
        console=run.console,
    )
    texts = prepared.examples.table
    packing = Packing(texts.lengths, context_limit(settings.mix_length, policy), settings.seed)

    def text(step: int, number: int) -> TokenBatch:
        segments = packing.for_step(step * updates + number, settings.mix_batch_size)
        batch = segments_batch(texts, segments)
        return replace(batch, objective=OBJECTIVE, rows=tuple(-1 - row for row in batch.rows))

    def where(row: int) -> Place | None:
        return texts.place(-1 - row) if row < 0 else place(row)

    return Mixed(algorithm, policy, text, settings.mix_coef), where
