"""The same prompts to every model, and what each reward says of every response."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from tutelage.evals import drift
from tutelage.evals.front.members import Member
from tutelage.evals.spent import Spent
from tutelage.judges.build import build_judge
from tutelage.judges.combine import named
from tutelage.judges.judge import Judge, checked
from tutelage.models.loading import load_policy, load_tokenizer, same_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.behind import Behind
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.weights import Weighing
from tutelage.rollout.writer import Writer
from tutelage.runs import Bar, Run
from tutelage.settings.front import FrontSettings as Settings
from tutelage.settings.judges import read_parts
from tutelage.statistics import Floats

RESPONSES = 512  # written before they are scored: what is in memory at once, of a judge that reads them


@dataclass(frozen=True)
class Objective:
    """A reward: what it is called, and whether more is better (1) or less (-1)."""

    name: str
    direction: int


@dataclass(frozen=True)
class Measured:
    """Of one model: what each reward says of its responses [P, S, R], NaN where it does not apply; log model - log reference of
    each [P, S], None where the reference cannot read them or there is none; the responses, prompt by prompt."""

    scores: Floats
    ratios: Floats | None
    responses: list[Response]


class Measuring:
    """Loads one model after the other; the reference, where there is one, and the rewards stay."""

    def __init__(
        self, settings: Settings, reference: str, prompts: Sequence[Prompt], world: World, run: Run
    ) -> None:
        self._settings, self._prompts, self._world, self._run = settings, list(prompts), world, run
        self._path = reference
        self._reference = self._load(reference) if reference else None
        self._reader = load_tokenizer(reference) if reference else None
        self._judges, self.objectives = _judges(settings, world)
        self._units_known = False
        self._done: dict[tuple[str, object], Measured] = {}
        self.spent: list[Spent] = []

    def __call__(self, member: Member, bar: Bar) -> Measured:
        """A model; one that stands in two groups is asked once."""
        key = (member.path, member.weights)
        if key not in self._done:
            self._done[key] = self._measure(member, bar)
        else:
            bar.advance(len(self._prompts) * self._settings.samples, status=member.name)
        return self._done[key]

    def _measure(self, member: Member, bar: Bar) -> Measured:
        path, is_reference = member.path, member.path == self._path
        model = self._reference if is_reference and self._reference is not None else self._load(path)
        tokenizer = load_tokenizer(path)
        samples, size = self._settings.samples, max(1, RESPONSES // self._settings.samples)
        generator = self._generator(model, tokenizer, member)
        responses: list[Response] = []
        scores: list[Floats] = []
        for start in range(0, len(self._prompts), size):
            chunk = self._prompts[start : start + size]
            drawn = generator.generate(chunk, self._sampling())
            self._measure_units(drawn)
            scores.append(np.stack([_values(judge, drawn) for judge in self._judges], axis=-1))
            responses += drawn
            bar.advance(len(drawn), status=member.name)
        shape = (len(self._prompts), samples, len(self._judges))
        return Measured(
            np.concatenate(scores).reshape(shape), self._ratios(model, tokenizer, responses), responses
        )

    def _ratios(
        self, model: PolicyModule, tokenizer: PreTrainedTokenizerBase, responses: Sequence[Response]
    ) -> Floats | None:
        shape = (len(self._prompts), self._settings.samples)
        if self._reference is None or self._reader is None:
            return None
        if model is self._reference:
            return np.zeros(shape)
        if not same_tokenizer(tokenizer, self._reader):
            return None
        settings = self._settings
        limits = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        found: Floats = drift.log_ratios(model, self._reference, responses, self._world, **limits)  # type: ignore[arg-type]
        return found.reshape(shape)

    def _measure_units(self, responses: Sequence[Response]) -> None:
        """A reward model whose unit nobody knows gets it from the first responses: those of the reference where there is one."""
        if self._units_known:
            return
        self._units_known = True
        for judge in self._judges:
            if said := judge.calibrate(lambda: responses):
                self._run.console.print(said)

    def _sampling(self) -> Sampling:
        settings = self._settings
        return Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)

    def _generator(self, model: PolicyModule, tokenizer: PreTrainedTokenizerBase, member: Member) -> Writer:
        self.spent.append(Spent(model))
        options: dict[str, Any] = {
            "dtype": self._world.dtype,
            "memory_mib": self._settings.memory_mib,
            "progress": self.spent[-1],
        }
        generator = LocalGenerator(model, tokenizer, **options)
        if member.weights:
            return Behind(Weighing(dict(member.weights)), generator)
        return generator

    def _load(self, path: str) -> PolicyModule:
        return load_policy(path, dtype=self._world.dtype, device=self._world.device).requires_grad_(False)


def _judges(settings: Settings, world: World) -> tuple[list[Judge], list[Objective]]:
    """Each reward by itself, in the unit that a mix would add it up in.  Raises ValueError for one that only compares."""
    parts = read_parts(settings.rewards)
    judges = [
        build_judge(
            [{**given, "weight": 1.0} if isinstance(given, dict) else given], world, None, settings.max_tokens
        )
        for given in settings.rewards
    ]
    own = [judge.judges[0] if judge.judges else judge for judge in judges]  # of a mix of one
    names = named(own, [part.mix.name for part in parts])
    for name, judge in zip(names, judges, strict=True):
        if judge.pairwise:
            raise ValueError(
                f"{name} compares responses and has no scores, so that it is no objective: take a template that rates."
            )
    return judges, [Objective(name, int(part.mix.weight)) for name, part in zip(names, parts, strict=True)]


def _values(judge: Judge, responses: Sequence[Response]) -> Floats:
    """The scores [n], NaN where the judge does not apply."""
    return np.array(
        [math.nan if score is None else score.value for score in checked(judge, responses)], float
    )
