"""`tutelage sample`: a model answers prompts; prompts, generation run and responses go into the store.

Prompts are answered in fixed groups, each stored in one transaction: a run that was stopped goes on with the group it
had not stored, and ends with the same responses.  With `best_of` every response is the best of several by a judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.table import Table

from tutelage.cost import flops
from tutelage.files import write_jsonl_atomic
from tutelage.ops.best_of_n import kl_bound
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.drawing import GROUP as GROUP
from tutelage.rollout.drawing import (
    Meter,
    Row,
    add_lines,
    choosing_judge,
    line,
    load_generator,
    read_answerable,
    read_lines,
)
from tutelage.rollout.few_shot import FewShot
from tutelage.rollout.generator import Sampling
from tutelage.rollout.select import Best, BestOf, Spent
from tutelage.rollout.writer import Writer
from tutelage.runs import Run
from tutelage.settings.rollout import SampleSettings as Settings
from tutelage.store import ModelInfo, Store
from tutelage.store.sql import is_storable


def main(settings: Settings, world: World, run: Run) -> Path:
    """Sample what the store does not have yet; returns the run folder, with all responses in samples.jsonl.

    Raises ValueError when there are no usable prompts, when the store holds other responses of this very run, or when the
    judge that chooses does not apply to a prompt.
    """
    generator = load_generator(settings, world, run)
    prompts = read_answerable(settings, generator, run)
    chooser = _chooser(settings, generator, prompts, world, run)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
    with _Kept(settings, run) if run.leads else nullcontext() as kept:
        stored = world.told(
            lambda: kept.begin(prompts, _params(settings, generator, world, run)) if kept else set()
        )
        total = len(prompts) * settings.samples
        with run.progress(total, "responses") as bar:
            meter = Meter(bar, settings.best_of)
            generator.progress = meter
            for start in range(0, len(prompts), GROUP):
                group = prompts[start : start + GROUP]
                waiting = [p for p in group if any((p.id, k) not in stored for k in range(settings.samples))]
                bar.advance((len(group) - len(waiting)) * settings.samples)
                drawn = _drawn(generator, chooser, waiting, sampling)
                if kept:
                    kept.add(*drawn)
    if not kept:
        return run.folder
    tokens = run.lineage.get("tokens_generated", 0) + meter.tokens  # with what earlier attempts drew
    run.note(tokens_generated=tokens, flops=flops(generator.parameters, 0, tokens))
    if kept.replaced:
        run.console.print(
            f"{kept.replaced} responses held NUL or half characters: the store has U+FFFD in their place."
        )
    _close(kept.lines, meter, total, settings.best_of, chooser.spent if chooser else Spent(), run)
    return run.folder


def _chooser(
    settings: Settings, generator: Writer, prompts: Sequence[Prompt], world: World, run: Run
) -> BestOf | None:
    """What chooses the best of several; None where every response that is drawn is one."""
    if settings.best_of == 1:
        return None
    judge = choosing_judge(settings, generator, prompts, world, run)
    return BestOf(generator, judge, settings.best_of)


def _drawn(
    generator: Writer, chooser: BestOf | None, prompts: list[Prompt], sampling: Sampling
) -> tuple[list[Response], list[float]]:
    """Responses and, where they were chosen, their scores."""
    if chooser is None:
        return generator.generate(prompts, sampling), []
    found: list[Best] = chooser.choose(prompts, sampling)
    return [best.response for best in found], [best.score.value for best in found]


class _Kept:
    """Where responses are kept: the store, and samples.jsonl; of rank 0.  replaced: responses that the store cannot hold as they
    are."""

    def __init__(self, settings: Settings, run: Run) -> None:
        self._settings, self._run = settings, run
        self._store = Store(settings.store)
        self.replaced = 0

    def __enter__(self) -> _Kept:
        self._store.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._store.__exit__(*error)

    def begin(self, prompts: Sequence[Prompt], params: dict[str, Any]) -> set[tuple[str, int]]:
        """What the store has of this run already: (prompt, number of the sample)."""
        settings, run = self._settings, self._run
        self._store.add_prompts(settings.project, prompts)
        who = "server" if settings.servers else "local"
        self._id = self._store.add_generation_run(_model_info(settings, run), who, params)
        stored = self._store.sampled(settings.project, self._id)
        self.lines = _Lines(run.folder / "samples.jsonl", stored)
        run.note(generation_run=self._id, store=settings.store, project=settings.project)
        return stored

    def add(self, responses: Sequence[Response], scores: Sequence[float]) -> None:
        self.lines.add(responses, scores)
        self._store.add_responses(self._settings.project, self._id, responses)
        self.replaced += sum(not is_storable(response.text) for response in responses)


class _Lines:
    """samples.jsonl: one line per response, written before the store has it; lines that it never got are dropped."""

    def __init__(self, path: Path, stored: set[tuple[str, int]]) -> None:
        self.path = path
        kept = [row for row in self.read() if (row["prompt_id"], row["sample_index"]) in stored]
        write_jsonl_atomic(path, kept)

    def add(self, responses: Sequence[Response], scores: Sequence[float]) -> None:
        rows = [line(response) for response in responses]
        if scores:
            rows = [row | {"score": score} for row, score in zip(rows, scores, strict=True)]
        add_lines(self.path, rows)

    def read(self) -> list[Row]:
        return read_lines(self.path)


def _model_info(settings: Settings, run: Run) -> ModelInfo:
    """The model by its path, with how it answers before it, and by its weights."""
    entry = next(entry for entry in run.lineage["inputs"] if entry["name"] == "model")
    return ModelInfo(f"{settings.way.prefix}{entry['path']}", entry.get("sha256", ""))


def _params(settings: Settings, generator: Writer, world: World, run: Run) -> dict[str, Any]:
    """All that the responses depend on besides the model and the prompts."""
    names = ["samples", "max_new_tokens", "temperature", "seed"]
    found: dict[str, Any] = {}
    if not settings.servers:
        found["dtype"] = str(world.dtype).removeprefix("torch.")
    if isinstance(generator, FewShot):
        shots = generator.shots
        form = "text" if shots.text else "template"
        found["few_shot"] = {"examples": shots.count, "form": form, "sha256": shots.sha256}
    if settings.weights:
        names.append("weights")
    if settings.best_of > 1:
        names += ["best_of", "reward", "missing_eos_score"]
        found["reward_models"] = [
            entry.get("sha256", "") for entry in run.lineage["inputs"] if entry["name"].split()[0] == "reward"
        ]
    return {name: getattr(settings, name) for name in names} | found


def _close(lines: _Lines, meter: Meter, total: int, best_of: int, spent: Spent, run: Run) -> None:
    """Metrics and the closing table."""
    rows = lines.read()
    now = meter.responses // best_of
    if now < total:
        run.console.print(f"{total - now} of {total} responses were in the store already.")
    figures = {
        "responses": float(total),
        "tokens": float(meter.tokens),
        "tokens_per_second": meter.rate,
        "mean_length": sum(row["tokens"] for row in rows) / max(1, len(rows)),
        "missing_eos_rate": sum(row["finish"] == "length" for row in rows) / max(1, len(rows)),
    }
    table = Table(title="Responses", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("responses", f"{total:,}")
    table.add_row("drawn now", f"{meter.tokens:,} tokens, {meter.rate:,.0f} tokens/s")
    table.add_row("mean length", f"{figures['mean_length']:.1f} tokens")
    table.add_row("without an end", f"{figures['missing_eos_rate']:.1%}")
    if best_of > 1:
        figures |= _of_the_best(rows, spent, best_of)
        if rows:
            table.add_row("mean score", f"{figures['chosen_score']:.3g}, the best of {best_of}")
        table.add_row("KL to the model", f"at most {figures['kl_bound']:.2f} nats")
    if spent.answers:
        table.add_row("chosen over all", f"{figures['selection_gain']:+.3g} in score")
        each = f"{figures['tokens_per_answer']:,.0f} tokens, {figures['seconds_per_answer']:.2g} s"
        table.add_row("for each response", each)
    run.log(figures)
    run.commit(0)
    run.console.print(table)


def _of_the_best(rows: Sequence[dict], spent: Spent, best_of: int) -> dict[str, float]:
    """What best-of-n reached, and (where it drew anything now) what that took."""
    found = {"kl_bound": kl_bound(best_of)}
    if rows:
        found["chosen_score"] = sum(row["score"] for row in rows) / len(rows)
    if spent.answers:
        found |= {
            "selection_gain": spent.gain,
            "tokens_per_answer": spent.tokens / spent.answers,
            "seconds_per_answer": spent.seconds / spent.answers,
        }
    return found
