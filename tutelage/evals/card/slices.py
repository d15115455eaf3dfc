"""Where a reward model is right: by how sure people were, by length, by its own certainty; and what the surface alone gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.statistics import Floats, Interval

RESAMPLES = 2000
AGREEMENT = (("split", 0.0, 0.5), ("most", 0.5, 0.999), ("all", 0.999, 1.0))  # (name, above, up to)
STRENGTH = (("slight", 0.0, 1 / 3), ("clear", 1 / 3, 2 / 3), ("strong", 2 / 3, 1.0))
COVERAGES = range(10, 101, 10)
QUARTERS = 4
BINS = 20


def by_people(
    model: str,
    margins: Floats,
    p: Floats,
    strength: Floats,
    clusters: Sequence[str],
    *,
    votes: ArrayLike | None = None,
    seed: int = 0,
) -> list[Row]:
    """accuracy_by_agreement/NAME and accuracy_by_strength/NAME: how much of the votes, and how strongly they said it.

    margins, p, strength: [n]; the latter two are `p_chosen` and `margin` of the comparisons.  votes: [n, 2], how many people
    preferred each.  A row for every group with pairs; of agreement only where several people voted.
    """
    rows = []
    agreement, asked = np.maximum(p, 1 - p), _several_asked(p, votes)
    for metric, of, known, bounds in (
        ("agreement", agreement, asked, AGREEMENT),
        ("strength", strength, np.ones(p.shape, bool), STRENGTH),
    ):
        for name, above, upto in bounds:
            here = (of > above + 1e-9) & (of <= upto + 1e-9) & known
            if here.any():
                rows.append(
                    _accuracy(model, f"accuracy_by_{metric}/{name}", margins, p, clusters, here, seed)
                )
    return rows


def _several_asked(p: Floats, votes: ArrayLike | None) -> np.ndarray:
    """bool [n]: the pairs that several people voted on.

    Without votes all, if some label is a share, and else none: one label for each pair is no agreement.
    """
    if votes is not None:
        several: np.ndarray = np.asarray(votes, float).reshape(-1, 2).sum(axis=1) >= 2
        return several
    agreement = np.maximum(p, 1 - p)
    return np.full(p.shape, bool(np.any((agreement > 0.5 + 1e-9) & (agreement < 1 - 1e-9))))


def by_length(
    model: str, margins: Floats, p: Floats, lengths: Floats, clusters: Sequence[str], *, seed: int = 0
) -> list[Row]:
    """accuracy_by_length/N/accuracy and /difference, in quarters (equal ones together) by the signed difference chosen -
    rejected; lengths: [n, 2].

    A model that goes by length is right where the chosen response is longer and wrong where it is shorter.
    """
    difference = lengths[:, 0] - lengths[:, 1]
    if not difference.size:
        return []
    rows = []
    quarter = np.searchsorted(np.quantile(difference, np.arange(1, QUARTERS) / QUARTERS), difference)
    for number in range(QUARTERS):
        here = quarter == number
        if here.any():
            rows.append(
                _accuracy(
                    model, f"accuracy_by_length/{number + 1}/accuracy", margins, p, clusters, here, seed
                )
            )
            mean = Interval(float(difference[here].mean()), np.nan, np.nan, int(here.sum()))
            rows.append(row(model, f"accuracy_by_length/{number + 1}/difference", OVERALL, mean, "tokens"))
    return rows


def _accuracy(
    model: str, metric: str, margins: Floats, p: Floats, clusters: Sequence[str], here: np.ndarray, seed: int
) -> Row:
    keys = np.asarray(clusters)[here]
    agreed = statistics.correct(margins[here], p[here])
    found = statistics.bootstrap_mean(agreed, keys, rate=True, seed=seed, resamples=RESAMPLES)
    return row(model, metric, OVERALL, found, "share")


def baselines(
    model: str,
    margins: Floats,
    p: Floats,
    others: Mapping[str, Floats],
    clusters: Sequence[str],
    *,
    seed: int = 0,
) -> list[Row]:
    """accuracy_NAME of each baseline's margins [n], and over_NAME: the model's accuracy less that, prompts drawn with both."""
    ours = statistics.correct(margins, p)
    rows = []
    for name, theirs in others.items():
        agreed = statistics.correct(theirs, p)
        alone = statistics.bootstrap_mean(agreed, clusters, rate=True, seed=seed, resamples=RESAMPLES)
        gap = statistics.bootstrap_mean(ours - agreed, clusters, seed=seed, resamples=RESAMPLES)
        rows += [
            row(model, f"accuracy_{name}", OVERALL, alone, "share"),
            row(model, f"over_{name}", OVERALL, gap, "share"),
        ]
    return rows


def abstaining(model: str, margins: Floats, p: Floats, *, seed: int = 0) -> list[Row]:
    """accuracy_at_coverage/NNN: accuracy on the NNN per cent with the largest margins; aurc: mean error over all coverages.

    El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification"; Geifman et al. 2019,
    arXiv 1805.08206 (AURC).  Pairs of equal margin share the accuracy of all of them, so their order does not matter.
    """
    if not margins.size:
        return []
    right = statistics.in_order(np.abs(margins), statistics.correct(margins, p))
    n = right.size
    rows = []
    for per_cent in COVERAGES:
        kept = max(1, round(per_cent * n / 100))
        found = statistics.wilson(float(right[:kept].sum()), kept)
        rows.append(row(model, f"accuracy_at_coverage/{per_cent:03}", OVERALL, found, "share"))

    def area(i: np.ndarray) -> float:
        return statistics.aurc(np.abs(margins[i]), 1 - statistics.correct(margins[i], p[i]))

    found = statistics.bootstrap(area, n, seed=seed, resamples=300)
    return [*rows, row(model, "aurc", OVERALL, found, "share")]


def histograms(model: str, scores: Floats) -> list[Row]:
    """Shares in 20 bins between the extremes: score_histogram/NN/{middle,chosen,rejected}, margin_histogram/NN/{middle,share}.

    scores: [n, 2].
    """
    if not scores.size:
        return []
    margins, n = scores[:, 0] - scores[:, 1], len(scores)
    rows = []

    def add(name: str, edges: Floats, values: Mapping[str, Floats]) -> None:
        counts = {key: np.histogram(found, edges)[0] for key, found in values.items()}
        for number, middle in enumerate((edges[1:] + edges[:-1]) / 2):
            place = f"{number + 1:02}"
            plain = Interval(float(middle), np.nan, np.nan, n)
            rows.append(row(model, f"{name}_histogram/{place}/middle", OVERALL, plain, "score"))
            for key, count in counts.items():
                share = Interval(float(count[number] / n), np.nan, np.nan, n)
                rows.append(row(model, f"{name}_histogram/{place}/{key}", OVERALL, share, "share"))

    both = {"chosen": scores[:, 0], "rejected": scores[:, 1]}
    add("score", np.histogram_bin_edges(scores, BINS), both)
    add("margin", np.histogram_bin_edges(margins, BINS), {"share": margins})
    return rows


def length_correlation(
    model: str, scores: ArrayLike, lengths: ArrayLike, clusters: Sequence[str], *, seed: int = 0
) -> list[Row]:
    """score_length_correlation over all responses, and score_length_correlation_within over the two of each pair; both [n, 2].

    Within pairs nothing that prompts have in common counts: it is the correlation of the deviations from the pair's means.
    """
    s, x = np.asarray(scores, float), np.asarray(lengths, float)
    if not s.size:
        return []

    def moments(a: Floats, b: Floats) -> Floats:
        each = np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], axis=-1)
        return each.sum(axis=1)

    def correlation(m: Floats) -> Floats:
        n, a, b, aa, bb, ab = np.moveaxis(m, -1, 0)
        top, below = ab - a * b / n, (aa - a * a / n) * (bb - b * b / n)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 1e-9 * aa * bb + 1e-300, top / np.sqrt(np.maximum(below, 0)), np.nan)

    s, x = s - s.mean(), x - x.mean()  # moments of large numbers cancel
    rows = []
    for metric, (a, b) in {
        "score_length_correlation": (s, x),
        "score_length_correlation_within": (
            s - s.mean(axis=1, keepdims=True),
            x - x.mean(axis=1, keepdims=True),
        ),
    }.items():
        found = statistics.bootstrap_sums(
            correlation, moments(a, b), clusters, seed=seed, resamples=RESAMPLES
        )
        rows.append(
            row(model, metric, OVERALL, Interval(found.value, found.low, found.high, a.size), "correlation")
        )
    return rows
