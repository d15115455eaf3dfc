"""Distillation: a student learns from a teacher, in one of three ways.

    outputs     - log student(y)  of the teacher's responses y, mean over tokens           (sequence-level: Kim and Rush 2016,
                                                                                            arXiv 1606.07947)
    logits      D(teacher(. | y_<t), student(. | y_<t)), mean over the tokens of these or of other given responses (word-level)
    on-policy   the same over the student's own responses                                  (GKD: Agarwal et al. 2023,
                                                                                            arXiv 2306.13649)

D is a divergence of the distributions of the next token over the whole vocabulary (`ops/kl.py`), both at `logits_temperature`
T, times T^2, which keeps the size of the gradient (Hinton et al. 2015, arXiv 1503.02531).  No gradient goes through the
drawing of responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step
from tutelage.data.preflight.report import check
from tutelage.data.preflight.texts import prepare_demonstrations
from tutelage.data.preflight.work import Prepared
from tutelage.data.reading.formats import read_demonstrations
from tutelage.data.reading.sources import Source, shown
from tutelage.data.responses import response_tokens
from tutelage.data.table import Examples
from tutelage.models.loading import context_at, load_tokenizer, same_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.models.setup import Setup
from tutelage.ops.kl import divergence_of
from tutelage.ops.masked import masked_sum
from tutelage.parallel import World
from tutelage.records import Place, Prompt, Response
from tutelage.rollout.generator import Generator, Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run, result_folder
from tutelage.settings.distill import DistillSettings as Settings
from tutelage.train.algorithm import Algorithm, Loss, Sum, Term, Updates
from tutelage.train.fit import Evaluate, fit, heldout_metrics
from tutelage.train.sft import LanguageModelling
from tutelage.train.stage import context_limit, export, setup_for, show_sides, steps_for
from tutelage.train.taught import Rows, Teaching, Writer, fitting

Log = Callable[[Mapping[str, float]], None]


class Lesson(NamedTuple):
    """Sequences to learn from, and the numbers of the rows that they come from."""

    sequences: list[Tokens]
    rows: list[int]


Lessons = Callable[[int], Lesson]
"""Those of a step."""


class Distillation:
    """The algorithm: the teacher's distributions at the tokens of whatever `lessons` gives.  The teacher is not changed."""

    def __init__(
        self, student: PolicyModule, teacher: PolicyModule, lessons: Lessons, settings: Settings
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": student}
        self._student, self._teacher, self._lessons, self._settings = student, teacher, lessons, settings
        self._between = divergence_of(settings.divergence, settings.beta)

    def batches(self, step: int) -> Updates:
        """One batch; none where every response was left out."""
        found = self._lessons(step)
        if found.sequences:
            yield [TokenBatch.collate(found.sequences, found.rows)]

    def loss(self, batch: TokenBatch) -> Loss:
        """The divergence, how often the next token was the student's likeliest, and its entropy: means over tokens."""
        mask, temperature = batch.loss_mask, self._settings.logits_temperature
        with torch.no_grad():
            taught = self._teacher.outputs(batch)
        found = self._student(batch, temperature, entropy=True, against=taught, between=self._between)
        return Loss(
            {"divergence": Term(masked_sum(found.kl, mask), "tokens", temperature**2)},
            {
                "mean_token_accuracy": Sum(masked_sum(found.hits, mask), "tokens"),
                "student_entropy": Sum(masked_sum(found.entropy.detach(), mask), "tokens"),
            },
        )


class OwnResponses:
    """What the student as it is writes to the prompts of a step: `count` of them.  log: takes how long that is."""

    def __init__(
        self,
        student: PolicyModule,
        generator: Generator,
        prompts: Sequence[Prompt],
        count: int,
        settings: Settings,
        log: Log,
    ) -> None:
        self._student, self._generator, self._prompts = student, generator, prompts
        self._count, self._settings, self._log = count, settings, log

    def __call__(self, step: int) -> Lesson:
        settings = self._settings
        # A prompt that stands there twice stands beside itself, as updates lay it out: equal sums have equal bits.
        rows = sorted(rows_for_step(len(self._prompts), self._count, step, settings.seed))
        responses = self.to([self._prompts[row] for row in rows], step, settings.samples)
        self._log(self.metrics(responses))
        numbered = [(row, r) for row, r in zip(np.repeat(rows, settings.samples), responses, strict=True)]
        if settings.cut_responses == "drop":
            numbered = [(row, response) for row, response in numbered if response.finish != "length"]
        return Lesson(response_tokens([r for _, r in numbered]), [int(row) for row, _ in numbered])

    def to(self, prompts: Sequence[Prompt], step: int, samples: int) -> list[Response]:
        """Responses to these prompts."""
        settings = self._settings
        self._generator.sync(self._student, step)
        drawn = Sampling(settings.max_new_tokens, settings.temperature, samples, settings.seed, step)
        return self._generator.generate(list(prompts), drawn)

    def metrics(self, responses: Sequence[Response]) -> dict[str, float]:
        lengths = [len(response.ids) for response in responses]
        return {
            "completions/tokens": float(sum(lengths)),
            "completions/mean_length": float(np.mean(lengths)),
            "completions/clipped_ratio": float(np.mean([r.finish == "length" for r in responses])),
        }


def from_rows(examples: Sequence[Tokens], count: int, seed: int, first: int = 0) -> Lessons:
    """`count` of these examples a step, whose rows are numbered from `first`."""

    def lessons(step: int) -> Lesson:
        rows = rows_for_step(len(examples), count, step, seed)
        return Lesson([examples[row] for row in rows], [first + row for row in rows])

    return lessons


def together(*several: Lessons) -> Lessons:
    """One behind the other."""

    def lessons(step: int) -> Lesson:
        parts = [each(step) for each in several]
        return Lesson([s for part in parts for s in part.sequences], [r for part in parts for r in part.rows])

    return lessons


# ---- the command -------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """What every way starts from.  teacher: None where its responses are all that is learnt from."""

    settings: Settings
    world: World
    run: Run
    tokenizer: PreTrainedTokenizerBase
    student: PolicyModule
    teaching: Teaching

    def prepared(self, rows: Rows, source: Source) -> Prepared[Tokens]:
        """Responses as the student reads them, and the teacher, where its distributions are learnt."""
        longest, teacher = context_limit(self.settings.max_length, self.student), self.teaching.teacher
        if teacher and self.settings.learn_from != "outputs":
            longest = min(longest, context_at(teacher.path) or longest)
        return prepare_demonstrations(
            self.tokenizer,
            rows,
            max_length=longest,
            cut_responses=self.settings.cut_responses,
            source=shown(source),
            max_dropped_share=None,
            console=self.run.console,
        )

    def show(self, given: Prepared[Tokens]) -> None:
        """What became of the rows of `data` beside others.  Raises ValueError where too many are dropped."""
        given.report.show(self.run.console)
        check([given.report], self.settings.max_dropped_share)

    def demonstrations(self) -> Prepared[Tokens] | None:
        """Those of `data`, where there are some."""
        settings = self.settings
        if not settings.data:
            return None
        rows: Rows = read_demonstrations(settings.data, settings.columns)
        if settings.keep == "agreed":
            rows = self.teaching.agreed(rows, "data")
        return self.prepared(rows, settings.data)


class Course(NamedTuple):
    """What is learnt: lessons; how many rows one epoch of them has, counted as `batch_size` a step; where a row stands."""

    lessons: Lessons
    rows: int
    place: Callable[[int], Place | None]
    evaluate: Callable[[Algorithm], Evaluate] | None


def main(settings: Settings, world: World, run: Run) -> Path:
    """Teach the student; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    path = result_folder(settings.model)
    run.input("model", path)
    tokenizer = load_tokenizer(path)
    setup = setup_for(settings, world)
    writer = _teacher(settings, setup, tokenizer, run)
    for name in ("data", "prompts", "eval_prompts"):
        if source := getattr(settings, name):
            run.input(name, source)
    student = setup.policy(path, tokenizer)
    teacher = writer.load() if writer and settings.learn_from != "outputs" else None
    if writer and teacher is not None:
        writer = writer._replace(load=lambda: teacher)
    teaching = Teaching(settings, world, run, Writer(path, tokenizer, lambda: student), writer)
    start = Start(settings, world, run, tokenizer, student, teaching)
    course = _on_policy(start) if settings.on_policy else _from_text(start)
    algorithm: Algorithm
    if teacher is None:
        algorithm = LanguageModelling(student, lambda step: TokenBatch.collate(*course.lessons(step)))
    else:
        algorithm = Distillation(student, teacher, course.lessons, settings)
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, course.rows, run),
        tokenizer=tokenizer,
        evaluate=course.evaluate(algorithm) if course.evaluate else None,
        place=course.place,
    )
    return export(run, student, tokenizer, settings, world)


def _teacher(settings: Settings, setup: Setup, tokenizer: PreTrainedTokenizerBase, run: Run) -> Writer | None:
    """Raises ValueError where the teacher reads other tokens than the student, and the way compares distributions."""
    if not settings.teacher:
        return None
    path = result_folder(settings.teacher)
    run.input("teacher", path)
    own = load_tokenizer(path)
    if settings.learn_from != "outputs" and not same_tokenizer(own, tokenizer):
        raise ValueError(
            f"teacher={settings.teacher} has another tokenizer than model={settings.model}, and learn_from="
            f"{settings.learn_from} compares their distributions token by token: set learn_from=outputs, which takes any "
            "teacher, or give two models with one tokenizer"
        )
    return Writer(path, own, lambda: setup.teacher(path, own))


def _from_text(start: Start) -> Course:
    """The teacher's responses, those of `data`, or both."""
    settings, teaching = start.settings, start.teaching
    parts = []
    if settings.prompts:
        parts.append(start.prepared(teaching.responses(settings.prompts), settings.prompts))
    if given := start.demonstrations():
        parts.append(given)
    held = None
    if settings.eval_prompts:
        rows = teaching.responses(settings.eval_prompts, "eval", settings.max_eval_prompts)
        held = start.prepared(rows, settings.eval_prompts)
    show_sides(parts[0], held, start.run, settings.max_dropped_share)
    for other in parts[1:]:
        start.show(other)
    return _course(start, [part.examples for part in parts], held.examples if held else None)


def _course(start: Start, parts: Sequence[Examples[Tokens]], held: Examples[Tokens] | None) -> Course:
    """Rows of one or of two kinds, mixed."""
    settings, first = start.settings, parts[0]
    counts = [settings.batch_size]
    if len(parts) > 1:
        counts = [settings.batch_size - settings.data_rows, settings.data_rows]
    lessons = [
        from_rows(part, count, settings.seed, number * len(first))
        for number, (part, count) in enumerate(zip(parts, counts, strict=True))
    ]
    evaluate = None
    if held:
        batches = lambda: (TokenBatch.collate(held[part]) for part in held.parts())  # noqa: E731
        evaluate = lambda algorithm: lambda: heldout_metrics(algorithm, batches(), settings, start.world)  # noqa: E731
    rows = len(first) * settings.batch_size // counts[0]
    return Course(together(*lessons), rows, _place(*parts), evaluate)


def _on_policy(start: Start) -> Course:
    """The student's own responses, and what `data` holds."""
    settings, world, run, student = start.settings, start.world, start.run, start.student
    teacher = start.teaching.teacher
    assert teacher is not None, "its settings have one"
    readers = [start.teaching.student.path, teacher.path]
    prompts, given = (
        fitting(settings.prompts, start.tokenizer, readers, settings, run),
        start.demonstrations(),
    )
    held = None
    if settings.eval_prompts:
        most = settings.max_eval_prompts
        held = fitting(settings.eval_prompts, start.tokenizer, readers, settings, run, most)
    show_sides(prompts, held, run, settings.max_dropped_share)
    asked = prompts.examples
    generator = LocalGenerator(
        student, start.tokenizer, dtype=world.dtype, world=world, memory_mib=settings.memory_mib
    )
    count = settings.batch_size - settings.data_rows
    own = OwnResponses(student, generator, asked, count, settings, run.log)
    lessons: list[Lessons] = [own]
    tables: list[Examples[Any]] = [asked]
    if given:
        start.show(given)
        lessons.append(from_rows(given.examples, settings.data_rows, settings.seed, len(asked)))
        tables.append(given.examples)
    evaluate = None
    if held:
        evaluate = lambda algorithm: partial(  # noqa: E731
            _evaluated, algorithm, own, list(held.examples), settings, world
        )
    rows = len(asked) * settings.batch_size // count
    return Course(together(*lessons), rows, _place(*tables), evaluate)


def _evaluated(
    algorithm: Algorithm, own: OwnResponses, prompts: Sequence[Prompt], settings: Settings, world: World
) -> dict[str, float]:
    """The divergence on what the student as it is writes to these prompts (always the same draws), and how long that is."""
    responses = own.to(prompts, -1, 1)
    batch = TokenBatch.collate(response_tokens(responses))
    found = {f"eval_{name}": value for name, value in own.metrics(responses).items()}
    return heldout_metrics(algorithm, [batch], settings, world) | found


def _place(first: Examples[Any], *others: Examples[Any]) -> Callable[[int], Place | None]:
    """Where a row stands: those of the second kind are numbered behind those of the first."""

    def place(row: int) -> Place | None:
        return first.table.place(row) if row < len(first) else others[0].table.place(row - len(first))

    return place
