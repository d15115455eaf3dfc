"""Solutions as they were judged: every step marked, the answer right or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tutelage.feedback.asking.payloads import Splitter
from tutelage.feedback.asking.steps import split_steps
from tutelage.judges.judge import Judge, scores_of
from tutelage.records import Finish, MarkedStep, Prompt, Response, Round
from tutelage.refine.markers import Marker, Solution, upright

Steps = tuple[MarkedStep, ...]


@dataclass(frozen=True)
class Solved:
    """A solution; steps: None where the marker has no verdict."""

    prompt: Prompt
    text: str
    finish: Finish
    right: bool
    steps: Steps | None

    @cached_property
    def round(self) -> Round:
        """As a refinement has it; without a step where there is no verdict."""
        return Round(self.steps or (), right=self.right, finish=self.finish)

    @property
    def sound(self) -> bool:
        """Whether it ends, its answer is right, and every step is marked and none wrong."""
        return self.right and self.finish == "eos" and self.round.sound

    @property
    def roots(self) -> list[MarkedStep]:
        """The steps that are wrong by themselves."""
        return [step for step in self.steps or () if step.is_root]

    def to_json(self) -> dict[str, Any]:
        """All that is known of it."""
        marked = None if self.steps is None else [step.to_json() for step in self.steps]
        return {
            "text": self.text,
            "finish": self.finish,
            "right": self.right,
            "sound": self.sound,
            "steps": marked,
        }


@dataclass(frozen=True)
class Judging:
    """Who marks steps and who says which answers are right: those that score more than `right_above`."""

    marker: Marker
    judge: Judge
    right_above: float
    splitter: Splitter

    def solved(self, responses: Sequence[Response]) -> list[Solved]:
        """The responses, judged.  Raises ValueError naming a prompt that the judge does not know, or the marker."""
        scores = scores_of(self.judge, responses)
        marks = self.marks([(one.prompt, one.text, one.finish) for one in responses])
        return [
            Solved(one.prompt, one.text, one.finish, score.value > self.right_above, steps)
            for one, score, steps in zip(responses, scores, marks, strict=True)
        ]

    def marks(self, written: Sequence[tuple[Prompt, str, Finish]]) -> list[Steps | None]:
        """The marked steps of solutions, or of how they begin; none of an empty one."""
        cut = [Solution(prompt, split_steps(text, self.splitter), end) for prompt, text, end in written]
        asked = [place for place, one in enumerate(cut) if one.text.strip()]
        found = self.marker.mark([cut[place] for place in asked], self.marker.names[0]) if asked else []
        marked: dict[int, Steps | None] = {
            place: None if steps is None else tuple(upright(steps))
            for place, steps in zip(asked, found, strict=True)
        }
        return [marked.get(place, ()) for place in range(len(cut))]
