"""Where rows come from: local files, patterns, hub data sets, and mixes of these with weights."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from tutelage.data.reading.rows import Rows, loaded, read_stream
from tutelage.files import sha256_of
from tutelage.hub import hub

Source = str | Path | Sequence[str | Path]

HUB = "hub:"
_WEIGHTED = re.compile(r"(?P<name>.+)\*(?P<weight>\d+(\.\d+)?)")


class Part(NamedTuple):
    """A part of a source, and how many times its rows count."""

    name: str
    weight: Fraction


def parts_of(source: Source) -> list[Part]:
    """What a source is made of: a name, or several, each with `*WEIGHT` behind it or 1.

    Raises ValueError where there is none, or a weight is 0.
    """
    names = [source] if isinstance(source, str | Path) else list(source)
    if not any(map(str, names)):
        raise ValueError("no data was given: name a file, a pattern such as data/*.jsonl, or hub:owner/name")
    return [_part(str(name)) for name in names]


def _part(name: str) -> Part:
    found = _WEIGHTED.fullmatch(name)
    if found is None or Path(name).expanduser().exists():
        return Part(name, Fraction(1))
    weight = Fraction(found["weight"])
    if not weight:
        raise ValueError(f"{name}: a weight of 0 leaves nothing of it: leave it out of data")
    return Part(found["name"], weight)


def read_rows(source: Source) -> Rows:
    """All rows of a source, lazily: a path, a pattern, `hub:owner/name[:split[:config]]`, or several of these.

    A part `NAME*3` gives each row three times in a row (`Place.copy` counts them), `NAME*0.5` every second one.
    Raises ValueError (one sentence: file, line, what to do) for what is missing, empty, unreadable or damaged.
    """
    for name, weight in parts_of(source):
        if weight == 1:
            yield from _read(name)
            continue
        for number, row in enumerate(_read(name)):
            copies = int(weight * (number + 1)) - int(weight * number)
            for copy in range(copies):
                yield replace(row, place=row.place._replace(copy=copy)) if copy else row


def _read(name: str) -> Rows:
    if name.startswith(HUB):
        yield from _read_hub(name)
        return
    for path in local_paths(name):
        try:
            file = path.open("rb")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        with file:
            yield from read_stream(file, str(path))


def local_paths(source: Source) -> list[Path]:
    """The files that a source stands for, patterns expanded and sorted; hub data sets have none.

    Raises ValueError where a file does not exist or a pattern matches nothing.
    """
    return [path for name, _ in parts_of(source) for path in _paths(name)]


def _paths(name: str) -> list[Path]:
    if name.startswith(HUB):
        return []
    path = Path(name).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name its files, for example {path}/*.jsonl")
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not found:
            raise ValueError(f"no file matches the pattern {path}: check the folder and the ending")
        return found
    raise ValueError(f"the file {path} does not exist: check the path (relative to {Path.cwd()})")


def content_hash(source: Source) -> str | None:
    """sha256 (hex) of what a source or a model folder holds: a file, a folder, or all files of a pattern or mix by name.

    None for what is not on this machine: hub names, and what does not exist.
    """
    if isinstance(source, str | Path) and (path := Path(source).expanduser()).exists():
        return sha256_of(path)
    try:
        lines = [
            f"{found.name}\0{sha256_of(found)}{_times(weight)}\n"
            for name, weight in parts_of(source)
            for found in _paths(name)
        ]
    except ValueError:
        return None
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def _times(weight: Fraction) -> str:
    return "" if weight == 1 else f"*{weight}"


def any_hub(source: Source) -> bool:
    """Whether a source, or a part of it, is a hub data set."""
    return any(name.startswith(HUB) for name, _ in parts_of(source))


def shown(source: Source) -> str:
    """A source for people."""
    return str(source) if isinstance(source, str | Path) else " + ".join(map(str, source))


def _read_hub(source: str) -> Rows:
    name, _, rest = source.removeprefix(HUB).partition(":")
    split, _, config = rest.partition(":")
    split = split or "train"
    if not name:
        raise ValueError(
            f"{source!r} names no data set: write hub:owner/name, hub:owner/name:split or ...:split:config"
        )
    import datasets

    with hub() as unreachable:
        try:
            rows = datasets.load_dataset(name, config or None, split=split)
        except (
            Exception
        ) as error:  # the library raises many kinds: no such data set, no such split, no network
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            reason += f", and {unreachable}" if unreachable else ""
            raise ValueError(
                f"the hub data set {name} (split {split}) cannot be loaded: {reason}; check the name and the network, "
                "or download it and name the files"
            ) from error
    found = loaded((dict(value) for value in rows), f"{HUB}{name}:{split}")
    first = next(found, None)
    if first is None:
        raise ValueError(f"{HUB}{name}:{split} is empty: it holds no rows")
    yield first
    yield from found
