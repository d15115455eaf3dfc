"""The process reward model: is each step of a response right? (Lightman et al. 2023, arXiv 2305.20050)

    loss = - p log sigmoid(x) - (1 - p) log sigmoid(-x)     at the last token of every marked step, a mean over steps

x is a linear score of the hidden state, p the label: 1 (right), 0 (wrong), or a share of rollouts (Wang et al. 2023, arXiv
2312.08935).  neutral=class: the cross-entropy of wrong, neutral and right.  Of what stands behind the first wrong step nothing
is learnt, unless first_error is off.

marks=outcome: an outcome verifier, the same loss with one label, whether the final answer is right, at the last token; with
outcome-tokens at every token of the response (Cobbe et al. 2021, arXiv 2110.14168, 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step
from tutelage.data.preflight.steps import prepare_step_marks, step_marks_of
from tutelage.data.reading.formats import read_step_marks
from tutelage.data.reading.sources import shown
from tutelage.data.steps import StepTokens, collate_steps
from tutelage.data.table import Examples
from tutelage.evals.process_model import evaluate
from tutelage.evals.rows import to_json
from tutelage.evals.solutions import solution_of
from tutelage.feedback.exports.marks import step_marks_from
from tutelage.feedback.training.source import is_store_source
from tutelage.files import write_jsonl_atomic
from tutelage.judges.process import Floats, p_right, read_logits
from tutelage.models.loading import load_tokenizer
from tutelage.models.policy import EncoderModule, ScalarModule
from tutelage.models.step_head import StepHead
from tutelage.ops.losses import step_marks
from tutelage.parallel import World
from tutelage.records import StepMarks, place_json
from tutelage.runs import Run, result_folder
from tutelage.settings.reward import ProcessSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit, heldout_metrics
from tutelage.train.stage import context_limit, export, hold_out, read_rows, setup_for, show_sides, steps_for


class ProcessRewardModelling:
    """The algorithm: responses with marked steps, each scored at its end."""

    def __init__(self, model: ScalarModule, rows: Sequence[StepTokens], settings: Settings) -> None:
        self.trained: dict[str, nn.Module] = {"process_model": model}
        self._model, self._rows, self._settings = model, rows, settings

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` responses."""
        rows = rows_for_step(len(self._rows), self._settings.batch_size, step, self._settings.seed)
        yield [collate_steps([self._rows[row] for row in rows], rows)]

    def loss(self, batch: TokenBatch) -> Loss:
        """Cross-entropy, a mean over marked steps."""
        marked = batch.loss_mask
        logits, labels = self._model(batch, at="marks")[marked], batch.per_token["labels"][marked]
        losses = step_marks(logits, labels)
        said = p_right(logits.detach()) >= 0.5
        wanted = (labels < 0) | (labels >= 0.5)
        metrics = {
            "steps/accuracy": (said == wanted).float(),
            "steps/right": wanted.float(),
            "steps/mean_probability": p_right(logits.detach()),
        }
        sums = {name: Sum(value.sum(), "tokens") for name, value in metrics.items()}
        return Loss({"step_marks": Term(losses.sum(), "tokens")}, sums)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the model; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    tokenizer = load_tokenizer(start)
    head = StepHead(settings.step_end, settings.marks, 3 if settings.neutral == "class" else 1)
    model = setup_for(settings, world).scalar(start, tokenizer, head.classes)
    if isinstance(model, EncoderModule):
        raise ValueError(
            f"model={settings.model} is an encoder, which reads every step with those that follow it, and a step is scored by "
            "what stands before it: take a model that reads from left to right."
        )
    head.keep(model)
    train, held_out, marks = _prepare(settings, tokenizer, model, run)
    algorithm = ProcessRewardModelling(model, train, settings)

    def batches() -> Iterator[TokenBatch]:
        for part in held_out.parts():
            yield collate_steps(held_out[part], range(part.start, part.stop))

    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, len(train), run),
        tokenizer=tokenizer,
        evaluate=(lambda: heldout_metrics(algorithm, batches(), settings, world)) if held_out else None,
        best="min:eval_loss",
        place=train.table.place,
    )
    if held_out:
        report_held_out(model, held_out, marks, run, settings, world)
    return export(run, model, tokenizer, settings, world)


def _prepare(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, model: ScalarModule, run: Run
) -> tuple[Examples[StepTokens], Examples[StepTokens], Examples[StepMarks]]:
    """Responses to train on, responses held out, and what these were made of; split by prompt."""
    left_out: Mapping[str, int] = {}
    if is_store_source(settings.data):
        found = step_marks_from(settings.data, settings.store, settings.aggregation, settings.annotators)
        run.input("data", settings.data, sha256=found.digest)
        left_out = found.left_out
        train, held_out = hold_out(found.train, read_step_marks, settings, run, found.held_out)
    else:
        train, held_out = read_rows(read_step_marks, settings, run)
    prepare = partial(
        prepare_step_marks,
        tokenizer,
        max_length=context_limit(settings.max_length, model),
        separator=settings.step_end,
        about=settings.marks,
        neutral=settings.neutral,
        first_error=settings.first_error,
        max_dropped_share=None,
        console=run.console,
    )
    prepared = prepare(train, source=shown(settings.data))
    kept = prepare(held_out, source=shown(settings.eval_data or settings.data), keep_records=True)
    show_sides(prepared, kept, run, settings.max_dropped_share, left_out)
    return prepared.examples, kept.examples, step_marks_of(kept)


def report_held_out(
    model: ScalarModule,
    examples: Examples[StepTokens],
    marks: Examples[StepMarks],
    run: Run,
    settings: Settings,
    world: World,
) -> None:
    """Write results.json, and heldout_steps.jsonl with what the model says of each step of each held-out response."""
    scored: list[Floats] = []
    for part in examples.parts():
        sequences = [Tokens(item.tokens.ids, _at(item)) for item in examples[part]]
        scored += read_logits(model, sequences, settings.micro_batch_tokens, world)
    solutions = [
        solution_of(row, logits, settings.marks, settings.step_end, settings.neutral)
        for row, logits in zip(marks, scored, strict=True)
    ]
    figures = evaluate("process", solutions, seed=settings.seed)
    run.write_json("results.json", to_json(figures))
    if run.leads:
        lines = (
            row.to_json() | place_json(row) | {"right": one.right.tolist(), "score": one.score}
            for row, one in zip(marks, solutions, strict=True)
        )
        write_jsonl_atomic(run.folder / "heldout_steps.jsonl", lines)
    found = figures[0]
    if found.value is None:
        run.console.print(
            "Held-out step F1 is not defined: among the held-out steps one kind, right or wrong, is missing."
        )
    else:
        between = "" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]"
        steps = f"{found.n:,} step{'s' * (found.n != 1)}"
        run.console.print(f"Held-out step F1 {found.value:.3f}{between} on {steps}.")


def _at(item: StepTokens) -> NDArray[np.bool_]:
    """The ends of all its steps."""
    return np.isin(np.arange(len(item.tokens)), item.ends)
