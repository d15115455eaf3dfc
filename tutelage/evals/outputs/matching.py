"""Outputs beside each other and beside their references: by prompt, or by place where there are no prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tutelage.evals.outputs.reading import Output
from tutelage.records import Place

Found = dict[str, list[Output]]


def keyed(models: Mapping[str, Sequence[Output]]) -> Found:
    """With a key for every output: its prompt, or where a file has no prompts, the number of its row.

    Raises ValueError where a file has prompts in some rows only, or not equally many outputs for each, or where two files do
    not answer the same prompts.
    """
    found = {name: _keyed(name, outputs) for name, outputs in models.items()}
    for name, outputs in found.items():
        _refuse_uneven(name, outputs)
    first = next(iter(found))
    for name in found:
        _refuse_others(first, found[first], name, found[name])
    return found


def _keyed(name: str, outputs: Sequence[Output]) -> list[Output]:
    without = [output for output in outputs if not output.key]
    if without and len(without) < len(outputs):
        raise ValueError(
            f"{without[0].place} has no prompt, but other rows of {name} have one: give all rows a prompt, or none"
        )
    return [replace(one, key=one.key or f"row {n}") for n, one in enumerate(outputs, 1)]


def _refuse_uneven(name: str, outputs: Sequence[Output]) -> None:
    counts = Counter(output.key for output in outputs)
    most, least = max(counts.values()), min(counts.values())
    if most == least:
        return
    twice = next(output for output in outputs if counts[output.key] == most)
    raise ValueError(
        f"{name} has {most} outputs for the prompt of {twice.place} ({_short(twice)}) and {least} for another: keep one for "
        "each prompt, or equally many"
    )


def _refuse_others(first: str, ours: Sequence[Output], name: str, theirs: Sequence[Output]) -> None:
    one, other = ({o.key: o for o in outputs} for outputs in (ours, theirs))
    if one.keys() == other.keys():
        return
    if all(key.startswith("row ") for key in (*one, *other)):
        raise ValueError(
            f"{first} has {len(one)} outputs and {name} has {len(other)}, and without prompts they are matched by their "
            "place: give every row its prompt, or as many rows"
        )
    missing, added = [one[k] for k in one if k not in other], [other[k] for k in other if k not in one]
    raise ValueError(
        f"{name} does not answer the prompts of {first}: {len(missing)} of its {len(one)} are missing and {len(added)} are "
        f"others, the first being {_short((missing or added)[0])}: compare outputs for the same prompts"
    )


def _short(output: Output) -> str:
    text = " ".join(output.asked.split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def references_of(
    models: Found, given: Sequence[tuple[str, tuple[str, ...], Place]], source: str
) -> dict[str, tuple[str, ...]]:
    """The reference texts of each prompt, by key: of the file `given`, where there is one, else those in the rows.

    A prompt that stands in `given` several times has all of them.  Raises ValueError where rows of one prompt have
    different ones, or where rows without prompts are not as many as the outputs.
    """
    if not given:
        return _in_rows(models)
    outputs = next(iter(models.values()))
    found: dict[str, tuple[str, ...]] = {}
    if any(key for key, _, _ in given):
        for key, texts, _ in given:
            found[key] = tuple(dict.fromkeys((*found.get(key, ()), *texts)))
        return {one.key: found.get(one.key) or found.get(one.asked.strip(), ()) for one in outputs}
    if len(given) != len(outputs):
        raise ValueError(
            f"{source} has {len(given)} references without a prompt and {next(iter(models))} has {len(outputs)} outputs: "
            "give as many, in the same order, or a prompt with each"
        )
    return {one.key: texts for one, (_, texts, _) in zip(outputs, given, strict=True)}


def _in_rows(models: Found) -> dict[str, tuple[str, ...]]:
    found: dict[str, Output] = {}
    for outputs in models.values():
        for one in outputs:
            known = found.get(one.key)
            if known and known.references and one.references and known.references != one.references:
                raise ValueError(
                    f"{one.place} has another reference than {known.place} for the prompt {_short(one)}: write all of them "
                    "into every row, as a list"
                )
            if known is None or not known.references:
                found[one.key] = one
    return {key: one.references for key, one in found.items()}
