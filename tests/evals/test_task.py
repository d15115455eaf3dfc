"""`eval task`: what Inspect is given, and, where it is installed, that it runs it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage.evals.task import sample_of
from tutelage.files import write_jsonl_atomic
from tutelage.launch import launch
from tutelage.records import Message, Prompt
from tutelage.settings.evals import TaskSettings

ROWS: list[dict[str, Any]] = [
    {"prompt": "2 + 2 =", "task": "sums", "reference": {"answer": 4}},
    {"prompt": [{"role": "user", "content": "Capital of Peru?"}], "reference": "Lima"},
    {"prompt": "Nobody knows.", "task": "sums"},
]


def written(folder: Path, rows: list[dict[str, Any]], **more: Any) -> tuple[Path, str]:
    write_jsonl_atomic(folder / "prompts.jsonl", rows)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    given = TaskSettings(prompts=str(folder / "prompts.jsonl"), out=folder / "task", **more)
    launch("eval task", given, console)
    return folder / "task", console.export_text()


def test_a_sample_has_the_answer_else_the_reference_texts() -> None:
    several = sample_of(Prompt("q", "t", {"answers": ["a", "b"], "text": "no"}))
    assert several is not None and several["target"] == ["a", "b"]
    chat = Prompt((Message("user", "q"),), "t", {"summary": "short"})
    assert sample_of(chat) == {
        "input": [{"role": "user", "content": "q"}],
        "target": "short",
        "id": chat.id,
        "metadata": {"task": "t", "reference": {"summary": "short"}},
    }
    assert sample_of(Prompt("q")) is None


def test_the_data_set_and_a_task_that_is_python(tmp_path: Path) -> None:
    folder, said = written(tmp_path, ROWS, max_new_tokens=9, scorer="match")
    lines = [json.loads(line) for line in (folder / "dataset.jsonl").read_text().splitlines()]
    assert sorted((line["target"], line["metadata"]["task"]) for line in lines) == [
        ("4", "sums"),
        ("Lima", ""),
    ]
    text = (folder / "task.py").read_text()
    compile(text, "task.py", "exec")
    assert 'match(location="end")' in text and "max_tokens=9" in text
    assert "1 prompts have no reference text" in said


def test_without_a_reference_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts.jsonl has no prompt with a reference text"):
        written(tmp_path, ROWS[2:])
    assert not (tmp_path / "task" / "task.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["includes", "match", "model_graded_qa"])
def test_inspect_runs_it(tmp_path: Path, scorer: str) -> None:
    """With a model that says what it is told: one answer right, one wrong."""
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    folder, _ = written(tmp_path, ROWS, scorer=scorer)
    tasks = runpy.run_path(str(folder / "task.py"))

    def answer(messages: Any, *_: Any) -> ModelOutput:
        asked = messages[-1].text
        graded = "[Criterion]" in asked
        text = ("GRADE: C" if "it is 4" in asked else "GRADE: I") if graded else "it is 4"
        output = ModelOutput.from_content("mockllm/model", text)
        output.usage = ModelUsage(
            input_tokens=1, output_tokens=1, total_tokens=2
        )  # counted, it wants the network
        return output

    model = get_model("mockllm/model", custom_outputs=answer)
    (log,) = inspect_ai.eval(tasks["prompts"](), model=model, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success", log.error
    scores = {sample.target: next(iter(sample.scores.values())).value for sample in log.samples}
    expected = {"4": "C", "Lima": "C" if scorer == "model_graded_qa" else "I"}
    assert scores == expected
    ids = {json.loads(line)["id"] for line in (folder / "dataset.jsonl").read_text().splitlines()}
    assert {sample.id for sample in log.samples} == ids
