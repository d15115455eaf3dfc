"""Rewards as settings say them: taken, written down, compared, searched for models, and refused in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tutelage.resume import standing
from tutelage.runs import Run
from tutelage.settings import describe
from tutelage.settings.base import load, setting, to_yaml
from tutelage.settings.groups import Reward, RunSettings
from tutelage.settings.judges import (
    WRITTEN,
    EnsembleOptions,
    MixOptions,
    RemoteOptions,
    inputs_in,
    kind_of,
    paths_in,
    read_parts,
    same_reward,
)

PAGE = Path(__file__).parents[2] / "docs" / "rewards-mixing.md"


class Example(RunSettings):
    """As the settings of an on-policy command."""

    reward: Reward = setting("runs/reward", "Who scores.")


def reward_of(*args: str) -> Any:
    return load(Example, args).reward


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as caught:
        reward_of(f"reward={text}")
    message = str(caught.value)
    assert "\n" not in message and "command line" in message and "'reward'" in message
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("world", "world"),
        ("runs/a", "runs/a"),
        ("http://localhost:8100/score?x=[1]", "http://localhost:8100/score?x=[1]"),
        ("python:module:name", "python:module:name"),
        ("[runs/a, world]", ["runs/a", "world"]),
        (
            "[{judge: runs/reward}, {judge: world, weight: 0.5}]",
            [{"judge": "runs/reward"}, {"judge": "world", "weight": 0.5}],
        ),
        ("[{judge: [a, b], combine: worst}]", [{"judge": ["a", "b"], "combine": "worst"}]),
        ("[world, {judge: 'http://h/x', gate: 1e-2, weight: 2}]", ["world", {"judge": "http://h/x", "gate": 0.01, "weight": 2}]),
    ],
)  # fmt: skip
def test_a_reward_is_read_and_written_as_it_was_given(tmp_path: Path, text: str, value: Any) -> None:
    settings = load(Example, [f"reward={text}"])
    assert settings.reward == value
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(settings))
    assert load(Example, [str(file)]) == settings


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[{judge: world, wieght: 1}]", ["part 1 (world)", "'wieght'", "did you mean 'weight'"]),
        ("[world, {judge: runs/a, batch_size: 3}]", ["'batch_size'", "known are judge, weight, tasks, normalise, gate, name"]),
        ("[{judge: world, weight: heavy}]", ["'weight' is heavy", "number"]),
        ("[{judge: world, weight: true}]", ["'weight' is true", "number"]),
        ("[{judge: world, weight: .inf}]", ["'weight' is inf", "number"]),
        ("[{judge: world, normalise: zscores}]", ["'normalise' is zscores", "auto | none | zscore | zscore-task | rank"]),
        ("[world, {judge: world, gate: 0, normalise: rank}]", ["gate and normalise: rank do not go together"]),
        ("[world, {judge: world, gate: low}]", ["'gate' is low", "number or null"]),
        ("[{judge: world, gate: 0}]", ["nothing is rewarded", "without a gate"]),
        ("[{judge: world, weight: 0}]", ["nothing is rewarded", "weight is not 0"]),
        ("[]", ["nothing is rewarded"]),
        ("''", ["part 1 has no judge"]),
        ("[{weight: 1}]", ["part 1 has no judge"]),
        ("[{judge: 1}]", ["part 1 has no judge"]),
        ("[[a, b]]", ["[[a, b]]", "list of (text or map"]),
        ("[1]", ["[1]", "list of (text or map"]),
        ("{judge: world}", ["part 1 is a text, {judge: world}", "stand in a list"]),
        ("[{judge: world, name: x}, {judge: a, name: x}]", ["two parts of the reward are named 'x'"]),
        ("[{judge: world, name: a/b}]", ["a/b has a slash"]),
        ("[{judge: [a, a]}]", ["a stands twice"]),
        ("[{judge: [a, world]}]", ["part 1 ([a, world])", "world is no reward model"]),
        ("[{judge: [a, 'http://x/y']}]", ["http://x/y is no reward model"]),
        ("[{judge: [a, b], combine: best}]", ["'combine' is best", "mean | worst | uncertainty"]),
        ("[{judge: [a, b], combine: worst, uncertainty_coef: 1}]", ["uncertainty_coef means nothing with combine: worst"]),
        ("[{judge: [a, b], combine: uncertainty, uncertainty_coef: -1}]", ["'uncertainty_coef' is -1", "number >= 0"]),
        ("[{judge: 'http://h', timeout: 0}]", ["'timeout' is 0", "number > 0"]),
        ("[{judge: 'http://h', batch_size: 1.5}]", ["'batch_size' is 1.5", "integer >= 1"]),
        ("mine.rewards:polite", ["no model has such a name: a function is python:mine.rewards:polite"]),
        ("http://", ["http:// is no address"]),
        ("http://host:port/x", ["http://host:port/x is no address"]),
        ("http://me:secret@host/x", ["host is called with a password", "token_env"]),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_loaded(text: str, parts: list[str]) -> None:
    message = refusal(text)
    for part in parts:
        assert part in message, message


def test_the_default_is_checked_too_and_files_say_their_line(tmp_path: Path) -> None:
    file = tmp_path / "ppo.yaml"
    file.write_text("seed: 1\nreward:\n  - runs/a\n  - {judge: world, wieght: 2}\n")
    with pytest.raises(ValueError, match=r"ppo\.yaml, line 2\): part 2 \(world\): unknown option 'wieght'"):
        load(Example, [str(file)])


def test_the_models_that_a_reward_names_are_found() -> None:
    reward = [
        "runs/a",
        {"judge": ["runs/b", "owner/name"]},
        "world",
        {"judge": "https://h/x"},
        "python:m:n",
        "runs/a",
    ]
    assert paths_in(reward) == ["runs/a", "runs/b", "owner/name"]
    assert paths_in("runs/a") == ["runs/a"] and paths_in("world") == paths_in("http://h/x") == []


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("runs/a", "runs/a", True),
        ("runs/a", "runs/b", False),
        ("runs/a", ["runs/a"], False),
        (["runs/a"], [{"judge": "runs/a", "weight": 1}], True),
        (["runs/a"], [{"judge": "runs/a", "weight": 2}], False),
        (["runs/a", "world"], ["world", "runs/a"], False),
        (["http://h/x"], [{"judge": "http://h/x", "timeout": 3, "batch_size": 1, "patience": 9, "token_env": "T"}], True),
        (["http://h/x"], ["http://h/y"], False),
        ([{"judge": ["a", "b"]}], [{"judge": ["a", "b"], "combine": "worst"}], False),
    ],
)  # fmt: skip
def test_a_run_goes_on_with_what_scores_alike(before: Any, now: Any, same: bool) -> None:
    assert same_reward(before, now) is same


def test_a_run_knows_its_reward_again(tmp_path: Path) -> None:
    reward = [{"judge": "world", "weight": 0.5}, {"judge": ["runs/a", "runs/b"], "gate": -1e-5}]
    settings = Example(out=tmp_path / "run", reward=reward)
    Run.open(settings.out, "x", settings).begin()
    assert standing(settings.out, "x", Example(out=tmp_path / "run", reward=reward)).state == "begun"
    other = standing(settings.out, "x", Example(out=tmp_path / "run", reward=reward[:1]))
    assert (other.state, other.key) == ("foreign", "reward")


def test_every_option_stands_on_its_page_with_its_default() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tables = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    for kind in (MixOptions, EnsembleOptions, RemoteOptions):
        for row in describe.rows(kind):
            default = row.default or "must be given"
            assert tables[row.name].strip().strip("`") == default, row.name


def test_the_rewards_of_the_page_are_understood() -> None:
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml reward\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found = [example["reward"] for block in blocks for example in yaml.safe_load_all(block)]
    assert len(found) == 6 and [len(read_parts(reward)) for reward in found] == [1, 3, 2, 2, 2, 1]


def test_settings_and_a_judge_by_a_rule_start_without_torch() -> None:
    code = (
        "import sys; from tutelage.judges.build import build_judge; build_judge('world');"
        "sys.exit(int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PAGE.parents[1]).returncode == 0


def test_a_reward_in_a_file_is_read_when_it_is_asked_for_and_is_an_input(tmp_path: Path) -> None:
    """A pipeline is planned before the file is there; once it is, what it is made of is known, too."""
    path = tmp_path / "learnt.yaml"
    spec = [{"judge": str(path), "weight": 0.5}, "runs/a"]
    assert read_parts(spec)[0].kind == WRITTEN
    assert kind_of("http://host/x.yaml") == "http://" and kind_of("runs/a") == ""
    path.write_text("reward:\n- {judge: runs/b, weight: 2}\n- 'formula:flesch'\n")
    assert paths_in(spec) == ["runs/b", "runs/a"]
    assert inputs_in(spec) == [str(path), "runs/b", "runs/a"]
    path.write_text("reward: runs/c\n")
    assert inputs_in(str(path)) == [str(path), "runs/c"]
