"""Verdicts drawn from AlpacaEval 2's own model, and its files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sigmoid(z: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-z))
    return found


class World(NamedTuple):
    """M generators on n instructions: probabilities that they are better [M, n], how much longer they are [M, n] (characters),
    the difficulty of each instruction [n], the gamed baselines as df_gamed.csv has them (preference, std_delta_len; [2 n]), and
    the length-controlled win rates that were planted [M]."""

    outcomes: Floats
    longer: Floats
    hard: Floats
    gamed: tuple[Floats, Floats]
    truth: Floats


def alpaca_world(generators: int = 6, n: int = 805, seed: int = 4, exact: bool = False) -> World:
    """Soft verdicts as a judge weighted by its probabilities gives them: near 0 and 1, right on average; or the probabilities."""
    random = np.random.default_rng(seed)

    def soft(p: Floats) -> Floats:
        return p if exact else random.beta(np.maximum(0.6 * p, 1e-9), np.maximum(0.6 * (1 - p), 1e-9))

    hard = random.normal(0, 1, n)
    longer = np.concatenate([random.normal(-1.2, 0.5, n), random.normal(1.2, 0.5, n)])  # concise, verbose
    gamed = soft(sigmoid(0.9 * np.tanh(longer))), -longer
    outcomes, lengths, truth = [], [], []
    for _ in range(generators):
        own, liked, steep = random.normal(-0.6, 1.0), random.normal(0.9, 0.3), random.normal(0.8, 0.3)
        d = np.round(random.normal(random.normal(0, 500), random.uniform(300, 900), n))
        outcomes.append(soft(sigmoid(own + liked * np.tanh(d / d.std()) + steep * hard)))
        lengths.append(d)
        truth.append(sigmoid(own + steep * hard).mean())
    return World(np.array(outcomes), np.array(lengths), hard, gamed, np.array(truth))
