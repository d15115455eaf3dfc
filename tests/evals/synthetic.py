"""A made-up demo: run folders as the commands write them, with numbers from a seed. No model, no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tutelage import statistics
from tutelage.evals import diversity, reward_model, rows, scored, text, win_rate
from tutelage.evals.rows import Row
from tutelage.records import Message, Prompt, Response, Score

TASKS = ("conversation", "maths", "summary")
STARTED = "2026-03-02T09:{:02}:00+00:00"


def write_run(
    folder: Path,
    command: str,
    *,
    minute: int = 0,
    inputs: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    metrics: list[dict] | None = None,
    state: str = "done",
    **facts: Any,
) -> Path:
    """One run folder; `inputs` maps names to paths."""
    folder.mkdir(parents=True, exist_ok=True)
    lineage = {
        "command": command,
        "state": state,
        "seed": 0,
        "code": {"version": "0.1.0", "commit": "a8ad51c"},
        "machine": {"system": "Linux-6.1", "processor": "x86_64", "cores": 2},
        "started_at": STARTED.format(minute),
        "inputs": [
            {"name": name, "path": str(path), "sha256": f"{i:x}" * 64}
            for i, (name, path) in enumerate((inputs or {}).items(), 1)
        ],
        **({"seconds": 41.5, "finished_at": STARTED.format(minute + 1)} if state == "done" else {}),
        **facts,
    }
    (folder / "lineage.json").write_text(json.dumps(lineage))
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings or {}))
    if metrics:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return folder


def response(prompt: Prompt, words: str, *, ended: bool = True) -> Response:
    """A response whose tokens are its words and an end token."""
    ids = tuple(range(2, 2 + len(words.split()))) + ((1,) if ended else ())
    return Response(prompt, words, (5, 6), ids, (-0.1,) * len(ids), "eos" if ended else "length")


def prompts(n: int) -> list[Prompt]:
    """n chat prompts, tasks in turn."""
    return [
        Prompt(
            (Message("user", f"Question {i}: Anna has {i} apples. How many?"),), TASKS[i % 3], {"answer": i}
        )
        for i in range(n)
    ]


def evaluation(
    folder: Path, *, n: int = 150, seed: int = 0, hostile: str = "", minute: int = 30, **inputs: Any
) -> Path:
    """An evaluation run of sft, ppo and dpo with numbers that have a known order."""
    generator = np.random.default_rng(seed)
    asked = prompts(n)
    base = generator.normal(0.5, 0.15, n)
    answers: dict[str, list[Response]] = {}
    scores: dict[str, list[Score]] = {}
    for model, gain, length in (("sft", 0.0, 1.0), ("ppo", 0.2, 2.0), ("dpo", 0.12, 1.05)):
        value = np.clip(base + gain + generator.normal(0, 0.15 if gain else 0, n), 0, 1)
        scores[model] = [
            Score(float(v), {"facts": float(min(1, v + 0.1)), "form": float(max(0, v - 0.1))}) for v in value
        ]
        answers[model] = [
            response(
                p,
                hostile + f"{model} says that Anna has some apples . " * int(length * (1 + i % 3)),
                ended=i % 15 > 0,
            )
            for i, p in enumerate(asked)
        ]
    found: list[Row] = diversity.distinct_rows(answers)
    for model in answers:
        found += diversity.entropy_rows(model, answers[model], resamples=200)
        found += scored.evaluate(model, answers[model], scores[model], "gold", resamples=200)
        found += text.evaluate(model, answers[model], resamples=200)
        kl = generator.normal({"sft": 0, "ppo": 6.5, "dpo": 3.2}[model], 0.0 if model == "sft" else 4, n)
        found.append(rows.row(model, "kl", "all", statistics.bootstrap_mean(kl, resamples=200), "nats"))
        if model != "sft":
            outcomes = win_rate.by_score(scores[model], scores["sft"])
            found += win_rate.evaluate(model, outcomes, answers[model], answers["sft"], resamples=200)
            found += text.length_change(model, answers[model], answers["sft"], resamples=200)
    settings = {"temperature": 1.0, "max_new_tokens": 96, "seed": 0, "baseline": ""}
    write_run(folder, "eval", minute=minute, inputs=inputs, settings=settings, baseline="sft")
    (folder / "results.json").write_text(json.dumps(rows.to_json(found)))
    lines = [
        {
            "id": p.id,
            "task": p.task,
            "prompt": p.content_json(),
            "responses": {
                model: {
                    "text": answers[model][i].text,
                    "score": scores[model][i].value,
                    "parts": dict(scores[model][i].parts),
                    "finish": answers[model][i].finish,
                    "tokens": len(answers[model][i].ids),
                }
                for model in answers
            },
        }
        for i, p in enumerate(asked)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def reward(folder: Path, *, n: int = 600, **inputs: Any) -> Path:
    """A reward model run with over-confident scores."""
    generator = np.random.default_rng(1)
    quality, other = generator.normal(0, 1, n), generator.normal(0, 1, n)
    swap = generator.random(n) > statistics.sigmoid(quality - other)
    chosen, rejected = np.where(swap, other, quality) * 1.8, np.where(swap, quality, other) * 1.8
    lengths = generator.integers(10, 60, (n, 2))
    found = reward_model.evaluate("reward", chosen, rejected, None, lengths[:, 0], lengths[:, 1])
    metrics = [
        {"step": s, "loss": 0.69 * np.exp(-s / 60) + 0.45, "accuracy": 0.5 + 0.25 * (1 - np.exp(-s / 30))}
        | (
            {"eval_loss": 0.7 * np.exp(-s / 60) + 0.48, "eval_accuracy": 0.73 - 0.2 * np.exp(-s / 30)}
            if s % 20 == 0
            else {}
        )
        for s in range(1, 121)
    ]
    settings = {"data": "store:main", "store": str(folder.parent / "store.sqlite")}
    write_run(folder, "reward", minute=14, inputs=inputs, settings=settings, metrics=metrics)
    (folder / "results.json").write_text(json.dumps(rows.to_json(found)))
    return folder


def language_metrics(steps: int, start: float, end: float) -> list[dict]:
    """A falling loss with noise, evaluated now and then."""
    generator = np.random.default_rng(steps)
    lines = []
    for step in range(1, steps + 1):
        loss = end + (start - end) * np.exp(-5 * step / steps)
        line = {"step": step, "loss": loss + generator.normal(0, 0.05), "learning_rate": 1e-3}
        lines.append(line | ({"eval_loss": loss + 0.05} if step % 25 == 0 else {}))
    return lines


def demo(root: Path, hostile: str = "") -> Path:
    """All stages of the demo below `root`; returns it."""
    world = write_run(root / "world", "world", minute=0)
    pretrain = write_run(
        root / "pretrain",
        "pretrain",
        minute=2,
        inputs={"data": world / "pretrain.jsonl"},
        metrics=language_metrics(300, 6.2, 1.4),
    )
    sft = write_run(
        root / "sft",
        "sft",
        minute=6,
        inputs={"model": pretrain / "model", "data": world / "demonstrations.jsonl"},
        metrics=language_metrics(120, 1.9, 0.7),
    )
    store = {"store": str(root / "store.sqlite")}
    inputs = {"model": sft / "model", "prompts": world / "prompts_train.jsonl"}
    write_run(root / "sample", "sample", minute=10, inputs=inputs, settings=store)
    write_run(root / "label", "label", minute=12, settings=store)
    rm = reward(root / "reward", model=sft / "model", data="store:main")
    generator = np.random.default_rng(3)
    ppo_metrics = [
        {
            "step": s,
            "loss": 0.1,
            "objective/scores": 1.6 * (1 - np.exp(-s / 25)) + generator.normal(0, 0.06),
            "objective/kl": 7 * (1 - np.exp(-s / 35)) + generator.normal(0, 0.15),
            "objective/entropy": 1.1 - 0.003 * s,
            "completions/mean_length": 22 + 4 * np.sin(s / 20),
        }
        for s in range(1, 81)
    ]
    ppo = write_run(
        root / "ppo",
        "ppo",
        minute=18,
        inputs={
            "model": sft / "model",
            "reward": rm / "model",
            "prompts": world / "prompts_train.jsonl",
        },
        metrics=ppo_metrics,
    )
    dpo_metrics = [
        {
            "step": s,
            "loss": 0.69 - 0.2 * (1 - np.exp(-s / 30)),
            "rewards/accuracies": 0.5 + 0.2 * (1 - np.exp(-s / 20)),
            "rewards/margins": 0.02 * s,
        }
        for s in range(1, 101)
    ]
    dpo = write_run(
        root / "dpo",
        "dpo",
        minute=24,
        inputs={"model": sft / "model", "data": "store:main"},
        settings={"data": "store:main", **store},
        metrics=dpo_metrics,
    )
    heldout = world / "prompts_heldout.jsonl"
    evaluation(
        root / "eval",
        hostile=hostile,
        prompts=heldout,
        sft=sft / "model",
        ppo=ppo / "model",
        dpo=dpo / "model",
    )
    return root
