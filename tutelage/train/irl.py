"""`tutelage irl`: a reward from demonstrations, by maximum entropy (Ziebart et al. 2008; Boularias et al. 2011).

    r(x, y) = phi . f(x, y),      p(y|x) = ref(y|x) exp(r(x, y) / kl_coef) / Z(x)

phi makes the demonstrations likeliest under p, which is the policy that `ppo` and `reinforce` end with on this reward and this
kl_coef.  Z(x) is over the model's own responses and the demonstration itself: with it among the candidates the maximum is
consistent however few own responses there are (ranking NCE: Ma and Collins 2018, arXiv 1809.01812).  With one it is a
Bradley-Terry model of the demonstration against the response.

reward.yaml        the reward: the features with their weights, a judge like any other
results.json       rows {model = feature, metric, value, ...}; "all": what the reward explains
samples.jsonl      the model's responses with their features
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from tutelage.data.reading.sources import shown
from tutelage.data.split import held_out, place_of
from tutelage.evals.rows import OVERALL, Row, write
from tutelage.files import write_text_atomic
from tutelage.judges.judge import Judge, checked
from tutelage.parallel import World
from tutelage.records import Response
from tutelage.rollout.beside import Shown, draw_own, read_shown
from tutelage.rollout.drawing import Row as Line
from tutelage.rollout.drawing import line, load_generator, load_judge
from tutelage.runs import Run
from tutelage.settings.irl import IRLSettings as Settings
from tutelage.settings.yaml12 import dump_yaml
from tutelage.statistics import Floats
from tutelage.statistics.choices import Choices, Fitted, fit, log_likelihood

ALL = "all"  # what rows about the whole reward stand under
Z = 1.959963984540054  # of a 95 % interval


def main(settings: Settings, world: World, run: Run) -> Path:
    """Draw, score, fit; returns the run folder.

    Raises ValueError when there are no usable demonstrations, when none of the model's responses ends, or when a feature is the
    same for all responses to each prompt.
    """
    generator = load_generator(settings, world, run)
    seen = read_shown(settings, generator, run)
    judge = load_judge(settings, generator, seen.prompts, world, run)

    def lines(responses: Sequence[Response]) -> list[Line]:
        found = features_of(judge, responses, settings.names)
        rows = zip(map(line, responses), found.tolist(), strict=True)
        return [row | {"features": dict(zip(settings.names, own, strict=True))} for row, own in rows]

    own = draw_own(seen.prompts, generator, lines, settings, run)
    data = beside(seen, features_of(judge, seen.demonstrations, settings.names), own, settings)
    learnt = learn(data.part(~data.held_out), settings)
    _report(learnt, data, own, settings, run)
    return run.folder


def features_of(judge: Judge, responses: Sequence[Response], names: Sequence[str]) -> Floats:
    """[n, d]: what each part of the mix of features says; 0 where it does not apply, as in a mix."""
    scores = checked(judge, responses)
    rows = [[score.parts.get(name, 0.0) if score else 0.0 for name in names] for score in scores]
    return np.array(rows, float).reshape(len(responses), len(names))


# ---- demonstrations beside own responses ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Beside:
    """Of n demonstrations: features [n, d]; those of the own responses to its prompt that end, [k, d] each, k at least 1; number
    of its prompt [n]; whether that is held out [n]."""

    shown: Floats
    own: list[Floats]
    prompts: np.ndarray
    held_out: np.ndarray

    def part(self, which: np.ndarray) -> Beside:
        """Those of `which` (bool [n])."""
        own = [features for features, there in zip(self.own, which, strict=True) if there]
        return Beside(self.shown[which], own, self.prompts[which], self.held_out[which])

    def choices(self, scale: Floats, with_shown: bool = True) -> Choices:
        """The features over `scale` [d] as sets of candidates: the own responses and (with_shown) the demonstration."""
        sets = [
            np.concatenate([own, shown[None]]) if with_shown else own
            for own, shown in zip(self.own, self.shown, strict=True)
        ]
        starts = np.cumsum([0, *map(len, sets)])[:-1]
        candidates = np.concatenate(sets) / scale
        return Choices(self.shown / scale, candidates, starts, np.zeros(len(candidates)), self.prompts)


def beside(seen: Shown, features: Floats, own: Mapping[str, Sequence[Line]], settings: Settings) -> Beside:
    """Demonstrations (with their features [n, d]) of whose prompts an own response ends.  Raises ValueError when there are none,
    or all of them are about prompts that are held out."""
    ended = {
        key: np.array([list(row["features"].values()) for row in rows if row["finish"] != "length"], float)
        for key, rows in own.items()
    }
    numbers = {prompt.id: number for number, prompt in enumerate(seen.prompts)}
    keys = [response.prompt.id for response in seen.demonstrations]
    usable = np.array([len(ended[key]) > 0 for key in keys])
    if not usable.any():
        raise ValueError(
            f"none of the model's responses ends within max_new_tokens={settings.max_new_tokens}: raise it, or fine-tune the "
            "model first."
        )
    places = np.array([place_of(response.prompt, settings.split_seed) for response in seen.demonstrations])
    apart = held_out(places, settings.heldout_share) if settings.heldout_share else np.zeros(len(keys), bool)
    found = Beside(features, [ended[key] for key in keys], np.array([numbers[key] for key in keys]), apart)
    found = found.part(usable)
    if found.held_out.all():
        raise ValueError("every prompt is held out: give more demonstrations, or heldout_share=0.")
    return found


# ---- the weights -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Learnt:
    """weights [d], score per unit of the feature, and their standard errors [d]; theta [d]: nats per standard deviation (`scale`
    [d], within prompts, of the candidates); how the fit went."""

    weights: Floats
    errors: Floats
    theta: Floats
    scale: Floats
    fitted: Fitted


def learn(data: Beside, settings: Settings) -> Learnt:
    """The weights.  Raises ValueError naming a feature that is the same for all responses to each prompt."""
    names = settings.names
    scale = data.choices(np.ones(len(names))).spread()
    flat = next((name for name, spread in zip(names, scale, strict=True) if not spread > 0), None)
    if flat is not None:
        raise ValueError(
            f"the feature {flat} is the same for all responses to each prompt, so nothing can be learnt about it: leave it out, "
            "or raise samples."
        )
    fitted = fit(data.choices(scale), settings.l2)
    per_unit = settings.kl_coef / scale
    errors = np.sqrt(np.diag(fitted.covariance))
    return Learnt(fitted.theta * per_unit, errors * per_unit, fitted.theta, scale, fitted)


@dataclass(frozen=True, eq=False)
class Explained:
    """What a reward says of demonstrations.

    expected: mean features of p [d], by the model's own responses weighted with exp(r / kl_coef).  gap: the largest difference
    from those of the demonstrations, in standard deviations.  gain: nats by which p makes a demonstration likelier than the model
    does (a lower bound, at most log of samples + 1).  accuracy: how often a demonstration scores above an own response.
    effective: the effective share of the own responses under their weights.  n: demonstrations.
    """

    expected: Floats
    gap: float
    gain: float
    accuracy: float
    effective: float
    n: int


def explained(data: Beside, learnt: Learnt) -> Explained:
    """Of demonstrations, at least one."""
    ranked, own = data.choices(learnt.scale), data.choices(learnt.scale, with_shown=False)
    weights, _ = own.weights(learnt.theta)
    expected = own.expected(weights).mean(0)
    gap = float(np.abs(own.chosen.mean(0) - expected).max())
    gain = float((log_likelihood(ranked, learnt.theta) + np.log(ranked.sizes)).mean())
    ahead = (own.chosen @ learnt.theta)[own.sets] - own.candidates @ learnt.theta
    accuracy = np.add.reduceat((np.sign(ahead) + 1) / 2, own.starts) / own.sizes
    effective = 1 / np.add.reduceat(weights**2, own.starts) / own.sizes
    return Explained(
        expected * learnt.scale, gap, gain, float(accuracy.mean()), float(effective.mean()), len(own.starts)
    )


# ---- what came out ---------------------------------------------------------------------------------------------------------


def _report(
    learnt: Learnt, data: Beside, own: Mapping[str, Sequence[Line]], settings: Settings, run: Run
) -> None:
    """Write the reward and the results, and show them."""
    train = explained(data.part(~data.held_out), learnt)
    apart = explained(data.part(data.held_out), learnt) if data.held_out.any() else None
    write_text_atomic(run.folder / "reward.yaml", reward_text(learnt, train.n, settings))
    rows = result_rows(learnt, data, train, apart, settings)
    write(run.folder, rows)
    responses = [row for rows in own.values() for row in rows]
    figures = {row.metric: row.value for row in rows if row.model == ALL and row.value is not None}
    figures["missing_eos_rate"] = float(np.mean([row["finish"] == "length" for row in responses]))
    run.rewind(-1)
    run.log(figures)
    run.commit(0)
    _show(learnt, data, train, apart, settings, run)


def reward_text(learnt: Learnt, n: int, settings: Settings) -> str:
    """reward.yaml: a reward as settings say it, with where it comes from above it."""
    said = (
        f"# Learnt by `tutelage irl` from {n:,} demonstrations ({shown(settings.data)}), beside what\n"
        f"# {settings.model} writes itself.  A policy that is trained on it from there with kl_coef {settings.kl_coef:g} writes\n"
        "# as they do; the weight of a feature over kl_coef is in nats per unit.\n"
    )
    return said + dump_yaml({"reward": settings.weighed([float(weight) for weight in learnt.weights])})


def result_rows(
    learnt: Learnt, data: Beside, train: Explained, apart: Explained | None, settings: Settings
) -> list[Row]:
    """Weights with 95 % intervals and mean features, a feature each; what the reward explains, held-out figures with `eval_`."""
    rows = []
    used = data.part(~data.held_out)
    reference = np.mean([own.mean(0) for own in used.own], axis=0)
    for j, name in enumerate(settings.names):
        weight, error = float(learnt.weights[j]), float(learnt.errors[j])
        rows.append(
            Row(
                name,
                "weight",
                OVERALL,
                weight,
                weight - Z * error,
                weight + Z * error,
                train.n,
                "score per unit",
            )
        )
        for metric, value in (
            ("nats_per_deviation", learnt.theta[j]),
            ("feature_shown", used.shown.mean(0)[j]),
            ("feature_model", reference[j]),
            ("feature_expected", train.expected[j]),
        ):
            rows.append(Row(name, metric, OVERALL, float(value), n=train.n))
    for prefix, found in (("", train), ("eval_", apart)):
        if found is not None:
            for metric in ("gain", "accuracy", "feature_gap", "effective_share"):
                value = getattr(
                    found, {"feature_gap": "gap", "effective_share": "effective"}.get(metric, metric)
                )
                rows.append(Row(ALL, f"{prefix}{metric}", OVERALL, value, n=found.n))
    return rows


def _show(
    learnt: Learnt, data: Beside, train: Explained, apart: Explained | None, settings: Settings, run: Run
) -> None:
    used = data.part(~data.held_out)
    table = Table(title="Reward", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("feature", "weight", "nats per deviation", "shown", "model", "expected"):
        table.add_column(heading, justify="left" if heading == "feature" else "right")
    reference = np.mean([own.mean(0) for own in used.own], axis=0)
    for j, name in enumerate(settings.names):
        weight = f"{learnt.weights[j]:.4g} ± {Z * learnt.errors[j]:.2g}"
        means = (used.shown.mean(0)[j], reference[j], train.expected[j])
        table.add_row(name, weight, f"{learnt.theta[j]:+.3f}", *(f"{mean:.4g}" for mean in means))
    run.console.print(table)
    for said, found in (("learnt from", train), ("held out", apart)):
        if found is not None:
            run.console.print(
                f"{said}: {found.n:,} demonstrations, {found.gain:.3f} nats likelier than by the model, above its response in "
                f"{found.accuracy:.1%}, features off by at most {found.gap:.3f} deviations, effective share of samples "
                f"{found.effective:.2f}."
            )
    if not learnt.fitted.converged:
        run.console.print("The weights have not settled: raise l2.", style="yellow")
    run.console.print(
        f"{run.folder / 'reward.yaml'} is a judge: reward={run.folder / 'reward.yaml'}.",
        markup=False,
        highlight=False,
    )
