"""The reward model's loss against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tutelage.data.batch import Tokens
from tutelage.data.template import PairTokens
from tutelage.models.forward import Traits
from tutelage.models.policy import ScalarModule
from tutelage.settings.train import RewardSettings
from tutelage.train.reward import RewardModelling

SCORES = ((2.0, 0.5), (0.25, 0.25), (-1.0, 1.0))  # of (chosen, rejected)
MARGINS = (1.0, 1 / 3, 0.0)
SHARES = (1.0, 1.0, 0.75)


def scalar() -> ScalarModule:
    return ScalarModule(torch.nn.Identity(), Traits(flat=False))


def pairs() -> list[PairTokens]:
    def tokens(n: int) -> Tokens:
        return Tokens(np.arange(5, 5 + n, dtype=np.int32), np.ones(n, bool))

    return [PairTokens(tokens(4), tokens(3), p, m) for p, m in zip(SHARES, MARGINS, strict=True)]


@pytest.mark.parametrize("coef", [0.0, 1.0, 3.0])
def test_the_margin_is_subtracted_inside_the_sigmoid(monkeypatch: pytest.MonkeyPatch, coef: float) -> None:
    """-log sigmoid(d - coef * m), both ways round for a soft label: 1.0810 and the like (Llama 2, eq. 2)."""
    monkeypatch.setattr(ScalarModule, "forward", lambda self, batch, at: torch.tensor(SCORES).flatten())
    settings = RewardSettings(margin_coef=coef, center_coef=0, batch_size=3)
    algorithm = RewardModelling(scalar(), pairs(), settings)
    [batch] = next(algorithm.batches(0))
    loss = algorithm.loss(batch)

    def nll(x: float) -> float:
        return math.log1p(math.exp(-x))

    shares, margins = batch.per_unit["p_chosen"].tolist(), batch.per_unit["margin"].tolist()
    drawn = zip(SCORES, shares, margins, strict=True)
    expected = sum(p * nll(c - r - coef * m) + (1 - p) * nll(r - c - coef * m) for (c, r), p, m in drawn)
    term = loss.terms["bradley_terry"]
    assert term.sum.item() == pytest.approx(expected, rel=1e-6)
    assert term.per == "pairs" and batch.units()["pairs"] == 3


def test_the_constants_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal scores: ln 2 without a margin, 1.3133 with 1, 3.0486 with 3."""
    monkeypatch.setattr(ScalarModule, "forward", lambda self, batch, at: torch.zeros(2))
    for coef, expected in ((0.0, 0.693147), (1.0, 1.313262), (3.0, 3.048587)):
        settings = RewardSettings(margin_coef=coef, batch_size=1)
        algorithm = RewardModelling(scalar(), pairs()[:1], settings)
        [batch] = next(algorithm.batches(0))
        assert algorithm.loss(batch).terms["bradley_terry"].sum.item() == pytest.approx(expected, abs=1e-5)
