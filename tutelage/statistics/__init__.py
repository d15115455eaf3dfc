"""Intervals and rates behind every evaluation. numpy only; all randomness comes from the seed that is passed in.

Intervals are 95 % unless another `confidence` is given. "Cluster" is what was drawn independently (a prompt): several
responses or pairs of one prompt are resampled together.
"""

from __future__ import annotations

from tutelage.statistics.calibration import (
    Bin,
    accuracy,
    calibration_floor,
    chance_error,
    correct,
    expected_calibration_error,
    reliability,
    sigmoid,
    temperature,
)
from tutelage.statistics.crossed import crossed_mean, crossed_test, holm, student_p, student_quantile
from tutelage.statistics.fronts import hypervolume, non_dominated
from tutelage.statistics.intervals import (
    NOISE,
    NOTHING,
    RESAMPLES,
    Floats,
    Interval,
    bootstrap,
    bootstrap_each,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_sums,
    clusters_of,
    has_width,
    percentile_interval,
    rank_correlation,
    resample_counts,
    resampled_rows,
    resampled_sums,
    wilson,
)
from tutelage.statistics.lengths import FREE, SPREAD, Anchors, difficulties, length_controlled
from tutelage.statistics.selective import aurc, crossings, in_order, risks
from tutelage.statistics.texts import copied, distinct, ngrams, percentiles
from tutelage.statistics.wins import WinRate, detectable, outcomes, sign_test, win_rate, won

__all__ = [
    "FREE",
    "NOISE",
    "NOTHING",
    "RESAMPLES",
    "SPREAD",
    "Anchors",
    "Bin",
    "Floats",
    "Interval",
    "WinRate",
    "accuracy",
    "aurc",
    "bootstrap",
    "bootstrap_each",
    "bootstrap_mean",
    "bootstrap_ratio",
    "bootstrap_sums",
    "calibration_floor",
    "chance_error",
    "clusters_of",
    "copied",
    "correct",
    "crossed_mean",
    "crossed_test",
    "crossings",
    "detectable",
    "difficulties",
    "distinct",
    "expected_calibration_error",
    "has_width",
    "holm",
    "hypervolume",
    "in_order",
    "length_controlled",
    "ngrams",
    "non_dominated",
    "outcomes",
    "percentile_interval",
    "percentiles",
    "rank_correlation",
    "reliability",
    "resample_counts",
    "resampled_rows",
    "resampled_sums",
    "risks",
    "sigmoid",
    "sign_test",
    "student_p",
    "student_quantile",
    "temperature",
    "wilson",
    "win_rate",
    "won",
]
