"""Claims: verdicts against bounds by hand, a page that grows, what is skipped, mistakes told before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.study.making import WORLD, evaluation, recorded
from tutelage.settings.base import build, load
from tutelage.settings.claims import EffectSettings
from tutelage.settings.pipeline import StudySettings
from tutelage.study import cells, study
from tutelage.study.claims import page_of, plan_all
from tutelage.study.plan import plan
from tutelage.study.verdicts import FAILS, HOLDS, OPEN, effect_of

ROOT = Path(__file__).parents[2]
EVAL = {"command": "eval", "models": ["sft=a", "policy=b"], "prompts": "$method-$seed.jsonl"}
SCORES = {
    ("ppo", 0): [0.5, 0.6, 0.7, 0.6], ("ppo", 1): [0.6, 0.7, 0.7, 0.6], ("ppo", 2): [0.5, 0.7, 0.8, 0.6],
    ("dpo", 0): [0.3, 0.4, 0.5, 0.4], ("dpo", 1): [0.4, 0.4, 0.5, 0.5], ("dpo", 2): [0.3, 0.4, 0.6, 0.4],
}  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> list[cells.Result]:
    for (method, seed), scores in SCORES.items():
        evaluation(tmp_path / "eval" / f"{method}-seed{seed}", scores, kl=1.0, base=0.35)
    axes = {"method": ["ppo", "dpo"], "seed": [0, 1, 2]}
    return cells.read(plan(build(StudySettings, {"out": str(tmp_path), "axes": axes, "stages": [EVAL]})))


PPO, DPO, SFT = {"method": "ppo", "model": "policy"}, {"method": "dpo", "model": "policy"}, {"model": "sft"}


@pytest.mark.parametrize(
    ("first", "second", "bound", "value", "verdict"),
    [
        (PPO, DPO, {"above": 0.0}, 0.2083, HOLDS),
        (PPO, DPO, {"above": 0.2}, 0.2083, OPEN),
        (PPO, DPO, {"above": 0.4}, 0.2083, FAILS),
        (DPO, PPO, {"below": 0.0}, -0.2083, HOLDS),
        (DPO, PPO, {"below": -0.4}, -0.2083, FAILS),
        (PPO, DPO, {"within": 0.5}, 0.2083, HOLDS),
        (PPO, DPO, {"within": 0.05}, 0.2083, FAILS),
        (PPO, DPO, {"within": 0.2083}, 0.2083, OPEN),
        (DPO, {**SFT, "method": "dpo"}, {"above": 0.0}, 0.075, OPEN),
        (PPO, None, {"above": 0.5}, 0.6333, HOLDS),
        ({"model": "policy"}, SFT, {"above": -0.5}, 0.1792, HOLDS),
    ],
)  # fmt: skip
def test_an_effect_against_its_bound(
    results: list[cells.Result], first: Any, second: Any, bound: Any, value: float, verdict: str
) -> None:
    """Means by hand: PPO .6333, DPO .425, the start .35, both policies .5292."""
    wanted = build(EffectSettings, {"what": "x", "metric": "gold", "first": first, "second": second, **bound})
    found = effect_of(wanted, results, "seed")
    assert found.row.value == pytest.approx(value, abs=1e-4) and found.row.n == 3
    assert found.row.low is not None and found.row.low < value < (found.row.high or 0.0)
    assert found.verdict == verdict


def test_differences_of_shares_are_points_and_what_never_varies_is_taken_as_it_is(
    results: list[cells.Result],
) -> None:
    """PPO's answers all score more than the start's."""
    given = {"what": "x", "metric": "win_rate", "first": PPO}
    alone = effect_of(build(EffectSettings, {**given, "below": 0.6}), results, "seed")
    assert (alone.shown.text, alone.bound, alone.verdict) == ("100 %", "below 60 %", FAILS)
    apart = effect_of(build(EffectSettings, {**given, "second": PPO, "within": 0.1}), results, "seed")
    assert (apart.shown.text, apart.bound, apart.verdict) == ("0 points", "within ±10 points", HOLDS)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"metric": "gold", "first": {"method": "ppo"}, "above": 0}, "say which, as model: policy"),
        ({"metric": "gold", "first": {"method": "kto"}, "above": 0}, "there is nothing at method=kto"),
        ({"metric": "charm", "first": PPO, "above": 0}, "there is no 'charm'"),
        ({"metric": "gold", "first": PPO}, "has no bound: give it one of above, below and within"),
        ({"metric": "gold", "first": PPO, "above": 0, "within": 1}, "has above and within: give it one"),
    ],
)
def test_an_effect_that_there_is_not(results: list[cells.Result], given: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        effect_of(build(EffectSettings, {"what": "x", **given}), results, "seed")


def claim(documents: Any, **more: Any) -> dict[str, Any]:
    """A study of a stage that takes no time, with a results.json of our own behind it."""
    own = {
        "axes": {"seed": [0, 1]},
        "stages": [{**WORLD, "name": "w", "documents": documents, "seed": "$seed"}],
    }
    told = {
        "claim": "More is better.",
        "source": "somebody, line 1",
        "test": "count",
        "change": "other counts",
    }
    effects = [{"what": "how many", "metric": "gold", "first": {"model": "policy"}, "above": 0.2}]
    return {**told, "study": own, "effects": effects, **more}


def claims(out: Path, **more: Any) -> StudySettings:
    base = {"stages": [WORLD]}
    given = {
        "out": str(out),
        "base": base,
        "about": "By somebody.",
        "claims": {"first": claim(5), "second": claim(5)},
        "title": "T",
    }
    return build(StudySettings, given | more)


def run(given: StudySettings) -> str:
    console = recorded()
    try:
        study.main(given, console)
    finally:
        text = console.export_text()
    return text


def graded(folder: Path, scores: list[float]) -> None:
    """What a stage `w` of a claim is taken to have measured: its own run, with the answers of an evaluation."""
    lineage = (folder / "lineage.json").read_text()
    settings = (folder / "settings.yaml").read_text()
    evaluation(folder, scores, kl=1.0)
    told = json.loads(lineage) | {"baseline": "sft"}
    (folder / "lineage.json").write_text(json.dumps(told))
    (folder / "settings.yaml").write_text(settings)


def test_the_page_grows_claim_by_claim(tmp_path: Path) -> None:
    given = claims(tmp_path, only=["first"])
    with pytest.raises(
        ValueError, match=r"1 of 1 claims could not be tested .*there is nothing at model=policy"
    ):
        run(given)  # its stages measure nothing yet
    assert "could not be tested" in page_of(given).read_text()
    for seed in (0, 1):
        graded(tmp_path / "first" / "w" / f"seed{seed}", [0.5, 0.6 + seed / 100, 0.55])
    told = run(given)
    assert (
        told.count("unchanged, skipped") == 3
    )  # the base, and both of the first claim; nothing of the second
    page = page_of(given).read_text()
    assert page.startswith("# T\n\nBy somebody.\n\nWritten by") and "not run yet.\n" in page
    assert "holds here 1, not run yet 1" in page
    assert "| [More is better.](#first) | somebody, line 1 | how many: 0.55 [0." in page
    assert "set beforehand: above 0.20: holds here." in page and "2 repetitions" in page
    assert (tmp_path / "first" / "report.html").exists() and not (tmp_path / "second").exists()
    found = json.loads((tmp_path / "claims.json").read_text())
    assert [one["verdict"] for one in found] == ["holds here", "not run yet"]
    assert found[0]["effects"][0]["value"] == pytest.approx(0.5525, abs=0.01)


def test_what_all_runs_took_counts_shared_ones_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds each: the base, and two of the study that both claims read."""

    class Ten:
        def __init__(self, folder: Path, name: str) -> None:
            self.seconds = 10.0

    shared = {"first": claim(5), "second": claim(5, study="first")}
    given = claims(tmp_path, claims=shared, only=["first"])
    with pytest.raises(ValueError, match="could not be tested"):
        run(given)
    assert "not run yet" not in page_of(given).read_text()  # the second reads what the first has run
    for seed in (0, 1):
        graded(tmp_path / "first" / "w" / f"seed{seed}", [0.5, 0.6, 0.55])
    monkeypatch.setattr("tutelage.study.claims.RunFolder", Ten)
    run(given)
    page = page_of(given).read_text()
    assert "All runs took 30 s, one after the other." in page and "Its runs took 20 s." in page


def test_bases_are_named_and_changed_claims_are_not_taken_for_done(tmp_path: Path) -> None:
    """$base is the folder of the base, and a claim whose study has changed since it ran is told to be open."""
    uses = claim(5)
    uses["study"]["stages"].append(
        {"command": "eval", "models": ["sft=$base/world", "policy=x"], "prompts": "p", "seed": "$seed"}
    )
    given = claims(tmp_path, claims={"uses": uses})
    shown = run(given.model_copy(update={"plan": True}))
    assert "1 stages, 1 with results" in shown and "4 stages, 2 with results" in shown
    _, [one] = plan_all(given)
    stage = one.study.instances["eval/seed0"].stage
    assert stage.settings.models[0] == f"sft={tmp_path}/base/world"  # type: ignore[attr-defined]


def test_a_claim_may_stand_on_the_study_of_another_or_on_a_file(tmp_path: Path) -> None:
    """One study, two claims: it runs once, and each has its own verdict."""
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(claim(5)["study"]))
    other = claim(
        5,
        study="first",
        effects=[{"what": "x", "metric": "gold", "first": {"model": "policy"}, "below": 0.2}],
    )
    given = claims(tmp_path / "out", claims={"first": claim(5, study=str(path)), "other": other})
    base, (first, second) = plan_all(given)
    assert base is not None and second.study is first.study and len(first.study.instances) == 2
    with pytest.raises(ValueError, match="could not be tested"):
        run(given)
    for seed in (0, 1):
        graded(tmp_path / "out" / "first" / "w" / f"seed{seed}", [0.5, 0.6 + seed / 100, 0.55])
    run(given)
    found = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert [one["verdict"] for one in found] == ["holds here", "does not hold here"]
    with pytest.raises(ValueError, match="there is no earlier claim 'later', and it is no file"):
        run(claims(tmp_path / "out", claims={"x": claim(5, study="later")}))


def test_the_claims_that_are_here_can_be_planned() -> None:
    """Each with a source and what would change it, and every effect of a side that its study has."""
    given = load(StudySettings, [str(ROOT / "docs" / "studies" / "claims.yaml")])
    base, tested = plan_all(given)
    assert base is not None and len(base[1].instances) > 20
    for one in tested:
        for effect in one.effects:
            stages = one.study.instances.values()
            measured = [each for each in stages if each.of == effect.results] or one.study.results
            cells_of = [instance.cell for instance in measured]
            for side in (effect.first, effect.second or {}):
                labels = {axis: str(label) for axis, label in side.items() if axis != "model"}
                assert any(labels.items() <= cell.items() for cell in cells_of), (one.name, effect.what)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"claims": {"x": {"claim": "a"}}}, "claims: x: .*source"),
        ({"claims": {"x": claim(5, effects=[])}}, "claims: x: there is no effect that decides"),
        (
            {
                "claims": {
                    "x": claim(5, effects=[{"what": "a", "metric": "b", "results": "none", "above": 0}])
                }
            },
            "claims: x: 'a': results=none names no stage: there are w",
        ),
        ({"claims": {"x y": claim(5)}}, "claims: 'x y' cannot be a claim"),
        ({"claims": {"x": claim("many")}}, "claims: x: stage 1.*documents"),
        ({"only": ["secnd"]}, "there is no claim 'secnd': did you mean 'second'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path: Path, given: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(claims(tmp_path, **given))
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "here are neither"),
        ({"stages": [WORLD], "claims": {"x": claim(5)}}, "here are both"),
        ({"stages": [WORLD], "only": ["x"]}, "here are none"),
        ({"claims": {"x": claim(5)}, "axes": {"seed": [0]}}, "every claim has its own"),
    ],
)
def test_a_study_has_stages_or_claims(given: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(StudySettings, given)
