"""The held-out prompts that an evaluation asks of its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tutelage.data.reading.formats import Dropped, read_prompts
from tutelage.data.reading.sources import shown
from tutelage.evals.samples import stratified
from tutelage.models.loading import context_at, load_tokenizer
from tutelage.records import Prompt
from tutelage.rollout.behind import Front
from tutelage.rollout.prompts import Distinct, answerable
from tutelage.runs import Run
from tutelage.settings.evals import EvalSettings, OveroptSettings
from tutelage.settings.front import FrontSettings
from tutelage.settings.reasoning import ReasoningSettings
from tutelage.settings.ways import way_of

Settings = EvalSettings | FrontSettings | OveroptSettings | ReasoningSettings


def held_out_prompts(
    models: Mapping[str, str], settings: Settings, run: Run, fronts: Mapping[str, Front] | None = None
) -> list[Prompt]:
    """The prompts that the settings name and every model (name -> path) has room for with a response.

    fronts: what stands in front of every prompt, by the name of the model that is shown it.
    """
    return with_room(
        _prompts(settings),
        models,
        run,
        new_tokens=settings.max_new_tokens,
        source=shown(settings.prompts),
        max_dropped_share=settings.max_dropped_share,
        fronts=fronts or {},
    )


def _prompts(settings: Settings) -> list[Prompt | Dropped]:
    """The held-out prompts, without repetitions, at most `max_prompts`; before them the rows that hold none."""
    rows = list(Distinct(read_prompts(settings.prompts, settings.columns)).walk())
    prompts = [row for row in rows if isinstance(row, Prompt)]
    dropped = [row for row in rows if isinstance(row, Dropped)]
    chosen = stratified([p.task for p in prompts], settings.max_prompts or len(prompts), settings.seed)
    return [*dropped, *(prompts[i] for i in chosen)]


def with_room(
    rows: Sequence[Prompt | Dropped],
    models: Mapping[str, str],
    run: Run,
    *,
    new_tokens: int,
    source: str,
    max_dropped_share: float,
    fronts: Mapping[str, Front],
    what: str = "prompt",
) -> list[Prompt]:
    """The prompts that every model (name -> path) has room for with `new_tokens` of a response; what is left out is said.

    Raises ValueError where more than `max_dropped_share` of the rows would be.
    """
    for name, given in models.items():
        path = way_of(given).path
        put = [
            fronts[name].before(row) if isinstance(row, Prompt) and name in fronts else row for row in rows
        ]
        asked = {to.id: row for to, row in zip(put, rows, strict=True) if isinstance(to, Prompt)}
        prepared = answerable(
            put,
            load_tokenizer(path),
            context_at(path),
            new_tokens,
            source=source,
            max_dropped_share=max_dropped_share,
            console=run.console,
        )
        if prepared.report.dropped:
            run.console.print(f"Not every {what} can be put to {name}; no model is asked the others.")
            prepared.report.show(run.console)
        rows = [asked[prompt.id] for prompt in prepared.examples]
    return [row for row in rows if isinstance(row, Prompt)]
