"""THE training loop: the same for every algorithm, supervised or on-policy.

An algorithm says what to learn from at a step (`batches`) and how (`loss`); everything else is here: accumulation over
micro-batches, one division by the global count, clipping, the schedule, the refusal of a non-finite update, evaluation,
checkpoints, exact resume, metrics, progress.  `batches(step)` depends only on (step, seed, current weights), so resuming
needs no iterator state: load the weights and ask for the next step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage import checkpoint
from tutelage.data.batch import TokenBatch
from tutelage.parallel import World
from tutelage.runs import Run
from tutelage.settings.train import TrainSettings
from tutelage.train.optim import make_optimizer, schedule

B = TypeVar("B", bound=TokenBatch)


@dataclass(frozen=True)
class Loss:
    """Sums over the same units (tokens, sequences or pairs): the loop divides once, by the count of the whole batch.

    sum: scalar with a gradient.  count: scalar, number of units.  metrics: detached scalars, summed over the units.
    """

    sum: Tensor
    count: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Algorithm(Protocol[B]):
    """What differs between algorithms."""

    trained: dict[str, nn.Module]
    """What the optimizer may change; saved under these names."""

    def batches(self, step: int) -> Iterable[B]:
        """What to learn from at `step` (counted from 0): one optimizer update per batch.  May generate and judge."""
        ...

    def loss(self, batch: B) -> Loss:
        """How to learn from it."""
        ...


def fit(
    algorithm: Algorithm[B],
    settings: TrainSettings,
    world: World,
    run: Run,
    *,
    steps: int,
    tokenizer: PreTrainedTokenizerBase,
    evaluate: Callable[[], dict[str, float]] | None = None,
    best: tuple[str, bool] = ("eval_loss", False),
) -> None:
    """Train `algorithm.trained` in place for `steps` steps, from the last checkpoint of `run` if there is one.

    `evaluate` returns metrics of the current weights; `best` names the one that tells the best checkpoint, and whether
    more is better.  Raises ValueError when an update would not be finite, OSError when a checkpoint cannot be written.
    """
    optimizer = make_optimizer(algorithm.trained, settings)
    state = _resume(algorithm.trained, optimizer, run)
    if settings.tensorboard:
        run.open_tensorboard(state.step)
    with run.progress(steps, run.lineage["command"], done=state.step) as bar:
        if evaluate is not None and state.step == 0:
            run.log(evaluate())
            run.commit(0)
        for step in range(state.step, steps):
            started, before = time.perf_counter(), state.num_tokens
            rate = schedule(settings, step, steps)
            metrics = _step(algorithm, optimizer, settings, world, run, step, rate, state)
            seconds = time.perf_counter() - started
            run.log(
                {**metrics, "learning_rate": rate * settings.learning_rate, "num_tokens": state.num_tokens}
            )
            run.log({"time/step_s": seconds, "tokens_per_second": (state.num_tokens - before) / seconds})
            state.step = step + 1
            if evaluate is not None and (state.step % settings.eval_every == 0 or state.step == steps):
                run.log(evaluate())
            line = run.commit(state.step)
            state.see(line, best)
            is_best = settings.load_best and state.best_step == state.step
            if state.step % settings.save_every == 0 or state.step == steps or is_best:
                _save(algorithm.trained, optimizer, tokenizer, settings, run, state)
            bar.advance(status=f"loss {line['loss']:.4f}, {line['tokens_per_second']:,.0f} tokens/s")
    if settings.load_best and state.best_step is not None:
        checkpoint.load(run.folder / "checkpoints", state.best_step, algorithm.trained, optimizer)


@dataclass
class State:
    """Where a run is: all of it goes into the checkpoint."""

    step: int = 0
    num_tokens: int = 0
    best: float | None = None
    best_step: int | None = None

    def see(self, line: Mapping[str, float], best: tuple[str, bool]) -> None:
        """Remember this step if its evaluation is the best so far."""
        name, more_is_better = best
        value = line.get(name)
        if value is None:
            return
        if self.best is None or (value > self.best if more_is_better else value < self.best):
            self.best, self.best_step = value, self.step


def _step(
    algorithm: Algorithm[B],
    optimizer: torch.optim.Optimizer,
    settings: TrainSettings,
    world: World,
    run: Run,
    step: int,
    rate: float,
    state: State,
) -> dict[str, float]:
    """One step: an update for every batch.  Returns metrics averaged over the step's updates, by their counts."""
    for group in optimizer.param_groups:
        group["lr"] = rate * settings.learning_rate
    sums: dict[str, float] = {}
    counts = norms = updates = 0.0
    for batch in algorithm.batches(step):
        total, norm = update(algorithm, optimizer, batch.to(world.device), settings, world, run.folder, step)
        counts += total.count.item()
        updates += 1
        norms += norm
        for name, value in {"loss": total.sum, **total.metrics}.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        state.num_tokens += sum(batch.lengths)
    return {name: value / max(counts, 1.0) for name, value in sums.items()} | {
        "grad_norm": norms / max(updates, 1.0)
    }


def update(
    algorithm: Algorithm[B],
    optimizer: torch.optim.Optimizer,
    batch: B,
    settings: TrainSettings,
    world: World,
    folder: Path,
    step: int,
) -> tuple[Loss, float]:
    """One optimizer update from one batch; returns the batch's summed loss and the gradient norm before clipping."""
    total = accumulate(algorithm, batch, settings.micro_batch_tokens, world)
    norm = 0.0
    for module in algorithm.trained.values():
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if gradients:
            torch._foreach_div_(gradients, max(total.count.item(), 1.0))
            part = nn.utils.clip_grad_norm_(module.parameters(), settings.max_grad_norm or float("inf"))
            norm = (norm**2 + part.item() ** 2) ** 0.5
    if not (torch.isfinite(total.sum).item() and norm < float("inf")):
        _refuse(algorithm, batch, world, folder, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, norm


def accumulate(algorithm: Algorithm[B], batch: B, max_tokens: int, world: World) -> Loss:
    """Add up loss, count, metrics and gradients over the micro-batches of one batch (gradients of the *sum*)."""
    total: Loss | None = None
    for micro in batch.split(max_tokens):
        with world.autocast():
            loss = algorithm.loss(micro)
        loss.sum.backward()
        if total is None:
            total = Loss(loss.sum.detach().double(), loss.count, dict(loss.metrics))
        else:
            metrics = {name: total.metrics[name] + value for name, value in loss.metrics.items()}
            total = Loss(total.sum + loss.sum.detach(), total.count + loss.count, metrics)
    assert total is not None, "a batch holds at least one unit"
    return total


@torch.no_grad()
def heldout_metrics(
    algorithm: Algorithm[B], batch: B, settings: TrainSettings, world: World
) -> dict[str, float]:
    """The loss and its metrics on held-out data, averaged over its units; each with `eval_` before its name."""
    sums: dict[str, float] = {}
    count = 0.0
    for part in batch.split(settings.micro_batch_tokens):
        with world.autocast():
            loss = algorithm.loss(part)
        count += loss.count.item()
        for name, value in {"loss": loss.sum, **loss.metrics}.items():
            sums[f"eval_{name}"] = sums.get(f"eval_{name}", 0.0) + value.item()
    return {name: value / max(count, 1.0) for name, value in sums.items()}


def _refuse(algorithm: Algorithm[B], batch: B, world: World, folder: Path, step: int) -> None:
    """Stop before a non-finite update: keep the batch, and say which rows of the data cause it."""
    culprits: list[int] = []
    for unit in range(len(batch)):
        one = batch.take([unit])
        with torch.no_grad(), world.autocast():
            finite = torch.isfinite(algorithm.loss(one).sum).item()
        if not finite:
            culprits.extend(one.rows)
    path = folder / f"nonfinite-step-{step + 1}.pt"
    torch.save(
        {"ids": batch.ids, "lengths": batch.lengths, "loss_mask": batch.loss_mask, "rows": batch.rows}, path
    )
    rows = f"rows {sorted(set(culprits))[:20]}" if culprits else "no single row (the gradient overflowed)"
    raise ValueError(
        f"step {step + 1}: the loss or its gradient is not finite, caused by {rows}; the weights were not changed and "
        f"the batch is kept in {path}: look at those rows, or lower learning_rate."
    )


def _resume(trained: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, run: Run) -> State:
    folder = run.folder / "checkpoints"
    known = checkpoint.steps(folder)
    if not known:
        run.rewind(-1)
        return State()
    state = State(**checkpoint.load(folder, known[-1], trained, optimizer))
    run.rewind(state.step)
    run.console.print(f"Resuming {run.folder} after step {state.step}.")
    return state


def _save(
    trained: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainSettings,
    run: Run,
    state: State,
) -> None:
    folder = run.folder / "checkpoints"
    facts: dict[str, Any] = {key: value for key, value in vars(state).items() if key != "step"}
    checkpoint.save(folder, state.step, trained, optimizer, tokenizer, facts)
    checkpoint.prune(folder, settings.keep_checkpoints, state.best_step)
