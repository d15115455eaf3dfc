"""What the lineage table of a report says of a run.  No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.data.reading.sources import shown
from tutelage.evals.folders import RunFolder, parents
from tutelage.evals.page.slots import SLOTS


def facts(run: RunFolder, runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What the lineage table says of a run beside its numbers."""
    owned = parents(run, runs)
    owners = {str(entry.get("name")): parent.name for parent, entry in owned}
    inputs = []
    recorded = run.lineage.get("inputs", [])
    for entry in [*recorded, *(entry for _, entry in owned if entry not in recorded)]:
        name = str(entry.get("name", ""))
        inputs.append(
            (owners.get(name) or shown(entry.get("path", "")), name, str(entry.get("sha256") or "")[:10])
        )
    code = run.lineage.get("code") or {}
    version = (
        " ".join(str(code[key]) for key in ("version", "commit") if code.get(key))
        if isinstance(code, dict)
        else str(code)
    )
    return {
        "name": run.name,
        "command": run.command,
        "state": run.state,
        "seed": run.lineage.get("seed"),
        "code": version,
        "inputs": inputs,
        "slot": SLOTS.get(run.command, 0),
    }


def machine_of(machine: Any) -> str:
    """The machine of a lineage in one line."""
    if not isinstance(machine, dict):
        return str(machine or "")
    return ", ".join(
        f"{key} {value}" if key == "cores" else str(value) for key, value in machine.items() if value
    )
