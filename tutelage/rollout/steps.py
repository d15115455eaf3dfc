"""What becomes of a solution from each of its steps on: rollouts from where the steps end, and what a judge says of them.

A rollout is the rest of a response that the model had begun with these very tokens, so the share that comes out right estimates
the probability that the model, having got so far, ends right (Wang et al. 2023, arXiv 2312.08935).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tutelage.data.steps import StepEnds, steps_of
from tutelage.judges.judge import Judge, scores_of
from tutelage.records import Response
from tutelage.rollout.generator import Generator, Prefix, Sampling

Scores = tuple[float, ...]


@dataclass(frozen=True)
class Solution:
    """A response in steps: their texts, and the beginnings of the response that end with them.

    `whole`: nothing can be added to it, for it ended by itself or is as long as may be.  Then its last step is judged by what it
    came to, and the others have beginnings; else each step has one.  No steps: they are not found in its tokens.
    """

    response: Response
    steps: tuple[str, ...]
    prefixes: tuple[Prefix, ...]
    whole: bool


def in_steps(response: Response, find: StepEnds, separator: str, max_new_tokens: int) -> Solution:
    """The steps of a response, as `process` will find them in its text and its tokens."""
    steps, ends = steps_of(response.text, separator), find.cuts(response.ids, response.finish)
    whole = response.finish == "eos" or len(response.ids) >= max_new_tokens
    if not steps or len(steps) != len(ends):
        return Solution(response, (), (), whole)
    gone_on = ends[:-1] if whole else ends
    prefixes = tuple(Prefix(response.prompt, response.ids[: end + 1]) for end in gone_on)
    return Solution(response, tuple(steps), prefixes, whole)


@dataclass(frozen=True)
class Judged:
    """What was said of a solution.

    score: of the solution as it stands.  scores: for each step those of its rollouts, for the last one of a whole solution the
    solution's own; None: not rolled out.  rollouts, tokens: drawn for it; what it has in common with one before it is
    that one's.
    """

    solution: Solution
    score: float
    scores: tuple[Scores | None, ...]
    rollouts: int
    tokens: int


class Completer:
    """Rolls solutions out and has them judged.

    sampling: `samples` of each beginning.  right_above: a response is right if it scores more.  first_error: nothing is
    rolled out behind a step from which no rollout is right.  finished: told how many solutions are through.

    A beginning that several solutions share is rolled out once.  Raises ValueError where the judge does not apply to a prompt.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: PreTrainedTokenizerBase,
        judge: Judge,
        sampling: Sampling,
        right_above: float,
        first_error: bool,
        finished: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._generator, self._judge, self._sampling = generator, judge, sampling
        self._tokenizer, self._finished = tokenizer, finished
        self._right_above, self._first_error = right_above, first_error

    def __call__(self, solutions: Sequence[Solution]) -> list[Judged]:
        """One for each, in order."""
        own = [score.value for score in scores_of(self._judge, [one.response for one in solutions])]
        known: dict[str, tuple[Scores, int]] = {}
        for wave in self._waves(solutions, known):
            known |= self._rolled_out([prefix for name, prefix in wave.items() if name not in known])
        counted: set[str] = set()
        return [_judged(*each, known, counted) for each in zip(solutions, own, strict=True)]

    def _waves(
        self, solutions: Sequence[Solution], known: Mapping[str, tuple[Scores, int]]
    ) -> Iterator[dict[str, Prefix]]:
        """What to roll out next, given what is known by then: step by step, or all at once."""
        if not self._first_error:
            yield {prefix.id: prefix for one in solutions for prefix in one.prefixes}
            self._finished(len(solutions))
            return
        going, depth = list(solutions), 0
        while going:
            further = [one for one in going if depth < len(one.prefixes)]
            self._finished(len(going) - len(further))
            yield {one.prefixes[depth].id: one.prefixes[depth] for one in further}
            going = [one for one in further if any(map(self._right, known[one.prefixes[depth].id][0]))]
            self._finished(len(further) - len(going))
            depth += 1

    def _right(self, score: float) -> bool:
        return score > self._right_above

    def _rolled_out(self, prefixes: Sequence[Prefix]) -> dict[str, tuple[Scores, int]]:
        """For the id of each beginning the scores of its rollouts, and their tokens."""
        if not prefixes:
            return {}
        added, n = self._generator.continue_from(prefixes, self._sampling), self._sampling.samples
        wholes = self._whole(prefixes, added)
        scores = [score.value for score in scores_of(self._judge, wholes)]
        return {
            prefix.id: (
                tuple(scores[first : first + n]),
                sum(len(response.ids) for response in added[first : first + n]),
            )
            for prefix, first in zip(prefixes, range(0, len(added), n), strict=True)
        }

    def _whole(self, prefixes: Sequence[Prefix], added: Sequence[Response]) -> list[Response]:
        """The responses with their beginnings, as a judge reads them; their log-probabilities are not known."""
        begun = [prefix.begun for prefix in prefixes for _ in range(self._sampling.samples)]
        ids = [(*before, *response.ids) for before, response in zip(begun, added, strict=True)]
        texts = self._tokenizer.batch_decode(
            [list(own) for own in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [
            Response(
                r.prompt, text, r.prompt_ids[: -len(before)], own, (), r.finish, r.sample_index, r.version
            )
            for r, text, before, own in zip(added, texts, begun, ids, strict=True)
        ]


def _judged(
    solution: Solution, score: float, known: Mapping[str, tuple[Scores, int]], counted: set[str]
) -> Judged:
    """What is known of a solution; `counted`: the beginnings whose cost stands at a solution before."""
    if not solution.steps:
        return Judged(solution, score, (), 0, 0)
    mine = [known[prefix.id] for prefix in solution.prefixes if prefix.id in known]
    new = [
        known[name]
        for name in dict.fromkeys(p.id for p in solution.prefixes)
        if name in known.keys() - counted
    ]
    counted |= {prefix.id for prefix in solution.prefixes}
    scores: list[Scores | None] = [scores for scores, _ in mine]
    scores += [None] * (len(solution.prefixes) - len(mine))
    if solution.whole:
        scores.append((score,))
    return Judged(
        solution, score, tuple(scores), sum(len(s) for s, _ in new), sum(tokens for _, tokens in new)
    )


def labels(
    scores: Sequence[Sequence[float] | None], right_above: float, soft: bool
) -> tuple[float | None, ...]:
    """What each step is called, from its rollouts' scores: the share that are right, or (not soft) 1 where any is, else -1.

    scores: one entry per step; None: not rolled out, and then it is not marked.
    """
    found: list[float | None] = []
    for own in scores:
        right = None if own is None else sum(score > right_above for score in own)
        if right is None or own is None:
            found.append(None)
        else:
            found.append(right / len(own) if soft else (1 if right else -1))
    return tuple(found)
