"""The pipeline of docs/comparison.md: its terms are equal, and a small one goes from world to table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tutelage import pipeline
from tutelage.evals.rows import read
from tutelage.pipeline import Stage
from tutelage.settings.onpolicy import RLSettings
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.settings.rollout import SelectSettings
from tutelage.settings.yaml12 import read_mapping

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "comparison.yaml"


def stages(given: dict[str, Any], out: Path) -> list[Stage]:
    return pipeline.plan(RunPipelineSettings(**{**given, "out": out}))


def test_every_method_has_the_same_responses_prompts_and_reward(tmp_path: Path) -> None:
    found = stages(read_mapping(EXAMPLE).values, tmp_path)
    drawn: dict[str, list[int]] = {}
    for stage in found:
        in_round, _, method = stage.name.rpartition("/")
        if not in_round:
            continue  # what comes before and after the comparison
        match stage.settings:
            case RLSettings() as s:
                drawn.setdefault(method, []).append(s.batch_size * s.samples * s.max_steps)
            case SelectSettings() as s:
                drawn.setdefault(method, []).append(s.max_prompts * s.samples)
            case s:
                continue
        assert (s.reward, s.model) == (str(tmp_path / "reward"), str(tmp_path / "sft"))
        assert s.prompts == str(tmp_path / "world" / "prompts_train.jsonl")
    assert len(drawn) == 10
    assert set(map(tuple, drawn.values())) == {(2560,) * 5}
    seeds = [(stage.name.partition("/")[0], stage.settings.seed) for stage in found if "/" in stage.name]
    assert set(seeds) == {(f"round-{seed}", seed) for seed in range(1, 6)}


def small(given: dict[str, Any]) -> dict[str, Any]:
    """The same stages, two rounds of them, with little work in each."""
    least = {
        "documents": 200, "demonstrations": 60, "layers": 1, "vocab_size": 400, "max_steps": 2, "max_new_tokens": 8,
        "max_prompts": 8, "samples": 4, "max_documents": 4, "batch_size": 4, "resamples": 100,
    }  # fmt: skip
    beside = {
        "world": {"prompts": 40, "heldout_prompts": 12},
        "select": {"keep_cut": True},  # such a model writes no end
        **{command: {"max_steps": 2} for command in ("pretrain", "sft", "reward")},
    }

    def shrink(stage: dict[str, Any]) -> dict[str, Any]:
        mine = {key: least[key] for key, value in stage.items() if key in least and isinstance(value, int)}
        return {**stage, **mine, **beside.get(stage["command"], {})}

    shrunk = []
    for stage in given["stages"]:
        if "repeat" in stage:
            shrunk.append({"repeat": 2, "stages": [shrink(inner) for inner in stage["stages"]]})
        else:
            shrunk.append(shrink(stage))
    return {**given, "stages": shrunk}


@pytest.mark.slow
def test_a_small_one_goes_from_world_to_table(tmp_path: Path) -> None:
    given = small(read_mapping(EXAMPLE).values)
    pipeline.main(RunPipelineSettings(**{**given, "out": tmp_path}), Console(quiet=True))
    rows = read(tmp_path / "methods" / "results.json")
    runs = {r.model: r.value for r in rows if r.metric == "runs"}
    once = {name for name, count in runs.items() if count == 1}
    assert once == {"sft", "sft-best-of-4", "sft-best-of-16"}
    assert len(runs) == 14 and {count for name, count in runs.items() if name not in once} == {2}
    generated = {r.model for r in rows if r.metric == "cost/tokens_generated"}
    assert {"ppo", "rloo", "raft"} <= generated
    page = (tmp_path / "report" / "report.html").read_text()
    assert "What each method is worth" in page
