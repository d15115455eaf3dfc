"""A report of measurements of files: what the page shows is in their rows, and it says where the numbers come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evals.synthetic import write_run
from tests.evals.test_report import Reader
from tutelage.evals import figures, report
from tutelage.evals.folders import RunFolder, find
from tutelage.evals.page.files import sections
from tutelage.evals.rows import Row, to_json

SHARE = "share"


def share(model: str, metric: str, value: float | None, task: str = "all", n: int = 40) -> Row:
    low, high = (None, None) if value is None else (value - 0.05, value + 0.07)
    return Row(model, metric, task, value, low, high, n, SHARE)


def pairs(folder: Path) -> list[Row]:
    tasks = [("accuracy", "all"), ("accuracy", "hep-go"), ("accuracy_section", "Reasoning")]
    values = {"mine": 0.81, "longer wins": 0.61, "shorter wins": 0.39}
    rows = [
        share(m, metric, v + 0.01 * k, task)
        for m, v in values.items()
        for k, (metric, task) in enumerate(tasks)
    ]
    return kept(folder, "eval pairs", rows)


def steps(folder: Path) -> list[Row]:
    metrics = ("first_error_accuracy", "sound_accuracy", "first_error_f1")
    rows = [
        share(model, metric, value, task)
        for model, value in (("prm", 0.6), ("no error", 0.1), ("longest step", 0.2), ("longer half", 0.3))
        for task in ("gsm8k", "all")
        for metric in metrics
    ]
    return kept(folder, "eval steps", [*rows, share("prm", "step_accuracy", 0.91)])


def outputs(folder: Path) -> list[Row]:
    name = "rouge_l|rouge-score:0.1.2|bs:300"
    rows = [
        Row(model, "rouge_l", "all", value, value - 0.1, value + 0.1, 9, "overlap", name)
        for model, value in (("<b>sft", 0.31), ("ppo", 0.42))
    ]
    rows.append(Row("ppo", "rouge_l_difference", "all", 0.11, 0.02, 0.2, 9, "overlap", name))
    return kept(folder, "eval outputs", rows, baseline="<b>sft", outputs={"<b>sft": 9, "ppo": 9})


def verdicts(folder: Path) -> list[Row]:
    rows = [share(f"m{i}", "win_rate", 0.9 - 0.02 * i, n=805) for i in range(33)]
    rows.append(Row("base", "strength", "all", 0.0, -0.1, 0.1, 805, "logit"))
    return kept(folder, "eval verdicts", rows, baseline="base", judge="gpt")


def kept(folder: Path, command: str, rows: list[Row], **facts: object) -> list[Row]:
    given = {"resamples": 300, "seed": 7}
    write_run(folder, command, inputs={"data": "some/data.jsonl"}, settings=given, **facts)
    (folder / "results.json").write_text(json.dumps(to_json(rows)))
    return rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    for make in (pairs, steps, outputs, verdicts):
        make(made / make.__name__)
    report.write(find([made]), made, title="Files")
    return made


def test_every_number_of_the_runs_is_on_the_page_and_in_its_results(root: Path) -> None:
    page = Reader((root / "report.html").read_text())
    known = {row["value"] for row in json.loads((root / "results.json").read_text())}
    assert set(page.values) <= known
    for run in ("pairs", "steps", "outputs", "verdicts"):
        own = {row["value"] for row in json.loads((root / run / "results.json").read_text())}
        assert own <= set(page.values), run
    assert "No evaluation yet" not in page.text and len(page.ids) == len(set(page.ids))


def test_what_it_says(root: Path) -> None:
    text = (root / "report.html").read_text()
    words = " ".join(Reader(text).text.split())
    assert (
        "mine scores the right response highest on 81 % [76, 88] of 40 rows; always taking the longer one gets 61 %"
        in words
    )
    assert "prm finds 60 % [55, 67] of the first errors of 40 solutions in files, and leaves 60 %" in words
    assert "m0 is preferred to base on 90 % [85, 97] of 805 instructions." in words
    assert "eval steps|tutelage:0.1.0|bs:300|rs:7|data:1111111111" in words
    assert "rouge_l|rouge-score:0.1.2|bs:300" in words and "Less <b>sft, on the same prompts" in words
    assert "<b>sft" not in text
    assert "The first 30 of 33." in words and "the baseline" in words


def test_what_is_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each section (without sections for each subset), task, measure or generator; baselines in quiet colours."""
    drawn: dict[str, list[tuple[str, str, float, int]]] = {}

    def dots(title: str, found: list[figures.Dot], x_label: str, **more: object) -> str:
        drawn[title] = [(dot.name, dot.group, dot.value, dot.slot) for dot in found]
        return "<svg></svg>"

    monkeypatch.setattr(figures, "dots", dots)
    sections([RunFolder(root / name, name) for name in ("pairs", "steps", "outputs", "verdicts")])
    assert drawn["The right response scored highest"] == [
        ("mine", "Reasoning", pytest.approx(0.83), 1),
        ("longer wins", "Reasoning", pytest.approx(0.63), 0),
        ("shorter wins", "Reasoning", pytest.approx(0.41), 5),
    ]
    assert ("prm", "gsm8k", 0.6, 1) in drawn["F1 of first errors"] and len(drawn["F1 of first errors"]) == 8
    assert [dot[:3] for dot in drawn["Overlap with the references"]] == [
        ("<b>sft", "ROUGE-L", 0.31),
        ("PPO", "ROUGE-L", 0.42),
    ]
    assert len(drawn["Preferred to base"]) == 30


def test_refinements_are_shown_by_how_they_ended(tmp_path: Path) -> None:
    line = {
        "step": 0,
        "refined_problems": 40,
        "refined_accepted": 10,
        "refined_sound": 28,
        "refined_handed_up": 2,
    }
    line |= {"refined_broken": 0, "first_right_rate": 0.5, "corrections": 44, "refine_minutes": 90.5}
    line |= {"sound_after/rewritten": 0.62, "sound_after/rewritten_form": 0.57}
    write_run(tmp_path / "refined", "refine", metrics=[line])
    [found] = sections([run for run in find([tmp_path]) if run.command == "refine"])
    shown = {name: cells[0].text for _, lines in found.table.parts for name, _, cells in lines if cells[0]}
    assert shown["accepted: 10"] == "25 %" and shown["handed up: 2"] == "5.0 %" and "broken: 0" not in shown
    assert (shown["Sound after a step put in"], shown["Sound after a step put in, by the closed form"]) == (
        "62 %",
        "57 %",
    )
    assert (shown["Minutes"], shown["Corrections"]) == ("90.5", "44")
    assert found.title == "Refinements" and len(found.figures) == 1
