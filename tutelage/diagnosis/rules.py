"""The findings that can be made, with what is known of each; docs/diagnosis.md has them as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tutelage.diagnosis import looks
from tutelage.diagnosis.history import History
from tutelage.diagnosis.looks import Seen

Look = Callable[[History, Mapping[str, Any]], Seen | None]


@dataclass(frozen=True)
class Rule:
    """A finding that can be made.  look: what is seen in the history of a run with these settings, if anything.  needs: the
    metric that a line must have for it: scores of own responses, or pairs with a reference."""

    name: str
    title: str
    cause: str
    change: str
    healthy: str
    look: Look = field(repr=False)
    needs: str = looks.SCORES


RULES = (
    Rule(
        "no-signal",
        "No learning signal",
        "The reward does not tell responses apart: it is constant or fails everywhere, or the prompts are all too hard or too "
        "easy.",
        "Look at the scores of some samples; change reward or prompts, or raise samples.",
        "objective/scores_std well above 0, frac_reward_zero_std below a half, grad_norm above 0",
        looks.no_signal,
    ),
    Rule(
        "not-moving",
        "The policy does not move",
        "The learning rate is too small for this model, or kl_coef holds it where it is.",
        "Raise learning_rate threefold, or lower kl_coef.",
        "objective/kl rises slowly from 0",
        looks.not_moving,
    ),
    Rule(
        "kl-runaway",
        "The KL runs away",
        "Nothing holds the policy to its reference: kl_coef is too low for this reward, or learning_rate too high.",
        "Raise kl_coef, set kl_budget, or lower learning_rate.",
        "objective/kl rises slowly and levels off, below half a nat per token and some tens of nats per response",
        looks.kl_runaway,
    ),
    Rule(
        "entropy-collapse",
        "Entropy collapses",
        "The policy settles on few responses: kl_coef is too low, learning_rate too high, or it trains too often on the "
        "same responses.",
        "Raise kl_coef, set entropy_coef, or lower learning_rate or inner_epochs.",
        "objective/entropy falls slowly and stays above a third of its start",
        looks.entropy_collapse,
    ),
    Rule(
        "no-end",
        "Responses do not end",
        "max_new_tokens is too low for this task, or the model that training started from has not learnt to end, or forgets it.",
        "Raise max_new_tokens; train the start model on responses that end; lower missing_eos_score.",
        "completions/clipped_ratio below 0.05",
        looks.no_end,
    ),
    Rule(
        "length-drift",
        "Length drifts",
        "The reward pays for length, by itself or through what comes with it; or it pays so little for ends that "
        "responses shrink.",
        "Read samples; mix in a judge of length or repetition, or raise kl_coef.",
        "completions/mean_length within a factor of two of its start",
        looks.length_drift,
    ),
    Rule(
        "length-driven",
        "The reward goes by length",
        "What tells responses apart is how long they are, which is easy to learn and seldom what was meant.",
        "Check the reward on pairs of similar length; mix in another judge, or normalise for length.",
        "objective/score_length_correlation between -0.5 and 0.5, unless length is what you want",
        looks.length_driven,
    ),
    Rule(
        "reward-saturated",
        "The reward is saturated",
        "Scores are at their ceiling: the task is solved, or the judge is being exploited and sees no difference any more.",
        "Stop here; read samples and evaluate with another judge; take harder prompts or a finer reward.",
        "objective/scores_std above a tenth of its start",
        looks.saturated,
    ),
    Rule(
        "over-optimised",
        "The reward is over-optimised",
        "The policy has found what only the reward pays for: a judge that makes other mistakes likes its responses less.",
        "Go back to where the monitor was highest (monitor_stop, load_best); raise kl_coef; train the reward on comparisons of "
        "this policy's responses.",
        "eval_monitor/scores rises with eval_objective/scores, then levels off",
        looks.over_optimised,
    ),
    Rule(
        "bad-critic",
        "The critic is worse than the mean",
        "The critic's values are on another scale than the returns, or its learning rate is too low or too high.",
        "Change critic_learning_rate; set gae_lambda=1, critic=policy, or use reinforce.",
        f"val/explained_variance above 0 within {looks.SETTLED} steps, then towards 1",
        looks.bad_critic,
    ),
    Rule(
        "first-ratio",
        "The first ratio is not 1",
        "The same weights give other log-probabilities the second time: dropout, or results that depend on the batch.",
        "Switch dropout off in the model's config; set precision=fp32, kernels=off to see which it is.",
        "val/first_ratio 1 within 0.0001 in fp32, 0.01 in bf16; policy/first_approxkl near 0",
        looks.first_ratio,
    ),
    Rule(
        "clip-fraction",
        "Too much is clipped",
        "Updates are too large: the policy leaves the range in which its responses say anything about it.",
        "Lower learning_rate, inner_epochs or max_approx_kl.",
        "policy/clipfrac_avg a few percent",
        looks.clip_fraction,
    ),
    Rule(
        "sampler-differs",
        "Sampler and trainer disagree",
        "They do not compute the same probabilities: another precision, another temperature, or stale weights.",
        "Set precision=fp32 or kernels=off to see which it is; keep importance_cap above 0.",
        "sampling/sampling_logp_difference/mean below 0.001 in fp32, about 0.01 in bf16",
        looks.sampler_differs,
    ),
    Rule(
        "displaced",
        "Chosen responses are displaced",
        "The margin grows by making both responses of a pair unlikely, and what becomes likely is neither: the two are too much "
        "alike, or the policy is pushed too far.",
        "Add sft to loss, lower learning_rate, raise beta, or set shared_prefix=mask; preset=orpo has sft in it.",
        "moved/chosen near 0 or above, displaced below a half",
        looks.displaced,
        needs="displaced",
    ),
)
