"""THE training loop: the same for every algorithm, supervised or on-policy.

An algorithm says what to learn from at a step (`batches`) and how (`loss`); everything else is here: accumulation over
micro-batches and ranks, the division of every term by the global count of its unit, clipping, the schedule, the refusal
of a non-finite update, evaluation, checkpoints, exact resume, metrics, progress.  `batches(step)` depends only on (step,
seed, current weights), so resuming needs no iterator state: load the weights and ask for the next step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage import checkpoint
from tutelage.data.batch import TokenBatch
from tutelage.models.policy import Hosted
from tutelage.models.sharding import hold, in_parts, reshard, shard, whole_tensor
from tutelage.parallel import World
from tutelage.ranks.watch import moved
from tutelage.records import Place
from tutelage.resume import checkpoint_steps
from tutelage.runs import Run
from tutelage.settings.train import TrainSettings
from tutelage.train.algorithm import Algorithm, Loss, Update
from tutelage.train.optim import make_optimizer, set_rates
from tutelage.train.totals import Counts, Sums, Totals, counts_of
from tutelage.train.watch import Watch

NAMED = 20  # rows in an error
Evaluate = Callable[[], dict[str, float]]


def fit(
    algorithm: Algorithm,
    settings: TrainSettings,
    world: World,
    run: Run,
    *,
    steps: int,
    tokenizer: PreTrainedTokenizerBase,
    evaluate: Evaluate | None = None,
    best: str = "min:eval_loss",
    place: Callable[[int], Place | None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Train `algorithm.trained` in place for `steps` steps, from the last checkpoint of `run` if there is one.

    `evaluate` returns metrics of the current weights; `best` (max:NAME or min:NAME; `settings.best` goes before) names
    the one that tells the best checkpoint.  `place` says where a row of the batches stands in its file.  `stop` says after an
    evaluation whether to end there, from what is in `algorithm.trained`; the result is the best checkpoint then.
    Raises ValueError when an update would not be finite, OSError when a
    checkpoint cannot be written.
    """
    run.note(parameters=_parameters(algorithm.trained))
    loop = _Loop(algorithm, settings, world, run, steps, place)
    best = settings.best or best
    state, keeps_best = loop.resume(), settings.load_best or stop is not None
    watch = Watch(run, settings)
    if settings.tensorboard:
        run.open_tensorboard(state.step)
    with run.progress(steps, run.lineage["command"], done=state.step) as bar:
        if evaluate is not None and state.step == 0:
            run.log(evaluate())
            run.commit(0)
        for step in range(state.step, steps):
            if stop is not None and stop():
                run.console.print(f"Stopped after step {step} of {steps}.")
                break
            loop.step(step)
            state.step = step + 1
            if evaluate is not None and (state.step % settings.eval_every == 0 or state.step == steps):
                found = evaluate()
                state.see(found, best)
                run.log(found)
            line = run.commit(state.step)
            watch.see(state.step, line)
            is_best = keeps_best and state.best_step == state.step
            ends = state.step == steps or (stop is not None and stop())
            if state.step % settings.save_every == 0 or ends or is_best:
                loop.save(tokenizer)
            bar.advance(status=f"loss {line['loss']:.4f}, {line['tokens_per_second']:,.0f} tokens/s")
    watch.write()
    if keeps_best and state.best_step is not None:
        loop.load(state.best_step)


def _parameters(modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """How many parameters the modules have that are trained, frozen ones under an adapter among them."""
    return {
        name: sum(p.numel() for p in module.parameters())
        for name, module in modules.items()
        if any(p.requires_grad for p in module.parameters())
    }


@dataclass
class State:
    """Where a run is: all of it goes into the checkpoint."""

    step: int = 0
    num_tokens: int = 0
    best: float | None = None
    best_step: int | None = None

    def see(self, found: Mapping[str, float], best: str) -> None:
        """Remember this step if its evaluation is the best so far.  Raises ValueError when it has no such metric."""
        more_is_better, name = best.startswith("max:"), best.partition(":")[2]
        if name not in found:
            raise ValueError(f"best={best}: the evaluation has no {name}; it has {', '.join(sorted(found))}.")
        value = found[name]
        if self.best is None or (value > self.best if more_is_better else value < self.best):
            self.best, self.best_step = value, self.step


class _Loop:
    """What one call of `fit` works with."""

    def __init__(
        self,
        algorithm: Algorithm,
        settings: TrainSettings,
        world: World,
        run: Run,
        steps: int,
        place: Callable[[int], Place | None] | None,
    ) -> None:
        self._place = place
        self._algorithm, self._settings, self._world, self._run = algorithm, settings, world, run
        self._steps, self._folder = steps, run.folder / "checkpoints"
        shard(algorithm.trained.values(), world)
        for module in algorithm.trained.values():
            reshard(module)
        self._optimizer = make_optimizer(algorithm.trained, settings)
        self._state = State()

    def resume(self) -> State:
        """Load the last checkpoint, if there is one."""
        known = self._world.told(lambda: checkpoint_steps(self._folder))
        if not known:
            self._run.rewind(-1)
            return self._state
        for name, value in self.load(known[-1]).items():
            setattr(self._state, name, value)
        self._run.rewind(self._state.step)
        self._run.console.print(f"Resuming {self._run.folder} after step {self._state.step}.")
        return self._state

    def load(self, step: int) -> dict[str, Any]:
        return checkpoint.load(self._folder, step, self._algorithm.trained, self._optimizer, self._world)

    def save(self, tokenizer: PreTrainedTokenizerBase) -> None:
        facts = {key: value for key, value in vars(self._state).items() if key != "step"}
        trained, step = self._algorithm.trained, self._state.step
        checkpoint.save(self._folder, step, trained, self._optimizer, tokenizer, facts, self._world)
        if self._world.leads:
            checkpoint.prune(self._folder, self._settings.keep_checkpoints, self._state.best_step)
        self._world.wait()

    def step(self, step: int) -> None:
        """One step: an update for everything that the algorithm yields.  Logs means over the step's updates."""
        started, tokens = time.perf_counter(), 0
        rate = self._settings.rate(step, self._steps)
        set_rates(self._optimizer, rate)
        totals, norms = Totals(), list[float]()
        updates = self._algorithm.batches(step)
        reply: Any = None  # what starts a generator
        while True:
            try:
                batches = updates.send(reply)
            except StopIteration:
                break
            found, norm = self._update(batches, step)
            reply = found.means()
            totals.include(found)
            norms.append(norm)
            tokens += sum(sum(batch.lengths) for batch in batches)
        seconds = time.perf_counter() - started
        self._state.num_tokens += tokens
        self._run.log(
            {
                **totals.means(),
                "grad_norm": sum(norms) / max(len(norms), 1),
                "learning_rate": rate * self._settings.learning_rate,
                "num_tokens": self._state.num_tokens,
                "time/step_s": seconds,
                "tokens_per_second": tokens / seconds,
            }
        )

    def _update(self, batches: Update, step: int) -> tuple[Totals, float]:
        """One optimizer update; returns its totals and the gradient norm before clipping."""
        totals = accumulate(self._algorithm, batches, self._settings.micro_batch_tokens, self._world)
        norm = clip(self._algorithm.trained, self._settings.max_grad_norm, self._world)
        if not abs(totals.means()["loss"]) + norm < float("inf"):
            self._refuse(batches, step)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return totals, norm

    def _refuse(self, batches: Update, step: int) -> None:
        """Stop before a non-finite update: keep its batches, and say which rows of the data cause it."""
        culprits = sorted({row for batch in batches for row in self._culprits(batch.to(self._world.device))})
        path = self._run.folder / f"nonfinite-step-{step + 1}.pt"
        names = ("ids", "lengths", "loss_mask", "rows", "objective")
        if self._world.leads:
            torch.save([{name: getattr(batch, name) for name in names} for batch in batches], path)
        rows = self._named(culprits) if culprits else "no single row (the gradient overflowed)"
        raise ValueError(
            f"step {step + 1}: the loss or its gradient is not finite, caused by {rows}; the weights were not changed and "
            f"the batch is kept in {path}: look at those rows, or lower learning_rate."
        )

    def _named(self, rows: Sequence[int]) -> str:
        """Rows for people: where they stand, or which of the data set they are."""
        places = [self._place(row) if self._place else None for row in rows[:NAMED]]
        names = [str(place) if place else f"row {row}" for row, place in zip(rows, places, strict=False)]
        return ", ".join(names) + (" and others" if len(rows) > NAMED else "")

    @torch.no_grad()
    def _culprits(self, batch: TokenBatch) -> list[int]:
        """The rows whose loss is not finite."""
        found: list[int] = []
        for unit in range(len(batch)):
            one = batch.take([unit])
            with self._world.autocast():
                loss = self._algorithm.loss(one)
            if not all(torch.isfinite(term.sum).item() for term in loss.terms.values()):
                found.extend(one.rows)
        return found


def accumulate(algorithm: Algorithm, batches: Update, max_tokens: int, world: World) -> Totals:
    """Sum up losses, metrics and (where gradients are enabled) gradients of the loss over the micro-batches of an update.

    Every term is divided by the count of its unit over the whole update, on all ranks, which is known before the first
    backward pass: so no gradient depends on how the update is cut.
    """
    shares = [share(batch, world) for batch in batches]
    counts = counts_of(shares, world)
    padded = any(isinstance(module, Hosted) and module.pads for module in algorithm.trained.values())
    sums = Sums()
    for micro, idle, last in _micro_batches(batches, shares, max_tokens, padded, world):
        hold(algorithm.trained.values(), until_last=not last)
        with world.autocast():
            loss = algorithm.loss(micro)
        if torch.is_grad_enabled():
            (total(loss, counts, micro.objective) * (not idle)).backward()
        sums.add(micro.objective, loss, counts=not idle)
        moved()
    return sums.totals(counts, world)


def share(batch: TokenBatch, world: World) -> TokenBatch:
    """The units of a batch that this rank computes; none where there are fewer units than ranks."""
    return batch if world.size == 1 else batch.take(batch.dealt(world.size)[world.rank])


def _micro_batches(
    batches: Update, shares: Sequence[TokenBatch], max_tokens: int, padded: bool, world: World
) -> Iterator[tuple[TokenBatch, bool, bool]]:
    """This rank's micro-batches, whether one is idle, and whether it is the last of its batch.

    All ranks go through a model equally often, for in every pass they put its weights together and add its gradients up: who has
    fewer micro-batches takes part with a unit that does not count.
    """
    groups = [own.groups(max_tokens, padded) if len(own) else [] for own in shares]
    most = world.most_of([len(own) for own in groups])
    for batch, own, mine, number in zip(batches, shares, groups, most, strict=True):
        here = own.to(world.device) if mine else own
        for place in range(number):
            last = place == number - 1
            if place >= len(mine):
                yield batch.take([0]).to(world.device), True, last
            elif mine[place] == list(range(len(own))):
                yield here, False, last
            else:
                yield here.take(mine[place]), False, last


def total(loss: Loss, counts: Counts, objective: str) -> Tensor:
    """The part of a micro-batch in the loss of its update."""
    parts = [term.sum * (term.weight / max(counts[objective, term.per], 1.0)) for term in loss.terms.values()]
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]


def clip(trained: Mapping[str, nn.Module], max_norm: float, world: World) -> float:
    """Add the gradients up over the ranks and clip those of each trained model; returns their norm before that."""
    square = 0.0
    for module in trained.values():
        parameters = [p for p in module.parameters() if p.requires_grad]
        sum_gradients(parameters, world)
        if any(p.grad is not None for p in parameters):
            norm = nn.utils.clip_grad_norm_(parameters, max_norm or float("inf"))
            square += whole_tensor(norm).item() ** 2
    return square**0.5


def sum_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Over the ranks, of what is not cut over them (a gradient of a part is summed already); a rank whose share did not reach a
    parameter adds nothing to it."""
    parameters = [parameter for parameter in parameters if not in_parts(parameter)]
    if world.size == 1 or not parameters:
        return
    reached = world.sum_of([float(p.grad is not None) for p in parameters])
    for parameter, ranks in zip(parameters, reached, strict=True):
        if ranks and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    world.sum([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def heldout_metrics(
    algorithm: Algorithm, batches: Iterable[TokenBatch], settings: TrainSettings, world: World
) -> dict[str, float]:
    """The loss and its metrics on held-out data, averaged over its units; each with `eval_` before its name.

    Batches are taken one at a time, so that all held-out data need not be in memory.
    """
    totals = Totals()
    for batch in batches:
        totals.include(accumulate(algorithm, [batch], settings.micro_batch_tokens, world))
    return {f"eval_{name}": value for name, value in totals.means().items()}
