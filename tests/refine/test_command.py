"""The command: people are waited for, nothing is lost meanwhile, whoever marks stands in the store; bad input is one sentence."""

from __future__ import annotations

import io
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.feedback.asking.answer_rows import write_answer
from tutelage.feedback.asking.payloads import StepAnswer, StepMark
from tutelage.feedback.refining.reading import Standing, read_refinements
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.records import Refinement
from tutelage.resume import read_metrics
from tutelage.settings.base import build
from tutelage.settings.refine import RefineSettings
from tutelage.store import Store
from tutelage.store.schema import now
from tutelage.store.voting import recount
from tutelage.worlds.world import prompts

COUNT = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt nothing: what it writes is no solution of anything."""
    tokenizer = make_tokenizer()
    return save(make_model(tokenizer), tokenizer, tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def given(tmp_path: Path, model: Path) -> dict[str, Any]:
    """Settings of a run in a folder of its own."""
    path = tmp_path / "prompts.jsonl"
    with path.open("w") as stream:
        for number, prompt in enumerate(prompts(0, "train", COUNT, tasks=["options"])):
            row = {
                "prompt": f"Problem {number}",
                "task": "options",
                "reference": dict(prompt.reference or {}),
            }
            stream.write(json.dumps(row) + "\n")
    return {
        "model": str(model),
        "prompts": str(path),
        "out": str(tmp_path / "run"),
        "store": str(tmp_path / "store.sqlite"),
        "max_new_tokens": 24,
        "device": "cpu",
        "precision": "fp32",
    }


def run(given: dict[str, Any], **more: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    launch("refine", build(RefineSettings, given | more), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def standing(given: dict[str, Any]) -> list[Standing]:
    with Store(given["store"]) as store, store.reading("refine") as (connection, key):
        return read_refinements(connection, key)


def answer(given: dict[str, Any], who: str, wrong: bool) -> int:
    """Somebody marks all that waits: the first step wrong, or all right; returns how many solutions."""
    with Store(given["store"]) as store:
        store.add_annotator(who, "human", {})
        waiting = [
            one
            for one in standing(given)
            if one.refinement.outcome is None and one.refinement.rounds[-1].role is None
        ]
        with store.writing("refine") as (connection, _):
            person = connection.exec_driver_sql(f"SELECT id FROM annotator WHERE name = '{who}'").scalar()
            for one in waiting:
                steps = [step.text for step in one.refinement.rounds[-1].steps]
                mark = {"step": 0, "label": -1, "reason": "why", "rewrite": "1. One."} if wrong else None
                marks = [
                    StepMark.model_validate(mark or {"step": number, "label": 1})
                    for number in range(1 if wrong else len(steps))
                ]
                write_answer(
                    connection,
                    StepAnswer(marks=tuple(marks), finish="found-error" if wrong else "solution"),
                    steps,
                    0,
                    item_id=one.items[-1],
                    annotator_id=person,
                    role="answer",
                    client_key=f"{one.items[-1]}/{who}",
                    submitted_at=now(),
                    active_ms=60_000,
                )
            recount(connection, [one.items[-1] for one in waiting])
    return len(waiting)


def test_people_are_waited_for(given: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"6 solutions wait for marks in project 'refine': let people mark them"
    ):
        run(given)
    firsts = [one.refinement.rounds[0].text for one in standing(given)]
    assert answer(given, "ann", wrong=True) == COUNT
    with pytest.raises(ValueError, match="6 solutions wait"):
        run(given)
    found = standing(given)
    assert [one.refinement.rounds[0].text for one in found] == firsts  # nothing is drawn again
    assert all(one.refinement.rounds[1].text.startswith("1. One.") for one in found)
    assert {one.refinement.rounds[1].how for one in found} == {"rewritten"}
    assert answer(given, "ann", wrong=False) == COUNT
    said = run(given)
    why = {(one.refinement.outcome, one.refinement.why.split(",")[0]) for one in standing(given)}
    assert why <= {("handed-up", "every step is marked right"), ("handed-up", "the solution does not end")}
    assert "12 solutions marked, 6 steps rewritten, 0 answers looked at: 12.0 minutes" in said
    [figures] = read_metrics(Path(given["out"]))
    assert (figures["refine_minutes"], figures["corrections"], figures["refined_handed_up"]) == (12, 6, 6)
    lines = (Path(given["out"]) / "refinements.jsonl").read_text().splitlines()
    assert [Refinement.from_json(json.loads(line)).rounds[0].by for line in lines] == ["ann"] * COUNT
    assert "is done already" in run(given)


@pytest.mark.slow
def test_it_goes_on_as_people_answer(given: dict[str, Any]) -> None:
    def begun() -> int:
        with suppress(ValueError):  # no project yet
            return len(standing(given)) if Path(given["store"]).exists() else 0
        return 0

    def work() -> None:
        while begun() < COUNT:
            time.sleep(0.2)
        answer(given, "bob", wrong=False)

    person = threading.Thread(target=work)
    person.start()
    run(given, wait=2)
    person.join()
    assert {one.refinement.outcome for one in standing(given)} == {"handed-up"}


def test_the_world_s_expert_marks_at_once(given: dict[str, Any]) -> None:
    run(given, marks="world", rounds=2)
    found = [one.refinement for one in standing(given)]
    assert all(one.rounds[0].role == "expert" and one.rounds[0].by == "sim-expert" for one in found)
    assert all(
        one.rounds[0].root == 0 and one.rounds[0].steps[0].rewrite for one in found
    )  # nothing can be read
    assert all(one.rounds[1].text.startswith(one.rounds[0].steps[0].rewrite or "") for one in found)


def test_a_crowd_s_majority_counts(given: dict[str, Any]) -> None:
    run(given, marks="world", crowd_error=0.3, votes=3, rounds=1)
    found = [one.refinement.rounds[0] for one in standing(given)]
    assert {one.role for one in found} == {"crowd"}
    assert all(one.calls >= 3 for one in found)


def test_a_budget_of_minutes_ends_it(given: dict[str, Any]) -> None:
    run(
        given, marks="world", rounds=1, max_minutes=4
    )  # about four minutes a problem: two solutions, two rewrites
    assert 1 <= len(standing(given)) <= 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["marks=verify:maths"],
            "verify:maths marks no steps: give people, equations, world, a process model",
        ),
        (["marks={judge: llm:m, url: 'http://localhost:1/v1'}"], "add template: steps"),
        (["crowd_error=0.2"], "crowd_error is for marks=world"),
        (["marks=world", "votes=3"], "votes is for people, or a crowd"),
        (["marks=world", "wait=3"], "wait is for marks=people"),
        (["threshold=0.3"], "threshold is for marks by a process model"),
        (["refiner=x", "fallback=never"], "refiner writes from explanations"),
        (["temperature=0"], "asking again says nothing"),
        (["max_minutes=9"], "max_minutes says when no further problem of a file is begun"),
        (["marks=nowhere"], "nowhere"),
    ],
)
def test_bad_settings_are_one_sentence(
    given: dict[str, Any], words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [f"{name}={value}" for name, value in given.items()]
    assert run_command(find("refine"), [*said, *words]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert sentence in " ".join(lines)


def test_a_project_without_problems_is_one_sentence(given: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"project 'refine' of .* has no problems that were begun: give prompts=FILE"
    ):
        run(given | {"prompts": ""}, marks="world")


def test_the_worlds_expert_refuses_before_anything_is_drawn(given: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text(json.dumps({"prompt": "Which?", "task": "options"}) + "\n")
    with pytest.raises(ValueError, match="has no reference: the world's expert marks steps of options"):
        run(given, prompts=str(path), marks="world")
    assert not Path(given["store"]).exists()


def test_going_on_with_nothing_makes_no_project(given: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"project 'nothing' of .* has no problems that were begun: give prompts=FILE"
    ):
        run(given, prompts="", project="nothing", marks="world")
    with Store(given["store"]) as store:
        assert store.projects() == []


def test_a_problem_without_a_right_option_is_one_sentence(given: dict[str, Any]) -> None:
    path = Path(given["prompts"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[2]["reference"]["answer"] = []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ValueError, match=r"verify:choice does not apply to the prompt 'Problem 2' \(.*line 3\)"
    ):
        run(given, marks="world")
    assert not Path(given["store"]).exists()
