"""The command `refine`: prompts -> numbered steps -> marks -> a rewritten step and the rest anew -> until right twice.

Problems, rounds, marks and checks stand in the store; the run folder has them as refinements.jsonl, and what can be learnt from
them as one file for each way of learning.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tutelage.feedback.asking.payloads import Schema
from tutelage.feedback.projects.projects import current_schema, insert_schema
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.reading import Standing
from tutelage.feedback.refining.rules import Rules
from tutelage.judges.inputs import note_judge
from tutelage.judges.judge import Judge, scores_of
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.refine.closing import close, spent
from tutelage.refine.going import GROUP, Loop, Origin
from tutelage.refine.markers import InWords, Marker, build_marker, profile_of
from tutelage.refine.writing import Writer
from tutelage.rollout.drawing import load_judge, load_local, read_answerable
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Bar, Run, result_folder
from tutelage.settings.judges import WORLD, read_parts
from tutelage.settings.refine import EQUATIONS, PEOPLE
from tutelage.settings.refine import RefineSettings as Settings
from tutelage.settings.rules import is_rule
from tutelage.store import ModelInfo, Store
from tutelage.store.rows import finish_of
from tutelage.store.schema import PromptRow, ResponseRow
from tutelage.worlds.expert import known

POLL = 2.0  # seconds between two looks at what people have answered


def main(settings: Settings, world: World, run: Run) -> Path:
    """Refine until every problem is closed; returns the run folder.

    Raises ValueError where there is nothing to refine, where a model or judge does not fit, and where people have not marked
    all that waits for them within `wait`: the same command goes on then.
    """
    generator = load_local(settings, world, run)
    if not isinstance(settings.marks, str) or settings.marks not in (PEOPLE, EQUATIONS, WORLD):
        note_judge(run, "marks", settings.marks)
    prompts = read_answerable(settings, generator, run) if settings.prompts else []
    if settings.marks == WORLD:  # before anything is drawn
        for prompt in prompts:
            known(prompt)
    refiner = _refiner(settings, generator, world, run)
    judge = load_judge(settings, generator, prompts, world, run)
    _refuse_unanswerable(settings, judge, prompts)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
    writer = Writer(generator, refiner, judge, sampling, settings.right_above)
    with Store(settings.store) as store:
        work = _Work(
            settings, store, writer, build_marker(settings, world), _origin(settings, world, run), run
        )
        begun = work.begun_before()
        work.prepare(prompts)
        run.begin()
        found = work.through(prompts) if prompts else work.on(begun)
        run.note(tokens_generated=run.lineage.get("tokens_generated", 0) + work.tokens)
        close(found, settings, run)
    _refuse_waiting(found, settings)
    return run.folder


def _refuse_unanswerable(settings: Settings, judge: Judge, prompts: Sequence[Prompt]) -> None:
    """Raises ValueError, naming the problem, where a verifier finds no right answer in its reference; people can say for
    themselves what is right."""
    rules = all(isinstance(part.judge, str) and is_rule(part.judge) for part in read_parts(settings.reward))
    if rules and not settings.by_people:
        scores_of(judge, [Response.written(prompt, "Answer: none.") for prompt in prompts])


class _Drawn:
    """Tokens as they are drawn, said beside a bar that moves with the problems that are closed."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._closed, self._started = bar, 0, time.monotonic()
        self.tokens = 0

    def __call__(self, tokens: int, responses: int) -> None:
        self.tokens += tokens
        rate = self.tokens / max(time.monotonic() - self._started, 1e-9)
        self._bar.advance(0, f"{rate:,.0f} tokens/s")

    def closed(self, count: int) -> None:
        """So many are closed by now."""
        self._bar.advance(count - self._closed)
        self._closed = count


def _refiner(settings: Settings, generator: LocalGenerator, world: World, run: Run) -> LocalGenerator:
    if not settings.refiner:
        return generator
    folder = result_folder(settings.refiner)
    run.input("refiner", folder)
    policy = load_policy(folder, dtype=world.dtype, device=world.device)
    return LocalGenerator(policy, load_tokenizer(folder), memory_mib=settings.memory_mib)


def _origin(settings: Settings, world: World, run: Run) -> Origin:
    """All that solutions depend on besides the prompts."""
    inputs = {entry["name"]: entry for entry in run.lineage["inputs"]}
    names = ("samples", "max_new_tokens", "temperature", "seed")
    params: dict[str, Any] = {name: getattr(settings, name) for name in names}
    params["dtype"] = str(world.dtype).removeprefix("torch.")
    if "refiner" in inputs:
        params["refiner"] = inputs["refiner"].get("sha256", "")
    model = inputs["model"]
    return Origin(ModelInfo(str(model["path"]), model.get("sha256", "")), params)


class _Work:
    """The problems of a run, begun and taken on; `tokens`: drawn for them."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        writer: Writer,
        marker: Marker | None,
        origin: Origin,
        run: Run,
    ) -> None:
        self.settings, self.store, self.writer = settings, store, writer
        self.marker, self.origin, self.run = marker, origin, run
        self.tokens = 0

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """The project with its questions and problems, and whoever marks."""
        self.store.add_prompts(self.settings.project, prompts)
        with self.store.writing(self.settings.project) as (connection, key):
            n, _ = current_schema(connection, key)
            if not n:
                insert_schema(connection, key, Schema(type="step", splitter=self.settings.splitter), None)
        if self.marker is None:
            return
        for name in self.marker.names:
            self.store.add_annotator(name, self.marker.kind, profile_of(self.settings, self.marker))
        if isinstance(self.marker, InWords):
            self.marker.judge.asker.tell_budget()

    def begun_before(self) -> list[int]:
        """All refinements of the project.  Raises ValueError where there are none, and no prompts either."""
        roots = list[int]()
        if self.settings.project in self.store.projects():
            with self.store.reading(self.settings.project) as (connection, key):
                roots = list(rows.roots_of(connection, key))
        if not roots and not self.settings.prompts:
            raise ValueError(
                f"project '{self.settings.project}' of {self.store.place} has no problems that were begun: give prompts=FILE, or "
                "write some in the web app."
            )
        return roots

    def through(self, prompts: Sequence[Prompt]) -> list[Standing]:
        """The prompts from the first on, all or as many as the minutes are enough for."""
        limit, prices = self.settings.max_minutes, self.settings.minutes
        found, done = list[Standing](), 0
        while done < len(prompts):
            spent_by_now = spent([one.refinement for one in found], prices).minutes
            if limit and spent_by_now >= limit:
                break
            count = len(prompts) - done
            if limit:  # half of what the minutes that are left may be enough for, so that little is overspent
                each = spent_by_now / done if done else 2 * (prices.mark + prices.rewrite)
                count = min(count, max(1, int((limit - spent_by_now) / max(each, 1e-9) / 2)))
            found += self.on(self.begin(prompts[done : done + count]))
            done += count
        return found

    def begin(self, prompts: Sequence[Prompt]) -> list[int]:
        """The refinements of prompts, begun where they are not."""
        run_id = self.store.add_generation_run(self.origin.model, "local", self.origin.params)
        roots = []
        with self.run.progress(len(prompts), "first solutions") as bar:
            self.writer.generator.progress = drawn = _Drawn(bar)
            for start in range(0, len(prompts), GROUP):
                some = prompts[start : start + GROUP]
                roots += self._first(some, run_id)
                bar.advance(len(some))
        self.tokens += drawn.tokens
        return roots

    def on(self, roots: Sequence[int]) -> list[Standing]:
        """Refinements as far as they go; with people, for as long as they are waited for."""
        settings = self.settings
        rules = Rules(settings.rounds, settings.checks, settings.stuck, settings.fallback)
        with self.run.progress(len(roots), "problems") as bar:
            drawn = _Drawn(bar)
            self.writer.generator.progress = self.writer.refiner.progress = drawn
            loop = Loop(
                self.store,
                settings.project,
                roots,
                rules,
                self.writer,
                self.marker,
                self.origin,
                settings.use_rewrites,
                drawn.closed,
            )
            found = _until_closed(loop, settings)
        self.tokens += drawn.tokens
        return found

    def _first(self, prompts: Sequence[Prompt], run_id: int) -> list[int]:
        """First solutions of some prompts, drawn where the store has not got them all, and the refinements that begin with
        them."""
        samples, project = self.settings.samples, self.settings.project
        overlap = len(self.marker.names) if self.marker else self.settings.votes
        there = _stored(self.store, project, run_id)
        missing = [p for p in prompts if any((p.id, k) not in there for k in range(samples))]
        self.store.add_responses(project, run_id, self.writer.first(missing))
        there = _stored(self.store, project, run_id) if missing else there
        wanted = [(prompt, there[prompt.id, k]) for prompt in prompts for k in range(samples)]
        rights = self.writer.right(
            [Response.written(prompt, row.text, finish_of(row.finish_reason)) for prompt, row in wanted]
        )
        with self.store.writing(project) as (connection, key):
            return [
                rows.open_refinement(connection, key, rows.Written(row.id, right), overlap)
                for (_, row), right in zip(wanted, rights, strict=True)
            ]


def _stored(store: Store, project: str, run_id: int) -> dict[tuple[str, int], Any]:
    """(prompt, sample) -> the row of the response that the run has written."""
    with store.reading(project) as (connection, key):
        columns = (ResponseRow.id, ResponseRow.text, ResponseRow.finish_reason)
        query = select(PromptRow.digest, ResponseRow.sample_index, *columns)
        query = query.join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        own = query.where(PromptRow.project_id == key, ResponseRow.generation_run_id == run_id)
        return {(row.digest, row.sample_index): row for row in connection.execute(own)}


# people ---------------------------------------------------------------------------------------------------------------


def _until_closed(loop: Loop, settings: Settings) -> list[Standing]:
    """Go on as far as can be, and with what people mark meanwhile for as long as they are waited for."""
    until = time.monotonic() + 60 * settings.wait
    found = loop.run()
    while any(one.refinement.outcome is None for one in found) and time.monotonic() < until:
        time.sleep(POLL)
        found = loop.run()
    return found


def _refuse_waiting(found: Sequence[Standing], settings: Settings) -> None:
    waiting = sum(one.refinement.outcome is None for one in found)
    if waiting:
        some = "1 solution waits" if waiting == 1 else f"{waiting} solutions wait"
        raise ValueError(
            f"{some} for marks in project '{settings.project}': let people mark them (`tutelage serve`), and run the same "
            "command again, or add wait=60 to go on as they come."
        )
