"""What models write in a refinement: first solutions, solutions gone on from a step, and answers without help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from tutelage.feedback.asking.payloads import Splitter
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.refining.rules import GoingOn, prefix_of
from tutelage.feedback.refining.telling import told
from tutelage.judges.judge import Judge
from tutelage.records import Finish, Prompt, Response, Round
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.rollout.local import LocalGenerator


class Going(NamedTuple):
    """A solution to be gone on from: the round it is, which is the `number`-th, the step, and how."""

    prompt: Prompt
    last: Round
    number: int
    step: int
    how: GoingOn
    splitter: Splitter


class Written(NamedTuple):
    """A solution that was written; `fault`: why there is none, "" where there is."""

    text: str = ""
    finish: Finish = "eos"
    tokens: int = 0
    right: bool | None = None
    fault: str = ""


class Writer:
    """The model, and who says what is right.

    refiner: writes single steps again from explanations.  right_above: an answer is right that scores more.  Everything is
    drawn by (seed, what it goes on from, round), so that what is written again after a kill is the same.
    """

    def __init__(
        self,
        generator: LocalGenerator,
        refiner: LocalGenerator,
        judge: Judge,
        sampling: Sampling,
        right_above: float,
    ) -> None:
        self.generator, self.refiner = generator, refiner
        self._judge, self._sampling, self._right_above = judge, sampling, right_above

    def first(self, prompts: Sequence[Prompt]) -> list[Response]:
        """First solutions, as many of each prompt as the sampling says."""
        return self.generator.generate(list(prompts), self._sampling)

    def without_help(self, prompts: Sequence[Prompt], numbers: Sequence[int]) -> list[Written]:
        """An answer to each prompt, told nothing, for the time that is its number (from 1): independent of all before it."""
        found: dict[int, Response] = {}
        for number in sorted(set(numbers)):
            places = [place for place, own in enumerate(numbers) if own == number]
            # Steps of their own, far from those of rounds: other draws than any first solution has.
            sampling = replace(self._sampling, samples=1, step=CHECKS + number)
            wrote = self.generator.generate([prompts[place] for place in places], sampling)
            found |= dict(zip(places, wrote, strict=True))
        responses = [found[place] for place in range(len(prompts))]
        return [
            Written(one.text, one.finish, len(one.ids), right)
            for one, right in zip(responses, self.right(responses), strict=True)
        ]

    def go_on(self, some: Sequence[Going]) -> list[Written]:
        """The next solutions: the steps before the wrong one word for word, that step as it should be, and the rest anew."""
        prefixes = self._prefixes(some)
        found = [one if isinstance(one, Written) else self._fits(one) for one in prefixes]
        there = [place for place, one in enumerate(found) if isinstance(one, Prefix)]
        wrote: dict[int, Response] = {}
        for number in sorted({some[place].number for place in there}):
            own = [place for place in there if some[place].number == number]
            sampling = replace(self._sampling, samples=1, step=number)
            begun = [one for place in own if isinstance(one := found[place], Prefix)]
            wrote |= dict(zip(own, self.generator.continue_from(begun, sampling), strict=True))
        whole = {place: self._whole(prefixes[place], found[place], wrote[place]) for place in there}
        rights = dict(zip(there, self.right([whole[place] for place in there]), strict=True))
        return [
            one
            if isinstance(one, Written)
            else Written(whole[at].text, whole[at].finish, len(whole[at].ids), rights[at])
            for at, one in enumerate(found)
        ]

    def right(self, responses: Sequence[Response]) -> list[bool | None]:
        """Whether answers are right; None where nobody can say."""
        scores = self._judge.score(list(responses)) if responses else []
        return [None if score is None else score.value > self._right_above for score in scores]

    def _prefixes(self, some: Sequence[Going]) -> list[tuple[Prompt, str] | Written]:
        """How each solution begins, or why it cannot."""
        again = [place for place, one in enumerate(some) if one.how == "explained"]
        steps = dict(zip(again, self.steps_again([some[place] for place in again]), strict=True))
        found: list[tuple[Prompt, str] | Written] = []
        for place, one in enumerate(some):
            rewrite = one.last.steps[one.step].rewrite if one.how == "rewritten" else steps.get(place)
            if one.how == "explained" and not rewrite:
                found.append(Written(fault="the model wrote nothing in the place of the wrong step"))
                continue
            try:
                found.append((one.prompt, prefix_of(one.last, one.step, rewrite, one.splitter)))
            except ValueError as error:
                found.append(Written(fault=str(error).rstrip(".")))
        return found

    def steps_again(self, some: Sequence[Going]) -> list[str]:
        """Steps written again from what is said of them: the first step of what the refiner writes, "" where that is nothing."""
        if not some:
            return []
        prompts = [
            told(one.prompt, one.last.steps, one.step, one.last.steps[one.step].explanation) for one in some
        ]
        longest = max(1, self._sampling.max_new_tokens // 2)
        found = [""] * len(some)
        # By its own number, whatever else is in the group: after a kill that may be others than without one.
        for number in sorted({one.number for one in some}):
            places = [place for place, one in enumerate(some) if one.number == number]
            sampling = replace(self._sampling, samples=1, step=number, max_new_tokens=longest)
            wrote = self.refiner.generate([prompts[place] for place in places], sampling)
            for place, one in zip(places, wrote, strict=True):
                steps = split_steps(one.text, some[place].splitter)
                found[place] = steps[0].strip() if steps else ""
        return found

    def _fits(self, begun: tuple[Prompt, str]) -> Prefix | Written:
        prompt, text = begun
        prefix = self.generator.begun(prompt, text) if text else Prefix(prompt)
        if len(prefix.begun) < self._sampling.max_new_tokens:
            return prefix
        most = self._sampling.max_new_tokens
        return Written(fault=f"the steps that stay leave no room for more within max_new_tokens={most}")

    def _whole(
        self, begun: tuple[Prompt, str] | Written, prefix: Prefix | Written, added: Response
    ) -> Response:
        """The solution with its beginning, as a judge reads it; its log-probabilities are not known."""
        assert isinstance(prefix, Prefix) and not isinstance(begun, Written)
        own = added.prompt_ids[: len(added.prompt_ids) - len(prefix.begun)]
        ids = (*prefix.begun, *added.ids)
        return replace(added, text=begun[1] + added.text, prompt_ids=own, ids=ids, logprobs=())


CHECKS = 1000
"""Where the sampling's steps of answers without help begin; those of rounds are their numbers."""
