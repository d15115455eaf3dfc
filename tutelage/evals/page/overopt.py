"""Over-optimisation as rows, and drawn from them: the command and the report draw the same figure.  No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tutelage import statistics
from tutelage.evals import figures, goodhart
from tutelage.evals.findings import one
from tutelage.evals.goodhart import Curve, Fit, Forecast, Kind, Peak
from tutelage.evals.rows import OVERALL, Row, row

BEST_OF = "best-of-n"
FITTED = 60  # points of a fitted curve


def rows_of(
    curve: Curve,
    found: Fit | None,
    peak: Peak,
    ahead: Forecast | None,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> list[Row]:
    """Rows proxy@POINT, gold@POINT, kl@POINT, peak, peak/..., and fit/... and forecast/... where there are these."""
    name, n = curve.name, len(curve.gold)
    rows = []
    for k, at in enumerate(curve.at):
        for metric, values, unit in (
            ("proxy", curve.proxy, "score"),
            ("gold", curve.gold, "score"),
            ("kl", curve.kl, "nats"),
        ):
            interval = statistics.bootstrap_mean(values[:, k], seed=seed, resamples=resamples)
            rows.append(row(name, f"{metric}@{at}", OVERALL, interval, unit))
    rows.append(Row(name, "peak", OVERALL, float(curve.d[peak.index]), n=n, unit="√nats"))
    rows.append(Row(name, "peak/point", OVERALL, float(curve.at[peak.index]), n=n))
    rows.append(Row(name, "peak/proxy_rise", OVERALL, peak.proxy_rise, n=n, unit="score"))
    rows.append(row(name, "peak/fall", OVERALL, peak.fall, "score"))
    if found is not None:
        rows.append(row(name, "fit/alpha", OVERALL, found.alpha, "score per √nat"))
        rows.append(row(name, "fit/beta", OVERALL, found.beta, ""))
        rows.append(
            Row(
                name,
                "fit/r2",
                OVERALL,
                found.r2 if math.isfinite(found.r2) else None,
                n=len(curve.at),
                unit="share",
            )
        )
        rows.append(row(name, "fit/peak", OVERALL, found.peak, "√nats"))
        rows.append(row(name, "fit/height", OVERALL, found.height, "score"))
    return rows + ([] if ahead is None else _forecast_rows(name, ahead))


def _forecast_rows(name: str, found: Forecast) -> list[Row]:
    errors = {"log": found.log, "parabola": found.parabola, "stays": found.stays}
    rows = [
        Row(name, f"forecast/{form}", OVERALL, error, n=found.ahead, unit="score")
        for form, error in errors.items()
    ]
    rows.append(row(name, "forecast/advantage", OVERALL, found.advantage, "score"))
    rows.append(Row(name, "forecast/seen", OVERALL, float(found.seen), n=found.seen, unit="points"))
    return rows


def draw(rows: Sequence[Row], title: str = "Proxy and gold while the proxy is optimised") -> str:
    """The figure as inline SVG, from the rows of one run."""
    models = list(dict.fromkeys(r.model for r in rows))
    slots = [1 + k % figures.SERIES for k in range(len(models))]
    return figures.overoptimisation(title, [_curve(rows, *each) for each in zip(models, slots, strict=True)])


def _curve(rows: Sequence[Row], model: str, slot: int) -> figures.Optimised:
    kl, proxy, gold = (_points(rows, model, metric) for metric in ("kl", "proxy", "gold"))
    x = goodhart.distance(_column([r.value for r in kl]))
    order = np.argsort(x, kind="stable")
    heights = _column([r.value for r in gold])[order]
    alpha, beta = one(rows, model, "fit/alpha"), one(rows, model, "fit/beta")
    fitted = np.empty(0), np.empty(0)
    if alpha is not None and beta is not None and alpha.value is not None and beta.value is not None:
        kind: Kind = "bon" if model == BEST_OF else "rl"
        line = np.linspace(0, x.max(), FITTED)
        fitted = line, (gold[0].value or 0.0) + goodhart.gain(kind, alpha.value, beta.value, line)
    return figures.Optimised(
        model,
        slot,
        x[order],
        _column([r.value for r in proxy])[order],
        heights,
        _column([r.low for r in gold])[order],
        _column([r.high for r in gold])[order],
        fitted,
        int(heights.argmax()),
    )


def _points(rows: Sequence[Row], model: str, metric: str) -> list[Row]:
    """The points of a curve in their order; the first is the reference."""
    return [r for r in rows if r.model == model and r.metric.startswith(f"{metric}@")]


def _column(values: Sequence[float | None]) -> np.ndarray:
    """float64, NaN where there is no value."""
    return np.array([math.nan if value is None else value for value in values], float)
