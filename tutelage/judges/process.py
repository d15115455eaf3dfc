"""A process reward model, or an outcome verifier, as a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.encoding import Unusable
from tutelage.data.steps import StepEnds, scored_at
from tutelage.data.template import encode
from tutelage.judges.judge import Judge
from tutelage.models.loading import same_tokenizer
from tutelage.models.passes import forward_pass
from tutelage.models.policy import ScalarModule
from tutelage.models.step_head import StepHead
from tutelage.parallel import World
from tutelage.records import Response, Score
from tutelage.settings.judges import Combine, Places

Floats = NDArray[np.float64]


class ProcessJudge(Judge):
    """Scores a response by its steps.

    combine: the score of the whole, from the probabilities that its steps are right: their "product" (that the whole
    solution is right: Lightman et al. 2023, arXiv 2305.20050, 4.1), "minimum", "mean", or that of the "last".  places:
    "end" gives the whole to the last token; "dense" gives to the end of each step what the score of all steps so far has
    changed by, p1, p1 p2 - p1, ... for a product: a potential (Ng, Harada and Russell 1999), whose sum is the score, so that no
    policy is preferred that the score of the whole would not prefer.  `Score.parts` has every combination, and the number
    of steps.
    """

    def __init__(
        self,
        model: ScalarModule,
        tokenizer: PreTrainedTokenizerBase,
        policy_tokenizer: PreTrainedTokenizerBase | None,
        world: World,
        max_tokens: int,
        head: StepHead,
        combine: Combine = "product",
        places: Places = "dense",
        name: str = "the process reward model",
    ) -> None:
        self.name = name
        self._model = model.eval().requires_grad_(False)
        self._tokenizer, self._head = tokenizer, head
        self._combine: Combine = combine if head.about == "steps" else "last"
        self.places = places == "dense"
        self._reads_ids = policy_tokenizer is not None and same_tokenizer(tokenizer, policy_tokenizer)
        self._ends = StepEnds(tokenizer, head.separator)
        self._theirs = (
            self._ends
            if self._reads_ids or policy_tokenizer is None
            else StepEnds(policy_tokenizer, head.separator)
        )
        self._world, self._max_tokens = world, max_tokens

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """One score per response; None for one without a token.

        A response that is read as text, for a policy with another tokenizer, has its places where its own tokens end the
        steps; where these are not as many, the whole stands at its last token.
        """
        return [
            None if right is None else self._score(right, response, ends)
            for response, (ends, right) in zip(responses, self._read(responses), strict=True)
        ]

    def right(self, responses: Sequence[Response]) -> list[list[float] | None]:
        """For each response the probability of each of its steps to be right; None for one without a token."""
        return [None if right is None else right.tolist() for _, right in self._read(responses)]

    def _read(self, responses: Sequence[Response]) -> list[tuple[list[int], Floats | None]]:
        """For each response where it is scored, and the probabilities there (None: nowhere)."""
        ids = [self._ids(response) for response in responses]
        ends = [
            scored_at(self._head.about, self._ends, own, response.finish)
            for (_, own), response in zip(ids, responses, strict=True)
        ]
        there = [number for number, own in enumerate(ends) if own]
        sequences = [marked(*ids[number], ends[number]) for number in there]
        found = iter(read_steps(self._model, sequences, self._max_tokens, self._world))
        return [(own, next(found) if own else None) for own in ends]

    def _ids(self, response: Response) -> tuple[Sequence[int], Sequence[int]]:
        """What is read: the ids of the prompt, and of the response."""
        if self._reads_ids:
            return response.prompt_ids, response.ids
        [found] = encode(self._tokenizer, [(response.prompt, response.text, response.finish)])
        if isinstance(found, Unusable):
            raise ValueError(
                f"{self.name} cannot read a response {found}, to the prompt {response.prompt.text()[:60]!r}: leave it out."
            )
        return found.prompt, found.response

    def _score(self, right: Floats, response: Response, ends: Sequence[int]) -> Score:
        whole: dict[str, float] = {name: float(so_far(right, name)[-1]) for name in COMBINED}
        parts = {**whole, "steps": float(len(right))} if self._head.about == "steps" else {}
        return Score(whole[self._combine], parts, self._at(right, response, ends))

    def _at(self, right: Floats, response: Response, ends: Sequence[int]) -> tuple[tuple[int, float], ...]:
        if not self.places or not response.ids:
            return ()
        if not self._reads_ids:
            ends = scored_at(self._head.about, self._theirs, response.ids, response.finish)
            if len(ends) != len(right):
                return ()
        gained = np.diff(so_far(right, self._combine), prepend=0.0)
        return tuple(zip(ends, gained.tolist(), strict=True))


COMBINED: tuple[Combine, ...] = ("product", "minimum", "mean", "last")


def so_far(right: Floats, combine: Combine) -> Floats:
    """float64 [T]: the score of the first step, of the first two, ... of all."""
    if combine == "product":
        return np.multiply.accumulate(right)
    if combine == "minimum":
        return np.minimum.accumulate(right)
    if combine == "last":
        return right
    means: Floats = np.cumsum(right) / np.arange(1.0, len(right) + 1)
    return means


def marked(prompt: Sequence[int], response: Sequence[int], ends: Sequence[int]) -> Tokens:
    """A sequence with `loss_mask` True at the given positions of the response."""
    ids = np.array([*prompt, *response], dtype=np.int32)
    mask = np.zeros(len(ids), dtype=bool)
    mask[np.asarray(ends, dtype=np.int64) + len(prompt)] = True
    return Tokens(ids, mask)


def read_steps(
    model: ScalarModule, sequences: Sequence[Tokens], max_tokens: int, world: World
) -> list[Floats]:
    """For each sequence, float64: the probability that all is right at each token of its `loss_mask`."""
    return [
        p_right(torch.from_numpy(one)).numpy() for one in read_logits(model, sequences, max_tokens, world)
    ]


def read_logits(
    model: ScalarModule, sequences: Sequence[Tokens], max_tokens: int, world: World
) -> list[Floats]:
    """For each sequence, float64 [T], or [T, 3] of a head with three classes: its logits at the tokens of its `loss_mask`."""
    if not sequences:
        return []
    batch = TokenBatch.collate(sequences)
    whole = torch.from_numpy(np.concatenate([tokens.loss_mask for tokens in sequences]))
    batch = replace(batch, loss_mask=whole).to(world.device)  # a first token has a score, too
    logits = forward_pass(model, lambda part: model(part, at="marks"), batch, "tokens", max_tokens, world)
    found = logits[batch.loss_mask].double().cpu().numpy()
    counts = [int(tokens.loss_mask.sum()) for tokens in sequences]
    return np.split(found, np.cumsum(counts)[:-1])


def p_right(logits: Tensor) -> Tensor:
    """[M]: the probability that a step is right, from its logit [M]; from three [M, 3] the one that it is not wrong: a
    neutral step counts as right (Lightman et al. 2023, appendix F.2)."""
    return logits.sigmoid() if logits.dim() == 1 else 1 - logits.softmax(-1)[:, 0]
