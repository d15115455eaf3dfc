"""Reward models of three sizes from three numbers of labels: accuracy by gold, and what a policy gains that follows them.

    python -m studies.size_labels out=runs/study-size-labels

One fine-tuned model writes responses; simulated annotators compare pairs of them, one vote each.  Reward models start from
models of their size that were pretrained on the same text.  Each orders the responses to held-out prompts, and the policy that
takes the best of n by it is graded by gold.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tutelage.data.reading.formats import read_prompts
from tutelage.feedback.training.source import comparisons_from
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import WORLD, build_judge
from tutelage.judges.judge import scores_of
from tutelage.launch import launch
from tutelage.parallel import World
from tutelage.records import Comparison, Prompt, Response
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.feedback import LabelSettings
from tutelage.settings.reward import RewardSettings
from tutelage.settings.rollout import SampleSettings
from tutelage.settings.train import PretrainSettings, SFTSettings
from tutelage.settings.worlds import WorldSettings

NEW_TOKENS = 56
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
    world = _world(out)
    bodies = {size: _pretrained(out, size) for size in SIZES}
    sft = launch(
        "sft",
        SFTSettings(
            model=str(bodies[SIZES[-1]]),
            data=str(world / "demonstrations.jsonl"),
            out=out / "sft",
            learning_rate=1e-3,
            batch_size=16,
            schedule="cosine",
        ),
    )
    pairs = _voted(out, str(sft))
    asked = _sampled(
        str(sft), world / "prompts_heldout.jsonl", out / "heldout", settings.choices, settings.prompts
    )
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


def _world(out: Path) -> Path:
    folder = launch(
        "world", WorldSettings(out=out / "world", documents=16500, demonstrations=4500, careless=0.72)
    )
    assert folder is not None
    return folder


def _pretrained(out: Path, size: Size) -> Path:
    run = launch(
        "pretrain",
        PretrainSettings(
            data=str(out / "world/pretrain.jsonl"),
            out=out / f"pretrain-{size.width}",
            hidden_size=size.width,
            layers=size.layers,
            heads=size.heads,
            max_length=128,
            batch_size=5,
            save_every=2000,
        ),
    )
    assert run is not None
    return run


def _sampled(model: str, prompts: Path, out: Path, samples: int, most: int) -> list[Response]:
    settings = SampleSettings(
        model=model,
        prompts=str(prompts),
        out=out,
        store=str(out.with_name("store.sqlite")),
        project=out.name,
        samples=samples,
        max_prompts=most,
        max_new_tokens=NEW_TOKENS,
    )
    launch("sample", settings)
    known = {one.id: one for one in read_prompts(str(prompts)) if isinstance(one, Prompt)}
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Response.written(known[row["prompt_id"]], row["response"], row["finish"]) for row in rows]


def _voted(out: Path, sft: str) -> list[Comparison]:
    """Pairs of the model's responses with one vote each."""
    _sampled(sft, out / "world/prompts_train.jsonl", out / "written", 4, 1200)
    store = str(out / "store.sqlite")
    launch(
        "label",
        LabelSettings(
            out=out / "label", store=store, project="written", pairs_per_prompt=3, votes_per_item=1
        ),
    )
    return list(comparisons_from("store:written", store, ties="drop").train)


def _reward_model(
    out: Path, body: Path, size: Size, pairs: Sequence[Comparison], count: int, seed: int
) -> Path:
    if count > len(pairs):
        raise ValueError(f"labels has {count}, but there are only {len(pairs)} pairs.")
    data = out / "labels" / f"{count}-{seed}.jsonl"
    data.parent.mkdir(exist_ok=True)
    drawn = rng(seed, "study").permutation(len(pairs))[:count]
    write_jsonl_atomic(data, (pairs[int(number)].to_json() for number in drawn))
    run = launch(
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
    assert run is not None
    return run


if __name__ == "__main__":
    main(load(StudySettings, sys.argv[1:]))
