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
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.refine.closing import close
from tutelage.refine.going import GROUP, Loop, Origin
from tutelage.refine.markers import Marker, build_marker, pays, profile_of
from tutelage.refine.writing import Writer
from tutelage.rollout.drawing import load_generator, load_judge, read_answerable
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Bar, Run, result_folder
from tutelage.settings.refine import RefineSettings as Settings
from tutelage.store import ModelInfo, Store
from tutelage.store.rows import finish_of
from tutelage.store.schema import PromptRow, ResponseRow

POLL = 2.0  # seconds between two looks at what people have answered


def main(settings: Settings, world: World, run: Run) -> Path:
    """Refine until every problem is closed; returns the run folder.

    Raises ValueError where there is nothing to refine, where a model or judge does not fit, and where people have not marked
    all that waits for them within `wait`: the same command goes on then.
    """
    generator = load_generator(settings, world, run)
    if not isinstance(settings.marks, str) or settings.marks not in ("people", "equations", "world"):
        note_judge(run, "marks", settings.marks)
    prompts = read_answerable(settings, generator, run) if settings.prompts else []
    refiner = _refiner(settings, generator, world, run)
    judge = load_judge(settings, generator, prompts, world, run)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
    writer = Writer(generator, refiner, judge, sampling, settings.right_above)
    marker = build_marker(settings, world)
    origin = Origin(_model(run), _params(settings, world, run))
    with Store(settings.store) as store:
        _prepare(store, settings, marker)
        roots = _begun(store, settings, prompts, writer, marker, origin, run)
        rules = Rules(settings.rounds, settings.checks, settings.stuck, settings.fallback)
        run.begin()
        with run.progress(len(roots), "problems") as bar:
            drawn = generator.progress = _Drawn(bar)
            loop = Loop(
                store,
                settings.project,
                roots,
                rules,
                writer,
                marker,
                origin,
                settings.use_rewrites,
                drawn.closed,
            )
            found = _until_closed(loop, settings)
        run.note(tokens_generated=run.lineage.get("tokens_generated", 0) + drawn.tokens)
        close(found, settings, run)
    _refuse_waiting(found, settings)
    return run.folder


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


def _model(run: Run) -> ModelInfo:
    entry = next(entry for entry in run.lineage["inputs"] if entry["name"] == "model")
    return ModelInfo(str(entry["path"]), entry.get("sha256", ""))


def _params(settings: Settings, world: World, run: Run) -> dict[str, Any]:
    """All that solutions depend on besides the model and the prompts."""
    names = ("samples", "max_new_tokens", "temperature", "seed")
    found: dict[str, Any] = {name: getattr(settings, name) for name in names}
    found["dtype"] = str(world.dtype).removeprefix("torch.")
    refiners = [entry.get("sha256", "") for entry in run.lineage["inputs"] if entry["name"] == "refiner"]
    return found | ({"refiner": refiners[0]} if refiners else {})


# before the loop ------------------------------------------------------------------------------------------------------


def _prepare(store: Store, settings: Settings, marker: Marker | None) -> None:
    """The project with its questions, and whoever marks."""
    store.add_prompts(settings.project, [])
    with store.writing(settings.project) as (connection, key):
        n, _ = current_schema(connection, key)
        if not n:
            insert_schema(connection, key, Schema(type="step", splitter=settings.splitter), None)
    for name in marker.names if marker else ():
        assert marker is not None
        store.add_annotator(name, marker.kind, profile_of(settings, marker))
    if marker is not None and pays(settings):
        marker.judge.asker.tell_budget()  # type: ignore[attr-defined]


def _begun(
    store: Store,
    settings: Settings,
    prompts: Sequence[Prompt],
    writer: Writer,
    marker: Marker | None,
    origin: Origin,
    run: Run,
) -> list[int]:
    """The refinements of this run, begun where they are not: of the prompts, or all that the project has."""
    if not prompts:
        with store.reading(settings.project) as (connection, key):
            roots = list(rows.roots_of(connection, key))
        if not roots:
            raise ValueError(
                f"project '{settings.project}' of {store.place} has no problems that were begun: give prompts=FILE, or write "
                "some in the web app."
            )
        return roots
    store.add_prompts(settings.project, prompts)
    run_id = store.add_generation_run(origin.model, "local", origin.params)
    roots = []
    with run.progress(len(prompts), "first solutions") as bar:
        writer.generator.progress = _Drawn(bar)
        for start in range(0, len(prompts), GROUP):
            some = prompts[start : start + GROUP]
            roots += _first(store, settings, some, writer, marker, run_id)
            bar.advance(len(some))
    return roots


def _first(
    store: Store,
    settings: Settings,
    prompts: Sequence[Prompt],
    writer: Writer,
    marker: Marker | None,
    run_id: int,
) -> list[int]:
    """First solutions of some prompts, drawn where the store has not got them all, and the refinements that begin with them."""
    overlap = len(marker.names) if marker else settings.votes
    there = _stored(store, settings.project, run_id)
    missing = [p for p in prompts if any((p.id, k) not in there for k in range(settings.samples))]
    store.add_responses(settings.project, run_id, writer.first(missing))
    there = _stored(store, settings.project, run_id) if missing else there
    wanted = [(prompt, there[prompt.id, k]) for prompt in prompts for k in range(settings.samples)]
    solutions = [Response.written(prompt, row.text, finish_of(row.finish_reason)) for prompt, row in wanted]
    rights = writer.right(solutions)
    with store.writing(settings.project) as (connection, key):
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
