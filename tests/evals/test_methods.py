"""Methods side by side: every number is that of its runs, and nothing is compared that does not belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.evals.synthetic import write_run
from tutelage.evals import report
from tutelage.evals.findings import number
from tutelage.evals.folders import find
from tutelage.evals.page import methods as methods_page
from tutelage.evals.rows import OVERALL, Row, read, to_json
from tutelage.launch import launch
from tutelage.settings.evals import MethodsSettings

PROMPTS = 24
GAIN = {"sft": 0.0, "ppo/1": 0.3, "ppo/2": 0.5, "rloo/1": 0.1, "rloo/2": -0.1, "bon": 0.2}


def evaluation(folder: Path, models: dict[str, float], **facts: Any) -> Path:
    """An evaluation whose scores are a prompt's difficulty and a model's gain, and some noise."""
    noise = np.random.default_rng(len(models))
    difficulty = np.random.default_rng(0).normal(0, 1, PROMPTS)
    inputs = {f"model {model}": folder.parent / model.replace("/", "-") / "model" for model in models}
    write_run(folder, "eval", inputs=inputs, **{"baseline": "sft", **facts})
    lines = [
        {
            "id": f"p{i}",
            "task": ("maths", "summary")[i % 2],
            "prompt": [],
            "responses": {
                model: {
                    "text": "x",
                    "finish": "eos" if i else "length",
                    "tokens": 10 + i,
                    "score": float(difficulty[i] + gain + noise.normal(0, 0.2)),
                    "parts": {},
                }
                for model, gain in models.items()
            },
        }
        for i in range(PROMPTS)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [Row(model, "gold", OVERALL, 0.5, n=PROMPTS, unit="score") for model in models]
    found += [
        Row(m, "kl", OVERALL, 4 * abs(g), 0, 9, PROMPTS, "nats") for m, g in models.items() if m != "bon"
    ]
    (folder / "results.json").write_text(json.dumps(to_json(found)))
    return folder


def trained(folder: Path, tokens: int) -> None:
    metrics = [{"step": step, "completions/tokens": tokens, "num_tokens": 3 * tokens} for step in (1, 2)]
    write_run(folder, "ppo", metrics=metrics, parameters={"policy": 1000}, peak_memory_mib=100.0)


def measure(out: Path, *evaluations: Path) -> list[Row]:
    settings = MethodsSettings(evaluations=[str(each) for each in evaluations], out=out)
    launch("eval methods", settings, Console(quiet=True))
    return read(out / "results.json")


def value(rows: list[Row], model: str, metric: str, task: str = OVERALL) -> float:
    (found,) = [r.value for r in rows if (r.model, r.metric, r.task) == (model, metric, task)]
    assert found is not None
    return found


def scores(folder: Path, model: str) -> np.ndarray:
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return np.array([line["responses"][model]["score"] for line in lines])


def test_every_number_is_that_of_its_runs(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "eval", GAIN)
    trained(tmp_path / "ppo-1", 100)
    trained(tmp_path / "ppo-2", 300)
    rows = measure(tmp_path / "methods", folder)
    of = {model: scores(folder, model) for model in GAIN}
    assert list(dict.fromkeys(r.model for r in rows)) == ["sft", "ppo", "rloo", "bon"]
    assert [value(rows, m, "runs") for m in ("sft", "ppo", "bon")] == [1, 2, 1]
    assert value(rows, "ppo", "gold") == pytest.approx((of["ppo/1"].mean() + of["ppo/2"].mean()) / 2)
    assert value(rows, "ppo", "win_rate") == pytest.approx(
        np.mean([of[m] > of["sft"] for m in ("ppo/1", "ppo/2")])
    )
    assert value(rows, "ppo", "win_rate@rloo") == pytest.approx(
        np.mean([of[a] > of[b] for a in ("ppo/1", "ppo/2") for b in ("rloo/1", "rloo/2")])
    )
    assert value(rows, "rloo", "win_rate@ppo") == pytest.approx(1 - value(rows, "ppo", "win_rate@rloo"))
    assert value(rows, "bon", "win_rate", "maths") == np.mean(of["bon"][::2] > of["sft"][::2])
    assert value(rows, "ppo", "kl") == pytest.approx(1.6)
    assert value(rows, "ppo", "length") == pytest.approx(10 + (PROMPTS - 1) / 2)
    assert value(rows, "ppo", "missing_eos") == pytest.approx(1 / PROMPTS)
    assert value(rows, "ppo", "cost/tokens_generated") == 400  # the mean of 200 and 600
    assert value(rows, "ppo", "time") == 41.5
    bounded = {r.metric for r in rows if r.model == "ppo" and r.low is not None}
    assert {"win_rate", "gold", "kl"} <= bounded and not bounded & {"time", "cost/tokens_generated"}
    known = {(r.model, r.metric) for r in rows}
    assert not known & {
        ("rloo", "cost/tokens_generated"),
        ("sft", "win_rate"),
        ("bon", "kl"),
        ("ppo", "win_rate@sft"),
    }


def test_runs_that_differ_widen_the_interval(tmp_path: Path) -> None:
    """With two runs an interval over runs is wide: t with one degree of freedom."""

    def width(models: dict[str, float], name: str) -> float:
        rows = measure(tmp_path / f"methods-{name}", evaluation(tmp_path / name, models))
        (r,) = [r for r in rows if (r.model, r.metric, r.task) == ("ppo", "gold", OVERALL)]
        assert r.low is not None and r.high is not None
        return r.high - r.low

    assert width({"sft": 0, "ppo/1": 0.0, "ppo/2": 2.0}, "far") > 2 * width(
        {"sft": 0, "ppo/1": 1.0, "ppo/2": 1.0}, "near"
    )


def test_several_evaluations_are_put_together(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {"sft": 0.0, "ppo/1": 0.3})
    second = evaluation(tmp_path / "second", {"sft": 0.0, "ppo/2": 0.5, "rloo/1": 0.1})
    rows = measure(tmp_path / "methods", first, second)
    assert value(rows, "ppo", "runs") == 2
    assert value(rows, "sft", "runs") == 1
    again = measure(tmp_path / "again", second, first)
    assert value(again, "ppo", "gold") == pytest.approx(value(rows, "ppo", "gold"))


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {"sft": 0.0, "ppo/1": 0.3})
    with pytest.raises(ValueError, match=r"both have a model 'ppo/1'; .* ppo/2"):
        measure(tmp_path / "a", first, evaluation(tmp_path / "second", {"sft": 0.0, "ppo/1": 0.5}))
    with pytest.raises(ValueError, match="different baselines"):
        measure(tmp_path / "b", first, evaluation(tmp_path / "third", {"ppo/2": 0.5}, baseline="ppo/2"))
    other = evaluation(tmp_path / "fourth", {"sft": 0.0, "ppo/2": 0.5})
    (other / "samples.jsonl").write_text((other / "samples.jsonl").read_text().replace('"p0"', '"q0"'))
    with pytest.raises(ValueError, match="asked different prompts"):
        measure(tmp_path / "c", first, other)
    with pytest.raises(ValueError, match="no run folder of `tutelage eval`"):
        measure(tmp_path / "d", write_run(tmp_path / "ppo", "ppo"))
    with pytest.raises(ValueError, match="is not done"):
        measure(tmp_path / "e", evaluation(tmp_path / "fifth", {"sft": 0.0}, state="running"))


def test_the_page_shows_the_methods(tmp_path: Path) -> None:
    measure(tmp_path / "methods", evaluation(tmp_path / "eval", GAIN))
    rows = read(tmp_path / "methods/results.json")
    assert methods_page.ordered(rows, "sft")[0] == "ppo"
    page = report.build(find([tmp_path / "methods"]), title="Methods")
    html = report.render(page)
    assert "What each method is worth" in html and "PPO beats RLOO" in html
    assert {("methods/ppo", "win_rate"), ("methods/ppo", "win_rate@rloo")} <= {
        (r.model, r.metric) for r in page.rows
    }


def test_bounds_have_the_unit_of_their_value() -> None:
    shown = number(Row("ppo", "cost/peak_memory", OVERALL, 1900.0, 900.0, 2900.0, 5, "MiB"))
    assert (shown.text, shown.interval) == ("1.86 GiB", "[900 MiB, 2.83 GiB]")
