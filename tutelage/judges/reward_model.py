"""A trained reward model as a judge."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.encoding import Unusable
from tutelage.data.responses import response_batch
from tutelage.data.template import Encoded, encode
from tutelage.judges.judge import Judge
from tutelage.models.loading import head_names, one_score, same_tokenizer, score_normalisation
from tutelage.models.passes import forward_pass
from tutelage.models.policy import ScalarModule
from tutelage.parallel import World
from tutelage.records import Response, Score


class RewardModelJudge(Judge):
    """Scores by a reward model, as its head gives them (`Calibrated` brings them to standard deviations).

    When the policy shares the reward model's tokenizer its token ids are scored as they were sampled, without decoding and
    encoding again; without `policy_tokenizer`, and where a response does not say what stood before it, they are texts.
    """

    def __init__(
        self,
        model: ScalarModule,
        tokenizer: PreTrainedTokenizerBase,
        policy_tokenizer: PreTrainedTokenizerBase | None,
        world: World,
        max_tokens: int,
        name: str = "the reward model",
    ) -> None:
        self.name = name
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._heads = head_names(model)
        self._reads_ids = policy_tokenizer is not None and same_tokenizer(tokenizer, policy_tokenizer)
        self._world, self._max_tokens = world, max_tokens

    @property
    def normalisation(self) -> tuple[float, float] | None:
        """(mean, standard deviation) of its scores on the reference's responses, as stored with it; None: not known."""
        return score_normalisation(self._model)

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """One score per response: the head's value at the last token; with several heads their mean by weight, and each
        as a part."""
        batch = self._batch(responses).to(self._world.device)
        model, limit = self._model, self._max_tokens
        raw = forward_pass(model, lambda part: model(part, at="ends"), batch, "sequences", limit, self._world)
        if not self._heads:
            return [Score(value) for value in raw.tolist()]
        return [
            Score(mean, dict(zip(self._heads, own, strict=True)))
            for mean, own in zip(one_score(model, raw).tolist(), raw.tolist(), strict=True)
        ]

    def _batch(self, responses: Sequence[Response]) -> TokenBatch:
        if self._reads_ids and all(response.prompt_ids for response in responses):
            return response_batch(responses)
        rows = encode(self._tokenizer, [(r.prompt, r.text, r.finish) for r in responses])
        unusable = next((row for row in rows if isinstance(row, Unusable)), None)
        if unusable is not None:
            raise unusable
        return TokenBatch.collate([row.tokens() for row in rows if isinstance(row, Encoded)])
