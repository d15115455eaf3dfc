"""What the studies of reasoning start from: a model fine-tuned on maths of the embedded world, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.base import fine_tuned, pretrained, world, written
from tutelage.files import write_jsonl_atomic
from tutelage.records import Finish, Prompt, Response, StepMarks
from tutelage.worlds import gold_maths


@dataclass(frozen=True)
class Solution:
    """A response to a maths problem, and what the gold standard says of it."""

    prompt: Prompt
    text: str
    finish: Finish

    @property
    def steps(self) -> list[str]:
        """Its lines."""
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def marks(self) -> list[int | None]:
        """What an expert says of each step, up to the first wrong one."""
        return gold_maths.mark(dict(self.prompt.reference or {}), self.steps)

    @property
    def right(self) -> bool:
        """Whether the final answer is right."""
        return bool(gold_maths.grade(dict(self.prompt.reference or {}), self.text)["answer"])

    @property
    def sound(self) -> bool:
        """Whether every step is right, none is missing, and the answer is right."""
        return self.right and all(mark is not None and mark >= 0 for mark in self.marks)

    @property
    def response(self) -> Response:
        """As a judge takes it that reads text."""
        return Response.written(self.prompt, self.text, self.finish)

    def labelled(self) -> StepMarks:
        """With its marks and its outcome, to learn from."""
        return StepMarks(
            self.prompt, tuple(self.steps), tuple(self.marks), finish=self.finish, outcome=self.right
        )


def base(out: Path) -> Path:
    """A model fine-tuned on the world's maths, the careless demonstrations among them; returns its run folder."""
    files = world(out / "world")
    for name in ("demonstrations", "prompts_train", "prompts_heldout"):
        _only_maths(files / f"{name}.jsonl", out / f"{name}.jsonl")
    start = pretrained(out / "pretrain", files / "pretrain.jsonl")
    return fine_tuned(out / "sft", start, out / "demonstrations.jsonl")


def solutions(model: Path, prompts: Path, out: Path, samples: int) -> list[Solution]:
    """`samples` solutions of each problem, problem by problem."""
    return [Solution(one.prompt, one.text, one.finish) for one in written(out, model, prompts, samples)]


def write_labelled(path: Path, chosen: Sequence[Solution]) -> str:
    """A file that `process` reads; solutions without a line are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl_atomic(path, (one.labelled().to_json() for one in chosen if one.steps))
    return str(path)


def _only_maths(source: Path, target: Path) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()
    ]
    write_jsonl_atomic(target, (row for row in rows if row["task"] == "maths"))
