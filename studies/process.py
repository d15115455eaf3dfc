"""Marks on steps against marks on answers, at equal minutes of annotators: best of n, and as rewards in RL.

    python -m studies.process out=runs/study-process

A fine-tuned model writes solutions; the same gold standard marks their steps or their answers, as many as the minutes
allow; a process model and two outcome verifiers learn from them.  Each chooses among n solutions of held-out problems, and
is the reward of PPO and RLOO.  Reported are right answers, and the share of unsound reasoning among these.

What has no answer at its end is worth nothing to any of them: a product of probabilities likes few steps, and is highest where
a solution stops before it can go wrong.  A line that neither helps nor harms is taught as wrong for the same reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studies.base import NEW_TOKENS, done
from studies.maths import Solution, base, solutions, write_labelled
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import build_judge
from tutelage.parallel import World
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.reward import ProcessSettings
from tutelage.settings.rl import PPOSettings, ReinforceSettings

ARMS = ("steps", "outcome", "outcome-tokens")


class StudySettings(Settings):
    """Process against outcome supervision at equal minutes."""

    out: Path = setting(Path("runs/study-process"), "Folder for everything.")
    minutes: list[int] = setting([60, 240, 960], "Minutes of annotators.", unit="minutes")
    answer_minutes: float = setting(0.5, "What a mark on an answer takes.", unit="minutes")
    step_minutes: float = setting(0.25, "What a mark on a step takes, beside that.", unit="minutes")
    seeds: int = setting(5, "Trainings of everything that is learnt.", unit="runs")
    choices: int = setting(16, "Solutions to choose among.", unit="responses")
    practise_at: int = setting(240, "Minutes behind the rewards of RL.", unit="minutes")
    steps: int = setting(60, "Steps of RL.", unit="steps")


def main(settings: StudySettings) -> None:
    """Run what is missing, and print the rows."""
    out = settings.out
    rows: list[dict[str, Any]] = []
    sft = base(out)
    pool = solutions(sft, out / "prompts_train.jsonl", out / "written", 4)
    held_out = solutions(sft, out / "prompts_heldout.jsonl", out / "heldout", settings.choices)
    rows.append({"arm": "any", "by": "mean of all"} | figures(held_out))
    firsts = [_best(held_out, [one.sound + one.right for one in held_out], settings.choices)]
    rows.append({"arm": "gold", "by": "best of n"} | figures(firsts[0]))
    for seed in range(settings.seeds):
        for minutes in settings.minutes:
            for arm in ARMS:
                model, labels = train(settings, pool, sft, arm, minutes, seed)
                scores = scores_by(model, held_out)
                chosen = _best(held_out, scores, settings.choices)
                said = {"arm": arm, "minutes": minutes, "labels": labels, "seed": seed, "by": "best of n"}
                rows.append(said | {"auc": auc(scores, held_out)} | figures(chosen))
                print(rows[-1], flush=True)
        for method, arm, places in PRACTISED:
            policy = practise(settings, sft, method, arm, places, seed)
            found = solutions(
                policy, out / "prompts_heldout.jsonl", policy.with_name(f"{policy.name}-answers"), 1
            )
            rows.append({"arm": arm, "places": places, "seed": seed, "by": method} | figures(found))
            print(rows[-1], flush=True)
        write_jsonl_atomic(out / "rows.jsonl", rows)


ANSWERED = {
    "judge": "formula:regex",
    "pattern": r"Answer: \d+\.\s*$",
    "gate": 0.5,
    "weight": 0,
    "name": "answered",
}
"""What has no answer at its end is worth 0, in RL as in the best of n."""

LOWEST = -1e9

PRACTISED = (
    ("rloo", "steps", "end"),
    ("rloo", "outcome", "end"),
    ("ppo", "steps", "end"),
    ("ppo", "steps", "dense"),
    ("ppo", "outcome", "end"),
)
"""Method, reward, and where the reward stands.  RLOO looks at sums alone: dense and end are one."""


def train(
    settings: StudySettings, pool: Sequence[Solution], sft: Path, arm: str, minutes: int, seed: int
) -> tuple[Path, int]:
    """(run folder, number of labelled solutions) of what learns from so many minutes."""
    chosen = affordable(settings, pool, arm, minutes, seed)
    name = f"{arm}-{minutes}-{seed}"
    run = done(
        "process",
        ProcessSettings(
            model=str(sft),
            data=write_labelled(settings.out / "labels" / f"{name}.jsonl", chosen),
            out=settings.out / "judges" / name,
            marks=arm,
            neutral="negative" if arm == "steps" else "positive",
            seed=seed,
            split_seed=seed,
            heldout_share=0.2,
            learning_rate=1e-3,
            batch_size=16,
            max_steps=160,
            eval_every=20,
            save_every=20,
            load_best=True,
            tensorboard=False,
        ),
    )
    return run, len(chosen)


def affordable(
    settings: StudySettings, pool: Sequence[Solution], arm: str, minutes: int, seed: int
) -> list[Solution]:
    """Solutions in random order, until the minutes are spent."""
    chosen: list[Solution] = []
    spent = 0.0
    for number in rng(seed, "study").permutation(len(pool)):
        one = pool[int(number)]
        marked = sum(mark is not None for mark in one.marks) if arm == "steps" else 0
        spent += settings.answer_minutes + settings.step_minutes * marked
        if spent > minutes:
            return chosen
        chosen.append(one)
    raise ValueError(f"{minutes} minutes of {arm} are more than all {len(pool)} solutions: write more.")


def practise(settings: StudySettings, sft: Path, method: str, arm: str, places: str, seed: int) -> Path:
    """The run folder of a policy that was optimised against a judge."""
    judge = settings.out / "judges" / f"{arm}-{settings.practise_at}-{seed}"
    common: dict[str, Any] = {
        "model": str(sft),
        "reward": [{"judge": str(judge), "places": places}, ANSWERED],
        "prompts": str(settings.out / "prompts_train.jsonl"),
        "out": settings.out / "policies" / f"{method}-{arm}-{places}-{seed}",
        "seed": seed,
        "max_new_tokens": NEW_TOKENS,
        "max_steps": settings.steps,
        "kl_coef": 0.02,
        "tensorboard": False,
    }
    if method == "ppo":
        return done("ppo", PPOSettings(**common, batch_size=64, inner_epochs=2, learning_rate=3e-4))
    return done("reinforce", ReinforceSettings(**common, preset="rloo", batch_size=16, learning_rate=3e-4))


def scores_by(model: Path, asked: Sequence[Solution]) -> list[float]:
    """What a judge says of each solution as a whole; LOWEST where there is no answer at its end."""
    judge = build_judge(str(model), World(torch.device("cpu"), torch.float32), None)
    scores = judge.score([one.response for one in asked])
    answered = re.compile(str(ANSWERED["pattern"]))
    return [
        score.value if score is not None and answered.search(one.text) else LOWEST
        for one, score in zip(asked, scores, strict=True)
    ]


def auc(scores: Sequence[float], asked: Sequence[Solution]) -> float:
    """The probability that a right solution scores above a wrong one of any problem."""
    right = np.array([one.right for one in asked])
    value = np.array(scores)
    above = value[right][:, None] - value[~right][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def _best(asked: Sequence[Solution], scores: Sequence[float], n: int) -> list[Solution]:
    """Of each n solutions in order the first of those that score highest."""
    return [asked[start + int(np.argmax(scores[start : start + n]))] for start in range(0, len(asked), n)]


def figures(found: Sequence[Solution]) -> dict[str, float]:
    """Shares of right answers and of sound solutions, and of the right ones that are unsound."""
    right, sound = (np.mean([getattr(one, name) for one in found]) for name in ("right", "sound"))
    return {
        "right": round(float(right), 4),
        "sound": round(float(sound), 4),
        "unsound_of_right": round(float(1 - sound / max(right, 1e-9)), 4),
        "n": len(found),
    }


if __name__ == "__main__":
    main(load(StudySettings, sys.argv[1:]))
