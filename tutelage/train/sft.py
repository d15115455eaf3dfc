"""Language modelling on demonstrations: the responses are trained, the prompts are not (unless asked for).

    loss = - sum_t mask_t log pi(y_t | y_<t) / sum_t mask_t          over the whole optimizer step

`pretrain` uses the same algorithm on documents, where every token is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step
from tutelage.models.forward import response_logprobs
from tutelage.models.loading import load_tokenizer
from tutelage.models.passes import token_pass
from tutelage.ops.losses import nll
from tutelage.ops.masked import masked_sum
from tutelage.parallel import World
from tutelage.runs import Run, result_folder
from tutelage.settings.stages import SFTSettings as Settings
from tutelage.settings.stages import TrainSettings
from tutelage.train.fit import Loss, fit
from tutelage.train.stage import export, prepare_demonstrations, start_policy, steps_for


class LanguageModelling:
    """The algorithm: every row is one or several sequences, laid out flat, none seeing another."""

    def __init__(
        self, model: nn.Module, rows: Sequence[Sequence[Tokens]], batch_size: int, seed: int
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": model}
        self._model, self._rows, self._batch_size, self._seed = model, rows, batch_size, seed

    def batches(self, step: int) -> Iterator[TokenBatch]:
        """One batch of `batch_size` rows."""
        chosen = rows_for_step(len(self._rows), self._batch_size, step, self._seed)
        yield collate_rows(self._rows, chosen)

    def loss(self, batch: TokenBatch) -> Loss:
        """Negative log-likelihood, summed over the trained tokens."""
        losses = nll(response_logprobs(self._model, batch).logprobs)
        return Loss(masked_sum(losses, batch.loss_mask), batch.loss_mask.sum())


def collate_rows(rows: Sequence[Sequence[Tokens]], chosen: Sequence[int]) -> TokenBatch:
    """The sequences of the chosen rows as one batch; `batch.rows` says which row each sequence came from."""
    sequences = [(sequence, row) for row in chosen for sequence in rows[row]]
    return TokenBatch.collate([sequence for sequence, _ in sequences], [row for _, row in sequences])


def heldout_loss(
    model: nn.Module, rows: Sequence[Sequence[Tokens]], settings: TrainSettings, world: World
) -> float:
    """Mean negative log-likelihood over the trained tokens of `rows`, in nats per token."""
    batch = collate_rows(rows, range(len(rows))).to(world.device)
    logprobs = token_pass(
        lambda part: response_logprobs(model, part).logprobs, batch, settings.micro_batch_tokens, world
    )
    return (-masked_sum(logprobs, batch.loss_mask) / batch.loss_mask.sum().clamp(min=1)).item()


def main(settings: Settings, world: World, run: Run) -> Path:
    """Fine-tune; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    run.input("data", settings.data)
    tokenizer = load_tokenizer(start)
    policy = start_policy(start, settings, world)
    rows, held_out = prepare_demonstrations(settings, tokenizer, policy, run)
    algorithm = LanguageModelling(policy, rows, settings.batch_size, settings.seed)
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, len(rows)),
        tokenizer=tokenizer,
        evaluate=(lambda: {"eval_loss": heldout_loss(policy, held_out, settings, world)})
        if held_out
        else None,
    )
    return export(run, policy, tokenizer)
