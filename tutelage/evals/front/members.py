"""Which models a front is of, and in which groups.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage.evals.entrants import named
from tutelage.evals.folders import RunFolder

ALL = "all"
REFERENCE = "reference"
SOUP = "soup"


@dataclass(frozen=True)
class Member:
    """A model, where it lies, the group it belongs to ("": none), and the weights in front of its prompts, where it reads any."""

    name: str
    path: str
    group: str = ""
    weights: tuple[tuple[str, float], ...] = ()


def members_of(models: Sequence[str]) -> list[Member]:
    """The models in their order: GROUP/NAME is of the group GROUP; where none has a group they are one, "all".

    The run folder of a soup with several models stands for all of them, as a group of its name, and that of a policy that reads
    weights for each of its weights.  Raises ValueError for one name
    twice, a soup that is not done, a group that is called as a model is, and fewer than two models.
    """
    found = [member for name, path in named(models).items() for member in _expanded(name, path)]
    if not any(member.group for member in found):
        found = [replace(member, group=ALL) for member in found]
    names = [member.name for member in found]
    taken = [REFERENCE, *groups_of(found)]
    for name in names:
        if names.count(name) > 1 or name in taken:
            what = "two models are" if names.count(name) > 1 else "a group, or the reference, is"
            raise ValueError(
                f"models: {what} called '{name}': give that model another name, as in other={name}"
            )
    if len(found) < 2:
        raise ValueError("models: one model is no front: name another")
    return found


def groups_of(members: Sequence[Member]) -> dict[str, list[int]]:
    """Group -> numbers of its models, in their order."""
    found: dict[str, list[int]] = {}
    for number, member in enumerate(members):
        if member.group:
            found.setdefault(member.group, []).append(number)
    return found


def training_time(members: Sequence[Member]) -> float | None:
    """Seconds that the runs took which made these models, each counted once; None where a model is no run's.

    A soup took what the models took that it is made of.
    """
    seconds: dict[Path, float | None] = {}
    for member in members:
        for path in _behind(member.path):
            run = _run_of(Path(path))
            if run is None:
                return None
            seconds[run.path.resolve()] = run.seconds
    known = [spent for spent in seconds.values() if spent is not None]
    return sum(known) if len(known) == len(seconds) else None


def _expanded(name: str, path: str) -> Iterator[Member]:
    run = _run_of(Path(path))
    if run is None or run.command != SOUP or Path(path).resolve() != run.path.resolve():
        read = run.lineage.get("weights_in_prompt", ()) if run else ()
        for weights in read:
            yield Member(f"{name}/{_called(weights)}", path, name, tuple(weights.items()))
        if not read:
            yield Member(name, path, name.rpartition("/")[0])
        return
    if run.state != "done":
        raise ValueError(f"models: the soup in {path} is not done: run its command to the end.")
    for made in run.lineage["soups"]:
        folder = str(made["folder"])
        yield Member(f"{name}/{folder.removeprefix(f'{SOUP}-')}", str(Path(path) / folder), name)


def _called(weights: Mapping[str, float]) -> str:
    """As the models of a soup are: 0.25-0.75."""
    return "-".join(f"{weight:g}" for weight in weights.values())


def _behind(path: str) -> list[str]:
    """The models that were trained for the one at `path`: itself, or those that a soup is made of."""
    run = _run_of(Path(path))
    if run is None or run.command != SOUP:
        return [path]
    made: Sequence[Any] = run.lineage.get("soups", ())
    folder = Path(path).name
    weights = next((each["weights"] for each in made if each["folder"] == folder), None)
    inputs = [str(entry["path"]) for entry in run.lineage["inputs"]]
    return [each for number, each in enumerate(inputs) if weights is None or weights[number]]


def _run_of(path: Path) -> RunFolder | None:
    """The run that made the model at `path`."""
    folder = next((each for each in (path, path.parent) if (each / "lineage.json").is_file()), None)
    return RunFolder(folder, str(folder)) if folder else None
