"""A solver with one hazard: each of its steps is wrong with the same probability, whatever stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tutelage.feedback.asking.payloads import Schema
from tutelage.feedback.projects.projects import insert_schema
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.reading import Standing
from tutelage.feedback.refining.rules import Rules
from tutelage.judges.judge import Judge
from tutelage.records import MarkedStep, Prompt, Response, Role, Score
from tutelage.refine.going import Loop, Origin
from tutelage.refine.markers import Solution
from tutelage.refine.writing import Writer
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.seeds import rng
from tutelage.store import ModelInfo, Store

RIGHT, WRONG = "ok.\n", "bad.\n"


@dataclass
class Solver:
    """Writes `steps` lines; the ids of a text are its characters.  `calls` counts what was drawn."""

    p: float
    steps: int
    calls: int = 0
    seen: list[str] = field(default_factory=list)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Response]:
        prefixes = [Prefix(prompt) for prompt in prompts for _ in range(sampling.samples)]
        return self.continue_from(prefixes, sampling)

    def begun(self, prompt: Prompt, text: str) -> Prefix:
        return Prefix(prompt, tuple(map(ord, text)))

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        found = []
        counts: dict[str, int] = {}
        for prefix in prefixes:
            number = counts[prefix.id] = counts.get(prefix.id, -1) + 1
            draw = rng(sampling.seed, "solver", prefix.id, sampling.step, number)
            begun = "".join(map(chr, prefix.begun))
            self.seen.append(begun)
            self.calls += 1
            lines = [
                WRONG if draw.random() < self.p else RIGHT for _ in range(self.steps - begun.count("\n"))
            ]
            text = "".join(lines)
            found.append(Response(prefix.prompt, text, (1,), tuple(map(ord, text)), (), "eos", number))
        return found


class Answers(Judge):
    """An answer is right when all is."""

    name = "answers"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(WRONG.strip() not in one.text)) for one in responses]


class Knows:
    """Marks what is wrong, and rewrites the first of it (`rewrites`)."""

    names = ("knows",)
    kind = "simulated"
    role: Role = "expert"

    def __init__(self, rewrites: bool = True) -> None:
        self.rewrites = rewrites
        self.asked: list[str] = []

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        self.asked += [one.text for one in solutions]
        return [self._marked(one.steps) for one in solutions]

    def _marked(self, steps: Sequence[str]) -> tuple[MarkedStep, ...]:
        wrong = next((n for n, step in enumerate(steps) if step.strip() == WRONG.strip()), None)
        return tuple(
            MarkedStep(step, 1)
            if wrong is None or n < wrong
            else MarkedStep(step, -1, "it is bad", RIGHT.strip() if self.rewrites else None)
            if n == wrong
            else MarkedStep(step, -1, caused_by=wrong)
            for n, step in enumerate(steps)
        )


def refined(path: Path, solver: Solver, rules: Rules, marker: Any, count: int) -> list[Standing]:
    """So many problems in a store, new or begun before, refined by the command's own loop."""
    prompts = [Prompt(f"Problem {number}") for number in range(count)]
    sampling = Sampling(max_new_tokens=200, seed=3)
    writer = Writer(cast(Any, solver), cast(Any, solver), Answers(), sampling, 0.5)
    with Store(path) as store:
        store.add_prompts("p", prompts)
        with store.writing("p") as (connection, key):
            insert_schema(connection, key, Schema(type="step", splitter="lines"), None)
        store.add_annotator("knows", "simulated", {"role": "expert"})
        run = store.add_generation_run(ModelInfo("solver"), "local", {})
        firsts = writer.first(prompts)
        store.add_responses("p", run, firsts)
        rights = writer.right(firsts)
        with store.writing("p") as (connection, key):
            roots = [
                rows.open_refinement(connection, key, rows.Written(number + 1, right))
                for number, right in enumerate(rights)
            ]
        return Loop(store, "p", roots, rules, writer, marker, Origin(ModelInfo("solver"), {})).run()
