"""Gradients of tasks: their cosine by hand, and training that they change nothing of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from tests.train.making import CPU
from tests.train.test_reinforce import command_settings
from tutelage.data.batch import TokenBatch
from tutelage.files import sha256_of
from tutelage.launch import launch
from tutelage.resume import read_metrics
from tutelage.settings.rl import OnlineDPOSettings, PPOSettings, RaftSettings, ReinforceSettings
from tutelage.train.algorithm import Loss, Term, Updates
from tutelage.train.tasks import TaskGradients

DIRECTIONS = torch.tensor([[3.0, 4.0], [4.0, -3.0], [-6.0, -8.0], [3.0, 4.0]])


class Linear:
    """The loss of row r is DIRECTIONS[r] . w, which is its gradient."""

    def __init__(self) -> None:
        self.policy = nn.Linear(2, 1, bias=False)
        self.trained: dict[str, nn.Module] = {"policy": self.policy}
        self.told: list[Mapping[str, float]] = []

    def batches(self, step: int) -> Updates:
        for rows in ((0, 1, 2, 3), (0, 1)):
            tokens = torch.ones(len(rows), dtype=torch.bool)
            batch = TokenBatch(torch.zeros(len(rows), dtype=torch.long), (1,) * len(rows), tokens, rows)
            self.told.append((yield [batch]))

    def loss(self, batch: TokenBatch) -> Loss:
        found = (DIRECTIONS[list(batch.rows)] @ self.policy.weight.flatten()).sum()
        return Loss({"loss": Term(found, "sequences")})


@pytest.mark.parametrize("micro", [1, 100])
def test_cosines_by_hand(micro: int) -> None:
    """Right angles, the same way, opposite ways; in the first update of a step alone, and every third step."""
    logged: list[Mapping[str, float]] = []
    settings = ReinforceSettings(prompts="-", samples=2, task_gradients_every=3, micro_batch_tokens=micro)
    inner = Linear()
    tasks = ["a", "b", "c", ""]
    watched = TaskGradients(inner, lambda row: tasks[row], settings, CPU, logged.append)
    for step in range(4):
        updates, reply, number = watched.batches(step), None, 0
        while True:
            try:
                updates.send(reply)  # type: ignore[arg-type]
            except StopIteration:
                break
            assert inner.policy.weight.grad is None
            reply, number = {"number": float(number)}, number + 1
        assert number == 2
    assert [told["number"] for told in inner.told] == [0.0, 1.0] * 4
    expected = {"a~b": 0.0, "a~c": -1.0, "a~none": 1.0, "b~c": 0.0, "b~none": 0.0, "c~none": -1.0}
    assert len(logged) == 2
    for told in logged:
        assert told == pytest.approx(
            {f"task/gradient_cosine/{pair}": value for pair, value in expected.items()}, abs=1e-6
        )


def test_one_task_has_nothing_beside_it() -> None:
    logged: list[Mapping[str, float]] = []
    settings = ReinforceSettings(prompts="-", samples=2, task_gradients_every=1)
    list(TaskGradients(Linear(), lambda row: "a", settings, CPU, logged.append).batches(0))
    assert logged == [{}]


COMMANDS: dict[str, Any] = {
    "reinforce": ReinforceSettings,
    "ppo": PPOSettings,
    "raft": RaftSettings,
    "online-dpo": OnlineDPOSettings,
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_measuring_changes_no_bit_of_what_is_learnt(tmp_path: Path, command: str) -> None:
    given = command_settings(tmp_path).model_dump(
        include={
            "model",
            "reward",
            "prompts",
            "batch_size",
            "samples",
            "max_new_tokens",
            "max_steps",
            "precision",
        }
    )
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["task"] = ("maths", "chat")[number % 2]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for every in (0, 1):
        out = tmp_path / f"run-{every}"
        values = {**given, "out": out, "tensorboard": False, "missing_eos_score": None, "learning_rate": 1e-3}
        launch(command, COMMANDS[command](**values, task_gradients_every=every), Console(quiet=True))
        found[every] = sha256_of(out / "model")
        cosines = [line.get("task/gradient_cosine/chat~maths") for line in read_metrics(out)]
        assert all((value is not None and -1 <= value <= 1) == bool(every) for value in cosines)
    assert found[0] == found[1]


def test_a_part_for_a_task_that_no_prompt_has_is_refused(tmp_path: Path) -> None:
    """Else a slip of the pen would be a judge that is never asked."""
    reward = [{"judge": "formula:length", "target": 3}, {"judge": "formula:repetition", "tasks": ["math"]}]
    settings = command_settings(tmp_path, reward=reward)
    with pytest.raises(ValueError, match=r"is of the task 'math'.*those there are ''"):
        launch("reinforce", settings, Console(quiet=True))
