"""`tutelage world`: write the embedded world as the plain files that every other command reads.

pretrain.jsonl         {"text"}
demonstrations.jsonl   {"prompt": [message], "completion": [message], "task"}
prompts_train.jsonl    {"prompt": [message], "task", "reference"}
prompts_heldout.jsonl  alike; these prompts are in no other file
steps.jsonl            {"prompt": [message], "completions": [step], "marks", "task", "reference", "outcome"}: maths
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.files import write_jsonl_atomic
from tutelage.parallel import World
from tutelage.records import Message, Prompt
from tutelage.runs import Run
from tutelage.settings.worlds import WorldSettings as Settings

from .corpus import documents
from .world import demonstrations, marked_solutions, prompts


def main(settings: Settings, world: World, run: Run) -> Path:
    """Write the files into the run folder; returns it."""
    counts = write_world(
        run.folder,
        settings.seed,
        document_count=settings.documents,
        demonstration_count=settings.demonstrations,
        careless=settings.careless,
        prompt_count=settings.prompts,
        heldout_count=settings.heldout_prompts,
        solution_count=settings.solutions,
        tasks=settings.tasks,
    )
    for name, count in counts.items():
        run.console.print(f"{run.folder / name}: {count} rows")
    return run.folder


def write_world(
    folder: Path,
    seed: int = 0,
    *,
    document_count: int = 20_000,
    demonstration_count: int = 3_000,
    careless: float = 0.5,
    prompt_count: int = 2_000,
    heldout_count: int = 500,
    solution_count: int = 2_000,
    tasks: Sequence[str] = (),
) -> dict[str, int]:
    """Write the five files into `folder`; returns file name -> rows. The same arguments write the same bytes."""
    rows = {
        "pretrain.jsonl": ({"text": document.text} for document in documents(seed, document_count)),
        "demonstrations.jsonl": (
            {
                "prompt": demo.prompt.content_json(),
                "completion": [Message("assistant", demo.response).to_json()],
                "task": demo.prompt.task,
            }
            for demo in demonstrations(seed, demonstration_count, careless, tasks)
        ),
        "prompts_train.jsonl": map(_prompt_row, prompts(seed, "train", prompt_count, tasks=tasks)),
        "prompts_heldout.jsonl": map(
            _prompt_row, prompts(seed, "heldout", heldout_count, heldout=True, tasks=tasks)
        ),
        "steps.jsonl": (solution.to_json() for solution in marked_solutions(seed, solution_count)),
    }
    for name, lines in rows.items():
        write_jsonl_atomic(folder / name, lines)
    counts = (document_count, demonstration_count, prompt_count, heldout_count, solution_count)
    return dict(zip(rows, counts, strict=True))


def _prompt_row(prompt: Prompt) -> dict:
    return {"prompt": prompt.content_json(), "task": prompt.task, "reference": prompt.reference}
