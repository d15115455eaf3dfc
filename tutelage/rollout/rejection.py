"""`tutelage select`: several responses to each prompt, of which the best become demonstrations (rejection sampling).

All responses stand with their scores in samples.jsonl, written in fixed groups of prompts: a run that was stopped goes on with
the group that is not whole, and ends with the same file.  What is kept is chosen from that file, and anew when only the
choice has changed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tutelage.files import write_jsonl_atomic
from tutelage.judges.judge import Judge, scores_of
from tutelage.parallel import World
from tutelage.records import Prompt
from tutelage.rollout.drawing import GROUP as GROUP
from tutelage.rollout.drawing import (
    Meter,
    Row,
    add_lines,
    keep_whole_groups,
    line,
    load_generator,
    load_judge,
    read_answerable,
    read_lines,
)
from tutelage.rollout.generator import Sampling
from tutelage.rollout.select import best_of_each
from tutelage.rollout.writer import Writer
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.rollout import SelectSettings as Settings


def main(settings: Settings, world: World, run: Run) -> Path:
    """Draw, score, choose; returns the run folder, with the chosen responses in demonstrations.jsonl.

    Raises ValueError when there are no usable prompts, when the judge does not apply to one, or when nothing is kept.
    """
    generator = load_generator(settings, world, run)
    prompts = read_answerable(settings, generator, run)
    path = run.folder / "samples.jsonl"
    total, group = len(prompts) * settings.samples, GROUP * settings.samples
    there = world.told(lambda: len(keep_whole_groups(path, total, group)))
    if there < total:
        _draw(path, there // settings.samples, prompts, generator, settings, world, run)
    if not run.leads:
        return run.folder
    rows = read_lines(path)
    chosen = chosen_rows(rows, settings)
    if not chosen:
        raise ValueError(_nothing(rows, settings))
    write_jsonl_atomic(run.folder / "demonstrations.jsonl", _demonstrations(rows, chosen, prompts, settings))
    _close(rows, chosen, settings, run)
    return run.folder


def _draw(
    path: Path,
    answered: int,
    prompts: list[Prompt],
    generator: Writer,
    settings: Settings,
    world: World,
    run: Run,
) -> None:
    """Append the responses to all prompts from number `answered` on, with their scores."""
    judge: Judge = load_judge(settings, generator, prompts, world, run)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
    with run.progress(len(prompts) * settings.samples, "responses") as bar:
        bar.advance(answered * settings.samples)
        generator.progress = Meter(bar)
        for start in range(answered, len(prompts), GROUP):
            started = time.monotonic()
            responses = generator.generate(prompts[start : start + GROUP], sampling)
            scores = scores_of(judge, responses)
            rows = zip(map(line, responses), scores, strict=True)
            if run.leads:
                add_lines(path, (row | {"score": s.value, "parts": dict(s.parts)} for row, s in rows))
            run.note(drawing_seconds=_seconds(run) + time.monotonic() - started)


# ---- choosing ------------------------------------------------------------------------------------------------------


def chosen_rows(rows: Sequence[Mapping[str, Any]], settings: Settings) -> list[int]:
    """The numbers of the rows (lines of samples.jsonl) that are kept, in order.

    Of the rows that can be demonstrations: those that score enough, of these the best of each prompt, of these the best of
    all; of equals the first.  `select=random` takes of each prompt as many, by chance, of all that can be demonstrations.
    """
    usable = _usable(rows, settings)
    prompts = [row["prompt_id"] for row in rows]
    worth = [float(row["score"]) for row in rows]
    least = settings.threshold
    enough = [number for number in usable if least is None or worth[number] >= least]
    best = best_of_each(worth, prompts, enough, settings.keep or len(rows))
    if settings.top_share < 1:
        best = best_of_each(worth, [""] * len(rows), best, max(1, round(settings.top_share * len(rows))))
    if settings.select == "best":
        return best
    return _by_chance(Counter(prompts[number] for number in best), prompts, usable, settings.seed)


def _usable(rows: Sequence[Mapping[str, Any]], settings: Settings) -> list[int]:
    """The rows that can be demonstrations: with text, with an end unless it need not be, and no repetition."""
    seen: set[tuple[str, str]] = set()
    found = []
    for number, row in enumerate(rows):
        key = (row["prompt_id"], row["response"])
        if _ends(row, settings) and row["response"].strip() and not (settings.deduplicate and key in seen):
            seen.add(key)
            found.append(number)
    return found


def _ends(row: Mapping[str, Any], settings: Settings) -> bool:
    return settings.keep_cut or row["finish"] != "length"


def _by_chance(
    wanted: Mapping[str, int], prompts: Sequence[str], usable: Sequence[int], seed: int
) -> list[int]:
    """Of each prompt as many of the usable rows as `wanted` says."""
    own: dict[str, list[int]] = {}
    for number in usable:
        own.setdefault(prompts[number], []).append(number)
    return sorted(
        int(number)
        for prompt, count in wanted.items()
        for number in rng(seed, "select", prompt).permutation(own[prompt])[:count]
    )


def _nothing(rows: Sequence[Row], settings: Settings) -> str:
    usable = _usable(rows, settings)
    if not usable:
        return (
            f"none of the {len(rows)} responses can be a demonstration, for they have no end or no text: raise max_new_tokens "
            f"(now {settings.max_new_tokens}), or fine-tune the model first."
        )
    best = max(float(rows[number]["score"]) for number in usable)
    return (
        f"none of the {len(rows)} responses scores threshold={settings.threshold:g}; the best of those with an end has "
        f"{best:.4g}: lower it and run the command again, which draws nothing anew."
    )


def _demonstrations(
    rows: Sequence[Row], chosen: Sequence[int], prompts: Sequence[Prompt], settings: Settings
) -> Iterator[Row]:
    """Rows that `sft` reads, prompt by prompt: what was kept with its scores, else `otherwise` where there is one."""
    kept: dict[str, list[Row]] = {}
    for number in chosen:
        kept.setdefault(rows[number]["prompt_id"], []).append(rows[number])
    instead = {"response": settings.otherwise, "finish": "eos", "score": None, "sample_index": None}
    for prompt in prompts:
        for row in kept.get(prompt.id, [instead] if settings.otherwise else []):
            yield {
                "prompt": prompt.content_json(),
                "response": row["response"],
                "response_finish": row["finish"],
                "task": prompt.task,
                "reference": prompt.reference,
                "score": row["score"],
                "sample_index": row["sample_index"],
            }


# ---- what came out -------------------------------------------------------------------------------------------------


def _seconds(run: Run) -> float:
    return float(run.lineage.get("drawing_seconds", 0.0))


def _close(rows: Sequence[Row], chosen: Sequence[int], settings: Settings, run: Run) -> None:
    """Metrics and the closing table."""
    scores = np.array([row["score"] for row in rows], float)
    kept = [rows[number] for number in chosen]
    figures = {
        "responses": float(len(rows)),
        "kept": float(len(kept)),
        "kept_prompts": len({row["prompt_id"] for row in kept}) / len({row["prompt_id"] for row in rows}),
        "drawn_score": float(scores.mean()),
        "chosen_score": float(scores[list(chosen)].mean()),
        "selection_gain": float(scores[list(chosen)].mean() - scores.mean()),
        "unique_share": len({(row["prompt_id"], row["response"]) for row in rows}) / len(rows),
        "missing_eos_rate": float(np.mean([row["finish"] == "length" for row in rows])),
        "mean_length": float(np.mean([row["tokens"] for row in rows])),
        "kept_length": float(np.mean([row["tokens"] for row in kept])),
        "tokens": float(sum(row["tokens"] for row in rows)),
        "drawing_seconds": _seconds(run),
    }
    run.rewind(-1)  # what was kept before
    run.log(figures)
    run.commit(0)
    run.console.print(_table(figures, settings))
    run.console.print(
        f"{run.folder / 'demonstrations.jsonl'} is what `sft` reads as data=.", markup=False, highlight=False
    )


def _table(figures: Mapping[str, float], settings: Settings) -> Table:
    table = Table(title="Selection", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    prompts = f"of {figures['kept_prompts']:.0%} of the prompts"
    cut = f"{figures['missing_eos_rate']:.1%}" + ("" if settings.keep_cut else ", never kept")
    for name, value in (
        ("kept", f"{figures['kept']:,.0f} of {figures['responses']:,.0f} responses, {prompts}"),
        ("score of the kept", f"{figures['chosen_score']:.4g}"),
        ("score of all", f"{figures['drawn_score']:.4g}"),
        ("selection gain", f"{figures['selection_gain']:+.4g}"),
        ("different responses", f"{figures['unique_share']:.1%}"),
        ("without an end", cut),
        ("length of the kept", f"{figures['kept_length']:.1f} tokens, of all {figures['mean_length']:.1f}"),
        *([("the others", f"answered with {settings.otherwise!r}")] if settings.otherwise else []),
        ("drawn and scored", f"{figures['tokens']:,.0f} tokens in {figures['drawing_seconds']:,.1f} s"),
    ):
        table.add_row(name, value)
    return table
