"""What there is to be seen in a run, one function each: a sentence with its numbers, or None.

No comparison is true of nan, which stands for numbers that are not there (yet), so every rule is silent then.  Shares and limits:
docs/diagnosis.md; where no source is named they are chosen so that healthy runs stay silent (tests/diagnosis).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tutelage.diagnosis.history import FIRST, LINES, WINDOW, History

SETTLED = 40  # steps after which a critic must have learnt something, and a policy must have moved
NOTHING = 1e-6  # a spread of scores below this is none
SCORES, SPREAD, EQUAL = "objective/scores", "objective/scores_std", "frac_reward_zero_std"
KL, ENTROPY, LENGTH = "objective/kl", "objective/entropy", "completions/mean_length"
FALLEN = 2  # evaluations in a row at which a monitor must have fallen
DISPLACED = 0.4  # nats per token: each a third less likely; runs that learn well: 0.06 to 0.18, spoiled ones: above 0.9
GROUPED = ("leave-one-out", "group", "group-std")  # advantages that need responses that differ


class Seen(NamedTuple):
    """What a rule saw: a sentence, and the numbers in it."""

    sentence: str
    numbers: Mapping[str, float]


def _over(value: float, other: float) -> float:
    """value / other; nan where that is none."""
    return value / other if other else math.nan


def _spread_is_gone(history: History) -> bool:
    """Whether scores no longer tell responses apart."""
    return history.now(SPREAD) <= max(NOTHING, 0.1 * history.start(SPREAD))


def _groups_are_equal(history: History, settings: Mapping[str, Any]) -> bool:
    """Whether hardly any prompt's responses have different scores, where only these are compared."""
    return settings.get("advantage") in GROUPED and history.now(EQUAL) > 0.9


def _risen(history: History) -> bool:
    """Whether scores are clearly above their start: by half of the spread that they had."""
    spread = history.start(SPREAD)
    return spread > NOTHING and history.now(SCORES) > history.start(SCORES) + 0.5 * spread


def no_signal(history: History, settings: Mapping[str, Any]) -> Seen | None:
    if _risen(history):  # what has been learnt needs no signal
        return None
    spread, equal, norm = history.now(SPREAD), history.now(EQUAL), history.now("grad_norm")
    if _spread_is_gone(history):
        score = history.now(SCORES)
        return Seen(
            f"Scores have hardly differed for {WINDOW} steps: mean {score:.3g}, spread {spread:.2g}.",
            {"scores": score, "scores_std": spread},
        )
    if _groups_are_equal(history, settings):
        return Seen(
            f"For {equal:.0%} of the prompts all responses got the same score, over {WINDOW} steps.",
            {"frac_reward_zero_std": equal},
        )
    if norm <= 1e-9:
        return Seen(f"The gradient has been {norm:.2g} for {WINDOW} steps.", {"grad_norm": norm})
    return None


def saturated(history: History, settings: Mapping[str, Any]) -> Seen | None:
    if not _risen(history) or not (_spread_is_gone(history) or _groups_are_equal(history, settings)):
        return None
    score, spread = history.now(SCORES), history.now(SPREAD)
    began = history.start(SPREAD)
    return Seen(
        f"Scores have risen to {score:.3g} and hardly differ any more: spread {spread:.2g}, {began:.2g} at the start.",
        {"scores": score, "scores_std": spread, "scores_std_at_start": began},
    )


def not_moving(history: History, settings: Mapping[str, Any]) -> Seen | None:
    per_token = _over(history.now(KL), history.now(LENGTH))
    still = abs(per_token) < 1e-4 and not history.change(SCORES) > 2
    if settings.get("ref_refresh") or history.count(KL) < SETTLED or not still:
        return None
    steps = history.count(KL)
    return Seen(
        f"After {steps} steps the policy is {abs(history.now(KL)):.2g} nats per response from the reference, and scores "
        "are flat.",
        {"steps": steps, "kl": history.now(KL)},
    )


def kl_runaway(history: History, settings: Mapping[str, Any]) -> Seen | None:
    kl, length = history.now(KL), history.now(LENGTH)
    per_token, rising = _over(kl, length), history.now(KL) > 1.2 * history.before(KL)
    if kl > 3 and per_token > 0.75:
        return Seen(
            f"The KL to the reference is {kl:.3g} nats per response, {per_token:.2g} per token.",
            {"kl": kl, "kl_per_token": per_token},
        )
    if kl > 50 and rising:
        return Seen(
            f"The KL to the reference is {kl:.3g} nats per response, {history.before(KL):.3g} ten steps ago.",
            {"kl": kl, "kl_before": history.before(KL)},
        )
    moves = settings.get("kl_target") or settings.get("kl_budget")
    falling = history.change("objective/rlhf_reward") < -4
    if kl > 1 and rising and falling and not moves:
        now, began = history.now("objective/rlhf_reward"), history.start("objective/rlhf_reward")
        return Seen(
            f"The KL to the reference rises ({kl:.3g} nats per response) while score less KL falls: {now:.3g}, {began:.3g} at "
            "the start.",
            {"kl": kl, "rlhf_reward": now, "rlhf_reward_at_start": began},
        )
    return None


def entropy_collapse(history: History, settings: Mapping[str, Any]) -> Seen | None:
    now, began = history.now(ENTROPY), history.start(ENTROPY)
    quickly = history.count(ENTROPY) <= 3 * WINDOW
    if not now < (0.2 if quickly else 0.1) * began:
        return None
    return Seen(
        f"Entropy has fallen to {now:.2g} nats per token, {now / began:.0%} of {began:.2g} at the start.",
        {"entropy": now, "share": now / began, "entropy_at_start": began},
    )


def no_end(history: History, settings: Mapping[str, Any]) -> Seen | None:
    cut = history.now("completions/clipped_ratio")
    if not cut > 0.3:
        return None
    return Seen(
        f"{cut:.0%} of the responses reach max_new_tokens without an end, over {WINDOW} steps.",
        {"clipped_ratio": cut},
    )


def length_drift(history: History, settings: Mapping[str, Any]) -> Seen | None:
    now, began = history.now(LENGTH), history.start(LENGTH)
    if 0.5 * began <= now <= 2 * began or math.isnan(now + began):
        return None
    way = "grown" if now > began else "shrunk"
    return Seen(
        f"Responses have {way} from {began:.3g} to {now:.3g} tokens.",
        {"length_at_start": began, "length": now},
    )


def length_driven(history: History, settings: Mapping[str, Any]) -> Seen | None:
    name = "objective/score_length_correlation"
    correlation, moved = history.middle(name), _over(history.now(LENGTH), history.start(LENGTH)) - 1
    followed = correlation * moved > 0 and abs(moved) > 0.2
    if not abs(correlation) > (0.9 if followed else 0.95):
        return None
    return Seen(
        f"Score and length go together: median correlation {correlation:.2f} over {WINDOW} steps, length {moved:+.0%} since "
        "the start.",
        {"score_length_correlation": correlation, "length_change": moved},
    )


def bad_critic(history: History, settings: Mapping[str, Any]) -> Seen | None:
    name = "val/explained_variance"
    explained, spread = history.now(name, LINES), history.now(SPREAD)
    improving = history.now(name) > 0.5 * history.before(name)  # halved, at least
    if history.count(name) < SETTLED or not explained < 0 or improving or spread <= NOTHING:
        return None
    return Seen(
        f"The critic foretells returns worse than their mean would: explained variance {explained:.2g} over {LINES} steps.",
        {"explained_variance": explained},
    )


def first_ratio(history: History, settings: Mapping[str, Any]) -> Seen | None:
    strict = settings.get("precision") == "fp32"
    ratio, moved = history.opening("val/first_ratio"), history.opening("policy/first_approxkl")
    if not (abs(ratio - 1) > (1e-4 if strict else 0.01) or moved > (1e-6 if strict else 5e-3)):
        return None
    return Seen(
        f"Before any update the ratio of new to old probabilities is {ratio:.5g}, and log-probabilities differ by "
        f"{math.sqrt(2 * moved):.2g} nats per token.",
        {"first_ratio": ratio, "difference": math.sqrt(2 * moved)},
    )


def clip_fraction(history: History, settings: Mapping[str, Any]) -> Seen | None:
    clipped = history.now("policy/clipfrac_avg")
    if not clipped > 0.2:
        return None
    return Seen(f"{clipped:.0%} of the tokens are clipped, over {WINDOW} steps.", {"clipfrac": clipped})


def sampler_differs(history: History, settings: Mapping[str, Any]) -> Seen | None:
    strict = settings.get("precision") == "fp32"
    where = "sampling/sampling_logp_difference"
    mean, share = history.now(f"{where}/mean", FIRST), history.now(f"{where}/share", FIRST)
    if not (mean > (1e-3 if strict else 0.03) or share > (0.005 if strict else 0.02)):
        return None
    return Seen(
        f"Sampler and trainer differ by {mean:.2g} nats per token on average, {share:.1%} of the tokens by more than 0.1.",
        {"difference": mean, "share": share},
    )


def over_optimised(history: History, settings: Mapping[str, Any]) -> Seen | None:
    def last(name: str) -> float:
        return history.now(f"eval_monitor/{name}", 1)

    if not last("fallen") >= (settings.get("monitor_stop") or FALLEN):
        return None
    fall, low, rise = last("fall"), last("fall_low"), last("reward_rise")
    return Seen(
        f"The monitor's score has fallen by {fall:.3g} (at least {low:.2g}) from its highest, while the reward has risen by "
        f"{rise:.3g} on the same prompts.",
        {"fall": fall, "fall_low": low, "reward_rise": rise},
    )


def displaced(history: History, settings: Mapping[str, Any]) -> Seen | None:
    """Of held-out pairs at two evaluations in a row, where there are such pairs, else of those of the last steps."""
    where, steps = ("eval_", FALLEN) if history.count("eval_displaced") else ("", WINDOW)
    share, chosen, rejected = (
        history.now(where + name, steps) for name in ("displaced", "moved/chosen", "moved/rejected")
    )
    if not (share > 0.5 and chosen < -DISPLACED and rejected < 0):
        return None
    pairs = "held-out pairs" if where else f"the pairs of {steps} steps"
    return Seen(
        f"{share:.0%} of the chosen responses are less likely than under the reference: by {-chosen:.2g} nats per token on "
        f"average, rejected ones by {-rejected:.2g} ({pairs}).",
        {"displaced": share, "chosen": chosen, "rejected": rejected},
    )
