"""What the card of a reward model is made of, from what a training run has at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.reading.formats import Dropped, read_comparisons
from tutelage.data.reading.sources import shown
from tutelage.data.template import Encoded, PairTokens, encode
from tutelage.evals.card.card import TRAINING_PAIRS, Training
from tutelage.evals.reward_model import accuracies, sides_of
from tutelage.evals.rows import Row
from tutelage.feedback.training.source import (
    PREFIX,
    comparisons_from,
    is_store_source,
    projects_of,
    voted_by,
)
from tutelage.judges.judge import Judge
from tutelage.models.loading import one_score
from tutelage.models.passes import forward_pass
from tutelage.models.policy import ScalarModule
from tutelage.parallel import World
from tutelage.records import Comparison, Response, Score
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.reward import RewardSettings as Settings
from tutelage.store import Store
from tutelage.store.comparing import stream_voted_pairs
from tutelage.train.stage import Pairs


class InTraining(Judge):
    """The model as it is at the end of training.  What is longer than it may read, or cannot be tokenised, has no score."""

    def __init__(
        self,
        models: Sequence[ScalarModule],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        max_tokens: int,
        world: World,
    ) -> None:
        self.name = "the reward model"
        self._models, self._tokenizer, self._world = models, tokenizer, world
        self._max_length, self._max_tokens = max_length, max_tokens

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """One score per response: what the heads say together at the last token, a mean over the members of an ensemble."""
        rows = encode(self._tokenizer, [(r.prompt, r.text, r.finish) for r in responses])
        found = [row.tokens() if isinstance(row, Encoded) else None for row in rows]
        fit = [row for row in found if row is not None and 0 < len(row) <= self._max_length]
        if not fit:
            return [None] * len(found)
        batch = TokenBatch.collate(fit).to(self._world.device)
        values = torch.stack([self._scores(model, batch) for model in self._models]).mean(0)
        scores = iter(values.tolist())
        return [
            Score(next(scores)) if row is not None and 0 < len(row) <= self._max_length else None
            for row in found
        ]

    def _scores(self, model: ScalarModule, batch: TokenBatch) -> Tensor:
        """float32 [B]."""
        limit = self._max_tokens
        found = forward_pass(
            model, lambda part: model(part, at="ends"), batch, "sequences", limit, self._world
        )
        return one_score(model, found.view(len(batch.lengths), -1))


def sample_of(pairs: Pairs, settings: Settings) -> list[PairTokens]:
    """The training pairs that the card looks at, by seed: all, or TRAINING_PAIRS of them."""
    drawn = rng(settings.seed, "card").permutation(len(pairs.train))[:TRAINING_PAIRS]
    return [pairs.train[int(row)] for row in drawn]


def training_of(
    sample: Sequence[PairTokens], scores: np.ndarray, pairs: Pairs, tokenizer: PreTrainedTokenizerBase
) -> Training:
    """The sample as texts, with the model's scores [m, 2] of its first m pairs."""
    sides = [_response(side) for pair in sample for side in (pair.chosen, pair.rejected)]
    texts = tokenizer.batch_decode(sides, skip_special_tokens=True)
    held_out = {_prompt(pair.chosen) for pair in pairs.held_out}
    shared = {key for pair in pairs.train if (key := _prompt(pair.chosen)) in held_out} if held_out else set()
    return Training(
        list(zip(texts[::2], texts[1::2], strict=True)),
        [pair.p_chosen for pair in sample],
        [_prompt(pair.chosen) for pair in sample],
        scores[:, 0] - scores[:, 1],
        len(shared),
    )


def _prompt(tokens: Tokens) -> bytes:
    return np.asarray(tokens.ids[: _start(tokens)], np.int32).tobytes()


def _response(tokens: Tokens) -> list[int]:
    return [int(token) for token in tokens.ids[_start(tokens) :]]


def _start(tokens: Tokens) -> int:
    """Where the response begins: at the first token that is trained on."""
    return int(np.argmax(tokens.loss_mask)) if np.any(tokens.loss_mask) else len(tokens)


def of_the_policy(settings: Settings, run: Run) -> list[Comparison]:
    """The comparisons of `policy_data`, from the store or a file.  Raises ValueError where there is none in it."""
    if not settings.policy_data:
        return []
    if is_store_source(settings.policy_data):
        found = comparisons_from(
            settings.policy_data,
            settings.store,
            settings.aggregation,
            settings.ties,
            settings.annotators,
            refined=settings.refined,
        )
        run.input("policy_data", settings.policy_data, sha256=found.digest)
        return [*found.train, *found.held_out]
    run.input("policy_data", settings.policy_data)
    found_rows = list(read_comparisons(settings.policy_data, settings.columns).walk())
    rows = [row for row in found_rows if isinstance(row, Comparison)]
    dropped = [row for row in found_rows if isinstance(row, Dropped)]
    if dropped:
        first = dropped[0]
        run.console.print(
            f"{len(dropped)} of {len(found_rows)} rows of policy_data are left out; {first.place}: {first.reason}.",
            markup=False,
        )
    if not rows:
        raise ValueError(
            f"policy_data={shown(settings.policy_data)} holds no comparison: give another, or leave it out."
        )
    return rows


def on_the_policy(judge: Judge, comparisons: Sequence[Comparison], run: Run) -> list[Row]:
    """accuracy_policy: on the policy's own responses.  Pairs that the model cannot read are left out, and counted."""
    scores = judge.score(sides_of(comparisons))
    values = np.array([np.nan if score is None else score.value for score in scores]).reshape(-1, 2)
    read = np.flatnonzero(np.isfinite(values).all(axis=1))
    if len(read) < len(comparisons):
        run.console.print(
            f"{len(comparisons) - len(read)} of {len(comparisons)} pairs of policy_data are too long for the model, or have no "
            "words: left out."
        )
    if not len(read):
        return []
    return accuracies("reward", [comparisons[int(row)] for row in read], values[read], "accuracy_policy")


def votes_on(comparisons: Sequence[Comparison], settings: Settings) -> np.ndarray | None:
    """int [n, 2]: how many people preferred (chosen, rejected), ties left out; None where the data are not from the store, or
    are those of several groups."""
    if not is_store_source(settings.data) or settings.eval_data or settings.groups:
        return None
    asked = [(c.prompt.id, c.chosen, c.rejected) for c in comparisons]
    wanted = set(asked)
    counted: dict[tuple[str, str, str], np.ndarray] = {}
    with Store(settings.store, migrate=False) as store:
        kinds, named = store.annotator_kinds().items(), settings.annotators
        meant = {name for name, kind in kinds if not named or name in named or kind in named}
        for part in projects_of(settings.data):
            with store.reading(part.removeprefix(PREFIX)) as (connection, key):
                for pair in voted_by(stream_voted_pairs(connection, key), meant):
                    said = [vote.preference for vote in pair.votes]
                    count = np.array([sum(p < 0 for p in said), sum(p > 0 for p in said)])
                    for (a, b), way in ((pair.texts, count), (pair.texts[::-1], count[::-1])):
                        if (pair.prompt.id, a, b) in wanted:
                            counted[pair.prompt.id, a, b] = counted.get((pair.prompt.id, a, b), 0) + way
    nobody = np.zeros(2, int)
    return np.array([counted.get(one, nobody) for one in asked]).reshape(-1, 2)
