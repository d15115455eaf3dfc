"""Pipelines: references between stages, skipping, going on, and plans that are refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage import pipeline
from tutelage.evals import rows
from tutelage.runs import Run
from tutelage.settings.base import setting
from tutelage.settings.groups import Reward, RunSettings
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.stopping import Until

WORLD = {
    "command": "world",
    "documents": 30,
    "demonstrations": 10,
    "prompts": 10,
    "heldout_prompts": 4,
}


def settings(folder: Path, *stages: dict[str, Any], **shared: Any) -> RunPipelineSettings:
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


def test_servers_draw_for_the_stages_whose_policy_learns(tmp_path: Path) -> None:
    """And for no other: a server's weights move on, and what `sample` and `eval` draw from stands in their settings."""
    a, b = "http://localhost:8000", "http://localhost:8001"
    policy = {"prompts": "p.jsonl", "reward": "length"}
    stages = (
        {"command": "sample", "model": "m", "prompts": "p.jsonl"},
        {"command": "ppo", "model": "m", **policy},
        {"command": "reinforce", "model": "m", **policy, "rollouts": b},
        {"command": "raft", "model": "m", **policy, "rollouts": "local"},
        {"command": "eval", "models": ["m"], "prompts": "p.jsonl"},
        {"command": "mark", "model": "m", "prompts": "p.jsonl"},
    )
    plan = settings(tmp_path, *stages, rollouts=a)
    drawn = {stage.name: getattr(stage.settings, "rollouts", None) for stage in pipeline.plan(plan)}
    assert drawn == {"sample": "local", "ppo": a, "reinforce": b, "raft": "local", "eval": {}, "mark": 8}
    with pytest.raises(ValueError, match=f"rollouts={a} is for stages whose policy learns .* there is none"):
        pipeline.plan(
            settings(tmp_path, *(stage for stage in stages if stage["command"] != "ppo"), rollouts=a)
        )
    with pytest.raises(ValueError, match="nonsense is no address of a server"):
        settings(tmp_path, *stages, rollouts="nonsense")


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


def block(*stages: dict[str, Any], times: Any = 2) -> dict[str, Any]:
    return {"repeat": times, "stages": list(stages)}


SAMPLE = {
    "command": "sample",
    "model": "@prev/ppo | @sft",
    "prompts": "p.jsonl",
    "project": "round-{round}",
    "seed": "{round}",
}
REWARD = {"command": "reward", "data": "store:round-{rounds}", "previous": "@prev/reward | "}
PPO = {"command": "ppo", "model": "@sft", "reward": "@reward", "prompts": "p.jsonl"}
SFT = {"command": "sft", "data": "d.jsonl"}


def test_rounds_refer_to_each_other(tmp_path: Path) -> None:
    late = {
        "command": "eval",
        "prompts": "h.jsonl",
        "models": ["sft=@sft", "round-{rounds}=@all/ppo", "@ppo"],
    }
    report = {"command": "report", "runs": ["@round-1/ppo", "@all/reward"]}
    stages = pipeline.plan(settings(tmp_path, SFT, block(SAMPLE, REWARD, PPO, times=3), late, report))
    names = [stage.name for stage in stages]
    of_rounds = [f"round-{n}/{name}" for n in (1, 2, 3) for name in ("sample", "reward", "ppo")]
    assert names == ["sft", *of_rounds, "eval", "report"]
    by_name: dict[str, Any] = {stage.name: stage.settings for stage in stages}
    at = {name: str(tmp_path / name) for name in names}
    assert [str(by_name[name].out) for name in names] == list(at.values())
    samples = [by_name[f"round-{n}/sample"] for n in (1, 2, 3)]
    assert [one.model for one in samples] == [at["sft"], at["round-1/ppo"], at["round-2/ppo"]]
    assert [(one.project, one.seed) for one in samples] == [("round-1", 1), ("round-2", 2), ("round-3", 3)]
    rewards = [by_name[f"round-{n}/reward"] for n in (1, 2, 3)]
    assert [one.data for one in rewards] == [
        ["store:round-1"],
        ["store:round-1", "store:round-2"],
        ["store:round-1", "store:round-2", "store:round-3"],
    ]
    assert [one.previous for one in rewards] == ["", at["round-1/reward"], at["round-2/reward"]]
    assert by_name["round-2/ppo"].reward == at["round-2/reward"]
    ppos = [at[f"round-{n}/ppo"] for n in (1, 2, 3)]
    assert by_name["eval"].models == [
        f"sft={at['sft']}",
        *(f"round-{n}={ppo}" for n, ppo in enumerate(ppos, 1)),
        ppos[-1],
    ]
    assert by_name["report"].runs == [ppos[0], *(at[f"round-{n}/reward"] for n in (1, 2, 3))]


def test_a_stage_later_in_the_round_is_there_for_the_rounds_before(tmp_path: Path) -> None:
    """`@all/NAME` of a later stage is empty in the first round; a reward's options may have an @ of their own."""
    before = {"command": "sft", "data": ["d.jsonl", "@all/sample/samples.jsonl"]}
    sample = {"command": "sample", "model": "@sft", "prompts": "p.jsonl"}
    mixed = [{"judge": "@prev/rm | @base", "name": "a@rm"}]
    stages = pipeline.plan(
        settings(
            tmp_path,
            {"command": "reward", "name": "base"},
            block(before, sample, {"command": "reward", "name": "rm"}, PPO | {"reward": mixed}),
        )
    )
    made: dict[str, Any] = {stage.name: stage.settings for stage in stages}
    assert made["round-1/sft"].data == ["d.jsonl"]
    assert made["round-2/sft"].data == ["d.jsonl", f"{tmp_path}/round-1/sample/samples.jsonl"]
    judges = [made[f"round-{n}/ppo"].reward[0] for n in (1, 2)]
    assert judges[0]["judge"] == f"{tmp_path}/base" and judges[1]["judge"] == f"{tmp_path}/round-1/rm"
    assert {judge["name"] for judge in judges} == {"a@rm"}


def test_a_stage_judges_as_a_language_model(tmp_path: Path) -> None:
    judge = {"judge": "llm:@prev/policy | llm:@sft", "template": "rating"}
    policy = {
        "command": "online-dpo",
        "name": "policy",
        "model": "@prev/policy | @sft",
        "reward": [judge],
        "prompts": "p.jsonl",
    }
    made: dict[str, Any] = {
        stage.name: stage.settings for stage in pipeline.plan(settings(tmp_path, SFT, block(policy)))
    }
    judges = [made[f"round-{n}/policy"].reward[0]["judge"] for n in (1, 2)]
    assert judges == [f"llm:{tmp_path}/sft", f"llm:{tmp_path}/round-1/policy"]


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ([block(SFT, times=0)], "stage 1: repeat is 0, but it is how often"),
        ([block(SFT, times="2")], "stage 1: repeat is '?2'?, but it is how often"),
        ([block(SFT, times=True)], "stage 1: repeat is true, but it is how often"),
        ([{"repeat": 2}], "stage 1: 'repeat' wants 'stages'"),
        ([block(SFT) | {"seed": 1}], "stage 1: a block has 'repeat', 'stages' and 'until', and no 'seed'"),
        ([block(block(SFT))], "stage 1.1: a block stands in a block"),
        ([block(SFT), block(SFT)], "stage 2: a pipeline has one block"),
        ([SFT, block(SFT)], "stage 2: the name 'sft' is taken by an earlier stage"),
        ([block(SFT, SFT)], "stage 1.2 in round 1: the name 'sft' is taken"),
        ([block(SFT), SFT], "stage 2: the name 'sft' is taken"),
        ([SFT | {"name": "prev"}], "stage 1: the name 'prev' means something else behind an @"),
        ([SFT | {"name": "round-3"}], "stage 1: the name 'round-3' means something else"),
        ([SFT, PPO | {"model": "@prev/sft | @sft"}], "stage 2: .*@prev is the round before, .* in no block"),
        ([SFT, PPO | {"model": "@all/sft"}], "stage 2: '@all/sft' is about rounds, and no block"),
        ([SFT, PPO | {"model": "@round-1/sft"}], "stage 2: '@round-1/sft' is about rounds, and no block"),
        ([SFT | {"data": "x-{round}.jsonl"}], "stage 1: .*{round} is the number of a round"),
        ([SFT | {"data": "x-{rounds}.jsonl"}], "stage 1: .* is about rounds, and no block"),
        ([block(SFT, PPO | {"model": "@prev/ppo"})], "stage 1.2 in round 1: .*say what it has instead"),
        ([block(SFT, PPO | {"model": "@prev/pop | @sft"})], "'@prev/pop' names no stage .* did you mean '@prev/ppo'"),
        ([block(SFT, PPO | {"model": "@prev/ppo | @prev/sft"})], "which knows no @prev"),
        ([block(SFT, PPO | {"model": "@all/zzz"})], "'@all/zzz' names no stage of the block: it has sft, ppo"),
        ([block(SFT | {"model": "@ppo"}, PPO)], "stage 1.1 in round 1: '@ppo' .* it comes later in the round"),
        ([block(SFT, PPO | {"model": "@round-2/sft"})], "stage 1.2 in round 1: '@round-2/sft': there are only 1"),
        ([block(SFT | {"model": "@round-1/ppo"}, PPO)], "'@round-1/ppo' comes later than this stage"),
        ([SFT, PPO | {"model": "@prev"}], "'@prev' names no earlier stage: write '@prev/NAME'"),
        ([block(SFT, {"command": "serve"})], "stage 1.2 in round 1: 'serve' writes no run folder"),
    ],
)  # fmt: skip
def test_bad_rounds_are_refused_in_one_sentence(
    tmp_path: Path, stages: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        pipeline.plan(settings(tmp_path / "p", *stages))
    assert "\n" not in str(error.value) and not (tmp_path / "p").exists()


def audited(
    folder: Path, values: list[float], monkeypatch: pytest.MonkeyPatch, fall: float
) -> tuple[list[str], str]:
    """Which stages run, and what is said, where the audits of the rounds come out so."""
    left, ran = list(values), []

    def start(stage: pipeline.Stage, reason: str, console: Console) -> None:
        ran.append(stage.name)
        stage.folder.mkdir(parents=True)
        if stage.command == "label":
            rows = [
                {
                    "model": f"judge-{stage.round}",
                    "metric": "gold_agreement",
                    "task": "all",
                    "value": left.pop(0),
                }
            ]
            (stage.folder / "results.json").write_text(json.dumps(rows))

    monkeypatch.setattr(pipeline, "start", start)
    until = {"stage": "audit", "metric": "gold_agreement", "model": "judge-{round}", "fall": fall}
    rounds = block(
        {"command": "label", "name": "audit"}, PPO | {"model": "base", "reward": "base"}, times=len(values)
    ) | {"until": until}
    after = {"command": "report", "runs": ["@all/ppo"]}
    said = run(settings(folder, SFT, rounds, after))
    return ran, said


def test_rounds_stop_where_the_audit_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round that fell goes no further, and what comes behind the block knows the rounds before it alone."""
    ran, said = audited(tmp_path / "falls", [0.7, 0.8, 0.75, 0.9], monkeypatch, 0.02)
    assert ran == [
        "sft", "round-1/audit", "round-1/ppo", "round-2/audit", "round-2/ppo", "round-3/audit", "report",
    ]  # fmt: skip
    assert (
        "round-3/audit: gold_agreement has fallen from 0.800 to 0.750, so that round 2 is the last." in said
    )
    ran, said = audited(tmp_path / "little", [0.7, 0.8, 0.79, 0.9], monkeypatch, 0.02)
    assert ran.count("report") == 1 and "round-4/ppo" in ran and "fallen" not in said
    stages = pipeline.plan(
        settings(tmp_path / "p", block(SFT, times=3), {"command": "report", "runs": ["@all/sft"]}), 2
    )
    assert stages[-1].settings.runs == [f"{tmp_path}/p/round-{n}/sft" for n in (1, 2)]  # type: ignore[attr-defined]


def test_what_is_watched_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until = {"stage": "sft", "metric": "gold", "model": "judge", "fall": 0.1}
    for wrong, sentence in (
        ({"stage": "stf"}, "stage 1: until names 'stf', which is no stage of the block: did you mean 'sft'"),
        ({"fall": -1}, "stage 1: until: .*fall"),
        ({"metrics": "gold"}, "stage 1: until: unknown setting 'metrics'"),
    ):
        with pytest.raises(ValueError, match=sentence) as error:
            pipeline.plan(settings(tmp_path / "p", block(SFT) | {"until": until | wrong}))
        assert "\n" not in str(error.value)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text('[{"model": "other", "metric": "gold", "task": "all", "value": 1}]')
    with pytest.raises(ValueError, match="has not measured 'gold' of judge: it has none"):
        Until(**until).value(folder, 1)
    assert Until(**until | {"model": ""}).value(folder, 1) == 1.0


@pytest.mark.slow
def test_rounds_are_skipped_go_on_and_are_listed(tmp_path: Path) -> None:
    """More rounds leave those that are there untouched; what was stopped goes on; a listing runs nothing."""
    world = WORLD | {"documents": 5, "seed": "{round}"}
    assert "round-1/world  world" in listing(tmp_path, block(world)) and not (tmp_path / "round-1").exists()
    run(settings(tmp_path, block(world, times=1)))
    text = run(settings(tmp_path, block(world)))
    assert text.count("unchanged, skipped") == 1 and (tmp_path / "round-2" / "world").is_dir()
    assert listing(tmp_path, block(world)).count("unchanged, skipped") == 2
    lineage = tmp_path / "round-1" / "world" / "lineage.json"
    lineage.write_text(json.dumps(json.loads(lineage.read_text()) | {"state": "running"}))
    lines = listing(tmp_path, block(world, times=3)).splitlines()[1:4]
    told = [line.strip().split("  ")[-1] for line in lines]
    assert told == ["goes on", "skipped unless its inputs change", "runs"]
    assert "runs again: documents has changed" in listing(tmp_path, block(world | {"documents": 31}))


def listing(folder: Path, *stages: dict[str, Any]) -> str:
    plan = settings(folder, *stages).model_copy(update={"plan": True})
    return run(plan)


def test_rounds_end_where_until_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round in which it holds is done whole and is the last, also for what stands behind the block, and when run again."""
    accuracy = iter([0.8, 0.52, 0.9])
    started: list[str] = []

    def start(stage: pipeline.Stage, reason: str, console: Console) -> None:
        started.append(stage.name)
        stage.folder.mkdir(parents=True)
        if stage.command == "reward":
            line = json.dumps({"step": 5, "eval_accuracy": next(accuracy)})
            (stage.folder / "metrics.jsonl").write_text('{"step": 1, "eval_accuracy": 0.5}\n' + line + "\n")

    monkeypatch.setattr(pipeline, "start", start)
    monkeypatch.setattr(pipeline, "why_run", lambda stage: None if stage.folder.exists() else "")
    until = {"stage": "reward", "metric": "eval_accuracy", "below": 0.55}
    late = {"command": "eval", "prompts": "h.jsonl", "models": ["sft=@sft", "round-{rounds}=@all/ppo"]}
    plan = settings(tmp_path, SFT, block(SAMPLE, REWARD, PPO, times=4) | {"until": until}, late)
    said = run(plan)
    whole = [f"round-{n}/{name}" for n in (1, 2) for name in ("sample", "reward", "ppo")]
    assert started == ["sft", *whole, "eval"]
    assert "reward: eval_accuracy is 0.52, below 0.55, so that round 2 is the last." in said
    again = run(plan)
    assert started == ["sft", *whole, "eval"] and again.count("unchanged, skipped") == 8


@pytest.mark.parametrize(
    ("until", "sentence"),
    [
        ("reward", "stage 1: until is reward: write it like {stage: reward, metric: accuracy, below: 0.55}"),
        ({"stage": "reward", "metric": "x"}, "stage 1: until: .*one of below, above and fall"),
        ({"stage": "reward", "metric": "x", "below": 1, "above": 2}, "stage 1: until: .*one of below, above and fall"),
        ({"stage": "reward", "metric": "x", "below": "low"}, "stage 1: until: .*below"),
        ({"stage": "sft", "metric": "x", "below": 1}, "stage 1: until names 'sft', which is no stage .*: it has sample, reward"),
    ],
)  # fmt: skip
def test_an_end_that_cannot_be_is_refused(tmp_path: Path, until: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        pipeline.plan(settings(tmp_path, block(SAMPLE, REWARD) | {"until": until}))


def test_a_metric_that_is_not_measured_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "round-2" / "reward"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 1, "eval_accuracy": 0.5}\n')
    until = {"stage": "reward", "metric": "eval_acuracy", "below": 0.5}
    with pytest.raises(ValueError, match="has not measured 'eval_acuracy': did you mean 'eval_accuracy'"):
        Until(**until).last(2, folder, None)
    rows.write(
        folder, [rows.Row("reward", "accuracy@round-2", "all", 0.7), rows.Row("reward", "x", "maths", 0.1)]
    )
    by_round = {"stage": "reward", "metric": "accuracy@round-{round}"}
    assert Until(**by_round, above=0.75).last(2, folder, None) is None
    assert Until(**by_round, above=0.65).last(2, folder, None) == (2, "accuracy@round-2 is 0.7, above 0.65")
