"""`tutelage sample`: a model answers prompts; prompts, generation run and responses go into the store.

Prompts are answered in fixed groups, each stored in one transaction: a run that was stopped goes on with the group it
had not stored, and ends with the same responses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from tutelage.cost import flops
from tutelage.data.preflight_report import check
from tutelage.data.reading.formats import First, read_prompts
from tutelage.data.reading.sources import shown
from tutelage.files import write_json_atomic, write_jsonl_atomic
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.parallel import World
from tutelage.records import Prompt, Response, place_json
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.prompts import Distinct, answerable
from tutelage.runs import Bar, Run, result_folder
from tutelage.settings.rollout import SampleSettings as Settings
from tutelage.store import ModelInfo, Store
from tutelage.store.sql import is_storable

GROUP = 256
"""Prompts answered and stored at once: what a crash makes to do again."""


def main(settings: Settings, world: World, run: Run) -> Path:
    """Sample what the store does not have yet; returns the run folder, with all responses in samples.jsonl.

    Raises ValueError when there are no usable prompts, or when the store holds other responses of this very run.
    """
    model = result_folder(settings.model)
    run.input("model", model)
    run.input("prompts", settings.prompts)
    tokenizer = load_tokenizer(model)
    policy = load_policy(model, dtype=world.dtype, device=world.device)
    generator = LocalGenerator(policy, tokenizer, memory_mib=settings.memory_mib)
    prompts = _prompts(settings, generator, run)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
    with Store(settings.store) as store:
        store.add_prompts(settings.project, prompts)
        run_id = store.add_generation_run(_model_info(model, run), "local", _params(settings, world))
        stored = store.sampled(settings.project, run_id)
        lines = _Lines(run.folder / "samples.jsonl", stored)
        run.note(generation_run=run_id, store=settings.store, project=settings.project)
        total, replaced = len(prompts) * settings.samples, 0
        with run.progress(total, "responses") as bar:
            meter = _Meter(bar)
            generator.progress = meter
            for start in range(0, len(prompts), GROUP):
                group = prompts[start : start + GROUP]
                waiting = [p for p in group if any((p.id, k) not in stored for k in range(settings.samples))]
                bar.advance((len(group) - len(waiting)) * settings.samples)
                responses = generator.generate(waiting, sampling)
                lines.add(responses)
                store.add_responses(settings.project, run_id, responses)
                replaced += sum(not is_storable(response.text) for response in responses)
    tokens = run.lineage.get("tokens_generated", 0) + meter.tokens  # with what earlier attempts drew
    size = sum(parameter.numel() for parameter in policy.parameters())
    run.note(tokens_generated=tokens, flops=flops(size, 0, tokens))
    if replaced:
        run.console.print(
            f"{replaced} responses held NUL or half characters: the store has U+FFFD in their place."
        )
    _close(lines, meter, total, run)
    return run.folder


class _Meter:
    """Tokens and responses as they are drawn, shown on the progress bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._started = bar, time.monotonic()
        self.tokens = self.responses = 0

    def __call__(self, tokens: int, responses: int) -> None:
        self.tokens += tokens
        self.responses += responses
        self._bar.advance(responses, f"{self.rate:,.0f} tokens/s")

    @property
    def rate(self) -> float:
        """Tokens per second so far."""
        return self.tokens / max(time.monotonic() - self._started, 1e-9)


class _Lines:
    """samples.jsonl: one line per response, written before the store has it; lines that it never got are dropped."""

    def __init__(self, path: Path, stored: set[tuple[str, int]]) -> None:
        self.path = path
        if path.exists():
            kept = [row for row in self.read() if (row["prompt_id"], row["sample_index"]) in stored]
        else:
            kept = []
        write_jsonl_atomic(path, kept)

    def add(self, responses: Sequence[Response]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(
                json.dumps(_line(response), ensure_ascii=False) + "\n" for response in responses
            )

    def read(self) -> list[dict]:
        """All whole lines: a crash can cut the last one short."""
        whole = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in whole]


def _line(response: Response) -> dict:
    return {
        "prompt_id": response.prompt.id,
        "task": response.prompt.task,
        "prompt": response.prompt.content_json(),
        **place_json(response.prompt),
        "sample_index": response.sample_index,
        "response": response.text,
        "tokens": len(response.ids),
        "logprob": sum(response.logprobs),
        "finish": response.finish,
    }


def _prompts(settings: Settings, generator: LocalGenerator, run: Run) -> list[Prompt]:
    """The prompts of the file that leave room for a response, each once, at most `max_prompts`."""
    found = First(Distinct(read_prompts(settings.prompts, settings.columns)), settings.max_prompts)
    prepared = answerable(
        found,
        generator.tokenizer,
        generator.context,
        settings.max_new_tokens,
        source=shown(settings.prompts),
        max_dropped_share=None,
        console=run.console,
    )
    prepared.report.show(run.console)
    write_json_atomic(run.folder / "preflight.json", prepared.report.to_json())
    check([prepared.report], settings.max_dropped_share)
    return list(prepared.examples)


def _model_info(path: str, run: Run) -> ModelInfo:
    entry = next(entry for entry in run.lineage["inputs"] if entry["name"] == "model")
    return ModelInfo(path, entry.get("sha256", ""))


def _params(settings: Settings, world: World) -> dict:
    """All that the responses depend on besides the model and the prompts."""
    names = ("samples", "max_new_tokens", "temperature", "seed")
    return {name: getattr(settings, name) for name in names} | {
        "dtype": str(world.dtype).removeprefix("torch.")
    }


def _close(lines: _Lines, meter: _Meter, total: int, run: Run) -> None:
    """Metrics and the closing table."""
    rows = lines.read()
    if meter.responses < total:
        run.console.print(f"{total - meter.responses} of {total} responses were in the store already.")
    figures = {
        "responses": float(total),
        "tokens": float(meter.tokens),
        "tokens_per_second": meter.rate,
        "mean_length": sum(row["tokens"] for row in rows) / max(1, len(rows)),
        "missing_eos_rate": sum(row["finish"] == "length" for row in rows) / max(1, len(rows)),
    }
    run.log(figures)
    run.commit(0)
    table = Table(title="Responses", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("responses", f"{total:,}")
    table.add_row("drawn now", f"{meter.tokens:,} tokens, {meter.rate:,.0f} tokens/s")
    table.add_row("mean length", f"{figures['mean_length']:.1f} tokens")
    table.add_row("without an end", f"{figures['missing_eos_rate']:.1%}")
    run.console.print(table)
