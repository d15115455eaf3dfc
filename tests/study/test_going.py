"""Running a grid: what is done is skipped, what fails stops only what needs it, a killed study goes on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.study.making import WORLD, planned, recorded, settings
from tutelage.runs import Run
from tutelage.settings.pipeline import StudySettings
from tutelage.store import Store
from tutelage.study import doing, study
from tutelage.study.plan import Study

AXES = {"documents": [5, 6], "seed": [0, 1]}
GRID = {**WORLD, "name": "grid", "documents": "$documents", "seed": "$seed"}


def run(given: StudySettings) -> str:
    console = recorded()
    try:
        study.main(given, console)
    finally:
        text = console.export_text()
    return text


def states(out: Path) -> dict[str, str]:
    found = {path.parent: json.loads(path.read_text()) for path in out.rglob("lineage.json")}
    return {str(path.relative_to(out)): lineage["state"] for path, lineage in found.items()}


def test_what_is_unchanged_is_skipped_and_what_changed_is_kept(tmp_path: Path) -> None:
    given = settings(tmp_path, AXES, WORLD, GRID, results="grid")
    run(given)
    names = ["world", *(f"grid/documents{d}-seed{s}" for d in (5, 6) for s in (0, 1))]
    assert states(tmp_path) == dict.fromkeys(names, "done")
    again = run(given)
    assert again.count("unchanged, skipped") == 5
    other = run(settings(tmp_path, AXES, WORLD, {**GRID, "careless": 0.9}, results="grid"))
    assert other.count("unchanged, skipped") == 1 and other.count("careless has changed") == 4
    assert set(states(tmp_path)) == {*names, *(f"{name}.1" for name in names[1:])}
    shown = run(given.model_copy(update={"plan": True}))
    assert shown.count("runs again: careless has changed") == 4 and "5 stages, 4 with results" in shown


FAILS = {
    "command": "report",
    "name": "broken",
    "where": {"documents": 6},
    "runs": ["there-is-none"],
    "seed": "$seed",
}
AFTER = {
    "command": "report",
    "name": "after",
    "where": {"documents": 6},
    "runs": ["@world", "@broken"],
    "title": "of $documents",
}


@pytest.mark.parametrize("parallel", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_fails_stops_only_what_needs_it(tmp_path: Path, parallel: int) -> None:
    stages = [WORLD, FAILS, AFTER, GRID]
    given = settings(tmp_path / "out", AXES, *stages, results="grid", parallel=parallel)
    with pytest.raises(
        ValueError, match=r"2 of 9 stages failed, and 2 wait for them .*the same command goes on"
    ):
        run(given)
    found = states(tmp_path / "out")
    assert sum(state == "done" for state in found.values()) == 5
    assert {name for name, state in found.items() if state == "failed"} == {
        f"broken/documents6-seed{seed}" for seed in (0, 1)
    }
    mended = [{**FAILS, "runs": ["@world"]} if stage is FAILS else stage for stage in stages]
    text = run(settings(tmp_path / "out", AXES, *mended, results="grid"))
    assert text.count("unchanged, skipped") == 5
    assert set(states(tmp_path / "out").values()) == {"done"}


def store_study(out: Path, judge: str = "world") -> Study:
    return planned(
        out,
        {"judge": [judge, "formula:flesch"]},
        {"command": "sample", "model": "hub/base", "prompts": "x.jsonl"},
        {"command": "label", "judge": "$judge"},
    )


def pretend(study: Study, name: str, **lineage: Any) -> None:
    """A run that is done, as it leaves its folder."""
    one = study.instances[name]
    opened = Run.open(one.stage.folder, one.stage.command, one.stage.settings, recorded())
    opened.begin()
    opened.note(**lineage)
    opened.finish()
    opened.release()


def test_a_label_stage_begins_with_a_copy_of_what_was_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its votes go nowhere else; when the responses are sampled anew it begins anew, and its store is kept."""
    found = store_study(tmp_path)
    sample, first, second = found.instances.values()
    assert sample.store and first.store and second.store

    def start(stage: Any, reason: str, console: Any) -> None:
        if reason:
            doing.pipeline.set_aside(stage.folder)
        with Store(stage.settings.store) as store:
            store.add_annotator(stage.name, "judge", {})
        pretend(found, stage.name)

    monkeypatch.setattr(doing.pipeline, "start", start)

    def do_all() -> list[bool]:
        return [doing.do(one, found.instances, recorded()) for one in found.instances.values()]

    assert do_all() == [True, True, True]
    assert do_all() == [False, False, False]

    def names(path: Path) -> set[str]:
        with closing(sqlite3.connect(path)) as store:
            return {name for (name,) in store.execute("SELECT name FROM annotator")}

    assert names(sample.store) == {"sample"}
    assert names(first.store) == {"sample", first.name} and names(second.store) == {"sample", second.name}
    pretend_again = sample.stage.folder / "lineage.json"
    lineage = json.loads(pretend_again.read_text())
    pretend_again.write_text(json.dumps({**lineage, "started_at": "2001-01-01T00:00:00+00:00"}))
    assert doing.why_run(first, found.instances) == "the store that it goes on from has changed"
    assert do_all() == [False, True, True]
    assert first.store.parent.with_name(f"{first.store.parent.name}.1").is_dir()
    assert do_all() == [False, False, False]


SEEDS = 5
LONG = {**WORLD, "name": "long", "documents": 4_000}  # begun last, and not done when the study is interrupted
STAGES = SEEDS + 2


def started(folder: Path) -> tuple[list[str], subprocess.Popen[str]]:
    """A study with two workers, in the middle; and its command without `parallel`."""
    grid = {**GRID, "documents": 50}
    given = {"out": "out", "axes": {"seed": list(range(SEEDS))}, "stages": [WORLD, grid, LONG]}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**given, "results": "grid"}))
    command = [sys.executable, "-m", "tutelage", "study", str(path)]
    process = subprocess.Popen(
        [*command, "parallel=2"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever was started in the background of a script ignores it, and so would what he starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while list(states(folder).values()).count("done") < 2:
        assert process.poll() is None
        time.sleep(0.05)
    return command, process


def nobody_left(group: int) -> None:
    """Wait until the process group is empty: workers and multiprocessing's own helper see the end a little later."""
    until = time.monotonic() + 60
    with suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            assert time.monotonic() < until, "a worker is left"
            time.sleep(0.05)


def goes_on(folder: Path, command: list[str]) -> None:
    """What is done is skipped, the rest is done."""
    done = [name for name, state in states(folder / "out").items() if state == "done"]
    assert 2 <= len(done) < STAGES
    text = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert text.count("unchanged, skipped") >= len(done)
    assert list(states(folder / "out").values()) == ["done"] * STAGES


@pytest.mark.slow
def test_a_killed_study_loses_nothing_and_leaves_nobody(tmp_path: Path) -> None:
    """Killed with kill -9 in the middle, with two workers; the same command goes on and skips what was done."""
    command, process = started(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    nobody_left(process.pid)  # the workers see that their parent is gone
    goes_on(tmp_path, command)


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_with_a_word(tmp_path: Path) -> None:
    """As a terminal sends it, to the whole group; nobody is left, and the same command goes on."""
    command, process = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130 and "interrupted" in told and "Traceback" not in told
    nobody_left(process.pid)
    goes_on(tmp_path, command)


@pytest.mark.slow
def test_stages_at_once_learn_what_they_learn_one_by_one(tmp_path: Path) -> None:
    """Real training in worker processes: the same numbers, and the report of all cells."""
    stages = [
        {**WORLD, "documents": 60, "demonstrations": 20, "prompts": 12, "heldout_prompts": 4},
        {
            "command": "pretrain",
            "data": "@world/pretrain.jsonl",
            "layers": 1,
            "hidden_size": 16,
            "heads": 2,
            "max_steps": 4,
        },
        {
            "command": "sft",
            "model": "@pretrain",
            "data": "@world/demonstrations.jsonl",
            "max_steps": 2,
            "learning_rate": "$rate",
            "seed": "$seed",
        },
        {
            "command": "eval",
            "models": ["sft=@sft"],
            "prompts": "@world/prompts_heldout.jsonl",
            "max_new_tokens": 4,
            "diversity_samples": 0,
            "resamples": 100,
        },
    ]
    more = {"results": "eval", "compare": {"rate": [0.001, 0.01]}, "measures": ["length"]}
    axes = {"rate": [0.001, 0.01], "seed": [0, 1]}
    for name, parallel in (("one", 1), ("two", 2)):
        run(settings(tmp_path / name, axes, *stages, **more, parallel=parallel))
    found = {name: json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")}
    measured = {
        name: [
            (r["axes"], r["metric"], r["value"])
            for r in rows
            if r["metric"] not in ("time", "seconds_per_answer")
        ]
        for name, rows in found.items()
    }
    assert len(measured["one"]) > 10 and measured["one"] == measured["two"]
    assert len(list((tmp_path / "two" / "logs").glob("sft.*.txt"))) == 4
