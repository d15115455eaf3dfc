"""Several judges as one: a weighted sum, with gates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, count

from torch import nn

from tutelage.judges.calibration import Calibration, RunningCalibration, TaskCalibration, measured
from tutelage.judges.judge import Judge, checked, ending_in, shared_vote
from tutelage.records import Prompt, Response, Score, Vote, WeighedPrompt


@dataclass(frozen=True)
class Part:
    """One judge of a mix.

    scale: what normalises its scores: a calibration, "rank", or nothing.  gate: below this score, as the judge gives it,
    `weight` times the score takes the place of the sum; None: a summand.  tasks: those that it applies to; none: all.
    """

    judge: Judge
    name: str
    weight: float = 1.0
    scale: Calibration | TaskCalibration | str | None = None
    gate: float | None = None
    tasks: frozenset[str] = frozenset()

    def applies_to(self, prompt: Prompt) -> bool:
        return not self.tasks or prompt.task in self.tasks

    def said(self, responses: Sequence[Response]) -> list[Score | None]:
        """What the judge says of the responses that it applies to; it is not asked about the others."""
        theirs = [self.applies_to(response.prompt) for response in responses]
        asked = [response.judged for response, there in zip(responses, theirs, strict=True) if there]
        scores = iter(checked(self.judge, asked, self.name))
        return [next(scores) if there else None for there in theirs]

    def normalised(self, responses: Sequence[Response], scores: list[Score | None]) -> list[Score | None]:
        if isinstance(self.scale, TaskCalibration):
            return self.scale.scaled(scores, [response.prompt.task for response in responses])
        if isinstance(self.scale, Calibration):
            return self.scale.scaled(scores)
        return self._ranked(scores) if self.scale == RANK else scores

    def weight_of(self, prompt: Prompt) -> float:
        """Its weight, times what the prompt says that it counts where it says it."""
        told = dict(prompt.weights) if isinstance(prompt, WeighedPrompt) else {}
        return self.weight * told.get(self.name, 1.0)

    def own(self, mixed: Score | None) -> Score | None:
        """What this judge said, from a score of the mix."""
        if mixed is None or self.name not in mixed.parts:
            return None
        inner = f"{self.name}/"
        parts = {
            name.removeprefix(inner): value for name, value in mixed.parts.items() if name.startswith(inner)
        }
        return Score(mixed.parts[self.name], parts)

    def _ranked(self, scores: list[Score | None]) -> list[Score | None]:
        if any(score is not None and score.at for score in scores):
            raise ValueError(
                f"the judge {self.name} scores places in a response, and normalise: rank knows whole responses only: take "
                "zscore or none."
            )
        ranks = iter(ranked([score.value for score in scores if score is not None]))
        return [score and Score(next(ranks), score.parts) for score in scores]


RANK = "rank"


class Mix(Judge):
    """The sum of weight x normalised score over the judges that apply to a response; None where none does.

    Where gates fail the sum is over them alone, of their scores as they are.  `Score.parts` has every judge's score as it
    is under its part's name, and what that is made of behind it (`safety/std`).  Where a judge scores places in the
    response the mix does too (`Score.at`): a judge of the whole stands at the last token then, and so does what a failed gate
    changes of the sum.
    """

    name = "mix"

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self.judges = [part.judge for part in parts]
        held = [
            module
            for part in parts
            for module in (part.judge.state, part.scale)
            if isinstance(module, nn.Module)
        ]
        self.state = nn.ModuleList(held) if held else None
        self.places = any(part.judge.places for part in parts if part.gate is None and part.weight)
        self.pairwise = any(part.judge.pairwise for part in parts)
        if self.pairwise and any(part.gate is not None or part.tasks or _scaled(part) for part in parts):
            raise ValueError(
                "judges that compare are mixed by weight alone: leave gate, tasks and normalise out."
            )

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """Raises ValueError naming the part and the prompt where a judge's score cannot be used, or a part that has none."""
        if self.pairwise:
            named = next(part.name for part in self._parts if part.judge.pairwise)
            raise ValueError(
                f"{named} compares responses and has no scores to be added to those of others: take a template that rates, or "
                "use the list where responses are compared (label, eval)."
            )
        said = [part.said(responses) for part in self._parts]
        normalised = [
            part.normalised(responses, scores) for part, scores in zip(self._parts, said, strict=True)
        ]
        rows = zip(responses, zip(*said, strict=True), zip(*normalised, strict=True), strict=True)
        return [self._mixed(*row) for row in rows]

    def compare(self, pairs: Sequence[tuple[Response, Response]]) -> list[Vote | None]:
        """With a judge that compares and has no scores (`pairwise`) all vote together: the mean of their probabilities by weight,
        over those that have a verdict, where these have at least half of the weight (a quorum).  A judge with scores votes in
        it as it does alone: its `compare`, mostly for the higher score.  Without one they vote by their sum, as every judge.
        """
        if not self.pairwise:
            return super().compare(pairs)
        said = [part.judge.compare(pairs) for part in self._parts]
        return [self._joint(votes) for votes in zip(*said, strict=True)]

    def _joint(self, votes: Sequence[Vote | None]) -> Vote | None:
        there = [
            (part.weight, vote) for part, vote in zip(self._parts, votes, strict=True) if vote is not None
        ]
        whole, heard = sum(part.weight for part in self._parts), sum(weight for weight, _ in there)
        if not heard or heard < whole / 2:
            return None
        first = math.fsum(weight * vote.for_first for weight, vote in there) / heard
        return shared_vote(self.name, first, 0)

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        sample = cache(sample)  # the same responses do for all
        found = [part.judge.calibrate(sample) for part in self._parts]
        for part in self._parts:
            if (
                isinstance(part.scale, Calibration | TaskCalibration) and not self.pairwise
            ):  # a vote asks for no unit
                found.append(measured(part.judge.name, part.said, part.scale, sample))
        return "\n".join(sentence for sentence in found if sentence) or None

    def lacks(self, prompt: Prompt) -> str:
        """What the first part that can tell says."""
        asked = (part for part in self._parts if part.applies_to(prompt))
        return next(filter(None, (part.judge.lacks(prompt) for part in asked)), "")

    def learn(self, responses: Sequence[Response], scores: Sequence[Score | None]) -> None:
        for part in self._parts:
            own = [part.own(score) for score in scores]
            part.judge.learn(responses, own)
            found = [(of.prompt.task, score.value) for of, score in zip(responses, own) if score is not None]
            if isinstance(part.scale, TaskCalibration):
                part.scale.learn(found)
            elif isinstance(part.scale, RunningCalibration):
                part.scale.learn([value for _, value in found])

    def _mixed(
        self, response: Response, said: Sequence[Score | None], normalised: Sequence[Score | None]
    ) -> Score | None:
        failed: list[tuple[float, Score]] = []
        summands: list[tuple[float, Score]] = []
        parts: dict[str, float] = {}
        for part, score, scaled in zip(self._parts, said, normalised, strict=True):
            if score is None or scaled is None:
                continue
            parts[part.name] = score.value
            parts |= {f"{part.name}/{name}": value for name, value in score.parts.items()}
            weight = part.weight_of(response.prompt)
            if part.gate is None and weight:  # what is only watched does not apply to anything
                summands.append((weight, scaled))
            elif part.gate is not None and score.value < part.gate:
                failed.append((part.weight, score))
        counted = failed or summands
        if not counted:
            return None
        value = math.fsum(weight * score.value for weight, score in counted)
        last = len(response.ids) - 1
        places = _places(summands, last)
        return Score(value, parts, ending_in(value, places, last) if failed else places)


def _scaled(part: Part) -> bool:
    """Whether the scores of a part are brought to another scale than their own; a reward model's own standard deviations (which
    change no vote) are none."""
    return part.scale is not None and (
        part.scale == RANK or isinstance(part.scale, RunningCalibration | TaskCalibration)
    )


def ranked(values: Sequence[float]) -> list[float]:
    """Ranks from -1 (the lowest) to 1; equal values share the mean of theirs, one alone is 0."""
    if len(values) < 2:
        return [0.0] * len(values)
    below: dict[float, list[int]] = defaultdict(list)
    for place, value in enumerate(sorted(values)):
        below[value].append(place)
    middle = (len(values) - 1) / 2
    return [((below[value][0] + below[value][-1]) / 2 - middle) / middle for value in values]


def named(judges: Sequence[Judge], given: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """What parts are called: as was `given`, else ("") as their judge is, a path or an address by its last piece, with a
    number where that name is taken: reward, reward-2."""
    used = {*taken, *given}
    found = []
    for judge, name in zip(judges, given, strict=True):
        own = judge.name.rstrip("/").rpartition("/")[2]
        tries = chain([own], (f"{own}-{number}" for number in count(2)))
        found.append(name or next(name for name in tries if name not in used))
        used.add(found[-1])
    return found


def _places(counted: Sequence[tuple[float, Score]], last: int) -> tuple[tuple[int, float], ...]:
    """(token, value) of a sum in which some judge scores places; () where none does."""
    if not any(score.at for _, score in counted):
        return ()
    summed: dict[int, float] = defaultdict(float)
    for weight, score in counted:
        for token, value in score.at or ((max(last, 0), score.value),):
            summed[token] += weight * value
    return tuple(sorted(summed.items()))
