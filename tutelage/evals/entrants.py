"""Who is evaluated: models as they are, and the best of several of their responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tutelage.runs import result_folder
from tutelage.settings.evals import EvalSettings
from tutelage.settings.ways import Way, way_of


@dataclass(frozen=True)
class Entrant:
    """One column of the results: of model `model`, every response the best of `n`."""

    name: str
    model: str
    n: int = 1


def named(models: Sequence[str]) -> dict[str, str]:
    """Name -> checkpoint, from "name=path" or "path" (named after its last folder), with how it is to answer before it
    (`settings.ways`). Raises ValueError on a repeated name."""
    found: dict[str, str] = {}
    for given in models:
        name, _, path = given.rpartition("=")
        way = way_of(path)
        name = name or way.name
        if name in found:
            raise ValueError(
                f"models: two models are named '{name}'; give them names as in models=[first={path}, ...]."
            )
        found[name] = str(replace(way, path=result_folder(way.path)))
    if not found:
        raise ValueError(
            "models is empty; give the checkpoints to evaluate, for example models=[sft=runs/sft, ppo=runs/ppo]."
        )
    return found


def reference_of(settings: EvalSettings, models: Mapping[str, str], baseline: str) -> str:
    """The checkpoint that the KL is measured to.  Raises ValueError where it is to answer behind examples or untrained."""
    given = settings.reference or baseline
    way = way_of(models[given]) if given in models else Way(result_folder(given))
    if not way.plain:
        raise ValueError(
            f"The KL is measured to a model as it is, and the reference would be {way}: name another one with reference= or "
            "baseline=."
        )
    return way.path


def check_served(settings: EvalSettings, models: Mapping[str, str]) -> None:
    """Raises ValueError where servers are given for a model that is not among these, or that none can hold."""
    for name in settings.rollouts:
        if name not in models:
            raise ValueError(
                f"rollouts: {name} is not among the models ({', '.join(models)}): name one of them."
            )
        if way_of(models[name]).untrained:
            raise ValueError(
                f"rollouts: {name} is {models[name]}, whose weights are drawn here: leave its server out."
            )


def baseline_of(settings: EvalSettings, models: Sequence[str]) -> str:
    """The model that the others are compared with."""
    baseline = settings.baseline or models[0]
    if baseline not in models:
        raise ValueError(
            f"baseline={baseline} is not among the models ({', '.join(models)}); name one of them."
        )
    return baseline


def entrants(settings: EvalSettings, models: Sequence[str]) -> dict[str, list[Entrant]]:
    """Model -> what is evaluated of it: itself, and the best of its responses.

    The baseline goes first, for the others are compared with it.  Raises ValueError for a name that is not among the models
    (`models`: their names), or that two would have.
    """
    baseline = baseline_of(settings, models)
    drawn_from = settings.best_of_models or [baseline]
    found = {
        model: [Entrant(model, model), *_best(settings, model, drawn_from)]
        for model in sorted(models, key=lambda name: name != baseline)
    }
    for name in drawn_from:
        if name not in models:
            raise ValueError(
                f"best_of_models names {name}, which is not among the models ({', '.join(models)}): name one of them."
            )
    names = [entrant.name for each in found.values() for entrant in each]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"models: {twice} is what best_of calls its responses; give that model another name."
        )
    return found


def _best(settings: EvalSettings, model: str, drawn_from: Sequence[str]) -> list[Entrant]:
    sizes = settings.sizes if model in drawn_from else []
    return [Entrant(f"{model}-best-of-{n}", model, n) for n in sizes]
