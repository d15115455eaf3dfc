"""The command `eval honesty`: the same questions to every model; what each answer does, and what that adds up to.

results.json, results.csv   rows {model, metric, task = group, value, low, high, n, unit}
answers.jsonl               one line per question: the row, and every model's answer with its outcome and its confidence
*.svg                       risk against coverage, answering rate by group and by p
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tutelage.data.reading.sources import shown
from tutelage.evals.asked import with_room
from tutelage.evals.counting import Counting
from tutelage.evals.entrants import named
from tutelage.evals.figures import standalone
from tutelage.evals.honesty import measures, page
from tutelage.evals.honesty.measures import Asked
from tutelage.evals.honesty.questions import Question, read_questions
from tutelage.evals.page.slots import slots_of
from tutelage.evals.rows import Row, write
from tutelage.evals.spent import Spent, note_spent
from tutelage.files import write_jsonl_atomic, write_text_atomic
from tutelage.judges.verify.outcome import Judging, Outcome
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.few_shot import FewShot, Shots, shots_of
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Bar, Run
from tutelage.settings.honesty import HonestySettings as Settings
from tutelage.settings.ways import way_of

CHUNK = 128  # questions between two movements of the progress bar; no answer depends on it
AGREEING = 1  # sampling step of the answers whose agreement is counted, so that they are other draws than those measured


class Answered(NamedTuple):
    """What a model answered to a question: the text, what it does, how sure the model was (higher is surer), how it ended."""

    text: str
    outcome: Outcome
    confidence: float
    finish: str


def main(settings: Settings, world: World, run: Run) -> Path:
    """Ask, judge, count.  Raises ValueError for questions that cannot be used."""
    models = named(settings.models)
    shots = shots_of(settings, models)
    questions = _with_room(read_questions(settings.questions, settings.columns), models, shots, settings, run)
    run.input("questions", settings.questions)
    if settings.demonstrations:
        run.input("demonstrations", settings.demonstrations)
    for name, given in models.items():
        run.input(f"model {name}", way_of(given).path)
    judging = Judging(settings.abstain, settings.deny, settings.refuse, settings.match == "equals")
    answers: dict[str, list[Answered]] = {}
    spent: list[Spent] = []
    with run.progress(len(questions) * len(models), "asking") as bar:
        for name, given in models.items():
            asking = _Asking(way_of(given).path, shots.get(name), settings, judging, world)
            spent.append(asking.spent)
            answers[name] = list(asking.all(questions, bar, name))
    note_spent(run, spent)
    rows = _rows(Asked(questions), answers, settings)
    _write(run, questions, answers, rows)
    for table in page.tables(rows, list(models), run.console.width):
        run.console.print(table)
    return run.folder


class _Asking:
    """A model that answers questions, behind examples where it is shown any."""

    def __init__(
        self, path: str, shots: Shots | None, settings: Settings, judging: Judging, world: World
    ) -> None:
        model = load_policy(path, dtype=world.dtype, device=world.device).requires_grad_(False)
        self.spent = Spent(model)
        self._settings, self._judging = settings, judging
        options: dict[str, Any] = {
            "dtype": world.dtype,
            "memory_mib": settings.memory_mib,
            "progress": self.spent,
        }
        tokenizer = load_tokenizer(path)
        plain = LocalGenerator(model, tokenizer, **options)
        self._generator = FewShot(shots, plain) if shots else plain

    def all(self, questions: Sequence[Question], bar: Bar, name: str) -> Iterator[Answered]:
        settings = self._settings
        once = Sampling(settings.max_new_tokens, settings.temperature, seed=settings.seed)
        for start in range(0, len(questions), CHUNK):
            chunk = questions[start : start + CHUNK]
            prompts = [question.prompt for question in chunk]
            found = self._generator.generate(prompts, once)
            more = self._more(prompts)
            for question, response, others in zip(chunk, found, more, strict=True):
                yield self._judged(question, response, others)
            bar.advance(len(chunk), status=name)

    def _more(self, prompts: list[Prompt]) -> list[list[Response]]:
        """The answers to each question whose agreement is counted."""
        count = self._settings.samples
        if not count:
            return [[] for _ in prompts]
        drawn = Sampling(self._settings.max_new_tokens, 1.0, count, self._settings.seed, AGREEING)
        found = self._generator.generate(prompts, drawn)
        return [found[i * count : (i + 1) * count] for i in range(len(prompts))]

    def _judged(self, question: Question, response: Response, others: Sequence[Response]) -> Answered:
        text = response.text
        if others:
            said = self._judging.says(question, text)
            sure = float(np.mean([self._judging.says(question, other.text) == said for other in others]))
        else:
            sure = float(np.mean(response.logprobs)) if response.logprobs else 0.0
        return Answered(text, self._judging.outcome(question, text), sure, response.finish)


def _with_room(
    questions: list[Question],
    models: Mapping[str, str],
    shots: Mapping[str, Shots],
    settings: Settings,
    run: Run,
) -> list[Question]:
    """The questions that every model has room for with an answer, twins together; how many are left out is said."""
    asked = with_room(
        [question.prompt for question in questions],
        models,
        run,
        new_tokens=settings.max_new_tokens,
        source=shown(settings.questions),
        max_dropped_share=settings.max_dropped_share,
        fronts=shots,
        what="question",
    )
    fits = {prompt.id for prompt in asked}
    kept = [question for question in questions if question.prompt.id in fits]
    twins = Counter(question.twin for question in kept)
    whole = [question for question in kept if not question.twin or twins[question.twin] == 2]
    _say_how_asked(whole, models, run)
    return whole


def _say_how_asked(questions: Sequence[Question], models: Mapping[str, str], run: Run) -> None:
    """Say where models with a chat template are asked in plain text, which one that has learnt the template hardly answers."""
    plain = sum(not question.prompt.is_chat for question in questions)
    chats = [name for name, given in models.items() if load_tokenizer(way_of(given).path).chat_template]
    if plain and chats:
        run.console.print(
            f"{plain:,} of {len(questions):,} questions are plain text and are put to {', '.join(chats)} without a "
            "chat template: for models that have learnt theirs, write each prompt as a list of messages."
        )


def _rows(asked: Asked, answers: Mapping[str, Sequence[Answered]], settings: Settings) -> list[Row]:
    counting, costs = Counting(settings.seed, settings.resamples), settings.costs
    rows: list[Row] = []
    first: list[Outcome] | None = None
    for name, found in answers.items():
        outcomes = [answer.outcome for answer in found]
        rows += measures.rows_of(name, asked, outcomes, costs, counting)
        confidence = np.array([answer.confidence for answer in found])
        rows += measures.risk_rows(name, asked, outcomes, confidence, counting)
        if settings.samples:
            rows += measures.cut_rows(name, asked, outcomes, confidence, costs, counting)
        rows += measures.switch_rows(name, asked, outcomes, costs, counting)
        if first is not None:
            rows += measures.differences(name, asked, outcomes, first, costs, counting)
        first = outcomes if first is None else first
    return rows


def _write(
    run: Run, questions: Sequence[Question], answers: Mapping[str, Sequence[Answered]], rows: Sequence[Row]
) -> None:
    lines = [
        question.to_json() | {"responses": {name: found[i]._asdict() for name, found in answers.items()}}
        for i, question in enumerate(questions)
    ]
    write_jsonl_atomic(run.folder / "answers.jsonl", lines)
    for name, svg, _ in page.draw(rows, slots_of(list(answers))):
        write_text_atomic(run.folder / f"{name}.svg", standalone(svg))
    write(run.folder, rows)
