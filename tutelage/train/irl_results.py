"""What `irl` says of the reward that it has learnt: the file, the rows of results, the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from tutelage.data.reading.sources import shown
from tutelage.evals.rows import OVERALL, Row, write
from tutelage.files import write_text_atomic
from tutelage.rollout.drawing import Row as Line
from tutelage.runs import Run
from tutelage.settings.irl import IRLSettings as Settings
from tutelage.settings.yaml12 import dump_yaml
from tutelage.statistics import Floats
from tutelage.statistics.choices import Choices, log_likelihood

if TYPE_CHECKING:
    from tutelage.train.irl import Beside, Learnt

ALL = "all"  # what rows about the whole reward stand under
Z = 1.959963984540054  # of a 95 % interval
ALONE = 1e-9  # what is left beside a draw that has all the weight
UNITS = {"gain": "nats", "accuracy": "share", "feature_gap": "deviations", "effective_share": "share"}


@dataclass(frozen=True, eq=False)
class Explained:
    """What a reward says of n demonstrations.

    expected: mean features of p [d], by the candidates with their weights under the reward; before: by those under the model [d].
    figures: `gain`, nats by which p makes a demonstration likelier than the model does (by drawn candidates a lower bound, at
    most log of samples + 1); `accuracy`, how often a demonstration scores above what the model writes; `feature_gap`, the largest
    difference of `expected` from the demonstrations, in standard deviations; `effective_share`, of drawn candidates, 1 where all
    weigh the same.
    """

    expected: Floats
    before: Floats
    figures: dict[str, float]
    n: int


def explained(data: Beside, learnt: Learnt) -> Explained:
    """Of demonstrations, at least one."""
    ranked, own = data.choices(learnt.scale), data.choices(learnt.scale, ranked=False)
    nothing = np.zeros_like(learnt.theta)
    (now, _), (before, _) = own.weights(learnt.theta), own.weights(nothing)
    means = own.expected(now) if data.listed else expected_by_draws(own, now)
    expected, started = means.mean(0), own.expected(before).mean(0)
    ahead = (own.chosen @ learnt.theta)[own.sets] - own.candidates @ learnt.theta
    above = np.add.reduceat(before * (np.sign(ahead) + 1) / 2, own.starts)
    gained = log_likelihood(ranked, learnt.theta) - log_likelihood(ranked, nothing)
    figures = {
        "gain": float(gained.mean()),
        "accuracy": float(above.mean()),
        "feature_gap": float(np.abs(own.chosen.mean(0) - expected).max()),
    }
    if not data.listed:
        figures["effective_share"] = float((1 / np.add.reduceat(now**2, own.starts) / own.sizes).mean())
    return Explained(expected * learnt.scale, started * learnt.scale, figures, len(own.starts))


def expected_by_draws(own: Choices, weights: Floats) -> Floats:
    """[n, d]: the mean features of each set under the reward, by draws with normalised weights [R].

    A ratio of k draws is off by about 1 / k; the jackknife (Quenouille 1956) takes that out: k times the whole less k - 1 times
    the mean over all with one draw left out.  One draw stays as it is.
    """
    whole, k = own.expected(weights), own.sizes[:, None]
    rest = 1 - weights[:, None]
    others = (whole[own.sets] - weights[:, None] * own.candidates) / np.where(rest > ALONE, rest, 1)
    without = np.where(rest > ALONE, others, whole[own.sets])
    return k * whole - (k - 1) * np.add.reduceat(without, own.starts) / k


def report(learnt: Learnt, data: Beside, responses: Sequence[Line], settings: Settings, run: Run) -> None:
    """Write the reward and the results, and show them."""
    used = data.part(~data.held_out)
    train = explained(used, learnt)
    apart = explained(data.part(data.held_out), learnt) if data.held_out.any() else None
    write_text_atomic(run.folder / "reward.yaml", reward_text(learnt, train.n, settings))
    rows = result_rows(learnt, used.shown.mean(0), train, apart, settings)
    write(run.folder, rows)
    figures = {row.metric: row.value for row in rows if row.model == ALL and row.value is not None}
    if not data.listed:
        figures["missing_eos_rate"] = float(np.mean([row["finish"] == "length" for row in responses]))
    run.rewind(-1)  # what was learnt before, with other settings
    run.log(figures)
    run.commit(0)
    _show(learnt, used.shown.mean(0), train, apart, settings, run)


def reward_text(learnt: Learnt, n: int, settings: Settings) -> str:
    """reward.yaml: a reward as settings say it, with where it comes from above it."""
    said = (
        f"# Learnt by `tutelage irl` from {n:,} demonstrations ({shown(settings.data)}), beside what\n"
        f"# {settings.model} writes itself.  A policy that is trained on it from there with kl_coef {settings.kl_coef:g} writes\n"
        "# as they do; the weight of a feature over kl_coef is in nats per unit.\n"
    )
    return said + dump_yaml({"reward": settings.weighed([float(weight) for weight in learnt.weights])})


def result_rows(
    learnt: Learnt, means: Floats, train: Explained, apart: Explained | None, settings: Settings
) -> list[Row]:
    """Weights with 95 % intervals and mean features, a feature each; what the reward explains, of held-out prompts with `eval_`.

    means: mean features of the demonstrations that were learnt from [d].
    """
    rows = []
    for j, name in enumerate(settings.names):
        weight, reach = float(learnt.weights[j]), Z * float(learnt.errors[j])
        rows.append(
            Row(name, "weight", OVERALL, weight, weight - reach, weight + reach, train.n, "score per unit")
        )
        for metric, value, unit in (
            ("weight_in_nats", learnt.theta[j], "nats per deviation"),
            ("feature/demonstrations", means[j], ""),
            ("feature/model", train.before[j], ""),
            ("feature/expected", train.expected[j], ""),
        ):
            rows.append(Row(name, metric, OVERALL, float(value), n=train.n, unit=unit))
    for prefix, found in (("", train), ("eval_", apart)):
        if found is not None:
            rows += [
                Row(ALL, f"{prefix}{metric}", OVERALL, value, n=found.n, unit=UNITS[metric])
                for metric, value in found.figures.items()
            ]
    return rows


def _show(
    learnt: Learnt, means: Floats, train: Explained, apart: Explained | None, settings: Settings, run: Run
) -> None:
    table = Table(title="Reward", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("feature", "weight", "nats per deviation", "demonstrations", "model", "expected"):
        table.add_column(heading, justify="left" if heading == "feature" else "right")
    for j, name in enumerate(settings.names):
        weight = f"{learnt.weights[j]:.4g} ± {Z * learnt.errors[j]:.2g}"
        found = (means[j], train.before[j], train.expected[j])
        table.add_row(name, weight, f"{learnt.theta[j]:+.3f}", *(f"{mean:.4g}" for mean in found))
    run.console.print(table)
    for said, part in (("learnt from", train), ("held out", apart)):
        if part is not None:
            run.console.print(f"{said}: {part.n:,} demonstrations, {_told(part.figures)}.")
    if not learnt.fitted.converged:
        run.console.print("The weights have not settled: raise l2.", style="yellow")
    path = run.folder / "reward.yaml"
    run.console.print(f"It is a judge like any other: reward={path}.", markup=False, highlight=False)


def _told(figures: dict[str, float]) -> str:
    said = (
        f"{figures['gain']:.3f} nats likelier than by the model, above what it writes in {figures['accuracy']:.1%}, "
        f"expected features within {figures['feature_gap']:.3f} deviations"
    )
    share = figures.get("effective_share")
    return said if share is None else f"{said}, effective share of samples {share:.2f}"
