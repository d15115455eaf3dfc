"""The command `eval reasoning`: what a refinement did, claim by claim, on problems that no model has seen.

results.json, results.csv   rows {model, metric, task = group of problems, trap or kind of error, value, low, high, n, unit};
                            METRIC_sampled at temperature 1, METRIC_difference less the first model
samples.jsonl               one line per problem: the row, and of every model its solutions with their marks and corrections
reasoning.svg, errors.svg   the claims with their intervals
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.encoding import Unusable
from tutelage.data.reading.sources import shown
from tutelage.data.template import encode_prompts
from tutelage.evals.asked import held_out_prompts
from tutelage.evals.counting import Counting
from tutelage.evals.entrants import named
from tutelage.evals.figures import standalone
from tutelage.evals.findings import MISSING_EOS_LIMIT
from tutelage.evals.page import reasoning as page
from tutelage.evals.page.slots import slots_of
from tutelage.evals.rows import Row, write
from tutelage.evals.spent import Spent, note_spent
from tutelage.files import write_jsonl_atomic, write_text_atomic
from tutelage.judges.build import Calls, build_judge
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import first_of_each, rewarding
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt, place_json
from tutelage.refine.markers import InWords, Marker, Marking, marker_of
from tutelage.refine.reasoning.correcting import Corrected, Correcting, Pressed
from tutelage.refine.reasoning.measures import Found, rows_of
from tutelage.refine.reasoning.problems import Problems, kinds_of
from tutelage.refine.reasoning.solving import Judging, Solved
from tutelage.refine.writing import Writer
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Bar, Run
from tutelage.settings.judges import WORLD
from tutelage.settings.reasoning import ReasoningSettings as Settings

CHUNK = 256  # problems between two movements of the progress bar; no solution depends on it
BUILT_IN = (WORLD, "equations")


def main(settings: Settings, world: World, run: Run) -> Path:
    """Solve, mark, correct, count.  Raises ValueError for problems, models, a judge or a marker that do not fit."""
    models = named(settings.models)
    _note_inputs(settings, models, run)
    prompts = held_out_prompts(models, settings, run)
    by_world = settings.marks == WORLD
    problems = Problems(prompts, by_world, kinds_of(settings.marks), settings.trained)
    problems.check_trained()
    marker, judge = _marker(settings, world), rewarding(build_judge(settings.reward, world))
    judging = Judging(marker, judge, settings.right_above, settings.splitter)
    found: dict[str, Found] = {}
    spent: list[Spent] = []
    with run.progress(len(prompts) * len(models), "solving") as bar:
        for name, path in models.items():
            solving = _Solving(path, settings, judging, world, run)
            spent.append(solving.spent)
            found[name] = solving.all(prompts, bar, name)
    note_spent(run, spent)
    _refuse_unmarked(found, settings)
    rows = rows_of(found, problems, Counting(settings.seed, settings.resamples))
    _write(run, prompts, found, rows)
    _say(settings, found, rows, run)
    return run.folder


def _note_inputs(settings: Settings, models: dict[str, str], run: Run) -> None:
    run.input("prompts", settings.prompts)
    for name, path in models.items():
        run.input(f"model {name}", path)
    note_judge(run, "reward", settings.reward)
    if settings.marks not in BUILT_IN:
        note_judge(run, "marks", settings.marks)


def _marker(settings: Settings, world: World) -> Marker:
    calls = Calls(settings.calls)
    marker = marker_of(Marking(settings.marks, settings.threshold, seed=settings.seed, calls=calls), world)
    if isinstance(marker, InWords):
        marker.judge.asker.tell_budget()
    return marker


class _Solving:
    """A model that solves problems, and solves them again when it is corrected."""

    def __init__(self, path: str, settings: Settings, judging: Judging, world: World, run: Run) -> None:
        model = load_policy(path, dtype=world.dtype, device=world.device).requires_grad_(False)
        self.spent = Spent(model)
        self._settings, self._judging, self._run = settings, judging, run
        self._generator = LocalGenerator(
            model,
            load_tokenizer(path),
            dtype=world.dtype,
            memory_mib=settings.memory_mib,
            progress=self.spent,
        )

    def all(self, prompts: Sequence[Prompt], bar: Bar, name: str) -> Found:
        greedy: list[Solved] = []
        sampled: list[list[Solved]] = []
        for start in range(0, len(prompts), CHUNK):
            chunk = list(prompts[start : start + CHUNK])
            greedy += self._greedy(chunk)
            sampled += self._sampled(chunk)
            bar.advance(len(chunk), status=name)
        if not self._settings.told:
            return Found(greedy, sampled)
        return Found(greedy, sampled, *self._corrections(greedy))

    def _greedy(self, prompts: list[Prompt]) -> list[Solved]:
        responses = self._generator.generate(prompts, self._likeliest)
        tasks = [prompt.task for prompt in prompts]
        said = self._judging.judge.calibrate(
            lambda: first_of_each(responses, tasks)
        )  # where its units are not known yet
        if said:
            self._run.console.print(said)
        return self._judging.solved(responses)

    def _sampled(self, prompts: list[Prompt]) -> list[list[Solved]]:
        count = self._settings.samples
        if not count:
            return []
        drawn = Sampling(self._settings.max_new_tokens, 1.0, count, self._settings.seed)
        found = self._judging.solved(self._generator.generate(prompts, drawn))
        return [found[start : start + count] for start in range(0, len(found), count)]

    def _corrections(self, greedy: Sequence[Solved]) -> Iterator[dict[int, Any]]:
        """Of failed solutions, and of right steps where the marker is one who can be wrong on purpose."""
        writer = Writer(
            self._generator,
            self._generator,
            self._judging.judge,
            self._likeliest,
            self._judging.right_above,
        )
        correcting = Correcting(writer, self._judging, self._fits, self._settings.told, self._settings.seed)
        yield correcting.failed(greedy)
        yield correcting.right(greedy) if self._settings.marks == WORLD else {}

    @property
    def _likeliest(self) -> Sampling:
        return Sampling(self._settings.max_new_tokens, 0.0, seed=self._settings.seed)

    def _fits(self, prompts: Sequence[Prompt]) -> list[bool]:
        context, more = self._generator.context, self._settings.max_new_tokens
        encoded = encode_prompts(self._generator.tokenizer, prompts)
        return [
            not isinstance(ids, Unusable) and (context is None or len(ids) + more <= context)
            for ids in encoded
        ]


def _refuse_unmarked(found: dict[str, Found], settings: Settings) -> None:
    """Raises ValueError where nobody could mark anything."""
    if not any(one.steps for own in found.values() for one in own.greedy):
        raise ValueError(
            f"{shown(settings.prompts)}: marks={settings.marks} has no verdict on any solution, or all are empty: take another "
            "marker, or models that solve such problems."
        )


def _write(run: Run, prompts: Sequence[Prompt], found: dict[str, Found], rows: Sequence[Row]) -> None:
    lines = [
        {
            "id": prompt.id,
            "task": prompt.task,
            "prompt": prompt.content_json(),
            **place_json(prompt),
            "responses": {name: _line(own, place) for name, own in found.items()},
        }
        for place, prompt in enumerate(prompts)
    ]
    write_jsonl_atomic(run.folder / "samples.jsonl", lines)
    for name, svg, _ in page.draw(rows, slots_of(list(found))):
        write_text_atomic(run.folder / f"{name}.svg", standalone(svg))
    write(run.folder, rows)


def _line(own: Found, place: int) -> dict[str, Any]:
    line: dict[str, Any] = {"greedy": own.greedy[place].to_json()}
    if own.sampled:
        line["sampled"] = [one.to_json() for one in own.sampled[place]]
    told: dict[str, Corrected | Pressed | None] = {
        "corrected": own.corrected.get(place),
        "pressed": own.pressed.get(place),
    }
    return line | {name: one._asdict() for name, one in told.items() if one is not None}


def _say(settings: Settings, found: dict[str, Found], rows: Sequence[Row], run: Run) -> None:
    """The tables, and what is not in them and why."""
    for table in page.tables(rows, list(found), run.console.width):
        run.console.print(table)
    for name, own in found.items():
        for text in _doubts(name, own.greedy, settings.max_new_tokens):
            run.console.print(text, markup=False, highlight=False)
    if settings.marks != WORLD:
        known = "calculation alone" if kinds_of(settings.marks) else "no kind of error"
        run.console.print(
            f"marks={settings.marks} names {known} and no traps, and corrects no right step wrongly, so that giving in is not "
            "measured; marks=world has all of it.",
            markup=False,
            highlight=False,
        )


def _doubts(name: str, greedy: Sequence[Solved], most: int) -> Iterator[str]:
    """What makes the numbers of a model mean less than they seem to."""
    silent = sum(one.steps is None for one in greedy)
    cut = sum(one.finish == "length" for one in greedy)
    if silent:
        yield f"{name}: no verdict on {silent} of {len(greedy)} greedy solutions, which count only as right or wrong."
    if cut > MISSING_EOS_LIMIT * len(greedy):
        yield (
            f"{name}: {cut} of {len(greedy)} greedy solutions have no end within max_new_tokens={most}, and none of these is "
            "sound: raise it, unless they would never end."
        )
