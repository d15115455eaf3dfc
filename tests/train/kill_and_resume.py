"""Run each training stage twice, once left alone and once killed with -9 in the midst of it, and compare the weights.

A program of its own: it imports torch once and forks a process for every run, so that a kill costs no start-up.
    python -m tests.train.kill_and_resume FOLDER SEED      prints one line per stage: name, kills, equal or different

The stages from `pretrain` to `ppo`; then other commands that practise, with all that they keep beside weights (a critic, a
moving reference, prices, running means), and others that learn from what was compared (an ensemble, with a number beside
its weights; single responses; pairs of one's own), and from a teacher.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import tutelage.train.distill
import tutelage.train.kto
import tutelage.train.online
import tutelage.train.ppo
import tutelage.train.preference
import tutelage.train.pretrain
import tutelage.train.process
import tutelage.train.raft
import tutelage.train.reinforce
import tutelage.train.reward
import tutelage.train.sft  # noqa: F401  (imported before the fork)
from tutelage import launch as launching
from tutelage.commands import find, settings_class
from tutelage.files import sha256_of
from tutelage.launch import launch
from tutelage.settings.base import build
from tutelage.worlds.write import write_world

AFTER = 3  # lines of metrics, of 9 or more: the first checkpoint is there, and most is still to do
SHARED: dict[str, Any] = {"save_every": 2, "eval_every": 3, "tensorboard": False, "micro_batch_tokens": 700}


def start(folder: Path, name: str, **values: Any) -> int:
    """Fork a process that runs one command; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    settings = build(
        settings_class(find(name)), {key: str(v) if isinstance(v, Path) else v for key, v in values.items()}
    )
    with (folder / "log.txt").open("a") as log:
        try:
            launch(name, settings, Console(file=log))
        except BaseException as error:
            log.write(f"{name}: {error!r}\n")
            log.flush()
            os._exit(1)
    os._exit(0)


def finish(pid: int, name: str) -> None:
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"{name} failed with status {status}; see log.txt")


def killed_run(folder: Path, name: str, randomly: random.Random, **values: Any) -> bool:
    """Run a command, kill it at a random moment after some progress, and run it again; whether the kill hit it."""
    metrics = Path(values["out"]) / "metrics.jsonl"
    pid, hit = start(folder, name, **values), False
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if metrics.exists() and len(metrics.read_bytes().splitlines()) >= AFTER:
            time.sleep(randomly.random() * 0.1)
            os.kill(pid, signal.SIGKILL)
            hit = os.waitpid(pid, 0)[1] == signal.SIGKILL
            break
        time.sleep(0.002)
    finish(start(folder, name, **values), name)
    return hit


def practising(folder: Path, prompts: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, command, settings) of runs that keep more than weights."""
    shared = {
        "model": folder / "sft",
        "reward": folder / "reward",
        "prompts": prompts,
        "batch_size": 6,
        "max_new_tokens": 12,
        "missing_eos_score": None,  # few end within 12 tokens, and all that did not would score alike
        "max_steps": 9,
        "learning_rate": 1e-3,
    }
    cost = {"cost": [{"judge": "formula:length", "target": 20}], "cost_limit": -0.6, "cost_rate": 0.1}
    mix = [{"judge": str(folder / "reward"), "normalise": "zscore"}, {"judge": "formula:repetition"}]
    return [
        (
            "learned",
            "reinforce",
            {
                **shared,
                **cost,
                "advantage": "learned",
                "critic_learning_rate": 3e-3,
                "ref_refresh": 5,
                "inner_epochs": 2,
            },
        ),
        ("shared", "ppo", {**shared, "critic": "shared", "kl_budget": 0.2, "lora_rank": 2}),
        (
            "dapo",
            "reinforce",
            {**shared, "preset": "dapo", "samples": 2, "truncated": "score", "reward": mix},
        ),
        (
            "raft",
            "raft",
            {**shared, **cost, "samples": 4, "inner_epochs": 2, "ref_refresh": 5},
        ),
    ]


def comparing(folder: Path, prompts: str, store: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, command, settings) of what else learns from comparisons."""
    shared = {"model": folder / "sft", "batch_size": 6, "max_steps": 9, "learning_rate": 1e-3}
    own = {
        "reward": folder / "reward",
        "prompts": prompts,
        "max_new_tokens": 12,
        "missing_eos_score": None,
        "inner_epochs": 2,
        "ref_refresh": 5,
    }
    return [
        ("ensemble", "reward", {**shared, "store": store, "members": 2, "loss": "davidson"}),
        ("kto", "kto", {**shared, "data": "store:main", "store": store}),
        ("online-dpo", "online-dpo", {**shared, **own}),
    ]


def distilling(folder: Path, world: Path) -> tuple[str, str, dict[str, Any]]:
    """(name, command, settings) of a student that learns from a teacher at what it writes itself, and at demonstrations."""
    own = {
        "model": folder / "sft",
        "teacher": folder / "dpo",
        "learn_from": "on-policy",
        "divergence": "jsd",
        "prompts": f"{world}/prompts_train.jsonl",
        "data": f"{world}/demonstrations.jsonl",
        "batch_size": 6,
        "max_new_tokens": 12,
        "max_steps": 9,
        "learning_rate": 1e-3,
    }
    return "distill", "distill", own


def main(folder: Path, seed: int) -> None:
    launching._show_plan = lambda *_: (
        None
    )  # each process would rehearse it anew, which is most of what it does
    randomly = random.Random(seed)
    world = folder / "world"
    world.mkdir(parents=True)
    write_world(
        world,
        seed,
        document_count=300,
        demonstration_count=80,
        prompt_count=60,
        heldout_count=12,
        solution_count=60,
    )
    store = str(folder / "store.sqlite")
    stages: list[tuple[str, dict[str, Any]]] = [
        (
            "pretrain",
            {
                "data": f"{world}/pretrain.jsonl",
                "hidden_size": 32,
                "layers": 2,
                "heads": 2,
                "max_length": 128,
                "batch_size": 6,
                "max_steps": 10,
            },
        ),
        (
            "sft",
            {
                "model": folder / "pretrain",
                "data": f"{world}/demonstrations.jsonl",
                "batch_size": 8,
                "max_steps": 10,
                "learning_rate": 1e-3,
            },
        ),
        (
            "sample",
            {
                "model": folder / "sft",
                "prompts": f"{world}/prompts_train.jsonl",
                "store": store,
                "samples": 2,
                "max_new_tokens": 12,
            },
        ),
        ("label", {"store": store}),
        (
            "reward",
            {
                "model": folder / "sft",
                "store": store,
                "batch_size": 8,
                "max_steps": 10,
                "learning_rate": 1e-3,
            },
        ),
        (
            "process",
            {
                "model": folder / "sft",
                "data": f"{world}/steps.jsonl",
                "neutral": "class",
                "batch_size": 8,
                "max_steps": 10,
                "learning_rate": 1e-3,
            },
        ),
        (
            "dpo",
            {
                "model": folder / "sft",
                "store": store,
                "batch_size": 8,
                "max_steps": 10,
                "learning_rate": 1e-3,
            },
        ),
        (
            "ppo",
            {
                "model": folder / "sft",
                "reward": folder / "reward",
                "prompts": f"{world}/prompts_train.jsonl",
                "eval_prompts": f"{world}/prompts_heldout.jsonl",
                "batch_size": 8,
                "max_new_tokens": 12,
                "max_steps": 10,
                "inner_epochs": 2,
                "kl_target": 1.0,
                "kl_horizon": 50.0,
                "learning_rate": 1e-3,
            },
        ),
    ]
    runs = [(name, name, values) for name, values in stages]
    runs += practising(folder, f"{world}/prompts_train.jsonl")
    runs += comparing(folder, f"{world}/prompts_train.jsonl", store)
    runs.append(distilling(folder, world))
    for name, command, values in runs:
        trains = name not in ("sample", "label")
        values = {**values, **(SHARED if trains else {})}
        finish(start(folder, command, out=folder / name, **values), name)
        if trains:
            hit = killed_run(folder, command, randomly, out=folder / f"{name}-killed", **values)
            same = sha256_of(folder / name / "model") == sha256_of(folder / f"{name}-killed" / "model")
            print(name, int(hit), "equal" if same else "different", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
