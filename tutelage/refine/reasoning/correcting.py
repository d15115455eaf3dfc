"""What becomes of a correction: a wrong step that is explained, and a right one that is called wrong.

Everything is greedy, so that the only thing that differs is what the model is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tutelage.feedback.refining.rules import GoingOn, prefix_of
from tutelage.feedback.refining.telling import told
from tutelage.records import MarkedStep, Prompt
from tutelage.refine.reasoning.solving import Judging, Solved
from tutelage.refine.writing import Going, Writer
from tutelage.seeds import rng
from tutelage.worlds.expert import wrong_correction

Fits = Callable[[Sequence[Prompt]], list[bool]]
"""Whether the model has room for prompts with a step behind them."""


class Corrected(NamedTuple):
    """A failed solution whose first wrong step, `step`, was explained: what was written then, whether that step and the whole
    are right, whether the step is when it is only called wrong, and whether the whole is with the step as it should be put in
    (None: nobody has written that)."""

    step: int
    text: str
    accepted: bool
    sound: bool
    unexplained: bool
    put_in: bool | None


class Pressed(NamedTuple):
    """A right step, `step`, that was called wrong for a reason that does not hold: the reason, what was written then, whether
    that is wrong, and whether it is when no reason is given."""

    step: int
    reason: str
    text: str
    gave_in: bool
    unexplained: bool


@dataclass(frozen=True)
class Correcting:
    """Corrects the solutions of one model, at most `most` of each kind, from the first problem on."""

    writer: Writer
    judging: Judging
    fits: Fits
    most: int
    seed: int

    def failed(self, solved: Sequence[Solved]) -> dict[int, Corrected]:
        """Place of a solution that is not sound and has a root -> what became of its correction."""
        wrong = {
            place: root
            for place, one in enumerate(solved)
            if not one.sound and (root := one.round.root) is not None
        }
        places = self._with_room(wrong, {place: solved[place].round.steps for place in wrong}, solved)
        own = [self._going(solved[place], wrong[place], "explained") for place in places]
        wrote = self._whole(own)
        alone = self._right([_unexplained(one) for one in own])
        put_in = self._put_in([one for one in own if one.last.steps[one.step].rewrite])
        return {
            place: Corrected(
                one.step,
                whole.text,
                _holds(whole.steps, one.step),
                whole.sound,
                without,
                put_in.get(one.prompt.id),
            )
            for place, one, whole, without in zip(places, own, wrote, alone, strict=True)
        }

    def right(self, solved: Sequence[Solved]) -> dict[int, Pressed]:
        """Place of a solution with a right step -> what became of that step, called wrong by somebody of the world."""
        chosen: dict[int, int] = {}
        accused: dict[int, tuple[MarkedStep, ...]] = {}
        for place, one in enumerate(solved):
            if not any(step.label == 1 for step in one.steps or ()):
                continue
            number, claim = wrong_correction(one.prompt, one.text, rng(self.seed, "reasoning", one.prompt.id))
            steps = list(one.steps or ())
            steps[number] = claim
            chosen[place], accused[place] = number, tuple(steps)
        places = self._with_room(chosen, accused, solved)
        own = [
            self._going(replace(solved[place], steps=accused[place]), chosen[place], "explained")
            for place in places
        ]
        again = self.writer.steps_again(own)
        held = self._right(own, again)
        alone = self._right([_unexplained(one) for one in own])
        return {
            place: Pressed(one.step, one.last.steps[one.step].explanation, text, not holds, not without)
            for place, one, text, holds, without in zip(places, own, again, held, alone, strict=True)
        }

    def _put_in(self, some: Sequence[Going]) -> dict[str, bool]:
        """Prompt -> whether the solution is sound with its step put in as it was rewritten."""
        wrote = self._whole([one._replace(how="rewritten") for one in some])
        return {one.prompt.id: whole.sound for one, whole in zip(some, wrote, strict=True)}

    def _with_room(
        self,
        step_of: dict[int, int],
        steps: dict[int, tuple[MarkedStep, ...]],
        solved: Sequence[Solved],
    ) -> list[int]:
        """The first places at which the model has room for what it is told."""
        prompts = [
            told(solved[place].prompt, steps[place], step, steps[place][step].explanation)
            for place, step in step_of.items()
        ]
        fits = zip(step_of, self.fits(prompts), strict=True)
        return [place for place, has_room in fits if has_room][: self.most]

    def _going(self, one: Solved, step: int, how: GoingOn) -> Going:
        return Going(one.prompt, one.round, 1, step, how, self.judging.splitter)

    def _whole(self, some: Sequence[Going]) -> list[Solved]:
        """The solutions that go on so; an empty one where the model has written nothing in the place of the step."""
        if not some:
            return []
        wrote = self.writer.go_on(some)
        marks = self.judging.marks(
            [(going.prompt, one.text, one.finish) for going, one in zip(some, wrote, strict=True)]
        )
        return [
            Solved(going.prompt, one.text, one.finish, bool(one.right), steps)
            for going, one, steps in zip(some, wrote, marks, strict=True)
        ]

    def _right(self, some: Sequence[Going], steps: Sequence[str] | None = None) -> list[bool]:
        """Whether steps, written again, hold in their places; `steps`: where they are written already."""
        if not some:
            return []
        wrote = self.writer.steps_again(some) if steps is None else steps
        begun = [
            (one.prompt, prefix_of(one.last, one.step, text, one.splitter) if text else "", one.last.finish)
            for one, text in zip(some, wrote, strict=True)
        ]
        marks = self.judging.marks(begun)
        return [_holds(own, one.step) for one, own in zip(some, marks, strict=True)]


def _unexplained(going: Going) -> Going:
    """The same without a reason."""
    steps = list(going.last.steps)
    steps[going.step] = replace(steps[going.step], explanation="")
    return going._replace(last=replace(going.last, steps=tuple(steps)))


def _holds(steps: tuple[MarkedStep, ...] | None, number: int) -> bool:
    """Whether a step is there and not wrong."""
    label = steps[number].label if steps and number < len(steps) else None
    return label is not None and label >= 0
