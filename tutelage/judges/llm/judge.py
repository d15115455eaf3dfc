"""A language model as a judge of pairs, of single responses, of several at once, and of steps.

A pair is asked about in both orders unless told otherwise.  With q1 the probability that the response shown first wins where the
pair's first is shown first, and q2 where its second is, the first one is better with

    p = 1/2 + (q1 - q2) / 2        (the mean of q1 and 1 - q2)

so that what is liked for its place alone cancels (Wang et al. 2023, arXiv 2305.17926), and a swapped pair has exactly 1 - p.
In text q is 1, 0, or 1/2 where the model says that neither is better; with mode=logits it is what the model's first token says
(Lee et al. 2023, arXiv 2309.00267, 3.1).  A rating counts from 0 (the lowest) to 1; with logits it is its expected value (3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tutelage.judges.assist.assistant import Assistant, advise, arm_of
from tutelage.judges.judge import Judge, shared_vote
from tutelage.judges.llm.asking import Asker, Call
from tutelage.judges.llm.hearing import Asked, Hearing
from tutelage.judges.llm.questions import Exemplar, Pair, Questions
from tutelage.judges.llm.ranking import FEWEST, MOST, Ranking, joined
from tutelage.judges.llm.tally import Tally
from tutelage.judges.llm.templates import HELPED, Template
from tutelage.judges.llm.verdict import Verdict, read_marks, read_pair, read_ranking, read_rating
from tutelage.records import Help, Prompt, Response, Score, Vote
from tutelage.settings.judges import LLMOptions
from tutelage.store import Answer

LEAST_MASS = 0.01  # where an endpoint tells few tokens, and hardly any is a verdict, there is none
Marks = tuple[int | None, ...]
PAIR_IN_TEXT = {1.0: 1.0, 2.0: 0.0, 0.0: 0.5}


@dataclass
class LLMJudge(Judge):
    """`asker` asks `endpoint` (which opens an async context that gives an `Answering`).

    local: the model runs here, and is told which tokens matter.
    """

    name: str
    template: Template
    options: LLMOptions
    asker: Asker
    endpoint: Callable[[], Any]
    local: bool = False
    exemplars: Sequence[Exemplar] = ()
    constitution: Sequence[str] = ()
    progress: Callable[[int], None] | None = None
    tally: Tally = field(default_factory=Tally)
    assistant: Assistant | None = None

    def __post_init__(self) -> None:
        self._questions = Questions(
            self.template, self.options, self.local, self.exemplars, self.constitution
        )
        self._hearing = Hearing(self.name, self.options, self.asker, self.endpoint, self.tally)

    @property
    def pairwise(self) -> bool:  # type: ignore[override]
        """Templates that compare give no scores."""
        return self.template.asks in ("pair", "ranking")

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """A rating from 0 to 1; where the answer holds none, None, or (`unrated`) the mean of the others.  Raises ValueError
        for a template that compares."""
        if self.template.asks != "rating":
            does = "marks steps" if self.template.asks == "steps" else "compares responses"
            other = "mark" if self.template.asks == "steps" else "a command that compares"
            raise ValueError(f"{self.name} {does} and gives no scores: take template: rating, or {other}.")
        helped = self._told(responses)
        asked = [
            Asked(call, self._rating)
            for response, told in zip(responses, helped, strict=True)
            for call in self._questions.ratings(response, told)
        ]
        values = _means(self._hearing.heard(asked, self.progress), self.options.answers)
        low, high = self.template.scale
        known = [value for value in values if value is not None]
        instead = sum(known) / len(known) if known and self.options.unrated == "mean" else None
        scaled = [instead if value is None else value for value in values]
        return [None if value is None else Score((value - low) / (high - low)) for value in scaled]

    def compare(self, pairs: Sequence[Pair]) -> list[Vote | None]:
        """One vote per pair; None where an order has no verdict."""
        if self.template.asks == "ranking":
            found = self.rank(pairs)
            return [None if one is None else shared_vote(self.name, one.shares[0][1], 0) for one in found]
        if self.template.asks != "pair":
            return super().compare(pairs)
        orders = [self._questions.orders(pair) for pair in pairs]
        helps = self._helps(pairs)
        asked = [
            Asked(self._questions.pair(pair, first, help), self._better)
            for pair, shown, help in zip(pairs, orders, helps, strict=True)
            for first in shown
        ]
        said = iter(self._hearing.heard(asked, self.progress))
        votes = [self._counted(shown, [next(said) for _ in shown]) for shown in orders]
        return [
            vote if vote is None else replace(vote, help=help)
            for vote, help in zip(votes, helps, strict=True)
        ]

    def _helps(self, pairs: Sequence[Pair]) -> list[Help | None]:
        """What the assistant says of each pair, in the words in which it is shown; None where there is no assistant."""
        if self.assistant is None:
            return [None] * len(pairs)
        found = [one.help for one in advise(self.assistant, self.options, pairs)]
        return [replace(one, template=f"{one.template}/{HELPED}") if one.template else one for one in found]

    def _told(self, responses: Sequence[Response]) -> list[str]:
        """What the assistant says of single responses, but for those of the control."""
        if self.assistant is None:
            return [""] * len(responses)
        shown = [arm_of(self.options, (one, one)) != "none" for one in responses]
        asked = [one for one, helped in zip(responses, shown, strict=True) if helped]
        said = iter(self.assistant.review(asked) if asked else [])
        return [next(said).text if helped else "" for helped in shown]

    def rank(self, groups: Sequence[Sequence[Response]]) -> list[Ranking | None]:
        """One ranking per group of responses (2 to 9) to one prompt; None where an order has no verdict.  Raises ValueError for a
        template that does not rank, and for another number of responses."""
        if self.template.asks != "ranking":
            raise ValueError(f"{self.name} does not rank responses: take template: k-way.")
        if wrong := next((len(group) for group in groups if not FEWEST <= len(group) <= MOST), None):
            raise ValueError(f"{self.name} ranks {FEWEST} to {MOST} responses to a prompt, not {wrong}.")
        orders = [self._questions.rankings(group) for group in groups]
        asked = [
            Asked(self._questions.ranking(group, order), self._reader_of(read_ranking, len(group)))
            for group, turns in zip(groups, orders, strict=True)
            for order in turns
        ]
        found = iter(self._hearing.heard(asked, self.progress))
        return [self._joined(turns, [next(found) for _ in turns]) for turns in orders]

    def mark(self, solutions: Sequence[tuple[Prompt, Sequence[str]]]) -> list[Marks | None]:
        """For each solution in steps (one at least) a mark of each: 1 right, 0 neutral, -1 wrong, None behind a wrong one where
        nothing is said; None where there is no verdict.  Raises ValueError for a template that does not mark."""
        if self.template.asks != "steps":
            raise ValueError(f"{self.name} does not mark steps: take template: steps.")
        asked = [
            Asked(self._questions.steps(prompt, steps), self._reader_of(read_marks, len(steps)))
            for prompt, steps in solutions
        ]
        return self._hearing.heard(asked, self.progress)

    def calls_for(self, pairs: Sequence[Sequence[Response]]) -> list[Call]:
        """All that would be asked about pairs, or about groups to be ranked, before anything is repaired."""
        if self.assistant is not None:
            raise ValueError(
                f"{self.name} is told what an assistant finds, which is not known before it is asked: leave its assistant out."
            )
        if self.template.asks == "ranking":
            return [
                self._questions.ranking(group, order)
                for group in pairs
                for order in self._questions.rankings(group)
            ]
        if self.template.asks == "rating":
            return [call for pair in pairs for response in pair for call in self._questions.ratings(response)]
        both: list[Pair] = [(pair[0], pair[1]) for pair in pairs]
        return [self._questions.pair(pair, first) for pair in both for first in self._questions.orders(pair)]

    def calls_to_mark(self, solutions: Sequence[tuple[Prompt, Sequence[str]]]) -> list[Call]:
        """All that would be asked about solutions in steps, before anything is repaired."""
        return [self._questions.steps(prompt, steps) for prompt, steps in solutions]

    # ---- what is answered --------------------------------------------------------------------------------------------

    def _rating(self, answer: Answer) -> float | None:
        low, high = self.template.scale
        if self.options.mode == "logits":
            return self._weighed(answer, {str(n): float(n) for n in range(low, high + 1)})
        found = read_rating(answer.text, low, high)
        return None if found is None else found.value

    def _better(self, answer: Answer) -> Verdict | None:
        """With the probability that the response shown first is better as its value."""
        if self.options.mode == "logits":
            weighed = self._weighed(answer, {"1": 1.0, "2": 0.0})
            return None if weighed is None else Verdict(weighed)
        found = read_pair(answer.text, self.template.criteria, self.template.scale)
        return None if found is None else replace(found, value=PAIR_IN_TEXT[found.value])

    def _reader_of(
        self, read: Callable[[str, int], tuple[Any, ...] | None], count: int
    ) -> Callable[[Answer], tuple[Any, ...] | None]:
        return lambda answer: read(answer.text, count)

    def _joined(
        self, orders: Sequence[Sequence[int]], said: Sequence[tuple[int, ...] | None]
    ) -> Ranking | None:
        """A ranking from those of one group, each by place."""
        there = [ranks for ranks in said if ranks is not None]
        best = [ranks.index(1) for ranks in there if ranks.count(1) == 1]
        self.tally.decided += len(best)
        self.tally.first += best.count(0)
        return joined(orders, there) if len(there) == len(said) else None

    def _weighed(self, answer: Answer, values: Mapping[str, float]) -> float | None:
        return _from_likely(answer.likely, values, 0.0 if self.local else LEAST_MASS)

    def _counted(self, shown: Sequence[int], said: Sequence[Verdict | None]) -> Vote | None:
        """A vote from the verdicts of one pair, each with the probability that the response shown first is better."""
        verdicts = [verdict for verdict in said if verdict is not None]
        values = [verdict.value for verdict in verdicts]
        self.tally.decided += sum(value != 0.5 for value in values)
        self.tally.first += sum(value > 0.5 for value in values)
        if len(verdicts) < len(said):
            return None
        criteria = self._by_criteria(shown, verdicts)
        if len(shown) == 1:
            first = values[0] if shown[0] == 0 else 1 - values[0]
            return replace(shared_vote(self.name, first, shown[0]), criteria=criteria)
        self.tally.pairs += 1
        self.tally.flips += (values[0] - 0.5) * (values[1] - 0.5) > 0
        vote = shared_vote(self.name, 0.5 + (values[0] - values[1]) / 2, 0)
        return replace(vote, criteria=criteria)

    def _by_criteria(self, shown: Sequence[int], verdicts: Sequence[Verdict]) -> tuple[tuple[str, int], ...]:
        """(criterion, preference): which response has the higher mean of scores over the orders, of what every order scores.

        As scores have no unit that people's steps have, the higher one is slightly better (1).
        """
        found = []
        for name in self.template.criteria:
            if any(name not in verdict.scores for verdict in verdicts):
                continue
            own = [verdict.scores[name] for verdict in verdicts]
            turned = [both if first == 0 else both[::-1] for first, both in zip(shown, own, strict=True)]
            first, second = (math.fsum(values) / len(values) for values in zip(*turned, strict=True))
            self.tally.scored({name: (first, second)})
            found.append((name, (second > first) - (second < first)))
        return tuple(found)


def _means(values: Sequence[float | None], count: int) -> list[float | None]:
    """The mean of every `count` values, of those that there are; None where there is none."""
    groups = (values[start : start + count] for start in range(0, len(values), count))
    there = ([value for value in group if value is not None] for group in groups)
    return [math.fsum(own) / len(own) if own else None for own in there]


def _from_likely(
    likely: Mapping[str, float] | None, values: Mapping[str, float], least: float
) -> float | None:
    """The mean of `values` by the probabilities of the first tokens that spell them; None where that is too seldom."""
    mass = total = 0.0
    for token, logprob in (likely or {}).items():
        value = values.get(token.strip())
        if value is not None and logprob > -math.inf:
            mass += math.exp(logprob)
            total += math.exp(logprob) * value
    return total / mass if mass > 0 and mass >= least else None
