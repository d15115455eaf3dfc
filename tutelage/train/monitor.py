"""A judge that watches a policy while it is optimised against another one, and can end the run.

A reward can be exploited: beyond some point it rises and what people want falls (Gao, Schulman and Hilton 2023, arXiv
2210.10760).  A second judge, best a reward model that was trained on comparisons of other prompts, makes other mistakes.  On
the evaluation prompts, which get the same random numbers each time, its scores are compared prompt by prompt with those at
the evaluation where their mean was highest.  Where they have fallen by more than chance while the reward has risen, the
policy has gained what only the reward pays for.  How late that is seen, and how often not at all: docs/overoptimisation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage import statistics
from tutelage.judges.build import build_judge
from tutelage.judges.ends import Ends
from tutelage.judges.judge import Judge, scores_of
from tutelage.models.policy import PolicyModule
from tutelage.models.setup import Setup
from tutelage.parallel import World
from tutelage.rollout.experience import Experience
from tutelage.runs import result_folder
from tutelage.settings.judges import paths_in
from tutelage.settings.onpolicy import RLSettings

BEST = "max:eval_monitor/scores"
"""What tells the best checkpoint of a run that is watched."""

RESAMPLES = 2000  # of the evaluation prompts, behind the interval of a fall


class Memory(nn.Module):
    """What a monitor must remember, as buffers that a checkpoint holds: of P prompts its scores and the rewards at the
    evaluation where the mean of its scores was highest, float64 [P] (NaN before the first); and at how many evaluations in a
    row they have fallen since."""

    scores: Tensor
    rewards: Tensor
    fallen: Tensor

    def __init__(self, prompts: int) -> None:
        super().__init__()
        self.register_buffer("scores", torch.full((prompts,), math.nan, dtype=torch.float64))
        self.register_buffer("rewards", torch.full((prompts,), math.nan, dtype=torch.float64))
        self.register_buffer("fallen", torch.tensor(0, dtype=torch.int64))


class Monitor:
    """Judges the responses of every evaluation; one that was cut is scored as the reward scores it.

    prompts: how many are evaluated on.
    """

    def __init__(self, judge: Judge, prompts: int, settings: RLSettings) -> None:
        missing = settings.missing_eos_score
        self._judge = judge if missing is None else Ends(judge, missing)
        self._memory, self._patience, self._seed = Memory(prompts), settings.monitor_stop, settings.seed

    @property
    def kept(self) -> dict[str, nn.Module]:
        """What belongs into every checkpoint."""
        state = self._judge.state
        return {"monitor": self._memory} | ({} if state is None else {"monitor_judge": state})

    def see(self, experience: Experience) -> dict[str, float]:
        """Judge the responses to the evaluation prompts, in their order; returns the metrics.  The first time the policy must be
        the reference, by which scores without a unit are measured.  Raises ValueError for scores that cannot be used."""
        shown = [response.judged for response in experience.responses]
        self._judge.calibrate(lambda: shown)
        values = [score.value for score in scores_of(self._judge, shown)]
        scores, rewards = torch.tensor(values, dtype=torch.float64), experience.scores.double().cpu()
        memory = self._memory
        if not float(scores.mean()) <= float(memory.scores.mean()):  # higher, or the first
            memory.scores.copy_(scores)
            memory.rewards.copy_(rewards)
        fall = statistics.bootstrap_mean(
            (memory.scores - scores).cpu().numpy(), seed=self._seed, resamples=RESAMPLES
        )
        low = fall.low if math.isfinite(fall.low) else 0.0  # no prompt differs from another: nothing is sure
        rise = float((rewards - memory.rewards.cpu()).mean())
        memory.fallen.copy_(memory.fallen + 1 if low > 0 and rise > 0 else torch.tensor(0))
        return {
            "eval_monitor/scores": float(scores.mean()),
            "eval_monitor/fall": fall.value,
            "eval_monitor/fall_low": low,
            "eval_monitor/reward_rise": rise,
            "eval_monitor/fallen": float(memory.fallen),
        }

    def stops(self) -> bool:
        """Whether the run is to end here."""
        return bool(self._patience) and int(self._memory.fallen) >= self._patience


def monitor_models(settings: RLSettings) -> Sequence[str]:
    """The folders of the reward models that watch."""
    return [] if settings.monitor is None else [result_folder(path) for path in paths_in(settings.monitor)]


def make_monitor(
    settings: RLSettings,
    setup: Setup,
    policy: PolicyModule,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    prompts: int,
) -> Monitor | None:
    """The monitor that the settings name, if any, for so many evaluation prompts.  Raises ValueError as `build_judge` does, and
    where no prompt is left to watch on."""
    if settings.monitor is None:
        return None
    if not prompts:
        raise ValueError(
            f"none of eval_prompts={settings.eval_prompts} can be evaluated on, so that monitor has nothing to watch: give "
            "prompts that fit, or monitor=null."
        )
    base = result_folder(settings.model)
    judge = build_judge(
        settings.monitor,
        world,
        tokenizer,
        settings.micro_batch_tokens,
        lambda path: setup.reward_model(result_folder(path), policy, base),
    )
    return Monitor(judge, prompts, settings)
