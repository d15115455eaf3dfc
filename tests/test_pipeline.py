"""Pipelines: references between stages, skipping, going on, and plans that are refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage import pipeline
from tutelage.runs import Run
from tutelage.settings.base import setting
from tutelage.settings.groups import Reward, RunSettings
from tutelage.settings.pipeline import RunPipelineSettings

WORLD = {
    "command": "world",
    "documents": 30,
    "demonstrations": 10,
    "prompts": 10,
    "heldout_prompts": 4,
}


def settings(folder: Path, *stages: dict[str, Any], **shared: int) -> RunPipelineSettings:
    return RunPipelineSettings.model_validate({"stages": list(stages), "out": folder, **shared})


def run(plan: RunPipelineSettings) -> str:
    console = Console(record=True, width=200)
    pipeline.main(plan, console)
    return console.export_text()


def test_names_stand_for_folders_and_shared_settings_are_handed_on(tmp_path: Path) -> None:
    stages = pipeline.plan(
        settings(
            tmp_path,
            WORLD,
            {"command": "pretrain", "name": "base", "data": "@world/pretrain.jsonl"},
            {"command": "sft", "model": "@base", "data": "@world/demonstrations.jsonl", "seed": 5},
            {"command": "sample", "model": "@sft", "prompts": "@world/prompts_train.jsonl"},
            {
                "command": "eval",
                "models": ["base=@base", "sft=@sft"],
                "prompts": "@world/prompts_heldout.jsonl",
            },
            seed=3,
            split_seed=2,
        )
    )
    world, base, sft, sample, evaluation = (stage.settings for stage in stages)
    assert base.data == f"{tmp_path}/world/pretrain.jsonl" and base.out == tmp_path / "base"  # type: ignore[attr-defined]
    assert (world.seed, base.seed, sft.seed) == (3, 3, 5)  # type: ignore[attr-defined]
    assert (base.split_seed, sft.split_seed) == (2, 2)  # type: ignore[attr-defined]
    assert sample.store == f"{tmp_path}/store.sqlite"  # type: ignore[attr-defined]
    assert evaluation.models == [f"base={tmp_path}/base", f"sft={tmp_path}/sft"]  # type: ignore[attr-defined]


class Rewarded(RunSettings):
    """As the settings of an on-policy command."""

    reward: Reward = setting("runs/reward", "Who scores.")


def test_names_stand_for_folders_within_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where they begin a value: an option may have an @ of its own."""
    monkeypatch.setattr(pipeline, "settings_class", lambda command: Rewarded)
    reward = [
        "@world",
        {"judge": "@world/reward", "weight": 0.5, "name": "mail@world"},
        {"judge": ["@world", "runs/o@ther"], "combine": "worst"},
    ]
    _, stage = pipeline.plan(settings(tmp_path, {"command": "world"}, {"command": "ppo", "reward": reward}))
    assert stage.settings.reward == [  # type: ignore[attr-defined]
        f"{tmp_path}/world",
        {"judge": f"{tmp_path}/world/reward", "weight": 0.5, "name": "mail@world"},
        {"judge": [f"{tmp_path}/world", "runs/o@ther"], "combine": "worst"},
    ]
    for wrong, sentence in (
        ([{"judge": "@wrold"}], "stage 2: '@wrold' names no earlier stage: did you mean '@world'"),
        ([{"judge": "@world", "wieght": 1}], r"stage 2 \(ppo\): setting 'reward': part 1 .*'wieght'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pipeline.plan(settings(tmp_path, {"command": "world"}, {"command": "ppo", "reward": wrong}))


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ([{"name": "x"}], "stage 1 has no 'command'"),
        ([{"command": "wrold"}], "stage 1: there is no command 'wrold': did you mean 'world'"),
        ([{"command": "serve"}], "stage 1: 'serve' writes no run folder, so it cannot be a stage"),
        ([{"command": "feedback export"}], "stage 1: 'feedback export' writes no run folder"),
        (
            [WORLD, {"command": "sft", "data": "@wrold/x"}],
            "'@wrold' names no earlier stage: did you mean '@world'",
        ),
        ([{"command": "world", "documnets": 3}], "stage 1 .world.: unknown setting 'documnets'.*documents"),
        ([{"command": "sft", "data": "@world/x"}], "'@world' names no earlier stage"),
        ([WORLD | {"out": "elsewhere"}], "stage 1 has an 'out'"),
        ([WORLD, WORLD], "stage 2: the name 'world' is taken"),
    ],
)
def test_a_bad_plan_is_refused_before_anything_runs(
    tmp_path: Path, stages: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        pipeline.main(settings(tmp_path / "p", *stages), Console())
    assert not (tmp_path / "p").exists()


def test_unchanged_is_skipped_and_changed_runs_again(tmp_path: Path) -> None:
    run(settings(tmp_path, WORLD))
    before = (tmp_path / "world" / "lineage.json").read_text()
    assert "unchanged, skipped" in run(settings(tmp_path, WORLD))
    assert (tmp_path / "world" / "lineage.json").read_text() == before
    assert "documents has changed" in run(settings(tmp_path, WORLD | {"documents": 31}))
    assert len((tmp_path / "world" / "pretrain.jsonl").read_text().splitlines()) == 31
    assert len((tmp_path / "world.1" / "pretrain.jsonl").read_text().splitlines()) == 30  # nothing is deleted


def test_a_changed_input_makes_a_stage_stale(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one"}\n')
    plan = settings(tmp_path / "p", {"command": "pretrain", "data": str(data)})
    [stage] = pipeline.plan(plan)
    folder_run = Run.open(stage.folder, "pretrain", stage.settings)
    folder_run.input("data", data)
    assert pipeline.why_run(stage) == ""  # begun, not done
    folder_run.finish()
    folder_run.release()
    assert pipeline.why_run(stage) is None
    data.write_text('{"text": "two"}\n')
    assert pipeline.why_run(stage) == f"its input {data} has changed"


@pytest.mark.slow
def test_a_stage_that_failed_before_it_did_anything_is_corrected_in_place(tmp_path: Path) -> None:
    wrong = {"command": "pretrain", "data": str(tmp_path / "none.jsonl")}
    with pytest.raises(ValueError, match="does not exist"):
        run(settings(tmp_path, WORLD, wrong))
    assert json.loads((tmp_path / "pretrain" / "lineage.json").read_text())["state"] == "failed"
    right = settings(tmp_path, WORLD, {"command": "pretrain", "data": "@world/pretrain.jsonl"})
    assert [pipeline.why_run(stage) for stage in pipeline.plan(right)] == [None, ""]


def test_a_stage_of_another_command_is_set_aside(tmp_path: Path) -> None:
    run(settings(tmp_path, WORLD | {"name": "data"}))
    [stage] = pipeline.plan(settings(tmp_path, {"command": "label", "name": "data"}))
    assert pipeline.why_run(stage) == "it is a run of 'world'"


def test_a_stopped_stage_goes_on(tmp_path: Path) -> None:
    run(settings(tmp_path, WORLD))
    lineage = json.loads((tmp_path / "world" / "lineage.json").read_text())
    (tmp_path / "world" / "lineage.json").write_text(json.dumps(lineage | {"state": "running"}))
    run(settings(tmp_path, WORLD))
    assert json.loads((tmp_path / "world" / "lineage.json").read_text())["state"] == "done"
    assert not (tmp_path / "world.1").exists()
