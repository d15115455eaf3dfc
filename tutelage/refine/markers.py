"""Who marks the steps of solutions at once: the world's expert or crowd, a verifier of sums, a process model, a language model.

People are no marker: they answer in the web app, and are waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from tutelage.judges.build import Calls, build_judge
from tutelage.judges.llm.judge import LLMJudge
from tutelage.judges.process import ProcessJudge
from tutelage.parallel import World
from tutelage.records import Finish, MarkedStep, Prompt, Response, Role
from tutelage.refine.sums import checked_sums
from tutelage.seeds import rng
from tutelage.settings.judges import WORLD, read_parts
from tutelage.settings.refine import EQUATIONS, RefineSettings
from tutelage.worlds.expert import crowd, expert


class Solution(NamedTuple):
    """What is marked: the steps of a response to a prompt, joined the response."""

    prompt: Prompt
    steps: tuple[str, ...]
    finish: Finish

    @property
    def text(self) -> str:
        return "".join(self.steps)


class Marker(Protocol):
    """Marks steps."""

    @property
    def names(self) -> Sequence[str]:
        """Those under whom it answers, one for each answer that is wanted about a solution."""
        ...

    @property
    def kind(self) -> str:
        """Of annotator, as the store has it."""
        ...

    @property
    def role(self) -> Role:
        """In what role it marks."""
        ...

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        """The marked steps of each solution, by `name`; None where there is no verdict."""
        ...


class Marking(NamedTuple):
    """Who is to mark (`marks`, as settings say it; not people), and what else that needs to know.

    threshold: of a process model.  crowd_error, votes, seed: of the world's crowd.  calls: where questions to language models
    are written down.
    """

    marks: str | dict[str, Any]
    threshold: float = 0.5
    crowd_error: float = 0.0
    votes: int = 1
    seed: int = 0
    calls: Calls | None = None


def build_marker(settings: RefineSettings, world: World) -> Marker | None:
    """Who marks at once; None where people do.  Raises ValueError where there is no such model."""
    if settings.by_people:
        return None
    calls = Calls(settings.store, settings.project)
    marking = Marking(
        settings.marks, settings.threshold, settings.crowd_error, settings.votes, settings.seed, calls
    )
    return marker_of(marking, world)


def marker_of(marking: Marking, world: World) -> Marker:
    """Who marks.  Raises ValueError where there is no such model."""
    if marking.marks == WORLD:
        return Crowd(marking) if marking.crowd_error else Expert()
    if marking.marks == EQUATIONS:
        return Equations()
    judge = build_judge(marking.marks, world, calls=marking.calls)
    if isinstance(judge, LLMJudge):
        return InWords(judge)
    if not isinstance(judge, ProcessJudge):
        raise ValueError(
            f"marks={marking.marks} scores whole responses, not steps: train one with `process`."
        )
    return Process(judge, str(marking.marks), marking.threshold)


class Expert:
    """The world's expert, who is always right."""

    names = ("sim-expert",)
    kind = "simulated"
    role: Role = "expert"

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        return [expert(one.prompt, one.text) for one in solutions]


class Crowd:
    """Simulated people, each of whom errs in each step with a set probability, drawn by (seed, who, solution)."""

    kind = "simulated"
    role: Role = "crowd"

    def __init__(self, marking: Marking) -> None:
        self.names = tuple(f"sim-crowd-{number}" for number in range(marking.votes))
        self._seed, self._error = marking.seed, marking.crowd_error

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        return [
            crowd(one.prompt, one.text, rng(self._seed, "refine", name, one.prompt.id, one.text), self._error)
            for one in solutions
        ]


class Equations:
    """A verifier of sums: a step is wrong where it states a false equation between numbers; all that follows is not its affair.

    It knows calculation alone, and nothing of what a problem asks for.
    """

    names = ("verify:equations",)
    kind = "rule"
    role: Role = "verifier"

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        return [tuple(map(checked_sums, one.steps)) if one.steps else None for one in solutions]


class Process:
    """A process reward model: the first step that is right with a probability below the threshold is wrong."""

    kind = "judge"
    role: Role = "process-model"

    def __init__(self, judge: ProcessJudge, path: str, threshold: float) -> None:
        self.names = (f"process:{path}",)
        self._judge, self._threshold = judge, threshold

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        responses = [Response.written(one.prompt, one.text, one.finish) for one in solutions]
        found = self._judge.right(responses)
        return [
            _below(one.steps, right, self._threshold) for one, right in zip(solutions, found, strict=True)
        ]


def _below(
    steps: Sequence[str], right: Sequence[float] | None, threshold: float
) -> tuple[MarkedStep, ...] | None:
    """None where the model finds other steps in the tokens than there are in the text."""
    if right is None or len(right) != len(steps):
        return None
    wrong = next((number for number, p in enumerate(right) if p < threshold), len(steps))
    marked = [MarkedStep(step, 1) for step in steps[:wrong]]
    marked += [MarkedStep(step, -1) for step in steps[wrong : wrong + 1]]
    return (*marked, *map(MarkedStep, steps[wrong + 1 :]))


class InWords:
    """A language model that is asked which step is wrong first."""

    kind = "judge"
    role: Role = "judge"

    def __init__(self, judge: LLMJudge) -> None:
        self.names = (judge.name,)
        self.judge = judge

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        said = self.judge.mark([(one.prompt, one.steps) for one in solutions])
        return [
            None if marks is None else tuple(map(MarkedStep, one.steps, marks))
            for one, marks in zip(solutions, said, strict=True)
        ]


def upright(steps: Iterable[MarkedStep]) -> list[MarkedStep]:
    """Steps with causes that hold: a step follows only from an earlier one that is marked wrong, and only if it is wrong."""
    done: list[MarkedStep] = []
    for step in steps:
        cause = step.caused_by
        holds = step.label == -1 and cause is not None and cause < len(done) and done[cause].label == -1
        done.append(step if cause is None or holds else replace(step, caused_by=None))
    return done


def profile_of(settings: RefineSettings, marker: Marker) -> dict[str, object]:
    """What the store says of who marks."""
    if marker.kind == "simulated":
        return {"role": marker.role, "crowd_error": settings.crowd_error}
    marks = (
        settings.marks if marker.role == "verifier" else [part.judge for part in read_parts(settings.marks)]
    )
    return {"role": marker.role, "marks": marks}
