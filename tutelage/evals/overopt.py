"""The command `eval overopt`: does the gold standard still rise where a proxy reward is optimised?

From one set of responses of the reference, best-of-n by the proxy for every n (`goodhart.best_of_n`); from the checkpoints of a
training run, their own responses.  Of each point the proxy, the gold score and the KL to the reference.

results.json   rows proxy@POINT, gold@POINT, kl@POINT, peak, fit/..., forecast/... of each curve       overopt.svg   the figure
samples.jsonl  to each prompt a response of the reference, the best of all by proxy, and one of each policy
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from tutelage.data.reading.sources import shown
from tutelage.evals import drift, goodhart
from tutelage.evals.asked import held_out_prompts
from tutelage.evals.figures import standalone
from tutelage.evals.goodhart import Curve
from tutelage.evals.page import overopt as overopt_page
from tutelage.evals.page.overopt import BEST_OF
from tutelage.evals.rows import Row, to_json
from tutelage.evals.spent import Spent, note_spent
from tutelage.files import write_json_atomic, write_jsonl_atomic, write_text_atomic
from tutelage.judges.build import build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge, checked, first_of_each
from tutelage.models.loading import load_policy, load_tokenizer, same_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Prompt, Response, place_json
from tutelage.resume import checkpoint_steps
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Bar, Run, result_folder
from tutelage.settings.evals import OveroptSettings as Settings

RESPONSES = 512  # written before they are scored: what is in memory at once
MODELS = "models"  # the curve of all policies that are given as single models
Floats = NDArray[np.float64]


class Policy(NamedTuple):
    """A policy to measure: the curve that it is a point of, which point, and where it lies."""

    curve: str
    at: int
    path: str


@dataclass(frozen=True)
class Scored:
    """Of the responses of one model, prompt by prompt: proxy and gold [P, S], NaN where a judge does not apply; KL [P]; and
    the first and the best response to each prompt."""

    proxy: Floats
    gold: Floats
    kl: Floats
    first: list[Response]
    best: list[Response]


def main(settings: Settings, world: World, run: Run) -> Path:
    """Measure, fit, draw.  Raises ValueError for unusable inputs."""
    reference, policies = result_folder(settings.reference), list(policies_in(settings.policies))
    tokenizer = load_tokenizer(reference)
    for policy in policies:
        if not same_tokenizer(tokenizer, load_tokenizer(policy.path)):
            raise ValueError(
                f"{policy.path} has another tokenizer than the reference {reference}, so there is no KL between them: give "
                "the model that it was trained from."
            )
    readers = {"the reference": reference, **{f"{p.curve} {p.at}": p.path for p in policies}}
    prompts = held_out_prompts(readers, settings, run)
    _note_inputs(reference, policies, settings, run)
    measure = _Measure(reference, tokenizer, prompts, settings, world, run)
    start = settings.best_of or settings.samples
    with run.progress(len(prompts) * (start + settings.samples * len(policies)), "responses") as bar:
        found = [
            (None, measure(None, bar, start)),
            *((p, measure(p, bar, settings.samples)) for p in policies),
        ]
    kept = _complete([each for _, each in found], settings, run)
    curves = _curves(found, kept, settings)
    rows, said = _judged(curves, settings)
    write_json_atomic(run.folder / "results.json", to_json(rows))
    lines = _lines([prompts[i] for i in kept], [(p, each) for p, each in found], kept, settings)
    write_jsonl_atomic(run.folder / "samples.jsonl", lines)
    figure = write_text_atomic(run.folder / "overopt.svg", standalone(overopt_page.draw(rows)))
    run.note(findings=said, prompts_measured=len(kept))
    note_spent(run, measure.spent)
    for curve in curves:
        run.console.print(_table(curve))
    for sentence in said:
        run.console.print(sentence, markup=False, highlight=False)
    run.console.print(f"Figure: {figure}", markup=False, highlight=False)
    return run.folder


def policies_in(places: Sequence[str]) -> Iterator[Policy]:
    """The checkpoints of run folders ("path" or "name=path"), each a curve, and single models, which make one curve together.

    Raises ValueError where two runs have one name, or a checkpoint holds an adapter only.
    """
    seen: set[str] = set()
    single = 0
    for given in places:
        name, _, place = given.rpartition("=")
        folder = Path(place)
        steps = checkpoint_steps(folder / "checkpoints")
        if not steps:
            single += 1
            yield Policy(MODELS, single, result_folder(place))
            continue
        name = name or folder.resolve().name
        if name in seen | {MODELS, BEST_OF}:
            raise ValueError(
                f"policies: two curves would be named '{name}'; give them names as in policies=[first={place}, ...]."
            )
        seen.add(name)
        for step in steps:
            path = folder / "checkpoints" / f"step-{step:08d}" / "policy"
            if (path / "adapter_config.json").exists():
                raise ValueError(
                    f"{path} holds an adapter without its model: give {folder / 'model'}, which has it merged in."
                )
            yield Policy(name, step, str(path))


class _Measure:
    """Makes the scores of one model after another; the reference stays loaded for the KL."""

    def __init__(
        self,
        reference: str,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        settings: Settings,
        world: World,
        run: Run,
    ) -> None:
        self._settings, self._world, self._tokenizer, self._prompts = settings, world, tokenizer, prompts
        self._reference = self._load(reference)
        self.spent: list[Spent] = []
        self._proxy = build_judge(settings.proxy, world, tokenizer, settings.max_tokens)
        self._gold = build_judge(settings.gold, world, tokenizer, settings.max_tokens)
        first = first_of_each(prompts, [prompt.task for prompt in prompts])
        for judge in (self._proxy, self._gold):
            said = judge.calibrate(partial(self._responses, self._reference, first, 1))
            if said:
                run.console.print(said)

    def __call__(self, policy: Policy | None, bar: Bar, samples: int) -> Scored:
        """Of a policy; None: of the reference."""
        model = self._load(policy.path) if policy else self._reference
        name = f"{policy.curve} {policy.at}" if policy else "reference"
        parts = []
        size = max(1, RESPONSES // samples)
        for start in range(0, len(self._prompts), size):
            chunk = self._prompts[start : start + size]
            parts.append(self._score(model, self._responses(model, chunk, samples), samples))
            bar.advance(len(chunk) * samples, status=name)
        proxy, gold, kl = (
            np.concatenate([getattr(part, key) for part in parts]) for key in ("proxy", "gold", "kl")
        )
        first, best = ([r for part in parts for r in getattr(part, key)] for key in ("first", "best"))
        return Scored(proxy, gold, kl, first, best)

    def _score(self, model: PolicyModule, responses: list[Response], samples: int) -> Scored:
        proxy, gold = (_values(judge, responses).reshape(-1, samples) for judge in (self._proxy, self._gold))
        kl = np.zeros(len(proxy))
        if model is not self._reference:
            ratios = drift.log_ratios(
                model,
                self._reference,
                responses,
                self._world,
                temperature=self._settings.temperature,
                max_tokens=self._settings.max_tokens,
            )
            kl = ratios.reshape(-1, samples).mean(axis=1)
        top = np.where(np.isnan(proxy), -math.inf, proxy).argmax(axis=1)
        return Scored(
            proxy,
            gold,
            kl,
            responses[::samples],
            [responses[i * samples + int(k)] for i, k in enumerate(top)],
        )

    def _responses(self, model: PolicyModule, prompts: Sequence[Prompt], samples: int) -> list[Response]:
        settings = self._settings
        self.spent.append(Spent(model))
        generator = LocalGenerator(
            model,
            self._tokenizer,
            dtype=self._world.dtype,
            memory_mib=settings.memory_mib,
            progress=self.spent[-1],
        )
        sampling = Sampling(settings.max_new_tokens, settings.temperature, samples, settings.seed)
        return generator.generate(list(prompts), sampling)

    def _load(self, path: str) -> PolicyModule:
        return load_policy(path, dtype=self._world.dtype, device=self._world.device).requires_grad_(False)


def _values(judge: Judge, responses: Sequence[Response]) -> Floats:
    """The scores [n], NaN where the judge does not apply."""
    scores = checked(judge, responses)
    return np.array([math.nan if score is None else score.value for score in scores], float)


def _complete(found: Sequence[Scored], settings: Settings, run: Run) -> list[int]:
    """The prompts of which every response has both scores.  Raises ValueError where there are none."""
    missing = {
        name: ~np.all([np.isfinite(getattr(each, name)).all(axis=1) for each in found], axis=0)
        for name in ("proxy", "gold")
    }
    kept = np.flatnonzero(~(missing["proxy"] | missing["gold"])).tolist()
    for name, lost in missing.items():
        if lost.any():
            run.console.print(
                f"{shown(settings.prompts)}: {name} does not apply to {int(lost.sum())} of {lost.size} prompts: left out."
            )
    if not kept:
        which = " and ".join(name for name, lost in missing.items() if lost.any())
        raise ValueError(
            f"{shown(settings.prompts)}: there is no prompt that both judges know ({which} does not apply): give prompts that "
            "both are for, or other judges."
        )
    return kept


def _curves(
    found: Sequence[tuple[Policy | None, Scored]], kept: list[int], settings: Settings
) -> list[Curve]:
    """Best-of-n first, then one curve per run; each begins with the reference."""
    _, start = found[0]
    curves = []
    if settings.best_of:
        sizes = [2**k for k in range(settings.best_of.bit_length())]
        sizes += [settings.best_of] if sizes[-1] < settings.best_of else []
        curves.append(goodhart.best_of_n_curve(BEST_OF, start.proxy[kept], start.gold[kept], sizes))
    for name in dict.fromkeys(p.curve for p, _ in found if p):
        points = [(0, start), *((p.at, each) for p, each in found if p and p.curve == name)]
        kl = np.stack([each.kl[kept] for _, each in points], axis=1)
        proxy, gold = (
            np.stack([getattr(each, key)[kept].mean(axis=1) for _, each in points], axis=1)
            for key in ("proxy", "gold")
        )
        curves.append(Curve(name, "rl", tuple(at for at, _ in points), kl, proxy, gold))
    return curves


def _judged(curves: Sequence[Curve], settings: Settings) -> tuple[list[Row], list[str]]:
    """The rows of all curves, and sentences about each."""
    rows, said = [], []
    seeded = {"seed": settings.seed, "resamples": settings.resamples}
    for curve in curves:
        peak, ahead = goodhart.peak_of(curve, **seeded), goodhart.forecast(curve, **seeded)
        rows += overopt_page.rows_of(curve, goodhart.fit(curve, **seeded), peak, ahead, **seeded)
        said.append(goodhart.sentence(curve, peak, _unit(curve)))
        if ahead is not None:
            said.append(goodhart.forecast_sentence(curve.name, ahead))
    return rows, said


def _unit(curve: Curve) -> str:
    """What its points are."""
    return "n" if curve.kind == "bon" else "model" if curve.name == MODELS else "step"


def _table(curve: Curve) -> Table:
    """The points of a curve for a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=curve.name, title_justify="left")
    for heading in (_unit(curve), "√KL", "proxy", "gold"):
        table.add_column(heading, justify="right")
    table.add_column("")
    proxy, gold = curve.proxy.mean(axis=0), curve.gold.mean(axis=0)
    for k, at in enumerate(curve.at):
        mark = "highest" if k == int(gold.argmax()) else ""
        table.add_row(str(at), f"{curve.d[k]:.2f}", f"{proxy[k]:.3f}", f"{gold[k]:.3f}", mark)
    return table


def _lines(
    prompts: Sequence[Prompt],
    found: Sequence[tuple[Policy | None, Scored]],
    kept: list[int],
    settings: Settings,
) -> list[dict]:
    """The lines of samples.jsonl."""
    named: list[tuple[str, Callable[[int], Response]]] = [("reference", found[0][1].first.__getitem__)]
    if settings.best_of:
        named.append((f"best of {settings.best_of}", found[0][1].best.__getitem__))
    named += [(f"{p.curve}@{p.at}", each.first.__getitem__) for p, each in found if p]
    return [
        {
            "id": prompt.id,
            "task": prompt.task,
            "prompt": prompt.content_json(),
            **place_json(prompt),
            "responses": {name: {"text": get(i).text, "finish": get(i).finish} for name, get in named},
        }
        for prompt, i in zip(prompts, kept, strict=True)
    ]


def _note_inputs(reference: str, policies: Sequence[Policy], settings: Settings, run: Run) -> None:
    run.input("reference", reference)
    run.input("prompts", settings.prompts)
    for policy in policies:
        run.input(f"{policy.curve}@{policy.at}", policy.path)
    for role, spec in (("proxy", settings.proxy), ("gold", settings.gold)):
        note_judge(run, role, spec)
