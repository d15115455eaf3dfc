"""Language modelling on demonstrations: the responses are trained, the prompts are not (unless asked for).

    loss = - sum_t mask_t log pi(y_t | y_<t) / sum_t mask_t          over the whole optimizer step

`pretrain` uses the same algorithm on documents, where every token is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from tutelage.data.batch import TokenBatch
from tutelage.data.order import rows_for_step
from tutelage.data.preflight.texts import prepare_demonstrations
from tutelage.data.reading.formats import read_demonstrations
from tutelage.data.reading.sources import shown
from tutelage.feedback.training.source import demonstrations_from, is_store_source
from tutelage.models.loading import load_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.ops.losses import nll
from tutelage.ops.masked import masked_sum
from tutelage.parallel import World
from tutelage.records import Conversation, Demonstration
from tutelage.runs import Run, result_folder
from tutelage.settings.train import SFTSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit, heldout_metrics
from tutelage.train.stage import (
    context_limit,
    export,
    hold_out,
    read_rows,
    setup_for,
    show_sides,
    steps_for,
)

Example = Demonstration | Conversation


class LanguageModelling:
    """The algorithm: sequences laid out flat, none seeing another."""

    def __init__(self, model: PolicyModule, batch_at: Callable[[int], TokenBatch]) -> None:
        self.trained: dict[str, nn.Module] = {"policy": model}
        self._model, self._batch_at = model, batch_at

    def batches(self, step: int) -> Updates:
        """The one batch of this step."""
        yield [self._batch_at(step)]

    def loss(self, batch: TokenBatch) -> Loss:
        """Negative log-likelihood and how often the next token was the likeliest, means over the trained tokens."""
        mask, found = batch.loss_mask, self._model(batch)
        return Loss(
            {"nll": Term(masked_sum(nll(found.logprobs), mask), "tokens")},
            {"mean_token_accuracy": Sum(masked_sum(found.hits, mask), "tokens")},
        )


def _rows(settings: Settings, run: Run) -> tuple[Iterable[Example], Iterable[Example], Mapping[str, int]]:
    """(training rows, held-out rows, what was left out) from files, or what people have written in the store."""
    if not is_store_source(settings.data):
        return *read_rows(read_demonstrations, settings, run), {}
    found = demonstrations_from(settings.data, settings.store, settings.refined, settings.preferred)
    run.input("data", settings.data, sha256=found.digest)
    train: Sequence[Example] = found.train
    return *hold_out(train, read_demonstrations, settings, run, found.held_out), found.left_out


def main(settings: Settings, world: World, run: Run) -> Path:
    """Fine-tune; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    tokenizer = load_tokenizer(start)
    policy = setup_for(settings, world).policy(start, tokenizer)
    rows, held_out, left_out = _rows(settings, run)
    prepare = partial(
        prepare_demonstrations,
        tokenizer,
        max_length=context_limit(settings.max_length, policy),
        train_on_prompt=settings.train_on_prompt,
        cut_responses=settings.cut_responses,
        max_dropped_share=None,
        console=run.console,
    )
    prepared = prepare(rows, source=shown(settings.data))
    held = prepare(held_out, source=shown(settings.eval_data or settings.data))
    show_sides(prepared, held, run, settings.max_dropped_share, left_out)

    def batch_at(step: int) -> TokenBatch:
        chosen = rows_for_step(len(prepared.examples), settings.batch_size, step, settings.seed)
        return TokenBatch.collate([prepared.examples[i] for i in chosen], chosen)

    algorithm = LanguageModelling(policy, batch_at)
    evaluate = None
    if kept := held.examples:
        batches = lambda: (TokenBatch.collate(kept[part]) for part in kept.parts())  # noqa: E731
        evaluate = lambda: heldout_metrics(algorithm, batches(), settings, world)  # noqa: E731
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, len(prepared.examples), run),
        tokenizer=tokenizer,
        evaluate=evaluate,
        place=prepared.examples.table.place,
    )
    return export(run, policy, tokenizer, settings, world)
