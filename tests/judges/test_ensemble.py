"""Ensembles against numbers made by hand, and of real reward models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.judges.kit import Says, values, written
from tests.train.making import CPU, TEXT, make_tokenizer
from tutelage.judges.build import build_judge
from tutelage.judges.calibration import Calibrated, Calibration
from tutelage.judges.ensemble import Ensemble
from tutelage.judges.judge import Judge, scores_of
from tutelage.models.loading import load_scalar, save, set_score_normalisation
from tutelage.models.tiny import tiny_model
from tutelage.records import Prompt, Response

A, B = written("a"), written("b")
MEMBERS = ({"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 4.0}, {"a": 6.0, "b": 4.0})
"""Of a: mean 3, variance 14 / 3.  Of b all think alike."""


def ensemble(combine: str, coef: float = 0.0) -> Ensemble:
    return Ensemble({f"m{i}": Says(said) for i, said in enumerate(MEMBERS)}, combine, coef)


@pytest.mark.parametrize(
    ("combine", "coef", "value"),
    [("mean", 9.0, 3.0), ("worst", 9.0, 1.0), ("uncertainty", 0.0, 3.0), ("uncertainty", 0.75, -0.5)],
)
def test_one_score_of_several(combine: str, coef: float, value: float) -> None:
    first, second = scores_of(ensemble(combine, coef), [A, B])
    assert first.value == pytest.approx(value, abs=1e-12)
    assert first.parts == pytest.approx({"m0": 1.0, "m1": 2.0, "m2": 6.0, "std": math.sqrt(14 / 3)})
    assert second.value == 4.0 and second.parts["std"] == 0.0


def test_members_that_do_not_apply_are_named() -> None:
    mixed = Ensemble({"one": Says({"a": 1.0}, "one"), "two": Says({"a": None}, "two")}, "worst", 0.0)
    with pytest.raises(ValueError, match="the judge two does not apply to the prompt 'prompt of a'"):
        mixed.score([A])


def test_the_units_of_a_member_change_nothing() -> None:
    """Each is calibrated before they are combined, on responses that are drawn once for all."""
    drawn = np.random.default_rng(0).normal(size=(3, 20))
    responses = [written(str(i)) for i in range(20)]
    asked = []

    def made(units: list[tuple[float, float]]) -> list[float | None]:
        members: dict[str, Judge] = {}
        for name, row, (shift, scale) in zip("abc", drawn, units, strict=True):
            said = {str(i): float(shift + scale * value) for i, value in enumerate(row)}
            members[name] = Calibrated(Says(said, name), Calibration())
        judge = Ensemble(members, "worst", 0.0)
        judge.calibrate(lambda: asked.append(1) or responses)  # type: ignore[func-returns-value]
        return values(judge.score(responses))

    standard = (drawn - drawn.mean(1, keepdims=True)) / drawn.std(1, keepdims=True)
    assert made([(0, 1), (0, 1), (0, 1)]) == pytest.approx(standard.min(0).tolist())
    assert made([(5, 100), (-2, 0.1), (1e3, 3)]) == pytest.approx(standard.min(0).tolist())
    assert len(asked) == 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three reward models that differ; two know the mean and spread of their scores."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), make_tokenizer()
    paths = []
    for seed, known in enumerate([(0.5, 2.0), (-1.0, 0.25), None]):
        base = tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=64, seed=seed)
        scalar = load_scalar(save(base, tokenizer, folder / f"base{seed}"), seed=seed)
        if known:
            set_score_normalisation(scalar, *known)
        paths.append(str(save(scalar, tokenizer, folder / f"run{seed}" / "std")))
    return paths


RESPONSES = [Response.written(Prompt("the cat sat"), text) for text in TEXT[:4]]


def raw(path: str) -> list[float]:
    """The head's own numbers."""
    return [
        score.value for score in scores_of(build_judge([{"judge": path, "normalise": "none"}]), RESPONSES)
    ]


def test_an_ensemble_of_reward_models_from_settings(models: list[str]) -> None:
    first, second = np.array(raw(models[0])), np.array(raw(models[1]))
    scaled = np.stack([(first - 0.5) / 2.0, (second + 1.0) / 0.25])
    assert scaled.std(0).min() > 1e-3  # they do differ
    for options, expected in (
        ({"combine": "worst"}, scaled.min(0)),
        ({}, scaled.mean(0)),
        ({"combine": "uncertainty"}, scaled.mean(0) - 0.1 * scaled.var(0)),
        (
            {"combine": "uncertainty", "uncertainty_coef": 2, "weight": 0.5},
            0.5 * (scaled.mean(0) - 2 * scaled.var(0)),
        ),
    ):
        found = scores_of(build_judge([{"judge": models[:2], **options}], CPU), RESPONSES)
        assert [score.value for score in found] == pytest.approx(expected.tolist(), rel=1e-5)
        assert list(found[0].parts) == ["ensemble", "ensemble/std-2", "ensemble/std-3", "ensemble/std"]
        assert found[1].parts["ensemble/std-3"] == pytest.approx(scaled[1, 1], rel=1e-5)
        assert found[1].parts["ensemble/std"] == pytest.approx(scaled[:, 1].std(), rel=1e-5)


def test_one_reward_model_by_its_name_and_as_a_part(models: list[str]) -> None:
    first, third = np.array(raw(models[0])), np.array(raw(models[2]))
    alone = build_judge(models[0], CPU)
    assert values(alone.score(RESPONSES)) == pytest.approx(((first - 0.5) / 2).tolist(), rel=1e-5)
    unknown = build_judge(models[2], CPU)
    assert values(unknown.score(RESPONSES)) == pytest.approx(third.tolist(), rel=1e-5)  # enough to compare
    mix = build_judge(
        [models[2], {"judge": "python:tests.judges.kit:Longer", "weight": 0.25, "name": "long"}], CPU
    )
    said = mix.calibrate(lambda: RESPONSES)
    assert said is not None and models[2] in said and "\n" not in said
    lengths = np.array([len(response.text) for response in RESPONSES])
    expected = (third - third.mean()) / third.std() + 0.25 * lengths
    found = scores_of(mix, RESPONSES)
    assert [score.value for score in found] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found[0].parts == pytest.approx({"std": third[0], "long": float(lengths[0])}, rel=1e-5)


def test_a_gate_compares_the_score_as_the_head_gives_it(models: list[str]) -> None:
    scores = raw(models[0])
    limit = float(np.median(scores))
    unknown = build_judge([{"judge": models[2], "gate": limit}, "python:tests.judges.kit:Longer"], CPU)
    assert unknown.calibrate(lambda: pytest.fail("a gate needs no unit")) is None  # type: ignore[arg-type, return-value]
    gate = {"judge": models[0], "gate": limit, "weight": 3.0}
    found = values(build_judge([gate, "python:tests.judges.kit:Longer"], CPU).score(RESPONSES))
    expected = [3 * s if s < limit else float(len(r.text)) for s, r in zip(scores, RESPONSES, strict=True)]
    assert found == pytest.approx(expected, rel=1e-5) and 0 < sum(s < limit for s in scores) < 4


def test_a_mix_goes_on_after_a_restart_with_what_was_measured(models: list[str], tmp_path: Path) -> None:
    spec = [models[2], {"judge": models, "combine": "worst"}, {"judge": models[0], "normalise": "zscore"}]
    mix = build_judge(spec, CPU)
    mix.calibrate(lambda: RESPONSES)
    mix.learn(RESPONSES[:2], mix.score(RESPONSES[:2]))
    assert mix.state is not None
    torch.save(mix.state.state_dict(), tmp_path / "state.pt")
    again = build_judge(spec, CPU)
    assert again.state is not None
    again.state.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert again.calibrate(lambda: pytest.fail("nothing is left to measure")) is None  # type: ignore[arg-type, return-value]
    assert again.score(RESPONSES) == mix.score(RESPONSES)


def test_a_language_model_is_no_reward_model(models: list[str]) -> None:
    """Its scores would be those of a head that was drawn at random."""
    base = str(Path(models[0]).parent.parent / "base0")
    for spec in (base, [base], [{"judge": [base, models[1]]}]):
        with pytest.raises(ValueError, match="base0 is no reward model"):
            build_judge(spec, CPU)
