"""What reward models learn where the truth is planted: a reward that is linear in the words of a response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.train.making import make_model
from tutelage.evals import rows
from tutelage.feedback.training.source import aggregated, skill_of
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.tiny import train_tokenizer
from tutelage.records import Comparison, Prompt, Vote
from tutelage.settings.reward import RewardSettings
from tutelage.statistics import sigmoid
from tutelage.store import VotedPair

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "owl", "pig", "rat", "yak"]
DRAW = np.random.default_rng(0)
WORTH = DRAW.normal(size=len(WORDS))  # of a word, in logits
PAIRS = 1200


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer([" ".join(WORDS)] * 4 + [str(i) for i in range(100)], vocab_size=300)
    folder = tmp_path_factory.mktemp("base")
    save(make_model(tokenizer), tokenizer, folder / "model")
    return folder


def responses(n: int, seed: int) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Pairs of five words each, and by how much the first is better [n]."""
    drawn = np.random.default_rng(seed).integers(0, len(WORDS), (n, 2, 5))
    texts = [tuple(" " + " ".join(WORDS[w] for w in side) for side in pair) for pair in drawn]
    worth = WORTH[drawn].sum(-1)
    return texts, worth[:, 0] - worth[:, 1]  # type: ignore[return-value]


def write(path: Path, found: Sequence[Comparison]) -> Path:
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in found))
    return path


def compared(texts: Sequence[tuple[str, str]], first: np.ndarray) -> list[Comparison]:
    """The first is preferred where `first`."""
    return [
        Comparison(Prompt(f"{i}:"), *(pair if better else pair[::-1]))
        for i, (pair, better) in enumerate(zip(texts, first, strict=True))
    ]


def accuracy(base: Path, folder: Path, train: Sequence[Comparison], held_out: Sequence[Comparison]) -> float:
    """Of a reward model trained on some comparisons, on others."""
    folder.mkdir()
    settings = RewardSettings(
        model=str(base),
        data=str(write(folder / "train.jsonl", train)),
        eval_data=str(write(folder / "held-out.jsonl", held_out)),
        out=folder / "run",
        learning_rate=3e-3,
        batch_size=16,
        epochs=4,
        eval_every=10_000,
        save_every=10_000,
        weight_decay=0.1,
        tensorboard=False,
        precision="fp32",
    )
    launch("reward", settings, Console(quiet=True))
    found = {row.metric: row.value for row in rows.read(folder / "run" / "results.json")}
    assert found["accuracy"] is not None
    return found["accuracy"]


@pytest.mark.slow
def test_a_planted_linear_reward_is_recovered(base: Path, tmp_path: Path) -> None:
    """To 95 % of what a judge with the true reward reaches on the same noisy labels (Bayes)."""
    texts, worth = responses(PAIRS, 1)
    noisy = DRAW.random(PAIRS) < sigmoid(worth)
    other, true = responses(1000, 2)
    labels = DRAW.random(1000) < sigmoid(true)
    bayes = float(np.mean((true > 0) == labels))
    found = accuracy(base, tmp_path / "run", compared(texts, noisy), compared(other, labels))
    assert found >= 0.95 * bayes


@pytest.mark.slow
def test_three_bad_annotators_in_ten_cost_little(base: Path, tmp_path: Path) -> None:
    """Two at random, one upside down, each pair voted on by five of ten: gold accuracy within 0.02 of clean labels."""
    texts, worth = responses(PAIRS, 3)
    other, true = responses(1000, 4)
    gold = compared(other, true > 0)
    draw = np.random.default_rng(5)
    sharpness = [2.0] * 7 + [0.0, 0.0, -2.0]
    pairs = []
    for i, (pair, better) in enumerate(zip(texts, worth, strict=True)):
        votes = tuple(
            Vote(
                f"a{who}",
                -1 if draw.random() < sigmoid(sharpness[who] * better) else 1,
                int(draw.integers(2)),
            )
            for who in draw.permutation(10)[:5]
        )
        pairs.append(VotedPair(str(i), i, Prompt(f"{i}:"), pair, votes, scale=1))
    rows = aggregated(pairs, "habit-bt", "keep", skill_of(lambda: pairs, "habit-bt"))
    found = [row for _, row in rows if isinstance(row, Comparison)]
    clean = accuracy(base, tmp_path / "clean", compared(texts, worth > 0), gold)
    assert accuracy(base, tmp_path / "crowd", found, gold) >= clean - 0.02
