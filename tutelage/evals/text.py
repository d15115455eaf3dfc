"""What the responses look like: length, missing EOS, and how much is copied from the prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tutelage import statistics
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.evals.scored import by_task
from tutelage.records import Response
from tutelage.statistics import Interval

COPY_NGRAM = 4  # words: shorter runs are shared by chance ("one of the")


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks; Unicode, so it works for every language that uses spaces."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def length_change(
    model: str,
    responses: Sequence[Response],
    baseline: Sequence[Response],
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """Row length_change: tokens of the model over tokens of the baseline on the same prompts, minus 1 (a share)."""
    ours, theirs = ([len(r.ids) for r in some] for some in (responses, baseline))
    keys = [r.prompt.id for r in responses]
    ratio = statistics.bootstrap_ratio(ours, theirs, keys, seed=seed, resamples=resamples)
    return [
        row(
            model,
            "length_change",
            OVERALL,
            Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.n),
            "share",
        )
    ]


def evaluate(
    model: str, responses: Sequence[Response], *, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> list[Row]:
    """Rows length (tokens, EOS counted), missing_eos, copy_rate; overall and per task.

    `copy_rate` is the share of the responses' word 4-grams that also stand in their own prompt.
    """
    lengths = np.array([len(r.ids) for r in responses], float)
    missing = np.array([r.finish != "eos" for r in responses], float)
    texts = [words(r.text) for r in responses]
    sources = [words(r.prompt.text()) for r in responses]
    pairs = zip(texts, sources, strict=True)
    copies = np.array([statistics.copied(text, source, COPY_NGRAM) for text, source in pairs], float)
    keys = np.array([r.prompt.id for r in responses])
    rows = []
    for task, members in by_task(responses).items():
        i = np.array(members, dtype=int)
        length = statistics.bootstrap_mean(lengths[i], keys[i], seed=seed, resamples=resamples)
        rows.append(row(model, "length", task, length, "tokens"))
        rows.append(
            row(model, "missing_eos", task, statistics.wilson(float(missing[i].sum()), i.size), "share")
        )
        copied = statistics.bootstrap_ratio(
            copies[i, 0], copies[i, 1], keys[i], rate=True, seed=seed, resamples=resamples
        )
        rows.append(row(model, "copy_rate", task, copied, "share"))
    return rows
