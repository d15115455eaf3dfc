"""Our side: the real command on real files, held at the end of every step until its next turn.

`python -m benchmarks.ours WORK`, where WORK is a `Work` as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console

from benchmarks.turns import Turns
from benchmarks.work import KL_COEF, PPO_EPOCHS, Work
from tutelage.commands import find, function, settings_class
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.parallel import World, keep_freed_memory
from tutelage.records import Prompt
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run
from tutelage.settings.base import build

COMMANDS = {"rloo": "reinforce", "grpo": "reinforce", "orpo": "dpo", "simpo": "dpo", "kto_pairs": "kto"}
"""The command of a case that is not called as it is."""


class Waits(Protocol):
    """What is told at the end of every step."""

    def wait(self) -> None: ...


class PacedRun(Run):
    """A run folder that waits for its turn where a step is written down."""

    def __init__(self, folder: Path, command: str, turns: Waits) -> None:
        folder.mkdir(parents=True)
        lock = (folder / ".lock").open("w")
        super().__init__(folder, {"command": command, "inputs": []}, Console(quiet=True), lock)
        self._turns = turns

    def commit(self, step: int) -> dict[str, float]:
        """Write the line of `step`, then wait."""
        line = super().commit(step)
        self._turns.wait()
        return line


def run(work: Work, turns: Waits) -> None:
    """Do the steps of `work`; `turns.wait()` is called after each of them and may raise to stop."""
    if work.threads:
        torch.set_num_threads(work.threads)
    keep_freed_memory()
    world = World(torch.device("cpu"), torch.bfloat16 if work.precision == "bf16" else torch.float32)
    if work.case == "generation":
        _generate(work, world, turns)
        return
    command, given = settings_for(work)
    folder = Path(work.folder) / f"run-{work.case}-{work.size}"
    settings = build(settings_class(find(command)), {**given, "out": str(folder)})
    function(find(command))(settings, world, PacedRun(folder, command, turns))


def settings_for(work: Work) -> tuple[str, dict[str, Any]]:
    """The command, and what a user would set for this work; everything else stays at its default."""
    return COMMANDS.get(work.case, work.case.removesuffix("_ragged")), _settings(work)


def _settings(work: Work) -> dict[str, Any]:
    given: dict[str, Any] = {
        "batch_size": work.kind.rows,
        "max_steps": work.steps,
        "schedule": "constant",
        "learning_rate": 1e-6,
        "save_every": work.steps + 1,
        "tensorboard": False,
    }
    if work.case == "ppo":
        return given | {
            "prompts": str(work.data),
            "model": str(work.policy),
            "reward": str(work.scalar),
            "max_new_tokens": work.kind.response,
            "inner_epochs": PPO_EPOCHS,
            "max_approx_kl": 1e9,  # every epoch is done, as on the other side
        }
    if work.case in KL_COEF:
        return given | {
            "preset": work.case,
            "prompts": str(work.data),
            "model": str(work.policy),
            "reward": "python:benchmarks.work:variety",
            "samples": work.kind.samples,
            "max_new_tokens": work.kind.response,
            "kl_coef": KL_COEF[work.case],
            "missing_eos_score": None,  # no response ends, and the other side does not mind
        }
    given |= {"data": str(work.data), "max_length": work.kind.length, "heldout_share": 0.0}
    if work.case.startswith("sft"):
        given["train_on_prompt"] = True
    if work.case == "kto_pairs":
        given["batch_size"] = 2 * work.kind.rows
    if work.case in ("orpo", "simpo"):
        given["preset"] = work.case
    return given | {"model": str(work.scalar if work.case.startswith("reward") else work.policy)}


def _generate(work: Work, world: World, turns: Waits) -> None:
    generator = LocalGenerator(load_policy(work.policy), load_tokenizer(work.policy), dtype=world.dtype)
    texts = [json.loads(line)["prompt"] for line in work.data.read_text(encoding="utf-8").splitlines()]
    for step in range(work.steps):
        prompts = [Prompt(text) for text in texts[step * work.kind.rows :][: work.kind.rows]]
        responses = generator.generate(prompts, Sampling(work.kind.response, step=step))
        assert all(len(response.ids) == work.kind.response for response in responses), (
            "no response ends early"
        )
        turns.wait()


if __name__ == "__main__":
    pace = Turns()
    run(Work.from_json(sys.argv[1]), pace)
