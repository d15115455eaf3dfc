"""One instance of a study: is it done, what is stale about it, its store, and the run itself."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage import pipeline
from tutelage.files import folder_atomic, write_json_atomic, write_text_atomic
from tutelage.resume import read_lineage, standing
from tutelage.store.sqlite_file import copy_compact
from tutelage.study.plan import STORE, Instance

ORIGIN = "origin.json"
"""Beside the copy of a store: the run whose store it was."""


def why_run(one: Instance, instances: Mapping[str, Instance]) -> str | None:
    """As `pipeline.why_run`; the store that it goes on from is an input, too."""
    reason = pipeline.why_run(one.stage)
    if (
        reason
        or one.store is None
        or standing(one.stage.folder, one.stage.command, one.stage.settings).state == "free"
    ):
        return reason
    if _origin(one.store.parent) != _source(one, instances):
        return "the store that it goes on from has changed"
    return reason


def do(one: Instance, instances: Mapping[str, Instance], console: Console) -> bool:
    """Do what is left of it; False where nothing is.  Raises what its command raises."""
    reason = why_run(one, instances)
    if reason is None:
        console.print(f"{one.stage.folder}: unchanged, skipped.")
        return False
    if one.store is not None:
        _prepare_store(one, one.store.parent, instances, stale=bool(reason))
    pipeline.start(one.stage, reason, console)
    return True


def attempt(one: Instance, instances: Mapping[str, Instance], out: Path, console: Console) -> str | None:
    """Do an instance; why it failed, in one line, or None.  What is no user's mistake leaves its traceback in OUT/logs."""
    try:
        do(one, instances, console)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        if isinstance(error, ValueError | OSError):
            return first
        log = out / "logs" / f"{one.name.replace('/', '.')}.traceback.txt"
        write_text_atomic(log, traceback.format_exc())
        return f"{type(error).__name__}: {first} ({log})"
    return None


def _prepare_store(one: Instance, folder: Path, instances: Mapping[str, Instance], stale: bool) -> None:
    """The store as it was before the run: nothing, or a copy of the one it goes on from.  A stale one is set aside."""
    source = _source(one, instances)
    begun = standing(one.stage.folder, one.stage.command, one.stage.settings).state != "free"
    if folder.exists() and not stale and _origin(folder) == source and (begun or one.store_from):
        return  # with the votes that the run has cast so far, or a copy without any
    if folder.exists():
        pipeline.set_aside(folder)
    with folder_atomic(folder) as partial:
        if one.store_from is not None:
            before = instances[one.store_from].store
            assert before is not None, "who hands on a store has one"
            copy_compact(before, partial / STORE)
        write_json_atomic(partial / ORIGIN, source)


def _source(one: Instance, instances: Mapping[str, Instance]) -> dict[str, Any]:
    """Which run's store it goes on from, so that another run in the same folder is another one."""
    if one.store_from is None:
        return {}
    lineage = read_lineage(instances[one.store_from].stage.folder) or {}
    return {
        "from": one.store_from,
        **{key: lineage.get(key) for key in ("started_at", "finished_at", "seconds")},
    }


def _origin(folder: Path) -> dict[str, Any] | None:
    path = folder / ORIGIN
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
