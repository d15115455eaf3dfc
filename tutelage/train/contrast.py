"""`tutelage contrast`: a demonstration against what the model itself writes to the same prompt, as pairs.

    reward data=OUT/preference.jsonl     a reward model that tells demonstrations from own responses; then the policy is trained
                                         on it, and so in turns (Sun and van der Schaar 2024, arXiv 2405.15624)
    dpo data=OUT/preference.jsonl        SPIN (Chen et al. 2024, arXiv 2401.01335): chosen is the demonstration, rejected what
                                         the starting policy wrote, which is also the reference

preference.jsonl is made anew from samples.jsonl each time; with `project` the pairs stand in the store, too, each with a vote
for the demonstration.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.table import Table

from tutelage.feedback.imports.importing import import_stream
from tutelage.feedback.projects.projects import local_member
from tutelage.files import write_jsonl_atomic
from tutelage.parallel import World
from tutelage.records import Comparison, Response
from tutelage.rollout.beside import draw_own, plain_lines, read_shown
from tutelage.rollout.drawing import Row, load_local
from tutelage.runs import Run
from tutelage.settings.irl import ContrastSettings as Settings
from tutelage.store.database import Database

VOTER = {"annotator": "demonstrations", "annotator_kind": "rule"}
Pair = tuple[Response, Row]


def main(settings: Settings, world: World, run: Run) -> Path:
    """Draw and pair; returns the run folder.  Raises ValueError when there are no usable demonstrations, and when the model
    writes nothing but these."""
    generator = load_local(settings, world, run)
    shown = read_shown(settings, generator, run)
    own = draw_own(shown.prompts, generator, plain_lines, settings, run)
    pairs = paired(shown.demonstrations, own, settings.match)
    different = [
        (demonstration, row) for demonstration, row in pairs if demonstration.text != row["response"]
    ]
    if not different:
        raise ValueError(
            f"all {len(pairs)} responses are the demonstrations themselves: there is nothing left to learn from these."
        )
    comparisons = [_comparison(*pair).to_json() for pair in different]
    write_jsonl_atomic(run.folder / "preference.jsonl", comparisons)
    if settings.project:
        _store(comparisons, settings, run)
    _close(pairs, different, settings, run)
    return run.folder


def paired(demonstrations: Sequence[Response], own: dict[str, list[Row]], match: str) -> list[Pair]:
    """Every demonstration with an own response to its prompt: the next one, or (match "length") the one nearest in tokens, of
    equally near ones the first."""
    used: dict[str, int] = {}
    pairs = []
    for demonstration in demonstrations:
        key = demonstration.prompt.id
        rows, length = own[key], len(demonstration.ids)
        if match == "length":
            row = min(rows, key=lambda row: abs(row["tokens"] - length))
        else:
            row = rows[used.get(key, 0) % len(rows)]
            used[key] = used.get(key, 0) + 1
        pairs.append((demonstration, row))
    return pairs


def _comparison(demonstration: Response, row: Row) -> Comparison:
    return Comparison(
        demonstration.prompt, demonstration.text, row["response"], rejected_finish=row["finish"]
    )


def _store(comparisons: Sequence[Row], settings: Settings, run: Run) -> None:
    """The pairs in the project, each with a vote; what is there already is not stored again."""
    lines = "".join(json.dumps(row | VOTER, ensure_ascii=False) + "\n" for row in comparisons)
    with closing(Database(settings.store)) as database:
        who = local_member(database, settings.project, create=True)
        done = import_stream(database, who, "preference", io.BytesIO(lines.encode()), "preference.jsonl")
    run.note(store=settings.store, project=settings.project)
    if done.bad:
        why = done.bad[0].why
        run.console.print(
            f"{len(done.bad)} of the pairs cannot be stored, the first because {why}.", markup=False
        )


def _close(pairs: Sequence[Pair], different: Sequence[Pair], settings: Settings, run: Run) -> None:
    """Metrics and the closing table."""
    path = run.folder / "preference.jsonl"
    lengths = np.array([(len(demonstration.ids), row["tokens"]) for demonstration, row in different], float)
    longer = (lengths[:, 0] > lengths[:, 1]) + (lengths[:, 0] == lengths[:, 1]) / 2
    figures = {
        "pairs": float(len(different)),
        "same_share": 1 - len(different) / len(pairs),
        "chosen_length": float(lengths[:, 0].mean()),
        "rejected_length": float(lengths[:, 1].mean()),
        "longer_chosen": float(longer.mean()),
        "missing_eos_rate": float(np.mean([row["finish"] == "length" for _, row in pairs])),
    }
    run.rewind(-1)
    run.log(figures)
    run.commit(0)
    table = Table(title="Pairs", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("pairs", f"{len(different):,} of {len(pairs):,} demonstrations")
    table.add_row("own response is the demonstration", f"{figures['same_share']:.1%}, no pair")
    both = f"{figures['chosen_length']:.1f} and {figures['rejected_length']:.1f} tokens"
    table.add_row("length, demonstrations and own", both)
    table.add_row("the demonstration is the longer one", f"{figures['longer_chosen']:.0%}, equal ones half")
    table.add_row("own without an end", f"{figures['missing_eos_rate']:.1%}")
    run.console.print(table)
    source = f"store:{settings.project}" if settings.project else path
    run.console.print(f"`reward` and `dpo` read them as data={source}.", markup=False, highlight=False)
