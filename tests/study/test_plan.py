"""Which stages a grid has: shared ones once, stores of their own, and mistakes told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.study.making import WORLD, planned
from tutelage.settings.base import load
from tutelage.settings.pipeline import StudySettings
from tutelage.study.grid import folder_of, read_axes, substitute
from tutelage.study.plan import plan

ROOT = Path(__file__).parents[2]
AXES = {
    "feedback": {"human": {"judge": "world", "pairs": 4}, "ai": {"judge": "@helper", "pairs": 2}},
    "method": ["ppo", "dpo"],
    "seed": [0, 1, 2],
}
EVAL = {"command": "eval", "prompts": "x.jsonl"}
STAGES: list[dict[str, Any]] = [
    WORLD,
    {"command": "sft", "model": "hub/base", "data": "@world/demonstrations.jsonl"},
    {"command": "reward", "name": "helper", "model": "@sft", "data": "known.jsonl"},
    {"command": "sample", "model": "@sft", "prompts": "@world/prompts_train.jsonl", "seed": "$seed"},
    {"command": "label", "judge": "$feedback.judge", "pairs_per_prompt": "$feedback.pairs"},
    {"command": "reward", "where": {"method": "ppo"}, "model": "@sft"},
    {
        "command": "ppo",
        "name": "policy",
        "where": {"method": "ppo"},
        "model": "@sft",
        "reward": "@reward",
        "prompts": "@world/prompts_train.jsonl",
    },
    {"command": "dpo", "name": "policy", "where": {"method": "dpo"}, "model": "@sft"},
    {**EVAL, "models": ["sft=@sft", "policy=@policy"]},
]


def test_what_cells_share_is_there_once(tmp_path: Path) -> None:
    """By hand: 3 alone, 3 samples, 6 label runs, 6 reward models and 6 PPO runs, 6 DPO runs, 12 evaluations."""
    study = planned(tmp_path, AXES, *STAGES)
    counts: dict[str, int] = {}
    for one in study.instances.values():
        counts[one.of] = counts.get(one.of, 0) + 1
    assert counts == {
        "world": 1,
        "sft": 1,
        "helper": 1,
        "sample": 3,
        "label": 6,
        "reward": 6,
        "policy": 12,
        "eval": 12,
    }
    assert len(study.results) == 12
    one = study.instances["policy/human-ppo-seed1"]
    assert set(one.needs) == {"sft", "world", "reward/human-ppo-seed1"}
    assert one.stage.settings.reward == f"{tmp_path}/reward/human-ppo-seed1"  # type: ignore[attr-defined]
    evaluated = study.instances["eval/ai-dpo-seed2"].stage.settings
    assert evaluated.models == [f"sft={tmp_path}/sft", f"policy={tmp_path}/policy/ai-dpo-seed2"]  # type: ignore[attr-defined]
    assert list(study.instances).index("label/ai-seed0") < list(study.instances).index("reward/ai-ppo-seed0")
    behind = [one.name for one in study.behind("eval/human-dpo-seed0")]
    assert behind == [
        "world",
        "sft",
        "sample/seed0",
        "label/human-seed0",
        "policy/human-dpo-seed0",
        "eval/human-dpo-seed0",
    ]


def test_every_cell_has_a_store_of_its_own(tmp_path: Path) -> None:
    study = planned(tmp_path, AXES, *STAGES)
    sample, label = study.instances["sample/seed0"], study.instances["label/ai-seed0"]
    assert (sample.store, sample.store_from) == (tmp_path / "sample" / "seed0.store" / "store.sqlite", None)
    assert (label.store, label.store_from) == (
        tmp_path / "label" / "ai-seed0.store" / "store.sqlite",
        "sample/seed0",
    )
    assert label.stage.settings.store == str(label.store)  # type: ignore[attr-defined]
    assert label.stage.settings.judge == f"{tmp_path}/helper"  # type: ignore[attr-defined]
    assert set(label.needs) == {"helper", "sample/seed0"}
    for reader in ("reward/ai-ppo-seed0", "policy/ai-dpo-seed0"):
        one = study.instances[reader]
        assert one.store is None and one.stage.settings.store == str(label.store)  # type: ignore[attr-defined]
    helper = study.instances["helper"].stage.settings  # reads a file, so that it waits for no store
    assert helper.store == "runs/store.sqlite" and study.instances["helper"].needs == ("sft",)  # type: ignore[attr-defined]


def test_whoever_writes_into_a_store_has_one(tmp_path: Path) -> None:
    """Refining and contrasting begin one; contrasting into a file alone wants none."""
    study = planned(
        tmp_path,
        {"way": ["refined", "contrasted"]},
        {"command": "refine", "model": "hub/base", "prompts": "x.jsonl", "where": {"way": "refined"}},
        {"command": "contrast", "name": "file", "model": "hub/base", "data": "x.jsonl"},
        {"command": "contrast", "model": "hub/base", "data": "x.jsonl", "project": "main", "where": {"way": "contrasted"}},
        {"command": "assist", "assistant": "world", "where": {"way": "contrasted"}},
        {"command": "sft", "model": "hub/base", "data": "store:refine"},
    )  # fmt: skip
    begins = {one.name: (one.store, one.store_from) for one in study.instances.values()}
    first = tmp_path / "refine" / "refined.store" / "store.sqlite"
    second = tmp_path / "contrast" / "contrasted.store" / "store.sqlite"
    third = tmp_path / "assist" / "contrasted.store" / "store.sqlite"
    assert begins["refine/refined"] == (first, None) and begins["contrast/contrasted"] == (second, None)
    assert begins["file"] == (None, None) and begins["assist/contrasted"] == (third, "contrast/contrasted")
    stores = {one.name: one.stage.settings.store for one in study.results}  # type: ignore[attr-defined]
    assert stores == {"sft/refined": str(first), "sft/contrasted": str(third)}


def test_a_writer_in_some_cells_only_matters_there(tmp_path: Path) -> None:
    """DPO after a label stage that is only in the human cells: it depends on feedback, which none of its values uses."""
    study = planned(
        tmp_path,
        {"feedback": ["human", "none"]},
        {"command": "sample", "model": "hub/base", "prompts": "x.jsonl"},
        {"command": "label", "where": {"feedback": "human"}},
        {"command": "dpo", "model": "hub/base"},
    )
    stores = {one.name: one.stage.settings.store for one in study.results}  # type: ignore[attr-defined]
    assert stores == {
        "dpo/human": f"{tmp_path}/label/human.store/store.sqlite",
        "dpo/none": f"{tmp_path}/sample.store/store.sqlite",
    }


def test_values_keep_their_kind_and_stand_within_texts() -> None:
    axes = read_axes({"lr": {"low": 1e-4}, "task": ["summary"], "judge": {"ai": {"with": ["a", {"b": 1}]}}})
    cell = {"lr": "low", "task": "summary", "judge": "ai"}

    def put(value: Any) -> Any:
        return substitute(value, cell, axes)

    assert put("$lr") == 1e-4 and put({"x": ["$judge.with"]}) == {"x": [["a", {"b": 1}]]}
    assert put("@world/$task.jsonl") == "@world/summary.jsonl" and put("${task}s") == "summarys"
    assert put("$judge") == "ai" and put("costs $$5, r'^a$'") == "costs $5, r'^a$'"


def test_folders_are_short_and_safe() -> None:
    assert folder_of({"feedback": "ai", "seed": "0", "lr": "0.001"}) == "ai-seed0-lr0_001"
    assert folder_of({"judge": "a/b c"}) == "a_b_c"


BAD = {
    "names no earlier stage: did you mean '@sft'": [
        WORLD,
        {"command": "sft", "model": "b", "data": "d"},
        {**EVAL, "models": ["@sfd"], "seed": "$seed"},
    ],
    "there is no axis 'sed': did you mean 'seed'": [{**WORLD, "seed": "$sed"}],
    "feedback=human has no variable 'x' \\(it has judge, pairs\\)": [{**WORLD, "seed": "$feedback.x"}],
    "did you mean 'world'": [{"command": "wrld"}],
    "stage 1 at seed=0 \\(world\\): unknown setting 'doc'": [{**WORLD, "doc": 1, "seed": "$seed"}],
    "at method=dpo there is no stage 'only'": [
        {**WORLD, "name": "only", "where": {"method": "ppo"}},
        {**EVAL, "models": ["@only"], "prompts": "$method"},
    ],
    "the name 'world' is taken by stage 1": [WORLD, {**WORLD, "where": {"method": "ppo"}}],
    "where: method has no value 'pp0': did you mean 'ppo'": [{**WORLD, "where": {"method": "pp0"}}],
    "no stage uses feedback": [{**WORLD, "where": {"method": "ppo"}, "seed": "$seed"}],
    "has an 'out'": [{**WORLD, "out": "x"}],
    "no 'repeat'": [{"repeat": 2, "stages": []}],
    "writes no run folder": [{"command": "serve"}],
    "is about rounds": [WORLD, {**EVAL, "models": ["@all/world"], "seed": "$seed"}],
    "reads the feedback store": [{"command": "label", "seed": "$seed"}],
    "cannot be the name of a stage": [{**WORLD, "name": "logs"}],
}


@pytest.mark.parametrize("said", BAD)
def test_mistakes_are_told_before_anything_runs(tmp_path: Path, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        planned(tmp_path, AXES, *BAD[said])
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more, said",
    [
        ({"results": "evil"}, "results=evil names no stage"),
        ({"compare": {"metod": ["a", "b"]}}, "compare: there is no axis 'metod': did you mean 'method'"),
        ({"compare": {"method": ["ppo"]}}, "compare: method has ppo: name two or more"),
        ({"compare": {"method": ["ppo", "sft"]}}, "compare: method has no value 'sft'"),
        ({"compare": {"seed": [0, 1]}}, "compare: seed is what is repeated"),
        (
            {"contrasts": [{"first": {"method": "a"}}]},
            "contrasts: number 1 is {first: .*give `first` and `second`",
        ),
        ({"contrasts": [{"first": {"method": "ppo"}, "second": {"seed": 0}}]}, "labels of the same axes"),
        (
            {"contrasts": [{"first": {"method": "ppo"}, "second": {"method": "ppo"}}]},
            "are the same, {method: ppo}",
        ),
        (
            {"contrasts": [{"first": {"method": "ppo"}, "second": {"method": "sft"}}]},
            "method has no value 'sft'",
        ),
        ({"tuning": ["metod"]}, "tuning: there is no axis 'metod'"),
        ({"tuning": ["method"], "compare": {"method": ["ppo", "dpo"]}}, "tuning: method is compared, too"),
        ({"against": {"seed": ["votes"]}}, "against: seed is what is repeated"),
    ],
)
def test_what_is_compared_must_be_there(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        planned(tmp_path, AXES, *STAGES, **more)


@pytest.mark.parametrize(
    "axes, said",
    [
        ({"a b": [1]}, "no name of an axis"),
        ({"a": []}, "wants a list of values"),
        ({"a": [1, "1"]}, "has '1' twice"),
        ({"a": [{"x": 1}]}, "without a label"),
    ],
)
def test_bad_axes(axes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_axes(axes)


@pytest.mark.parametrize(
    "path",
    sorted(set((ROOT / "docs" / "studies").glob("*.yaml")) - {ROOT / "docs" / "studies" / "claims.yaml"}),
    ids=lambda path: path.stem,
)
def test_the_studies_in_the_docs_can_be_planned(path: Path, tmp_path: Path) -> None:
    """Each with all its cells, and with nothing that its report could not do."""
    given = load(StudySettings, [str(path), f"out={tmp_path}"])
    found = plan(given)
    axes = [axis for axis in given.axes if axis != given.repeats]
    assert found.results and all(set(axes) <= set(one.cell) for one in found.results)
    assert len(given.axes[given.repeats]) * len(
        {tuple(one.cell[axis] for axis in axes) for one in found.results}
    ) == len(found.results)
