"""Small models, data and settings for tests of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from tutelage.cache import claim
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.parallel import World
from tutelage.runs import Run
from tutelage.settings.train import TrainSettings

CPU = World(torch.device("cpu"))
TEXT = ["the cat sat on the mat.", "a dog ran to the cat.", "1 + 2 = 3.", "the mat is red."] * 5


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled, in whichever of the processes that run the tests came first: the others wait for it."""
    with claim("tests", name) as folder:
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXT, vocab_size=300)


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> PolicyModule:
    return tiny_model(tokenizer, hidden=32, layers=2, heads=2, context=128, seed=seed)


def make_rows(n: int, seed: int = 0, vocabulary: int = 260) -> list[list[Tokens]]:
    """n ragged rows of one sequence; the second half of each sequence is trained."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        length = int(random.integers(4, 24))
        ids = random.integers(5, vocabulary, length).astype(np.int32)
        rows.append([Tokens(ids, np.arange(length) >= length // 2)])
    return rows


def make_run(folder: Path, settings: TrainSettings, command: str = "sft") -> Run:
    return Run.open(folder, command, settings)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def collate_rows(rows: Sequence[Sequence[Tokens]], chosen: Sequence[int]) -> TokenBatch:
    sequences = [(sequence, row) for row in chosen for sequence in rows[row]]
    return TokenBatch.collate([sequence for sequence, _ in sequences], [row for _, row in sequences])


def batch_at(rows: Sequence[Sequence[Tokens]], batch_size: int, seed: int = 0) -> Callable[[int], TokenBatch]:
    return lambda step: collate_rows(rows, rows_for_step(len(rows), batch_size, step, seed))
