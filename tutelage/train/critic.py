"""The critic, which foretells rewards: for `ppo`, and for the learned baseline of `reinforce`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch
from tutelage.judges.calibration import Calibration
from tutelage.models.loading import load_tokenizer, same_tokenizer, score_normalisation
from tutelage.models.policy import EncoderModule, ScalarModule
from tutelage.models.step_head import StepHead
from tutelage.models.value_head import ValueHead
from tutelage.ops.masked import segment_sum
from tutelage.runs import result_folder
from tutelage.settings.onpolicy import CriticSettings
from tutelage.train.onpolicy import OnPolicy


@dataclass(frozen=True)
class Critic:
    """What foretells rewards, in the units of the (normalised) scores: a network of its own, or a head on the policy's trunk,
    which is read by the policy's own forward (`Reading`)."""

    model: ScalarModule | ValueHead
    calibration: Calibration

    @property
    def head(self) -> ValueHead | None:
        """The head on the policy's trunk, where it is that."""
        return self.model if isinstance(self.model, ValueHead) else None

    @property
    def network(self) -> ScalarModule:
        """The network, where it is one of its own."""
        assert isinstance(self.model, ScalarModule), "a head is read by the policy's forward"
        return self.model

    def values(self, batch: TokenBatch) -> Tensor:
        """float32 [N]: the value of the state before token t, at t; differentiable.  Of a network of its own."""
        raw = self.network(batch, at="tokens")
        return torch.where(batch.loss_mask, self.calibration(raw), 0.0)

    def first_values(self, batch: TokenBatch) -> Tensor:
        """float32 [N]: the value of the prompt, at the first token of its response, 0 elsewhere; reads prompts alone."""
        first = first_tokens(batch.loss_mask)
        prompts = _prompts(batch, first)
        found = self.values(prompts)[prompts.loss_mask]
        return found.new_zeros(len(first)).masked_scatter(first, found)


def first_tokens(loss_mask: Tensor) -> Tensor:
    """bool [N]: the first token of every response.  A response is never all that there is: something comes before it."""
    return loss_mask & ~torch.nn.functional.pad(loss_mask[:-1], (1, 0))


def _prompts(batch: TokenBatch, first: Tensor) -> TokenBatch:
    """The sequences up to the first tokens of their responses, which alone are in `loss_mask`."""
    kept = ~batch.loss_mask | first
    lengths = segment_sum(kept.long(), batch.lengths).tolist()
    return replace(batch, ids=batch.ids[kept], loss_mask=first[kept], lengths=tuple(lengths), per_token={})


@torch.no_grad()
def _foretelling_nothing(model: ScalarModule) -> None:
    """At first the value of everything is 0."""
    for parameter in model.head.parameters():
        parameter.zero_()


def gives_values(model: ScalarModule) -> bool:
    """Whether a reward model can say what a beginning is worth: it reads from left to right, and has one head."""
    return not isinstance(model, EncoderModule) and model.config.num_labels == 1


def value_weight(settings: CriticSettings) -> float:
    """What the critic's loss weighs beside the policy's: it only matters to a trunk that both share."""
    return settings.value_coef if settings.critic == "shared" else 1.0


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns), of any shape: 0 says no more than the mean does, 1 all there is to say."""
    unexplained = (returns - values).var(correction=0) / returns.var(correction=0).clamp(min=1e-8)
    return 1.0 - unexplained.item()


def make_critic(settings: CriticSettings, start: OnPolicy) -> Critic:
    """The critic that `settings.critic` names.  Raises ValueError where it cannot read the policy's tokens."""
    readers = [
        path
        for path, model in start.reward_models.items()
        if StepHead.at(path) is None
        and gives_values(model)
        and same_tokenizer(start.tokenizer, load_tokenizer(path))
    ]
    chosen = settings.critic
    if chosen == "shared":
        return Critic(ValueHead(start.policy), Calibration((0.0, 1.0)))
    if chosen == "auto":
        chosen = readers[0] if readers else "policy"
    policy_path = result_folder(settings.model)
    if chosen == "policy":
        model = start.setup.scalar(policy_path, start.tokenizer, prepare=_foretelling_nothing)
        return Critic(start.setup.sharing(model, start.policy), Calibration((0.0, 1.0)))
    path = result_folder(chosen)
    if not same_tokenizer(start.tokenizer, load_tokenizer(path)):
        raise ValueError(
            f"the critic starts from {path} and must read the policy's tokens, but its tokenizer differs from that of "
            f"{settings.model}: take a reward model that was trained from the same base, or critic=policy."
        )
    model = start.setup.critic(path, start.policy, policy_path, start.reward_models.get(path))
    if not gives_values(model):
        raise ValueError(
            f"the critic cannot start from {path}, which reads whole responses only, or has several heads: take another reward "
            "model, or critic=policy."
        )
    state = (
        start.judge.state
    )  # of a single reward model: its units are those of the scores, perhaps yet to be measured
    if path in start.reward_models and isinstance(state, Calibration):
        return Critic(model, state)
    return Critic(model, Calibration(score_normalisation(model)))
