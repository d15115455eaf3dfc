"""The command `eval task`: held-out prompts as a task of Inspect (inspect-ai), which asks any model that it knows.

task.py         the task, to read and to change: data set, solver, scorer
dataset.jsonl   one sample a line: {input, target, id, metadata}
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

from tutelage.data.reading.formats import Dropped, read_prompts
from tutelage.data.reading.sources import shown
from tutelage.evals.overlap.references import texts_of
from tutelage.evals.samples import stratified
from tutelage.files import write_jsonl_atomic, write_text_atomic
from tutelage.judges.verify.verifier import right_answers
from tutelage.records import Prompt
from tutelage.rollout.prompts import Distinct
from tutelage.runs import Run
from tutelage.settings.evals import TaskSettings as Settings
from tutelage.worlds.world import faultless

CALLS = {"includes": "includes()", "match": 'match(location="end")', "model_graded_qa": "model_graded_qa()"}
TASK = Template('''"""$count prompts of $source for Inspect: inspect eval task.py --model hf/local -M model_path=runs/sft/model"""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import $scorer
from inspect_ai.solver import generate


@task
def prompts() -> Task:
    return Task(
        dataset=json_dataset(str(Path(__file__).parent / "dataset.jsonl")),
        solver=generate(),
        scorer=$call,
        config=GenerateConfig(max_tokens=$max_new_tokens, temperature=$temperature),
    )
''')


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write task.py and dataset.jsonl into the run folder.  Raises ValueError where no prompt has a reference text."""
    run.input("prompts", settings.prompts)
    rows = list(Distinct(read_prompts(settings.prompts, settings.columns)).walk())
    prompts = [row for row in rows if isinstance(row, Prompt)]
    samples = [sample for prompt in prompts if (sample := sample_of(prompt))]
    if not samples:
        raise ValueError(
            f"{shown(settings.prompts)} has no prompt with a reference text, and Inspect scores against one: add a column "
            "reference with the right answer."
        )
    chosen = stratified(
        [sample["metadata"]["task"] for sample in samples],
        settings.max_prompts or len(samples),
        settings.seed,
    )
    write_jsonl_atomic(run.folder / "dataset.jsonl", [samples[i] for i in chosen])
    options = settings.model_dump(include={"scorer", "max_new_tokens", "temperature"})
    source = " ".join(shown(settings.prompts).replace("\\", "/").replace('"', "'").split())
    text = TASK.substitute(options, count=len(chosen), source=source, call=CALLS[settings.scorer])
    write_text_atomic(run.folder / "task.py", text)
    _say(run, len(chosen), len(prompts) - len(samples), sum(isinstance(row, Dropped) for row in rows))
    return run.folder


def sample_of(prompt: Prompt) -> dict[str, Any] | None:
    """A line of dataset.jsonl; None for a prompt that Inspect cannot ask (tools), or without anything to score against.

    The target is the right answer where the reference names one, else the reference texts, of which any is right.
    """
    targets = [str(answer) for answer in right_answers(prompt.reference or {})]
    targets = targets or list(faultless(prompt)) or list(texts_of(prompt.reference))
    if not targets or prompt.tools:
        return None
    content = prompt.content_json()
    return {
        "input": content,
        "target": targets if len(targets) > 1 else targets[0],
        "id": prompt.id,
        "metadata": {"task": prompt.task, "reference": prompt.reference},
    }


def _say(run: Run, written: int, without: int, unread: int) -> None:
    run.console.print(f"{written} prompts: inspect eval {run.folder / 'task.py'} --model ...")
    if without:
        run.console.print(f"{without} prompts have no reference text, or call tools: left out.")
    if unread:
        run.console.print(f"{unread} rows hold no prompt: left out.")
