"""A trained reward model as a judge."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.encoding import Unusable
from tutelage.data.template import Encoded, encode
from tutelage.models.forward import sequence_scores
from tutelage.models.loading import score_normalisation
from tutelage.models.passes import sequence_pass
from tutelage.parallel import World
from tutelage.records import Response, Score
from tutelage.rollout.batch import rollout_tokens


class RewardModelJudge:
    """Scores by a reward model, normalised to mean 0 and standard deviation 1 on its reference responses.

    The normalisation keeps `kl_coef` meaning the same when the reward model changes.  When the policy shares the reward
    model's vocabulary its token ids are scored as they were sampled, without decoding and encoding again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        policy_tokenizer: PreTrainedTokenizerBase,
        world: World,
        max_tokens: int,
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._same_vocabulary = tokenizer.get_vocab() == policy_tokenizer.get_vocab()
        self._world, self._max_tokens = world, max_tokens
        self._mean, self._std = score_normalisation(model)

    def score(self, responses: Sequence[Response]) -> list[Score]:
        """One score per response: the head's value at the last token, normalised."""
        batch = self._batch(responses).to(self._world.device)
        raw = sequence_pass(
            lambda part: sequence_scores(self._model, part), batch, self._max_tokens, self._world
        )
        return [Score((value - self._mean) / self._std) for value in raw.tolist()]

    def _batch(self, responses: Sequence[Response]) -> TokenBatch:
        if self._same_vocabulary:
            return rollout_tokens(responses)
        rows = encode(self._tokenizer, [(response.prompt, response.text) for response in responses])
        unusable = next((row for row in rows if isinstance(row, Unusable)), None)
        if unusable is not None:
            raise unusable
        return TokenBatch.collate([row.tokens() for row in rows if isinstance(row, Encoded)])
