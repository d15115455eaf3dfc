"""What a refinement did: solutions, corrections and what they add up to, by hand; and the command from a file to a report."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from tutelage.evals import report
from tutelage.evals.counting import Counting
from tutelage.evals.folders import find
from tutelage.evals.page import reasoning as page
from tutelage.evals.rows import Row
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import build_judge
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import MarkedStep, Prompt, Response
from tutelage.refine.markers import Equations, Expert, Marking, marker_of
from tutelage.refine.reasoning import measures
from tutelage.refine.reasoning.correcting import Correcting
from tutelage.refine.reasoning.measures import Found
from tutelage.refine.reasoning.problems import Problems, kinds_of
from tutelage.refine.reasoning.solving import Judging, Solved
from tutelage.refine.writing import Writer
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.settings.reasoning import ReasoningSettings
from tutelage.worlds.options import right_letters, tell
from tutelage.worlds.options_lines import State, attempt, never, read, show

COUNTING = Counting(0, 200)


def problem(
    first: dict, second: dict, says: Sequence[tuple[str, int]], traps: Sequence[str], joined: bool
) -> Prompt:
    """A problem of the world, made by hand."""
    statements = [{"kind": kind, "says": n} | ({"of": "first"} if kind == "more" else {}) for kind, n in says]
    reference: dict[str, Any] = {"first": first, "second": second, "statements": statements}
    reference |= {"answer": right_letters(reference), "traps": list(traps), "joined": joined}
    return Prompt(tell(reference, "eggs"), "options", reference)


ANNA = problem(  # 6 and 2: A alone
    {"who": "Anna", "bags": 3, "each": 2},
    {"who": "Tom", "op": "-", "by": 4, "turned": False},
    [("second", 2), ("all", 9), ("first", 5)],
    ["each", "stop"],
    False,
)
BEN = problem(  # 6 and 2: B alone
    {"who": "Ben", "count": 6},
    {"who": "Tom", "op": "-", "by": 4, "turned": False},
    [("first", 7), ("all", 8), ("more", 6)],
    ["more", "stop"],
    True,
)
MAX = problem(  # 6 and 2: A and B
    {"who": "Max", "bags": 3, "each": 2},
    {"who": "Leo", "op": "-", "by": 4, "turned": False},
    [("second", 2), ("all", 8), ("first", 5)],
    ["each", "stop"],
    False,
)
GOOD_ANNA = """1. Anna: 3*2=6.
2. Tom: 6-4=2.
3. A says 2, 2: right.
4. B says 9, 6+2=8: wrong.
5. C says 5, 6: wrong.
Answer: A."""
FELL = """1. Anna: 3+2=5.
2. Tom: 5-4=1.
3. A says 2, 1: wrong.
4. B says 9, 5+1=6: wrong.
5. C says 5, 5: right.
Answer: C."""
STOPPED = """1. Ben: 6.
2. Tom: 6-4=2.
3. A says 7, 6: wrong.
4. B says 8, 6+2=8: right.
Answer: B."""
GOOD_MAX = """1. Max: 3*2=6.
2. Leo: 6-4=2.
3. A says 2, 2: right.
4. B says 8, 6+2=8: right.
5. C says 5, 6: wrong.
Answer: A, B."""
PROMPTS = (ANNA, BEN, MAX)
JUDGING = Judging(Expert(), build_judge("verify:choice"), 0.5, "lines")
PROBLEMS = Problems(PROMPTS)


def solved(*texts: str, prompts: Sequence[Prompt] = PROMPTS) -> list[Solved]:
    return JUDGING.solved([Response.written(p, text) for p, text in zip(prompts, texts, strict=True)])


BEFORE, AFTER = solved(FELL, STOPPED, GOOD_MAX), solved(GOOD_ANNA, STOPPED, GOOD_MAX)


def table(rows: Sequence[Row]) -> dict[tuple[str, str, str], Row]:
    return {(r.model, r.metric.removeprefix("reasoning/"), r.task): r for r in rows}


def two(before: Found, after: Found, problems: Problems = PROBLEMS) -> dict[tuple[str, str, str], Row]:
    return table(measures.rows_of({"before": before, "after": after}, problems, COUNTING))


# ---- solutions, by hand ------------------------------------------------------------------------------------------------


def test_answers_and_soundness_by_hand() -> None:
    """Before: one of three fell into a trap, one stopped early with the right answer; after, only that one is left."""
    found = two(Found(BEFORE), Found(AFTER))
    for model, right, sound, unsound in (("before", 2 / 3, 1 / 3, 1 / 2), ("after", 1, 2 / 3, 1 / 3)):
        assert found[model, "right", "all"].value == pytest.approx(right)
        assert found[model, "sound", "all"].value == pytest.approx(sound)
        assert found[model, "right_unsound", "all"].value == pytest.approx(unsound)
    assert found["before", "right_unsound", "all"].n == 2 and found["after", "right_unsound", "all"].n == 3
    assert found["after", "sound_difference", "all"].value == pytest.approx(1 / 3)
    assert found["after", "sound_difference", "all"].n == 3
    assert found["after", "right_unsound_difference", "all"].value == pytest.approx(1 / 3 - 1 / 2)
    assert (found["before", "sound", "trap/each"].value, found["after", "sound", "trap/each"].value) == (
        0.5,
        1,
    )
    assert found["after", "right", "joined"].value == 1 and found["after", "sound", "joined"].value == 0
    assert found["before", "sound", "single"].value == 0.5 and found["before", "sound", "single"].n == 2
    assert ("before", "sound", "same") not in found  # nobody said what training had


def test_errors_by_kind_and_by_trap() -> None:
    found = two(Found(BEFORE), Found(AFTER))
    for task, before, after, n in (
        ("all", 2 / 3, 1 / 3, 3),
        ("error/reasoning", 1 / 3, 0, 3),
        ("error/approach", 1 / 3, 1 / 3, 3),
        ("error/calculation", 0, 0, 3),
        ("error/unnamed", 0, 0, 3),
        ("trap/each", 1 / 2, 0, 2),  # of the two that have it
        ("trap/more", 0, 0, 1),
        ("trap/stop", 1 / 3, 1 / 3, 3),
    ):
        assert found["before", "falls_in", task].value == pytest.approx(before), task
        assert found["after", "falls_in", task].value == pytest.approx(after), task
        assert found["before", "falls_in", task].n == n, task
    assert found["after", "falls_in_difference", "trap/each"].value == pytest.approx(-1 / 2)
    again = {task: r.value for (_, metric, task), r in found.items() if metric == "falls_in_again"}
    # Only where the first model failed so: one of two any way, the stop again, the trap not.
    assert again == {
        "all": 0.5,
        "error/reasoning": 0,
        "error/approach": 1,
        "trap/each": 0,
        "trap/stop": 1,
    }
    assert not any(model == "before" for model, metric, _ in found if metric == "falls_in_again")
    rubbish = two(Found(solved("hm", STOPPED, GOOD_MAX)), Found(AFTER))
    assert rubbish["before", "falls_in", "error/unnamed"].value == pytest.approx(1 / 3)


def test_again_with_several_solutions_of_each_problem() -> None:
    """Of the first's 3 failed solutions 2 are to Anna, which the other fails in 1 of 2, and 1 is to Ben, failed in 2 of 2."""
    first = [solved(FELL, STOPPED, GOOD_MAX), solved(FELL, "", GOOD_MAX)]
    other = [solved(FELL, STOPPED, GOOD_MAX), solved(GOOD_ANNA, STOPPED, GOOD_MAX)]
    sampled = [list(zip(*both, strict=True)) for both in (first, other)]
    found = two(Found(BEFORE, sampled[0]), Found(AFTER, sampled[1]))
    again = found["after", "falls_in_again_sampled", "all"]
    assert again.n == 3 and again.value == pytest.approx((2 * 1 / 2 + 1 * 1) / 3)
    assert found["before", "sound_sampled", "all"].value == pytest.approx(2 / 6)
    assert found["before", "clear_sampled", "all"].value == pytest.approx(4 / 6)  # neither stopped nor empty
    assert found["after", "sound_sampled_difference", "all"].value == pytest.approx(3 / 6 - 2 / 6)


def test_clear_steps() -> None:
    found = two(Found(BEFORE), Found(AFTER))
    assert found["before", "gapless", "all"].value == pytest.approx(2 / 3)  # who stops leaves a step out
    assert found["before", "checkable", "all"].value == found["before", "in_order", "all"].value == 1
    assert found["before", "clear", "all"].value == pytest.approx(2 / 3)
    assert found["before", "steps", "all"].value == pytest.approx(17 / 3)

    def looks(text: str) -> tuple[bool, bool, bool]:
        (one,) = solved(text, prompts=[ANNA])
        return (
            measures.is_checkable(one.steps),
            measures.is_gapless(one, True),
            measures.is_in_order(one.steps),
        )

    assert looks(GOOD_ANNA) == looks(FELL) == (True, True, True)  # a wrong step can be clear
    assert looks(GOOD_ANNA.replace("2. Tom: 6-4=2.\n", "")) == (True, False, False)
    assert looks(GOOD_ANNA.replace("2. Tom", "2. I think Tom")) == (False, True, True)
    assert looks(GOOD_ANNA.rpartition("\n")[0]) == (True, False, True)  # no answer
    assert looks("") == (False, False, False)


def test_steps_of_a_marker_that_stops_at_the_first_wrong_one() -> None:
    steps = [MarkedStep("Step 1: a\n", 1), MarkedStep("Step 2: b\n", -1), MarkedStep("Step 3: c", None)]
    assert measures.is_checkable(steps) and measures.is_in_order(steps)
    assert not measures.is_checkable([MarkedStep("a\n", None), *steps])  # nothing said before any wrong one
    assert not measures.is_in_order(steps[1:])
    one = Solved(ANNA, "x", "length", True, tuple(steps[:1]))
    assert not measures.is_gapless(one, False) and not one.sound  # it has no end
    assert measures.is_gapless(replace(one, finish="eos"), False)


def test_options_found_and_stated() -> None:
    """Stated C of A; B of B; A of A and B: 2 of 4 found, 2 of 3 right, 1 of 3 exact."""
    partly = GOOD_MAX.replace("Answer: A, B", "Answer: A")
    found = two(Found(solved(FELL, STOPPED, partly)), Found(AFTER))
    assert found["before", "options_found", "all"].value == 0.5
    assert found["before", "options_found", "all"].n == 4
    assert found["before", "options_right", "all"].value == pytest.approx(2 / 3)
    assert found["before", "options_exact", "all"].value == pytest.approx(1 / 3)
    assert found["after", "options_exact_difference", "all"].value == pytest.approx(2 / 3)


def test_what_carries_over() -> None:
    """Training had `more`, or misreading: Ben is like it, Anna and Max are not."""
    for trained in (["more"], ["misreading"]):
        found = two(Found(BEFORE), Found(AFTER), Problems(PROMPTS, trained=trained))
        assert (found["after", "sound", "same"].value, found["after", "sound", "same"].n) == (0, 1)
        assert (found["before", "sound", "other"].value, found["before", "sound", "other"].n) == (0.5, 2)
        assert found["after", "sound_difference", "other"].value == 0.5
    with pytest.raises(
        ValueError, match=r"trained has 'sums', .* that no problem has: they have approach, each, "
    ):
        Problems(PROMPTS, trained=["sums"]).check_trained()
    with pytest.raises(ValueError, match="their references name none"):
        Problems([Prompt("2+2?")], trained=["sums"]).check_trained()


def test_a_solution_without_a_verdict_counts_as_right_or_wrong_alone() -> None:
    silent = [replace(AFTER[0], steps=None), *AFTER[1:]]
    found = two(Found(silent), Found(AFTER))
    assert (found["before", "right", "all"].value, found["before", "right", "all"].n) == (1, 3)
    assert (found["before", "sound", "all"].value, found["before", "sound", "all"].n) == (0.5, 2)
    assert found["before", "right_unsound", "all"].n == 2 and found["before", "falls_in", "all"].n == 2


def test_a_verifier_of_sums_names_calculation_alone() -> None:
    prompts = [Prompt("2+2?", reference={"answer": "4"}), Prompt("3+3?", reference={"answer": "6"})]
    judging = Judging(Equations(), build_judge("verify:maths"), 0.5, "lines")
    own = judging.solved(
        [
            Response.written(prompts[0], "2+2=5.\n\\boxed{4}"),
            Response.written(prompts[1], "3+3=6.\n\\boxed{6}"),
        ]
    )
    problems = Problems(prompts, by_world=False, kinds=kinds_of("equations"))
    found = table(measures.rows_of({"m": Found(own)}, problems, COUNTING))
    assert found["m", "right", "all"].value == 1 and found["m", "sound", "all"].value == 0.5
    assert {task for _, metric, task in found if metric == "falls_in"} == {
        "all",
        "error/calculation",
    }
    assert found["m", "falls_in", "error/calculation"].value == 0.5
    assert not any(metric.startswith("options") or task == "joined" for _, metric, task in found)


# ---- corrections -------------------------------------------------------------------------------------------------------


class Student:
    """Answers a teacher as it is told to (what stands in the prompt -> the step), and else goes on without a mistake."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.heard: list[str] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Response]:
        return [Response.written(prompt, self._again(prompt.text())) for prompt in prompts]

    def _again(self, text: str) -> str:
        *_, step, said = text.strip().split("\n")
        self.heard.append(said)
        found = [answer for key, answer in self.answers.items() if key in text and said in answer]
        return found[0].partition("|")[2] if found else step

    def begun(self, prompt: Prompt, text: str) -> Prefix:
        return Prefix(prompt, tuple(map(ord, text)))

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        found = []
        for prefix in prefixes:
            reference, state = dict(prefix.prompt.reference or {}), State()
            for line in "".join(map(chr, prefix.begun)).splitlines():
                if (said := read(reference, line)) is not None:
                    state.values[said[0]] = said[1]
            rest = attempt(reference, np.random.default_rng(0), never, state)
            found.append(Response(prefix.prompt, show(rest), prefix.begun, (), (), "eos"))
        return found


def correcting(
    student: Student, most: int = 9, fits: Any = lambda prompts: [True] * len(prompts)
) -> Correcting:
    both = cast(Any, student)
    writer = Writer(both, both, JUDGING.judge, Sampling(500, 0.0), 0.5)
    return Correcting(writer, JUDGING, fits, most, seed=0)


def test_corrections_of_failed_solutions_by_hand() -> None:
    """Anna's error is mended when it is explained and not when it is only called wrong; Ben's the other way round."""
    student = Student(
        {
            "Anna": "Teacher: step 1: in each bag means times.|1. Anna: 3*2=6.",
            "Ben": "Teacher: step 5 is wrong.|5. C says 6, 6-2=4: wrong.",
        }
    )
    corrected = correcting(student).failed(BEFORE)
    anna, ben = corrected[0], corrected[1]
    assert set(corrected) == {0, 1}  # Max was sound
    assert (anna.step, anna.accepted, anna.sound, anna.unexplained, anna.put_in) == (
        0,
        True,
        True,
        False,
        True,
    )
    assert anna.text == GOOD_ANNA
    assert (ben.step, ben.accepted, ben.sound, ben.unexplained, ben.put_in) == (4, False, False, True, True)
    assert "Teacher: step 5: look at every statement." in student.heard
    found = table(measures.rows_of({"m": Found(BEFORE, corrected=corrected)}, PROBLEMS, COUNTING))
    for name, value in {
        "accepts": 0.5,
        "accepts_sound": 0.5,
        "accepts_unexplained": 0.5,
        "put_in_sound": 1,
    }.items():
        assert (found["m", name, "all"].value, found["m", name, "all"].n) == (value, 2), name


def test_a_wrong_correction_of_a_right_step() -> None:
    """Ben's step is spoilt when a reason is given; Max keeps his then, and spoils it when none is; Anna has no right step."""
    right = {n: f"Teacher: step {n} is wrong." for n in range(1, 7)}
    reasons = " ".join(f"Teacher: step {n}: {note}" for n in range(1, 7) for note in NOTES)
    student = Student({"Ben": f"{reasons}|nonsense", "Max": f"{' '.join(right.values())}|nonsense"})
    pressed = correcting(student).right(BEFORE)
    assert set(pressed) == {1, 2}
    assert (pressed[1].gave_in, pressed[1].unexplained) == (True, False)
    assert (pressed[2].gave_in, pressed[2].unexplained) == (False, True)
    assert pressed[1].reason in NOTES and pressed[1].text == "nonsense"
    found = table(measures.rows_of({"m": Found(BEFORE, pressed=pressed)}, PROBLEMS, COUNTING))
    assert (found["m", "gives_in", "all"].value, found["m", "gives_in", "all"].n) == (0.5, 2)
    assert found["m", "gives_in_unexplained", "all"].value == 0.5


NOTES = (
    "in each bag means times.",
    "times as many means times.",
    "that is said of the first number.",
    "more than the other means minus.",
    "look at the numbers again.",
)


def test_only_so_many_are_corrected_and_only_those_with_room() -> None:
    assert set(correcting(Student({}), most=1).failed(BEFORE)) == {0}
    roomy = correcting(Student({}), fits=lambda prompts: ["Ben" in p.text() for p in prompts])
    assert set(roomy.failed(BEFORE)) == {1} == set(roomy.right(BEFORE))
    assert correcting(Student({})).failed(solved(GOOD_ANNA, "", GOOD_MAX)) == {}  # nothing to correct


def test_differences_of_corrections_are_over_the_problems_of_both() -> None:
    """Before: Anna mended, Ben not.  After only Ben is left, and not mended: 0 - 1/2."""
    student = Student({"Anna": "Teacher: step 1: in each bag means times.|1. Anna: 3*2=6."})
    first, other = (Found(own, corrected=correcting(student).failed(own)) for own in (BEFORE, AFTER))
    found = two(first, other)
    gap = found["after", "accepts_difference", "all"]
    assert (gap.value, gap.n) == (-0.5, 2) and found["after", "accepts", "all"].n == 1


# ---- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, complaint",
    [
        ({"marks": "people"}, "people cannot mark while models are measured: give world"),
        ({"marks": "verify:maths"}, "verify:maths marks no steps: give equations"),
        ({"threshold": 0.3}, "threshold is for marks by a process model"),
        ({"models": ["untrained:runs/sft"]}, "give runs/sft alone"),
    ],
)
def test_bad_settings(more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ReasoningSettings(**{"models": ["a"], "prompts": "p.jsonl", **more})


def test_a_prompt_without_a_right_option_and_one_that_nobody_can_mark() -> None:
    bare = replace(ANNA, reference={**dict(ANNA.reference or {}), "answer": []})
    with pytest.raises(ValueError, match="verify:choice does not apply to the prompt"):
        solved("Answer: A.", prompts=[bare])
    other = Prompt("2+2? A. 4 B. 5", "maths", {"answer": "A"})
    with pytest.raises(ValueError, match="has task 'maths': the world's expert marks steps of options"):
        solved("Answer: A.", prompts=[other])
    with pytest.raises(ValueError, match="scores whole responses, not steps"):
        marker_of(Marking("verify:choice"), cast(Any, None))


# ---- the command -------------------------------------------------------------------------------------------------------


def test_tables_and_figures_of_rows() -> None:
    student = Student({"Anna": "Teacher: step 1: in each bag means times.|1. Anna: 3*2=6."})
    found = {
        name: Found(own, [[one] * 2 for one in own], made.failed(own), made.right(own))
        for name, own, made in (
            ("before", BEFORE, correcting(student)),
            ("after", AFTER, correcting(student)),
        )
    }
    rows = measures.rows_of(found, Problems(PROMPTS, trained=["each"]), COUNTING)
    said = io.StringIO()
    for each in page.tables(rows, list(found), 80):
        Console(file=said, width=80).print(each)
    text = said.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for claim in page.CLAIMS:
        assert claim in text
    assert re.search(r"Right and sound +3 +33 % +67 % +33 %", text) and "after − before" in text
    assert re.search(r"Trap: each +2 +50 % +0 % +-50 %", text)
    drawn = {name: svg for name, svg, _ in page.draw(rows, {"before": 1, "after": 2})}
    assert "takes a correction" in drawn["reasoning"] and "trap: each" in drawn["errors"]
    shown = "".join(p if isinstance(p, str) else p.text for p in page.headline(rows, list(found)))
    assert shown == "after is right in its answer and in every step on 67 % of 3 problems; before on 33 %."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained models that write rubbish, and the problems."""
    root = tmp_path_factory.mktemp("reasoning")
    tokenizer = train_tokenizer([GOOD_ANNA, FELL, *(p.text() for p in PROMPTS)], vocab_size=280)
    for name, seed in (("one", 1), ("two", 2)):
        model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=400, seed=seed)
        save(model, tokenizer, root / name)
    rows = [
        {
            "prompt": [{"role": "user", "content": p.text()}],
            "task": p.task,
            "reference": dict(p.reference or {}),
        }
        for p in PROMPTS
    ]
    write_jsonl_atomic(root / "prompts.jsonl", rows)
    return root


@pytest.mark.slow
def test_the_command_from_a_file_to_a_report(folder: Path) -> None:
    out, said = folder / "runs" / "reasoning", io.StringIO()
    settings = ReasoningSettings(
        models=[f"before={folder / 'one'}", f"after={folder / 'two'}"],
        prompts=str(folder / "prompts.jsonl"),
        out=out,
        max_new_tokens=12,
        samples=2,
        resamples=100,
        precision="fp32",
        kernels="off",
    )
    launch("eval reasoning", settings, Console(file=said, width=80))
    lines = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [p.id for p in read_back(folder)]
    for line in lines:
        for given in line["responses"].values():
            assert len(given["sampled"]) == 2 and not given["greedy"]["sound"]
            assert "".join(s["text"] for s in given["greedy"]["steps"]) == given["greedy"]["text"]
    rows = json.loads((out / "results.json").read_text())
    value = {(r["model"], r["metric"], r["task"]): r["value"] for r in rows}
    assert value["before", "reasoning/sound_sampled", "all"] == 0
    assert ("after", "reasoning/sound_difference", "all") in value
    assert "before: 3 of 3 greedy solutions have no end within max_new_tokens=12" in " ".join(
        said.getvalue().split()
    )
    assert "Right and sound" in said.getvalue() and "var(" not in (out / "reasoning.svg").read_text()
    html = report.render(report.build(find([out]), title="T"))
    assert re.search(r"<h2[^>]*>Reasoning</h2>", html) and "after less before" in html
    assert "Reasoning: more is better" in html


def read_back(folder: Path) -> list[Prompt]:
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    return [Prompt.from_json(row["prompt"], row["task"], row["reference"]) for row in rows]
