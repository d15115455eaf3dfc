"""`tutelage irl`: a reward from demonstrations, by maximum entropy (Ziebart et al. 2008; Boularias et al. 2011).

    r(x, y) = phi . f(x, y),      p(y|x) = ref(y|x) exp(r(x, y) / kl_coef) / Z(x)

phi makes the demonstrations likeliest under p, which is the policy that `ppo` and `reinforce` end with on this reward and this
kl_coef.  Z(x) is over the model's own responses and the demonstration itself: with it among the candidates the maximum is
consistent however few own responses there are (ranking NCE: Ma and Collins 2018, arXiv 1809.01812).  With one it is a
Bradley-Terry model of the demonstration against the response.  Where all responses are listed (`candidates`) Z(x) is exact.

reward.yaml        the reward: the features with their weights, a judge like any other
results.json       rows {model = feature, metric, value, ...}; "all": what the reward explains
samples.jsonl      the candidates with their features
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tutelage.data.split import held_out, place_of
from tutelage.judges.judge import Judge, checked
from tutelage.parallel import World
from tutelage.records import Response
from tutelage.rollout.beside import Shown, draw_own, read_shown, weigh_listed
from tutelage.rollout.drawing import Row, line, load_judge, load_local
from tutelage.runs import Run
from tutelage.settings.irl import IRLSettings as Settings
from tutelage.statistics import Floats
from tutelage.statistics.choices import Choices, Fitted, fit
from tutelage.train.irl_results import report


def main(settings: Settings, world: World, run: Run) -> Path:
    """Draw, score, fit; returns the run folder.

    Raises ValueError when there are no usable demonstrations, when none of the model's responses ends, or when a feature is the
    same for all responses to each prompt.
    """
    generator = load_local(settings, world, run)
    seen = read_shown(settings, generator, run)
    judge = load_judge(settings, generator, seen.prompts, world, run)

    def lines(responses: Sequence[Response]) -> list[Row]:
        found = features_of(judge, responses, settings.names)
        rows = zip(map(line, responses), found.tolist(), strict=True)
        return [row | {"features": dict(zip(settings.names, own, strict=True))} for row, own in rows]

    if settings.candidates:
        own = weigh_listed(seen, generator, lines, settings, world, run)
    else:
        own = draw_own(seen.prompts, generator, lines, settings, run)
    data = beside(seen, features_of(judge, seen.demonstrations, settings.names), own, settings)
    learnt = learn(data.part(~data.held_out), settings)
    report(learnt, data, [row for rows in own.values() for row in rows], settings, run)
    return run.folder


def features_of(judge: Judge, responses: Sequence[Response], names: Sequence[str]) -> Floats:
    """[n, d]: what each part of the mix of features says; 0 where it does not apply, as in a mix."""
    scores = checked(judge, responses)
    rows = [[score.parts.get(name, 0.0) if score else 0.0 for name in names] for score in scores]
    return np.array(rows, float).reshape(len(responses), len(names))


# ---- demonstrations beside candidates --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Beside:
    """Of n demonstrations: features `shown` [n, d]; features [k, d] and log-weights [k] of the candidates for each, k at least 1;
    number of its prompt [n]; whether that is held out [n].

    listed: the candidates are all responses that there are, the demonstration among them, and their weights the log-probabilities
    under the model.  Else they are drawn from it.
    """

    shown: Floats
    own: list[Floats]
    base: list[Floats]
    prompts: np.ndarray
    held_out: np.ndarray
    listed: bool = False

    def part(self, which: np.ndarray) -> Beside:
        """Those of `which` (bool [n])."""
        rows = np.flatnonzero(which)
        own, base = [self.own[row] for row in rows], [self.base[row] for row in rows]
        return Beside(self.shown[rows], own, base, self.prompts[rows], self.held_out[rows], self.listed)

    def choices(self, scale: Floats, ranked: bool = True) -> Choices:
        """The features over `scale` [d] as sets.  ranked: with the demonstration among the candidates where these are drawn."""
        added = ranked and not self.listed
        sets, base = self.own, self.base
        if added:
            sets = [np.vstack([own, shown]) for own, shown in zip(self.own, self.shown, strict=True)]
            base = [np.append(weights, 0.0) for weights in self.base]
        starts = np.cumsum([0, *map(len, sets)])[:-1]
        return Choices(
            self.shown / scale, np.concatenate(sets) / scale, starts, np.concatenate(base), self.prompts
        )


def beside(seen: Shown, features: Floats, own: Mapping[str, Sequence[Row]], settings: Settings) -> Beside:
    """Demonstrations (with their features [n, d]) of whose prompts an own response ends.  Raises ValueError when there are none,
    or all of them are about prompts that are held out."""
    ended = {key: [row for row in rows if row["finish"] != "length"] for key, rows in own.items()}
    usable = np.array([bool(ended[one.prompt.id]) for one in seen.demonstrations])
    if not usable.any():
        raise ValueError(
            f"none of the model's responses ends within max_new_tokens={settings.max_new_tokens}: raise it, or fine-tune the "
            "model first."
        )
    keys = [one.prompt.id for one, there in zip(seen.demonstrations, usable, strict=True) if there]
    by_prompt = {key: np.array([list(row["features"].values()) for row in ended[key]], float) for key in keys}
    weights = {key: np.array([row.get("base", 0.0) for row in ended[key]], float) for key in keys}
    places = {prompt.id: place_of(prompt, settings.split_seed) for prompt in seen.prompts}
    apart = np.zeros(len(keys), bool)
    if settings.heldout_share:
        apart = held_out(np.array([places[key] for key in keys]), settings.heldout_share)
    if apart.all():
        raise ValueError("every prompt is held out: give more demonstrations, or heldout_share=0.")
    numbers = {prompt.id: number for number, prompt in enumerate(seen.prompts)}
    return Beside(
        features[usable],
        [by_prompt[key] for key in keys],
        [weights[key] for key in keys],
        np.array([numbers[key] for key in keys]),
        apart,
        bool(settings.candidates),
    )


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
    flat = next((name for name, spread in zip(names, scale, strict=True) if not spread > FLAT), None)
    if flat is not None:
        more = "" if settings.candidates else ", or raise samples"
        raise ValueError(
            f"the feature {flat} is the same for all responses to each prompt, so nothing can be learnt about it: leave it "
            f"out{more}."
        )
    fitted = fit(data.choices(scale), settings.l2)
    per_unit = settings.kl_coef / scale
    errors = np.sqrt(np.diag(fitted.covariance))
    return Learnt(fitted.theta * per_unit, errors * per_unit, fitted.theta, scale, fitted)


FLAT = 1e-9  # a spread that is rounding
