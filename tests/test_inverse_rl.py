"""The pipelines of docs/inverse-rl.md: what goes from round to round, and a small one that ends where `until` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage import pipeline
from tutelage.evals.rows import read
from tutelage.settings.irl import ContrastSettings
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.settings.preference import DPOSettings
from tutelage.settings.reward import RewardSettings
from tutelage.settings.rl import ReinforceSettings
from tutelage.settings.yaml12 import read_mapping

DOCS = Path(__file__).resolve().parent.parent / "docs"


def planned(name: str, out: Path) -> dict[str, Any]:
    settings = RunPipelineSettings(**{**read_mapping(DOCS / name).values, "out": out})
    return {stage.name: stage.settings for stage in pipeline.plan(settings)}


def test_adversarial_rounds(tmp_path: Path) -> None:
    """Own responses of the last policy; pairs of all rounds; the policy always from the same start."""
    found = planned("adversarial.yaml", tmp_path)
    second: ContrastSettings = found["round-2/contrast"]
    assert found["round-1/contrast"].model == str(tmp_path / "sft")
    assert (second.model, second.project) == (str(tmp_path / "round-1" / "reinforce"), "round-2")
    reward: RewardSettings = found["round-2/reward"]
    assert reward.data == ["store:round-1", "store:round-2"] and reward.store == second.store
    policy: ReinforceSettings = found["round-2/reinforce"]
    assert (policy.model, policy.reward) == (str(tmp_path / "sft"), str(tmp_path / "round-2" / "reward"))


def test_spin_rounds(tmp_path: Path) -> None:
    """Whoever wrote the rejected responses is the start, and so the reference."""
    found = planned("spin.yaml", tmp_path)
    for number, before in ((1, "sft"), (2, "round-1/dpo")):
        policy: DPOSettings = found[f"round-{number}/dpo"]
        assert policy.model == found[f"round-{number}/contrast"].model == str(tmp_path / before)
        assert policy.data == str(tmp_path / f"round-{number}" / "contrast" / "preference.jsonl")
        assert (policy.preset, policy.loss, policy.beta) == ("spin", "sigmoid", 1.0)


@pytest.mark.slow
def test_a_small_one_ends_where_until_says(tmp_path: Path) -> None:
    """Two rounds of four: the second has its accuracies by project, and what stands behind the block sees both."""
    given = read_mapping(DOCS / "adversarial.yaml").values
    least = {
        "documents": 200, "demonstrations": 60, "prompts": 20, "heldout_prompts": 8, "layers": 1, "hidden_size": 32,
        "vocab_size": 400, "max_steps": 3, "batch_size": 4, "resamples": 100,
    }  # fmt: skip

    def shrunk(stage: dict[str, Any]) -> dict[str, Any]:
        return {**stage, **{key: least[key] for key in stage if key in least and isinstance(stage[key], int)}}

    until = {"stage": "contrast", "metric": "step_of_no_such", "above": 0}
    stages = [
        {**one, "stages": [shrunk(inner) for inner in one["stages"]], "until": until}
        if "repeat" in one
        else shrunk(one)
        for one in given["stages"]
    ]
    settings = RunPipelineSettings(**{**given, "stages": stages, "out": tmp_path})
    console = Console(record=True, width=200)
    with pytest.raises(ValueError, match="has not measured 'step_of_no_such'"):
        pipeline.main(settings, console)
    until.update(stage="reward", metric="accuracy@round-2", above=-1)
    with pytest.raises(ValueError, match="'accuracy@round-2': did you mean 'accuracy@round-1'"):
        pipeline.main(settings, console)
    until.update(metric="accuracy@round-{round}", above=2)
    fewer = [{**one, "repeat": 2} if "repeat" in one else one for one in stages]
    pipeline.main(settings.model_copy(update={"stages": fewer}), console)
    until.update(above=-1)  # now it holds in the first round, which is then the last for what stands behind
    pipeline.main(settings.model_copy(update={"stages": [*stages]}), console)
    assert "above -1, so that round 1 is the last" in console.export_text()
    metrics = {row.metric for row in read(tmp_path / "round-2" / "reward" / "results.json")}
    assert {"accuracy@round-1", "accuracy@round-2", "accuracy_previous@round-2"} <= metrics
    models = json.loads((tmp_path / "eval" / "lineage.json").read_text())["inputs"]
    assert [entry["name"] for entry in models if "round" in entry["name"]] == ["model round-1"]
