"""Methods by their names: what each sets, and where it says so.  All else keeps the defaults of `reinforce` and of `dpo`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Preset = Mapping[str, tuple[Any, str]]
"""Setting -> (value, source)."""

PRESETS: Mapping[str, Preset] = {
    "reinforce": {
        "samples": (1, "Williams 1992, eq. 3: one sample, a baseline that does not depend on it"),
        "advantage": ("batch", "the baseline is the mean of the batch"),
        "clip": ("none", "Williams 1992: on-policy, one update per sample"),
        "reduction": ("sequence-sum", "Williams 1992: the gradient of the whole episode's log-probability"),
        "kl": ("k1-reward", "Ziegler et al. 2019, eq. 2: the KL is part of the reward"),
    },
    "rloo": {
        "samples": (4, "Ahmadian et al. 2024 (arXiv 2402.14740): k = 4 does better than k = 2"),
        "advantage": ("leave-one-out", "Ahmadian et al. 2024: the baseline is the mean of the others"),
        "clip": ("none", "Ahmadian et al. 2024: without clipping, which is rarely active"),
        "reduction": ("sequence-sum", "Ahmadian et al. 2024: the whole response is one action"),
        "kl": ("k1-reward", "Ahmadian et al. 2024: the KL is part of the reward"),
    },
    "grpo": {
        "samples": (8, "Shao et al. 2024 (arXiv 2402.03300) has 64, which a laptop does not"),
        "advantage": (
            "group-std",
            "Shao et al. 2024, section 4.1.2: normalised by the group's mean and deviation",
        ),
        "clip": ("token", "Shao et al. 2024, eq. 3"),
        "reduction": ("sequence-mean", "Shao et al. 2024, eq. 3: 1/|o_i| within, 1/G over responses"),
        "kl": ("k3-loss", "Shao et al. 2024, eq. 4"),
        "kl_coef": (0.04, "Shao et al. 2024, section 4.2"),
    },
    "dr-grpo": {
        "samples": (8, "Liu et al. 2025 (arXiv 2503.20783): groups of 8"),
        "advantage": (
            "group",
            "Liu et al. 2025: without the deviation, which favours very easy and very hard prompts",
        ),
        "clip": ("token", "Liu et al. 2025: PPO's objective"),
        "reduction": ("constant", "Liu et al. 2025: without 1/|o_i|, which spares long wrong answers"),
        "kl": ("none", "Liu et al. 2025: beta = 0"),
    },
    "reinforce++": {
        "samples": (1, "Hu 2025 (arXiv 2501.03262): one response per prompt"),
        "advantage": ("none", "Hu 2025: normalised over the batch instead"),
        "credit": ("tokens", "Hu 2025: the KL is charged at its token, the score at the last"),
        "whiten_advantages": (True, "Hu 2025: over all tokens of the batch"),
        "clip": ("token", "Hu 2025: PPO's clip"),
        "reduction": ("token-mean", "Hu 2025: mean over tokens"),
        "kl": ("k1-reward", "Hu 2025: token-level KL in the reward"),
    },
    "dapo": {
        "samples": (16, "Yu et al. 2025 (arXiv 2503.14476), section 4.1: groups of 16"),
        "advantage": ("group-std", "Yu et al. 2025, eq. 9"),
        "clip": ("token", "Yu et al. 2025, eq. 8"),
        "clip_low": (0.2, "Yu et al. 2025, section 4.1"),
        "clip_high": (0.28, "Yu et al. 2025, section 4.1: clip-higher"),
        "reduction": ("token-mean", "Yu et al. 2025, section 3.3"),
        "kl": ("none", "Yu et al. 2025, section 2.3: no KL"),
        "dynamic_sampling": (
            10,
            "Yu et al. 2025, section 3.2: until the batch is full; at most 10 draws, as verl's recipe of it has",
        ),
        "truncated": (
            "mask",
            "Yu et al. 2025, section 3.4: overlong filtering; their soft punishment is a judge beside yours, formula:overlong",
        ),
    },
}

DIRECT: Mapping[str, Preset] = {
    "dpo": {
        "loss": ("sigmoid", "Rafailov et al. 2023 (arXiv 2305.18290), eq. 7"),
        "logprobs": ("sum", "Rafailov et al. 2023: the log-probability of the whole response"),
        "beta": (0.1, "Rafailov et al. 2023, appendix B"),
        "learning_rate": (1e-6, "Rafailov et al. 2023, appendix B"),
    },
    "cdpo": {
        "loss": ("sigmoid", "Mitchell 2023, eq. 3: labels that may be wrong"),
        "logprobs": ("sum", "as DPO"),
        "label_smoothing": (0.1, "Mitchell 2023: the share that is wrong; take yours"),
        "beta": (0.1, "as DPO"),
    },
    "robust": {
        "loss": ("robust", "Chowdhury et al. 2024 (arXiv 2403.00409): unbiased where that share is known"),
        "logprobs": ("sum", "as DPO"),
        "label_smoothing": (0.1, "Chowdhury et al. 2024: the share of flipped labels; take yours"),
        "beta": (0.1, "as DPO"),
    },
    "ipo": {
        "loss": ("ipo", "Azar et al. 2023 (arXiv 2310.12036), eq. 17"),
        "logprobs": ("mean", "the mean over tokens, as its authors told TRL; the paper has one token"),
        "beta": (0.1, "Azar et al. 2023 call it tau: the margin is held at 1 / (2 beta)"),
    },
    "slic": {
        "loss": (
            "hinge",
            "Zhao et al. 2023 (arXiv 2305.10425), on ratios to a reference as Liu et al. 2023 (2309.06657)",
        ),
        "logprobs": ("sum", "as DPO"),
        "beta": (0.1, "as DPO: a margin of 10 nats is enough"),
    },
    "orpo": {
        "loss": ({"sft": 1.0, "orpo": 0.1}, "Hong et al. 2024 (arXiv 2403.07691), eq. 6, lambda = 0.1"),
    },
    "simpo": {
        "loss": ("simpo", "Meng et al. 2024 (arXiv 2405.14734), eq. 6"),
        "beta": (2.0, "Meng et al. 2024: 2.0 to 2.5"),
        "gamma": (1.0, "Meng et al. 2024: 0.5 to 1.5; outside beta"),
        "learning_rate": (1e-6, "Meng et al. 2024: 3e-7 to 1e-6"),
    },
}
"""Presets of `dpo` and `online-dpo`."""

PAIRED: Mapping[str, Preset] = {
    **DIRECT,
    "spin": {
        "loss": (
            "sigmoid",
            "Chen et al. 2024 (arXiv 2401.01335): DPO's loss, demonstration against own response (`contrast`) of the last round",
        ),
        "logprobs": ("sum", "as DPO"),
        "beta": (0.1, "uclaml/SPIN, configs of all rounds; the paper calls it lambda"),
        "learning_rate": (5e-7, "uclaml/SPIN, configs of all rounds"),
    },
}
"""Presets of `dpo`."""
