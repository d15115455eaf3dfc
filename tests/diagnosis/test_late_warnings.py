"""How late a monitor warns, in a world where what is gold is known exactly: errors of the reward and of the monitor are drawn
with heavy tails, independently or alike.  docs/overoptimisation.md has the numbers of more runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.diagnosis import practising
from tests.diagnosis.practising import Rewards, practise
from tests.oracle import SEQUENCES
from tests.train.test_oracle import PROMPTS, EndsAreFree
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Sampling

OVER_OPTIMISED = (0, 1, 8, 13, 14, 15, 16, 20, 24)
"""Of the seeds 0 to 29 those with which gold falls by more than 0.1 from its peak to step 60."""
ERROR = 0.7  # times Student's t(2), where gold has a standard deviation of 1


class Exact(EndsAreFree):
    """Notes at each evaluation what the policy is worth, over all sequences."""

    def __init__(self, gold: np.ndarray) -> None:
        self._gold, self.worth = gold, list[float]()

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        if sampling.step == -1:
            p = self._policy.sequence_logprobs().detach().exp().numpy()
            self.worth.append(float(p @ self._gold))
        return super().generate(prompts, sampling)


class Course(NamedTuple):
    """What a policy was worth and what the monitor said, at each evaluation (every 4 steps); the first at which it had fallen
    twice, if any."""

    gold: list[float]
    said: list[float]
    fired: int | None

    @property
    def delay(self) -> float:
        """Evaluations from gold's peak on; infinite where nothing was said."""
        return float("inf") if self.fired is None else self.fired - int(np.argmax(self.gold))

    @property
    def kept(self) -> float:
        """What the checkpoint is worth that monitor_stop=2 would keep."""
        seen = self.said[1:] if self.fired is None else self.said[1 : self.fired + 1]
        return self.gold[1 + int(np.argmax(seen))]


def course(folder: Path, seed: int, alike: float) -> Course:
    """60 steps with reward = gold + a, monitor = gold + b; b is `alike` a and else of its own."""
    draw = np.random.default_rng([seed, 1])
    gold, a, own = draw.normal(size=15), draw.standard_t(2, 15), draw.standard_t(2, 15)
    b = alike * a + np.sqrt(1 - alike**2) * own
    reward, monitor = (dict(zip(SEQUENCES, (gold + ERROR * error).tolist(), strict=True)) for error in (a, b))
    generator = Exact(gold)
    told = practise(
        folder,
        "reinforce",
        60,
        Rewards(reward.__getitem__),
        monitor=Rewards(monitor.__getitem__),
        generator=generator,
        eval_every=4,
        learning_rate=0.1,
        schedule="constant",
        kl_coef=0.0,
        seed=seed,
    )
    lines = [line for line in told.lines if "eval_monitor/fallen" in line]
    assert len(lines) == len(generator.worth)
    fired = next((n for n, line in enumerate(lines) if line["eval_monitor/fallen"] >= 2), None)
    return Course(generator.worth, [line["eval_monitor/scores"] for line in lines], fired)


@pytest.mark.slow
def test_it_sees_what_goes_wrong_if_it_errs_elsewhere_and_hardly_if_it_errs_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine runs whose gold falls: late, never early; what the kept checkpoint is worth between the last one and the best."""
    monkeypatch.setattr(practising, "EVALUATED", PROMPTS)  # 256
    found = {
        alike: [course(tmp_path / f"{alike}-{seed}", seed, alike) for seed in OVER_OPTIMISED]
        for alike in (0.0, 0.8)
    }
    for runs in found.values():
        assert all(max(run.gold) - run.gold[-1] > 0.1 for run in runs)
        assert all(run.delay >= 0 for run in runs)
    seen = {alike: sum(run.fired is not None for run in runs) for alike, runs in found.items()}
    assert seen[0.0] >= 7 and seen[0.8] <= 3
    assert np.median([run.delay for run in found[0.0]]) <= 3
    saved = {
        alike: sum(run.kept - run.gold[-1] for run in runs)
        / sum(max(run.gold) - run.gold[-1] for run in runs)
        for alike, runs in found.items()
    }
    assert saved[0.0] > 0.6 and saved[0.8] < 0.3
