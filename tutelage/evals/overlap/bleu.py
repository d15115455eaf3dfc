"""BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002, ACL), counted by sacreBLEU (Post 2018, WMT).

bleu_N            geometric mean of the precisions of 1 to N words, times the brevity penalty: sacreBLEU with max_ngram_order=N
bleu_precision_N  the precision of N words alone, without a brevity penalty: what some call the individual BLEU-N
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tutelage.evals.overlap.sums import Measure, Sums
from tutelage.statistics import Floats

ORDER = 4  # words of the longest n-gram


def sums(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Sums:
    """For each output: its words, those of the reference nearest in length, and per order n-grams matched and n-grams."""
    import sacrebleu
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(max_ngram_order=ORDER, smooth_method="none", force=True, effective_order=True)
    columns = np.zeros((len(outputs), 2 + 2 * ORDER))
    for line, output, known in zip(columns, outputs, references, strict=True):
        found = metric.sentence_score(output, list(known))
        line[:] = (found.sys_len, found.ref_len, *found.counts, *found.totals)
    about = f"sacrebleu:{sacrebleu.__version__}|case:mixed|eff:no|tok:13a|smooth:none"
    cumulative = [Measure(f"bleu_{n}", _bleu(n), "overlap") for n in range(1, ORDER + 1)]
    single = [Measure(f"bleu_precision_{n}", _precision(n), "overlap") for n in range(1, ORDER + 1)]
    return Sums(columns, (*cumulative, *single), about)


def _precision(n: int) -> Callable[[Floats], Floats]:
    def value(sums: Floats) -> Floats:
        found: Floats = sums[..., 1 + n] / np.maximum(sums[..., 1 + ORDER + n], 1)
        return found

    return value


def _bleu(order: int) -> Callable[[Floats], Floats]:
    """Without smoothing: 0 where no n-gram of some order is matched."""

    def value(sums: Floats) -> Floats:
        words, nearest = sums[..., 0], sums[..., 1]
        precisions = np.stack([_precision(n)(sums) for n in range(1, order + 1)])
        with np.errstate(divide="ignore", invalid="ignore"):
            shortness = np.where(words > 0, 1 - nearest / words, -np.inf)
            found: Floats = np.exp(np.log(precisions).mean(axis=0) + np.minimum(0, shortness))
        return found

    return value
