"""Reward models of three sizes from three numbers of labels: accuracy by gold, and what a policy gains that follows them.

    python -m studies.size_labels out=runs/study-size-labels

One fine-tuned model writes responses; simulated annotators compare pairs of them, one vote each.  Reward models start from
models of their size that were pretrained on the same text.  Each orders the responses to held-out prompts, and the policy that
takes the best of n by it is graded by gold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from studies.base import done, fine_tuned, pretrained, store_of, world, written
from tutelage.feedback.training.source import comparisons_from
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import WORLD, build_judge
from tutelage.judges.judge import scores_of
from tutelage.parallel import World
from tutelage.records import Comparison
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.feedback import LabelSettings
from tutelage.settings.reward import RewardSettings

CPU = World(torch.device("cpu"), torch.float32)


class Size(NamedTuple):
    """A body's width, layers and heads, and the learning rate of its reward models."""

    width: int
    layers: int
    heads: int
    rate: float


SIZES = (Size(32, 2, 2, 2e-3), Size(64, 3, 4, 1e-3), Size(128, 4, 4, 7e-4))


class StudySettings(Settings):
    """Size of the reward model by number of labels."""

    out: Path = setting(Path("runs/study-size-labels"), "Folder for everything.")
    labels: list[int] = setting([200, 800, 3200], "Comparisons to learn from, one vote each.", unit="pairs")
    seeds: int = setting(5, "Reward models of each kind.", unit="runs")
    prompts: int = setting(150, "Held-out prompts.", unit="prompts")
    choices: int = setting(8, "Responses to choose among.", unit="responses")


def main(settings: StudySettings) -> None:
    """Run what is missing, and print the rows."""
    out = settings.out
    files = world(out / "world")
    bodies = {size: _pretrained(out, size) for size in SIZES}
    sft = fine_tuned(out / "sft", bodies[SIZES[-1]], files / "demonstrations.jsonl")
    pairs = _voted(out, sft)
    asked = written(out / "heldout", sft, files / "prompts_heldout.jsonl", settings.choices, settings.prompts)
    gold = np.array([score.value for score in scores_of(build_judge(WORLD), asked)]).reshape(
        -1, settings.choices
    )
    rows = [
        {"mean of all": round(float(gold.mean()), 4), "best by gold": round(float(gold.max(1).mean()), 4)}
    ]
    for seed in range(settings.seeds):
        for count in settings.labels:
            for size in SIZES:
                model = _reward_model(out, bodies[size], size, pairs, count, seed)
                scores = scores_of(build_judge(str(model), CPU, None), asked)
                by = np.array([score.value for score in scores]).reshape(gold.shape)
                said = {"width": size.width, "labels": count, "seed": seed}
                rows.append(said | {"accuracy": ordered_alike(by, gold), "gold": gained(by, gold)})
                print(rows[-1], flush=True)
        write_jsonl_atomic(out / "rows.jsonl", rows)


def ordered_alike(by: np.ndarray, gold: np.ndarray) -> float:
    """Of all pairs of responses to a prompt that gold tells apart, the share that a judge orders as gold does; both [P, n]."""
    first, second = np.triu_indices(gold.shape[1], 1)
    wanted = np.sign(gold[:, first] - gold[:, second])
    found = np.sign(by[:, first] - by[:, second])
    apart = wanted != 0
    return round(float((0.5 + 0.5 * wanted * found)[apart].mean()), 4)


def gained(by: np.ndarray, gold: np.ndarray) -> float:
    """Gold of the response to each prompt that a judge likes best, a mean over prompts; both [P, n]."""
    return round(float(gold[np.arange(len(gold)), by.argmax(1)].mean()), 4)


def _pretrained(out: Path, size: Size) -> Path:
    shape = {"hidden_size": size.width, "layers": size.layers, "heads": size.heads}
    return pretrained(out / f"pretrain-{size.width}", out / "world/pretrain.jsonl", **shape)


def _voted(out: Path, sft: Path) -> list[Comparison]:
    """Pairs of the model's responses with one vote each."""
    project = out / "written"
    written(project, sft, out / "world/prompts_train.jsonl", 4, 1200)
    store = str(store_of(project))
    done(
        "label",
        LabelSettings(
            out=out / "label", store=store, project=project.name, pairs_per_prompt=3, votes_per_item=1
        ),
    )
    return list(comparisons_from(f"store:{project.name}", store, ties="drop").train)


def _reward_model(
    out: Path, body: Path, size: Size, pairs: Sequence[Comparison], count: int, seed: int
) -> Path:
    if count > len(pairs):
        raise ValueError(f"labels has {count}, but there are only {len(pairs)} pairs.")
    data = out / "labels" / f"{count}-{seed}.jsonl"
    data.parent.mkdir(exist_ok=True)
    drawn = rng(seed, "study").permutation(len(pairs))[:count]
    write_jsonl_atomic(data, (pairs[int(number)].to_json() for number in drawn))
    return done(
        "reward",
        RewardSettings(
            model=str(body),
            data=str(data),
            out=out / "reward" / f"{size.width}-{count}-{seed}",
            seed=seed,
            split_seed=seed,
            learning_rate=size.rate,
            batch_size=16,
            max_steps=max(60, 2 * count // 16),
            heldout_share=0.1,
            eval_every=20,
            save_every=20,
            load_best=True,
            tensorboard=False,
        ),
    )


if __name__ == "__main__":
    main(load(StudySettings, sys.argv[1:]))
