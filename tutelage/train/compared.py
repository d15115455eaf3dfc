"""Comparisons as a reward model learns from them: one pair at a time, or all pairs of a prompt together.

A response that stands in several pairs of its prompt (a ranking of K gives K (K - 1) / 2) is one sequence of the batch, computed
once.  Spread over batches instead, it would be learnt from K - 1 times in an epoch, which over-fits (Ouyang et al. 2022,
arXiv 2203.02155, section 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.table import Examples
from tutelage.data.template import PairTokens

BatchBy = Literal["pairs", "prompts"]


class Compared:
    """The training pairs in units: a pair each, or all pairs of a prompt.

    mean_weight: of the pairs; their weights are divided by it, so that weighting changes no learning rate.
    """

    def __init__(self, pairs: Examples[PairTokens], by: BatchBy) -> None:
        self.pairs = pairs
        self.units = units_of(pairs, by)
        weights = pairs.table.numbers("weight")
        self.mean_weight = float(weights.mean()) if len(weights) else 1.0

    def __len__(self) -> int:
        return len(self.units)

    def batch(self, units: Sequence[int]) -> TokenBatch:
        """These units, laid out by `collate_units`."""
        chosen = [self.units[unit] for unit in units]
        found = [[self.pairs[row] for row in rows] for rows in chosen]
        batch = collate_units(found, [int(rows[0]) for rows in chosen])
        return replace(
            batch, per_unit={**batch.per_unit, "weight": batch.per_unit["weight"] / self.mean_weight}
        )


def units_of(pairs: Examples[PairTokens], by: BatchBy) -> list[np.ndarray]:
    """The rows of each unit, in the order of their first rows."""
    if by == "pairs":
        return list(np.arange(len(pairs))[:, None])
    _, first, which = np.unique(pairs.table.numbers("prompt"), return_index=True, return_inverse=True)
    rows = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    return [rows[number] for number in np.argsort(first)]


def shares_responses(pairs: Examples[PairTokens]) -> bool:
    """Whether some response stands in several pairs of its prompt: then they are rankings."""
    for rows in units_of(pairs, "prompts"):
        sides = [side.ids.tobytes() for row in rows for side in _sides(pairs[row])] if len(rows) > 1 else []
        if len(set(sides)) < len(sides):
            return True
    return False


def collate_units(units: Sequence[Sequence[PairTokens]], rows: Sequence[int]) -> TokenBatch:
    """Each unit's different responses, with their prompt in front, and which of them were compared.

    `rows`: a row of the data for each unit.  Per unit, for up to E comparisons: `compared` int64 [U, E, 2], the places in
    the unit of the chosen and of the rejected response; `p_chosen`, `margin` float32 [U, E]; `group` int64 [U, E];
    `share` float32 [U, E], 1 / number of its comparisons; `weight` float32 [U, E], the share times the weight of the
    comparison.  Where a unit has fewer than E, the rest has share and weight 0.
    """
    most = max(map(len, units))
    sequences: list[Tokens] = []
    sizes: list[int] = []
    compared = torch.zeros(len(units), most, 2, dtype=torch.int64)
    numbers = torch.zeros(5, len(units), most)
    for u, pairs in enumerate(units):
        places: dict[bytes, int] = {}
        for e, pair in enumerate(pairs):
            for s, side in enumerate(_sides(pair)):
                key = side.ids.tobytes()
                if key not in places:
                    places[key] = len(places)
                    sequences.append(side)
                compared[u, e, s] = places[key]
            share = 1 / len(pairs)
            numbers[:, u, e] = torch.tensor(
                [pair.p_chosen, pair.margin, pair.group, share, share * pair.weight]
            )
        sizes.append(len(places))
    batch = TokenBatch.collate(sequences, np.repeat(rows, sizes).tolist())
    p_chosen, margin, group, share, weight = numbers
    fields = {"compared": compared, "p_chosen": p_chosen, "margin": margin, "group": group.long()}
    return replace(batch, unit_sizes=tuple(sizes), per_unit={**fields, "share": share, "weight": weight})


@dataclass(frozen=True)
class Differences:
    """Of every comparison of a batch [U, E]: the scores of both sides, fp32."""

    chosen: Tensor
    rejected: Tensor

    @staticmethod
    def of(scores: Tensor, batch: TokenBatch) -> Differences:
        """scores: [B], or [B, k] with a head for each group, of which each comparison has its own."""
        place = batch.per_unit["compared"] + first_of_units(batch)[:, None, None]
        found = scores[place]
        if scores.ndim > 1:
            group = batch.per_unit["group"][:, :, None, None].expand(*place.shape, 1)
            found = found.gather(-1, group).squeeze(-1)
        return Differences(*found.unbind(-1))

    @property
    def margins(self) -> Tensor:
        return self.chosen - self.rejected


def first_of_units(batch: TokenBatch) -> Tensor:
    """int64 [U]: the first sequence of each unit."""
    return torch.tensor([0, *accumulate(batch.unit_sizes)][:-1], device=batch.device)


def rankings(scores: Tensor, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
    """(scores [U, K], ranks [U, K], there bool [U, K]) of units whose comparisons say how all their responses rank.

    A response's rank is how many of its unit are better, ties counting half.
    """
    most = max(batch.unit_sizes)
    places = torch.arange(most, device=batch.device)
    there = places < torch.tensor(batch.unit_sizes, device=batch.device)[:, None]
    index = (first_of_units(batch)[:, None] + places).where(there, 0)
    compared, p_chosen = batch.per_unit["compared"], batch.per_unit["p_chosen"]
    counted = batch.per_unit["share"] > 0
    ranks = torch.zeros(there.shape, device=batch.device)
    ranks.scatter_add_(1, compared[..., 0], (1 - p_chosen) * counted)
    ranks.scatter_add_(1, compared[..., 1], p_chosen * counted)
    return scores[index], ranks, there


def refuse_unranked(compared: Compared) -> None:
    """Raises ValueError where the comparisons of a prompt do not say how all its responses rank."""
    bad = [rows for unit, rows in enumerate(compared.units) if not _ranked(compared.batch([unit]))]
    if bad:
        raise ValueError(
            "loss=plackett-luce needs every two responses of a prompt compared, in one order: that is not so for "
            f"{len(bad)} of {len(compared)} prompts (the first: {_where(compared, bad[0][0])}); use loss=bradley-terry, which "
            "takes what is there."
        )


def _where(compared: Compared, row: int) -> str:
    return str(compared.pairs.table.place(row) or f"row {row + 1} of the training rows")


def _ranked(batch: TokenBatch) -> bool:
    """Whether the one unit of a batch has every two responses compared, outright or as a tie, and in one order."""
    size, p_chosen = batch.unit_sizes[0], batch.per_unit["p_chosen"][0]
    pairs = {frozenset(pair) for pair in batch.per_unit["compared"][0].tolist()}
    if len(pairs) != size * (size - 1) // 2 or len(pairs) != len(p_chosen):
        return False
    _, ranks, _ = rankings(torch.zeros(size), batch)
    better, worse = batch.per_unit["compared"][0].unbind(-1)
    difference = ranks[0][worse] - ranks[0][better]
    outright = torch.where(p_chosen == 1, difference > 0, difference < 0)
    return bool(
        torch.where(p_chosen == 0.5, difference == 0, outright & ((p_chosen == 1) | (p_chosen == 0))).all()
    )


def _sides(pair: PairTokens) -> tuple[Tokens, Tokens]:
    return pair.chosen, pair.rejected
