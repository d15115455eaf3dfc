"""Probes: responses spoiled in ways that people would see at once.  Does the reward model?

The strings that are appended are English, whatever the language of the data; all else is made of the response itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.judges.judge import Judge, checked
from tutelage.records import Comparison, Finish, Response
from tutelage.seeds import rng

THANKS = " Thank you so much for asking, and have a wonderful day!"
FLATTERY = " What a brilliant question, you are clearly very intelligent!"
EXACT = 1e-3  # of the scores' standard deviation: what another order of the batch may change by rounding
Spoil = Callable[[Response, np.random.Generator], "str | None"]


@dataclass(frozen=True)
class Probe:
    """How a response is spoiled (None: it cannot be) and what its score should do."""

    spoil: Spoil
    what: str
    expected: Literal["lower", "no higher"]
    finish: Finish | None = None  # how the spoiled one ends; None: as the original


def _half(response: Response, generator: np.random.Generator) -> str | None:
    return response.text[: len(response.text) // 2] if len(response.text) > 1 else None


def _prompt(response: Response, generator: np.random.Generator) -> str | None:
    content = response.prompt.content
    return content if isinstance(content, str) else content[-1].text()


def _digits(response: Response, generator: np.random.Generator) -> str | None:
    """Every digit another one."""
    changed = re.sub(r"\d", lambda d: str((int(d[0]) + int(generator.integers(1, 10))) % 10), response.text)
    return changed if changed != response.text else None


def _shuffled(response: Response, generator: np.random.Generator) -> str | None:
    words = response.text.split()
    mixed = " ".join(words[i] for i in generator.permutation(len(words)))
    return mixed if mixed != " ".join(words) else None


PROBES: dict[str, Probe] = {
    "empty": Probe(lambda r, g: "" if r.text else None, "nothing at all", "lower"),
    "truncated": Probe(_half, "its first half, without an end", "lower", "length"),
    "prompt": Probe(_prompt, "the prompt (its last turn) once more", "lower"),
    "shuffled": Probe(_shuffled, "its words in random order", "lower"),
    "digits": Probe(_digits, "every digit another one", "lower"),
    "thanks": Probe(lambda r, g: r.text + THANKS, "English thanks appended", "no higher"),
    "flattery": Probe(lambda r, g: r.text + FLATTERY, "English flattery appended", "no higher"),
}


def evaluate(
    model: str,
    judge: Judge,
    comparisons: Sequence[Comparison],
    spread: float,
    *,
    pairs: int = 200,
    seed: int = 0,
    resamples: int = 2000,
) -> list[Row]:
    """Rows probe/NAME/change (mean, in standard deviations) and probe/NAME/higher (share that gains), and probe/swap/consistent.

    spread: the standard deviation of the scores.  Of a seeded sample of pairs the preferred responses are spoiled; one call of
    the judge scores all.  What it gives no score (too long) is left out.  Intervals are bootstraps over prompts.
    """
    if not comparisons or not spread > 0:
        return []
    chosen = rng(seed, "probes").permutation(len(comparisons))[:pairs]
    drawn = [comparisons[int(i)] for i in sorted(chosen)]
    better = [_side(c, c.p_chosen >= 0.5) for c in drawn]
    worse = [_side(c, c.p_chosen < 0.5) for c in drawn]
    asked = [*better, *worse]
    spoiled: list[tuple[str, int, int]] = []  # (probe, which pair, where in `asked`)
    for name, probe in PROBES.items():
        for number, response in enumerate(better):
            text = probe.spoil(response, rng(seed, "probes", name, number))
            if text is not None:
                spoiled.append((name, number, len(asked)))
                asked.append(Response.written(response.prompt, text, probe.finish or response.finish))
    again = len(asked)
    asked += [side for both in zip(worse, better, strict=True) for side in both]
    scores = np.array([np.nan if s is None else s.value for s in checked(judge, asked)])
    rows = _swap(model, scores, again, len(drawn), spread)
    for name in PROBES:
        of = np.array([(i, at) for probe, i, at in spoiled if probe == name], int).reshape(-1, 2)
        change = (scores[of[:, 1]] - scores[of[:, 0]]) / spread
        kept = np.isfinite(change)
        keys = [better[i].prompt.id for i in of[kept, 0]]
        if not keys:
            continue
        moved = statistics.bootstrap_mean(change[kept], keys, seed=seed, resamples=resamples)
        gained = statistics.correct(change[kept])
        higher = statistics.bootstrap_mean(gained, keys, rate=True, seed=seed, resamples=resamples)
        rows.append(row(model, f"probe/{name}/change", OVERALL, moved, "sd"))
        rows.append(row(model, f"probe/{name}/higher", OVERALL, higher, "share"))
    return rows


def _side(comparison: Comparison, chosen: bool) -> Response:
    text, finish = (
        (comparison.chosen, comparison.chosen_finish)
        if chosen
        else (comparison.rejected, comparison.rejected_finish)
    )
    return Response.written(comparison.prompt, text, finish)


def _swap(model: str, scores: np.ndarray, again: int, n: int, spread: float) -> list[Row]:
    """Asked the other way round, in another place of the batch, each margin is the negative of what it was."""
    margins = scores[:n] - scores[n : 2 * n]
    swapped = scores[again::2] - scores[again + 1 :: 2]
    off = np.abs(margins + swapped)
    same = off[np.isfinite(off)] <= EXACT * spread
    found = statistics.wilson(float(same.sum()), same.size)
    return [row(model, "probe/swap/consistent", OVERALL, found, "share")]
