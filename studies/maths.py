"""What the studies of reasoning start from: a model fine-tuned on maths of the embedded world, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.data.reading.formats import read_prompts
from tutelage.files import write_jsonl_atomic
from tutelage.launch import launch
from tutelage.records import Finish, Prompt, Response, StepMarks
from tutelage.settings.rollout import SampleSettings
from tutelage.settings.train import PretrainSettings, SFTSettings
from tutelage.settings.worlds import WorldSettings
from tutelage.worlds import gold_maths

NEW_TOKENS = 56


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
    world = out / "world"
    launch(
        "world",
        WorldSettings(out=world, documents=16500, demonstrations=4500, careless=0.72, heldout_prompts=900),
    )
    for name in ("demonstrations", "prompts_train", "prompts_heldout"):
        _only_maths(world / f"{name}.jsonl", out / f"{name}.jsonl")
    pretrain = launch(
        "pretrain",
        PretrainSettings(
            data=str(world / "pretrain.jsonl"),
            out=out / "pretrain",
            max_length=128,
            batch_size=5,
            save_every=2000,
        ),
    )
    sft = launch(
        "sft",
        SFTSettings(
            model=str(pretrain),
            data=str(out / "demonstrations.jsonl"),
            out=out / "sft",
            learning_rate=1e-3,
            batch_size=16,
            schedule="cosine",
        ),
    )
    assert sft is not None
    return sft


def solutions(model: Path, prompts: Path, out: Path, samples: int, most: int = 0) -> list[Solution]:
    """`samples` solutions of each problem, problem by problem."""
    run = launch(
        "sample",
        SampleSettings(
            model=str(model),
            prompts=str(prompts),
            out=out,
            store=str(out.with_suffix(".sqlite")),
            samples=samples,
            max_prompts=most,
            max_new_tokens=NEW_TOKENS,
        ),
    )
    assert run is not None
    known = {one.id: one for one in read_prompts(str(prompts)) if isinstance(one, Prompt)}
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Solution(known[row["prompt_id"]], row["response"], row["finish"]) for row in rows]


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
