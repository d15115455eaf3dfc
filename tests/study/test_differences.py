"""Means, intervals and differences of cells made by hand, against numpy and against tables of tests done by hand."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.evals.synthetic import write_run
from tests.study.making import EVAL_STAGE, evaluation, planned, recorded, settings
from tutelage.evals import frontier
from tutelage.evals.rows import Row, to_json
from tutelage.statistics import crossed_test, holm, student_p
from tutelage.study import cells, drawing, report
from tutelage.study.differences import conclusion, differences, measures, pairs_of
from tutelage.study.summary import Group, groups
from tutelage.study.told import Told
from tutelage.study.tuning import best_of, tuned

AXES = {"method": ["ppo", "dpo"], "task": ["a", "b"], "seed": [0, 1, 2]}


def drawn(gap: float) -> dict[tuple[str, str, str], np.ndarray]:
    """Scores of eight prompts in every cell: what PPO gains is `gap`; prompts, seeds and luck vary."""
    random = np.random.default_rng(0)
    prompts, seeds = random.normal(0, 1, 8), random.normal(0, 0.05, 3)
    return {
        (method, task, str(seed)): prompts + seeds[seed] + gap * (method == "ppo") + random.normal(0, 0.1, 8)
        for method in AXES["method"]
        for task in AXES["task"]
        for seed in range(3)
    }


def lines(out: Path, gap: float) -> tuple[list[Group], dict[tuple[str, str, str], np.ndarray]]:
    study, scores = planned(out, AXES, {**EVAL_STAGE, "reference": "$task"}), drawn(gap)
    for one in study.results:
        values = scores[one.cell["method"], one.cell["task"], one.cell["seed"]]
        evaluation(one.stage.folder, list(map(float, values)), kl=float(values[0] ** 2))
    return groups(cells.read(study), "seed"), scores


def test_means_and_differences_are_those_of_numpy(tmp_path: Path) -> None:
    found, scores = lines(tmp_path, 0.4)
    assert [group.name for group in found] == ["PPO · a", "PPO · b", "DPO · a", "DPO · b"]
    first = found[0].measured("gold", "all", "score")
    assert first.row.value == pytest.approx(np.mean([scores["ppo", "a", str(s)] for s in range(3)]))
    assert first.each == {str(s): pytest.approx(scores["ppo", "a", str(s)].mean()) for s in range(3)}
    won = found[2].measured("win_rate", "all", "share").row.value
    assert won == pytest.approx(np.mean([scores["dpo", "a", str(s)] > 0 for s in range(3)]))

    tested = differences(found, pairs_of({"method": ["ppo", "dpo"]}, []), ["gold", "kl"])
    assert [(one.metric, one.at) for one in tested] == [
        (metric, at) for metric in ("gold", "kl") for at in ({}, {"task": "a"}, {"task": "b"})
    ]
    both = {
        task: np.array([scores["ppo", task, str(s)] - scores["dpo", task, str(s)] for s in range(3)])
        for task in "ab"
    }
    pooled = (both["a"] + both["b"]) / 2  # the same prompts were asked in both
    assert tested[0].row.value == pytest.approx(pooled.mean()) and tested[0].row.n == 3
    assert tested[0].p == pytest.approx(crossed_test(pooled))
    assert tested[2].row.value == pytest.approx(both["b"].mean())
    kl = np.array(
        [
            [scores["ppo", t, str(s)][0] ** 2 - scores["dpo", t, str(s)][0] ** 2 for s in range(3)]
            for t in "ab"
        ]
    )
    by_seed = stats.ttest_1samp(kl.mean(axis=0), 0)
    assert tested[3].row.value == pytest.approx(kl.mean())
    assert tested[3].p == pytest.approx(by_seed.pvalue, abs=1e-4)
    low, high = by_seed.confidence_interval()
    assert (tested[3].row.low, tested[3].row.high) == pytest.approx((low, high), abs=1e-4)
    assert [one.p_holm for one in tested] == holm([one.p for one in tested])


def test_cells_that_differ_in_several_axes(tmp_path: Path) -> None:
    """A contrast is the difference of two cells, with how often the first has more."""
    found, scores = lines(tmp_path, 0.4)
    pairs = pairs_of(
        {}, [{"first": {"method": "dpo", "task": "a"}, "second": {"method": "ppo", "task": "b"}}]
    )
    (one,) = differences(found, pairs, ["gold"])
    gaps = np.array([scores["dpo", "a", str(s)] - scores["ppo", "b", str(s)] for s in range(3)])
    assert one.row.value == pytest.approx(gaps.mean()) and one.p == pytest.approx(crossed_test(gaps))
    assert one.won is not None and one.won.value == pytest.approx((gaps > 0).mean())
    assert conclusion([replace(one, p_holm=0.01)], "seed")[0].startswith(
        "Gold score is higher with PPO · b than with DPO · a (DPO · a less PPO · b: -"
    )


def test_an_arm_that_is_not_repeated_stands_against_every_repetition(tmp_path: Path) -> None:
    """A model that is only shown examples has no seed."""
    axes = {"method": ["ppo", "base"], "seed": [0, 1, 2]}
    base = {**EVAL_STAGE, "prompts": "x.jsonl", "where": {"method": "base"}}
    study = planned(tmp_path, axes, {**EVAL_STAGE, "where": {"method": "ppo"}}, base)
    assert len(study.results) == 4
    for one in study.results:
        gain = 0.5 + 0.1 * int(one.cell["seed"]) if "seed" in one.cell else 0.0
        evaluation(one.stage.folder, [0.1 + gain, 0.3 + gain], kl=gain)
    pairs = pairs_of({"method": ["ppo", "base"]}, [])
    gold, kl = differences(groups(cells.read(study), "seed"), pairs, ["gold", "kl"])
    assert (gold.row.n, gold.row.value) == (3, pytest.approx(0.6)) and gold.won and gold.won.value == 1.0
    assert (kl.row.n, kl.row.value) == (3, pytest.approx(0.6))
    turned = differences(
        groups(cells.read(study), "seed"), pairs_of({"method": ["base", "ppo"]}, []), ["gold"]
    )
    assert (turned[0].row.n, turned[0].row.value) == (3, pytest.approx(-0.6))


def test_settings_to_choose_among_are_looked_at_together(tmp_path: Path) -> None:
    """Over the axis `task`, were it one of settings: no test for each, and the best of them by one seed, measured by another."""
    found, scores = lines(tmp_path, 0.4)
    (one,) = differences(found, pairs_of({"method": ["ppo", "dpo"]}, []), ["gold"], ["task"])
    assert one.at == {} and one.cells == 2
    ppo, dpo = tuned(found, ["task"], "gold")
    assert (ppo.cell, dpo.cell, ppo.repetitions) == ({"method": "ppo"}, {"method": "dpo"}, 3)
    means = {(t, s): scores["ppo", t, s].mean() for t in "ab" for s in "012"}
    by_hand = [
        means[max("ab", key=lambda t: means[t, chosen]), measured]
        for chosen in "012"
        for measured in "012"
        if chosen != measured
    ]
    assert ppo.best_of[0] == pytest.approx(np.mean(list(means.values())))
    assert ppo.best_of[1] == pytest.approx(np.mean(by_hand))
    by_value = sorted(np.mean([means[t, s] for s in "012"]) for t in "ab")
    assert [row.value for _, row in ppo.settings] == pytest.approx(by_value)
    above = [np.mean([scores["ppo", t, s] for s in "012"]) > 0 for t in "ab"]  # the start scores 0 everywhere
    assert ppo.better == sum(above) and len(ppo.gains) == 2
    assert tuned(found, [], "gold") == []


def test_the_best_by_one_seed_is_measured_by_another() -> None:
    """Each seed likes another of two settings: the best by luck is worth nothing, and looks like 1 where there is one seed."""
    assert best_of(np.array([[1.0, 0.0], [0.0, 1.0]])).tolist() == [0.5, 0.0]
    assert best_of(np.array([[1.0, 0.0]])).tolist() == [0.5, 1.0]


def test_one_repetition_is_as_lucky_as_it_looks(tmp_path: Path) -> None:
    found, scores = lines(tmp_path, 0.4)
    for group in found:
        del group.repetitions["1"], group.repetitions["2"]
    first = tuned(found, ["task"], "gold")[0]
    assert first.best_of[1] == pytest.approx(max(scores["ppo", t, "0"].mean() for t in "ab"))


def test_prices_make_costs_and_a_figure_against_them(tmp_path: Path) -> None:
    """Each label has its price; a cell that has spent nothing of it pays nothing."""
    axes = {"method": {"ppo": {"price": 2.0}, "dpo": {"price": 0.5}}, "task": ["a", "b"], "seed": [0]}
    label = {"command": "label", "judge": "world", "votes_per_item": 1, "seed": "$seed", "store": "x"}
    stages = [
        {**label, "where": {"method": "ppo"}},
        {**label, "name": "label", "where": {"method": "dpo"}, "seed": 7},
        {**EVAL_STAGE, "prompts": "$method-$task-$seed.jsonl", "reference": "@label"},
    ]
    more = {"results": "eval", "prices": {"votes": "$method.price"}, "against": {"task": ["cost"]}}
    given, study = settings(tmp_path, axes, *stages, **more), planned(tmp_path, axes, *stages, results="eval")
    for one in study.instances.values():
        if one.of == "label":
            write_run(one.stage.folder, "label")
            votes = 10 if one.cell.get("method") == "ppo" else 40
            (one.stage.folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "votes": votes}) + "\n")
    for one in study.results:
        evaluation(one.stage.folder, [0.1, 0.4], kl=1.0)
    report.write(study, given, recorded())
    rows = json.loads((tmp_path / "summary.json").read_text())
    costs = {row["axes"]["method"]: row["value"] for row in rows if row["metric"] == "cost"}
    assert costs == {"ppo": 20.0, "dpo": 20.0}
    assert (tmp_path / "figures" / "gold_against_cost.svg").exists()
    for wrong, said in (
        ({"prices": {"vots": 1}}, "prices: no cell has spent 'vots': there are .*votes"),
        ({"prices": {"votes": "dear"}}, "votes costs dear at .*: give a number"),
        ({"against": {"task": ["kost"]}}, "against: no cell has 'kost'"),
    ):
        with pytest.raises(ValueError, match=said):
            report.write(study, settings(tmp_path, axes, *stages, **{**more, **wrong}), recorded())
    shutil.rmtree(study.results[-1].stage.folder)  # what is missing may be what a cell to come has
    late = {"prices": {"demonstrations": 1}, "against": {"task": ["kost"]}}
    report.write(study, settings(tmp_path, axes, *stages, **{**more, **late}), recorded())


def test_a_conclusion_is_drawn_from_what_passed_alone(tmp_path: Path) -> None:
    clear = differences(lines(tmp_path / "clear", 1.0)[0], pairs_of({"method": ["ppo", "dpo"]}, []), ["gold"])
    said = conclusion(clear, "seed")
    assert said[0].startswith("Gold score is higher with PPO than with DPO (PPO less DPO: +")
    assert "after correction for 3 tests; 3 seeds" in said[0]
    none = differences(lines(tmp_path / "none", 0.0)[0], pairs_of({"method": ["dpo", "ppo"]}, []), ["gold"])
    (only,) = conclusion(none, "seed")
    assert only.startswith("Gold score: DPO and PPO are not distinguishable (")
    assert not any(one.passed for one in none)


def test_of_several_models_it_is_said_whose_number_it_is(tmp_path: Path) -> None:
    study = planned(tmp_path, AXES, {**EVAL_STAGE, "reference": "$task"})
    for one in study.results:
        evaluation(one.stage.folder, [float(one.cell["method"] == "ppo")], kl=1.0)
    pair = pairs_of({"method": ["ppo", "dpo"]}, [])
    assert all(not one.whose for one in differences(groups(cells.read(study), "seed"), pair, ["gold"]))
    for one in study.results:
        path = one.stage.folder / "results.json"
        rows = json.loads(path.read_text())
        path.write_text(json.dumps([*rows, *({**row, "model": "majority"} for row in rows)]))
    said = conclusion(differences(groups(cells.read(study), "seed"), pair, ["gold"]), "seed")
    assert [line.partition(":")[0] for line in said] == ["Gold score (policy)", "Gold score (majority)"]


def test_a_lower_first_label_is_said_to_be_lower(tmp_path: Path) -> None:
    found = differences(lines(tmp_path, 1.0)[0], pairs_of({"method": ["dpo", "ppo"]}, []), ["gold"])
    assert "higher with PPO than with DPO (DPO less PPO: -" in conclusion(found, "seed")[0]


def test_cells_without_a_partner_are_left_out(tmp_path: Path) -> None:
    found, scores = lines(tmp_path, 0.4)
    del found[0].repetitions["1"]
    tested = differences(found, pairs_of({"method": ["ppo", "dpo"]}, []), ["gold"])
    kept = np.array([[(scores["ppo", t, s] - scores["dpo", t, s]) for s in ("0", "2")] for t in "ab"])
    assert tested[0].row.value == pytest.approx(kept.mean()) and tested[0].row.n == 2
    assert [one.row.n for one in tested] == [2, 2, 3]


def test_bounds_of_a_share_are_shares(tmp_path: Path) -> None:
    """Of three numbers far apart the t interval would leave 0 to 1; a change of length, or what one share is more than another,
    may well be below 0."""
    signed = ("length_change", "gain@8-labels", "over_longer_wins", "agreement_gap")
    study = planned(tmp_path, AXES, {**EVAL_STAGE, "reference": "$task"})
    for one in study.results:
        evaluation(one.stage.folder, [0.5], kl=1.0)
        path, seed = one.stage.folder / "results.json", int(one.cell["seed"])
        rows = json.loads(path.read_text())
        more = [
            {**rows[1], "metric": name, "value": seed / 2, "unit": "share"} for name in ("copy_rate", *signed)
        ]
        path.write_text(json.dumps([*rows, *more]))
    first = groups(cells.read(study), "seed")[0]
    copied = first.measured("copy_rate", "all", "share").row
    assert (copied.low, copied.value, copied.high) == (0.0, 0.5, 1.0)
    for name in signed:
        low = first.measured(name, "all", "share").row.low
        assert low is not None and low < 0


def test_what_is_tested_when_nobody_says(tmp_path: Path) -> None:
    found, _ = lines(tmp_path, 0.0)
    assert measures(found, []) == ["gold"] and measures(found, ["kl"]) == ["kl"]
    with pytest.raises(ValueError, match="no cell has 'goold': there are gold, kl"):
        measures(found, ["goold"])


def test_the_report_has_every_number_three_times(tmp_path: Path) -> None:
    """As rows, as tables and as a page; with a cell that is missing, and labels that must be escaped."""
    axes = {"method": ["<b>ppo", "dpo"], "seed": [0, 1]}
    given = settings(tmp_path, axes, EVAL_STAGE, results="eval", compare={"method": ["<b>ppo", "dpo"]})
    study = planned(tmp_path, axes, EVAL_STAGE)
    for one in study.results[:-1]:
        evaluation(one.stage.folder, [0.1, 0.4, float(one.cell["seed"])], kl=1.0)
    report.write(study, given, recorded())
    rows = json.loads((tmp_path / "results.json").read_text())
    assert len(rows) == 12 and rows[0]["axes"] == {"method": "<b>ppo", "seed": "0"}
    assert (tmp_path / "results.csv").read_text().splitlines()[1].startswith("<b>ppo,0,sft,gold,all,0.0")
    (tested,) = json.loads((tmp_path / "differences.json").read_text())
    assert (tested["first"], tested["n"], tested["value"], tested["p"]) == ("method=<b>ppo", 1, 0.0, None)
    page = (tmp_path / "report.html").read_text()
    assert (
        "<b>ppo" not in page
        and "&lt;b&gt;ppo" in page
        and "http" not in page.replace("http://www.w3.org", "")
    )
    assert "1 cell has no results yet" in page
    assert "| <b>ppo |" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "figures" / "gold.svg").read_text().startswith("<svg ")


def test_the_frontier_has_the_start_once_where_all_cells_share_it(tmp_path: Path) -> None:
    """Means over seeds against the square root of the mean KL; the best of n of the start on a line from it."""
    axes = {"method": ["ppo", "dpo"], "seed": [0, 1]}
    study = planned(tmp_path, axes, EVAL_STAGE)
    given = settings(tmp_path, axes, EVAL_STAGE, results="eval", compare={"method": ["ppo", "dpo"]})
    bound = math.log(4) - 3 / 4
    for one in study.results:
        gold = 0.5 + 0.2 * (one.cell["method"] == "ppo") + 0.1 * float(one.cell["seed"])
        evaluation(one.stage.folder, [gold, gold], kl=4.0 + 10 * float(one.cell["seed"]), base=0.3)
        path = one.stage.folder / "results.json"
        more = [Row("sft", "kl", "all", 0.0, n=2, unit="nats")]
        more += [Row("sft-best-of-4", "gold", "all", 0.6, n=2, unit="score")]
        more += [Row("sft-best-of-4", "kl_bound", "all", bound, unit="nats")]
        path.write_text(json.dumps([*json.loads(path.read_text()), *to_json(more)]))
    found, metrics = groups(cells.read(study), "seed"), ["gold"]
    told = Told(given, found, [], [], metrics, 0)
    points, slots = drawing.frontier_points(told, "gold")
    lines, starts = frontier.lines_of(points, slots)
    assert [(line.name, list(map(float, line.x)), list(line.y)) for line in [*lines, *starts]] == [
        ("SFT, best of n", [0.0, pytest.approx(math.sqrt(bound))], [0.3, 0.6]),
        ("PPO · policy", [3.0], [pytest.approx(0.75)]),
        ("DPO · policy", [3.0], [pytest.approx(0.55)]),
        ("SFT", [0.0], [0.3]),
    ]
    assert "frontier" in drawing.figures_of(told)


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06, and 0.04 x 1 is raised to what the one before it has."""
    assert holm([0.04, 0.01, math.nan, 0.03, 0.02]) == pytest.approx(
        [0.06, 0.04, math.nan, 0.06, 0.06], nan_ok=True
    )
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_p_of_students_t_is_scipys() -> None:
    for t, freedom in ((0.0, 3), (2.0, 1), (2.2, 2.5), (3.0, 30), (12.0, 4)):
        assert student_p(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), abs=1e-5)


def test_one_axis_alone_is_a_t_test() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, 9)
    assert crossed_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-5)
    assert math.isnan(crossed_test([0.3, 0.3]))
