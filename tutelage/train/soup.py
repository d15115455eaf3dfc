"""The command `soup`: a model for every mixture of others, by averaging their weights (`models/soup.py`).

model/ where one mixture is asked for, else soup-0.25-0.75/ and so on: folders that plain transformers loads, each with soup.json
(of what it is made, by content).  lineage.json lists them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from tutelage.evals.entrants import named
from tutelage.files import sha256_of
from tutelage.models.lora import read_adapter
from tutelage.models.soup import check_alike, write_soup
from tutelage.models.stored import ADAPTER, Stored, stored
from tutelage.resume import read_lineage
from tutelage.runs import Run
from tutelage.settings.soup import SoupSettings as Settings
from tutelage.train.plan import amount

MODEL = "model"
DEPTH = 4  # folders from a checkpoint's model up to its run: policy, step-00000100, checkpoints, the run


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write the models; returns the run folder.  Raises ValueError for models that cannot be averaged."""
    models = named(settings.models)
    places = folders(settings)
    for name, path in models.items():
        run.input(f"model {name}", path)
    inputs = {entry["name"].removeprefix("model "): entry for entry in run.lineage["inputs"]}
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=".merged.", suffix=".partial") as scratch:
        opened = [
            stored(name, path, Path(scratch) / str(number))
            for number, (name, path) in enumerate(models.items())
        ]
        tensors = check_alike(opened)
        for sentence in other_starts({name: inputs[name] for name in models}):
            run.console.print(sentence, markup=False, highlight=False)
        made = _write(places, opened, tensors, [inputs[name] for name in models], run)
    run.note(soups=made)
    return run.folder


def folders(settings: Settings) -> dict[str, list[float]]:
    """Folder in the run folder -> weights.  Raises ValueError where two would be the same."""
    if settings.single:
        return {MODEL: settings.mixtures[0]}
    found: dict[str, list[float]] = {}
    for weights in settings.mixtures:
        name = "-".join(["soup", *(f"{weight:.4g}" for weight in weights)])
        if name in found:
            raise ValueError(f"weights: two soups would be named {name}: leave one out.")
        found[name] = weights
    return found


def _write(
    places: Mapping[str, Sequence[float]],
    opened: Sequence[Stored],
    tensors: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    run: Run,
) -> list[dict[str, Any]]:
    """All soups, and the table of them; returns what the lineage says of each."""
    made = []
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for model in opened:
        table.add_column(model.name, justify="right")
    table.add_column("size", justify="right")
    with run.progress(len(places) * len(tensors), "averaging") as bar:
        for folder, weights in places.items():
            parts = zip(opened, inputs, weights, strict=True)
            of = [
                {"model": model.name, "path": entry["path"], "sha256": entry.get("sha256"), "weight": weight}
                for model, entry, weight in parts
            ]
            advance = partial(bar.advance, 1, status=folder)
            size = write_soup(run.folder / folder, opened, weights, tensors, {"models": of}, advance)
            made.append({"folder": folder, "weights": weights, "sha256": sha256_of(run.folder / folder)})
            table.add_row(str(run.folder / folder), *(f"{weight:.4g}" for weight in weights), amount(size))
    run.console.print(table)
    return made


# ---- where they come from ----------------------------------------------------------------------------------------------


def other_starts(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Warnings about models that do not come from the start of the first one, as far as lineages say.

    models: name -> its entry among the inputs of the run (path, sha256).
    """
    (first, entry), *others = models.items()
    ours = origins(entry)
    said = []
    for name, other in others:
        theirs = origins(other)
        if ours & theirs:
            continue
        if len(ours) > 1 and len(theirs) > 1:
            said.append(
                f"Warning: by their lineages {first} and {name} were not trained from the same start; an average of such "
                "models is known to be worse than either. Train both from one model."
            )
        else:
            said.append(
                f"Nothing says whether {first} and {name} were trained from the same start, as a soup wants: only run folders "
                "keep where a model comes from."
            )
    return said


def origins(entry: Mapping[str, Any]) -> set[str]:
    """A model and those that it was trained from, and these from, by the hash of their content (by name what has none)."""
    path = Path(str(entry["path"]))
    found = {str(entry.get("sha256") or path)}
    if (path / ADAPTER).is_file() and (adapter := read_adapter(path)) is not None:
        found.add(adapter.sha256 or adapter.base)
    lineage = _lineage_of(path)
    for start in lineage.get("inputs", []):
        name = str(start.get("name", ""))
        if name == MODEL or (lineage.get("command") == "soup" and name.startswith(f"{MODEL} ")):
            found |= origins(start)
    return found


def _lineage_of(path: Path) -> Mapping[str, Any]:
    """The lineage of the run that a model came out of; {} where there is none."""
    above = (path, *path.resolve().parents)[:DEPTH] if path.exists() else ()
    return next((found for folder in above if (found := read_lineage(folder)) is not None), {})
