"""Rehearsals, kept in the cache: what a model takes does not depend on its weights, and is asked for at every start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

import tutelage
from tutelage.cache import claim
from tutelage.files import folder_atomic, sha256_of, write_json_atomic
from tutelage.models.cpu.compiler import kernels_here
from tutelage.models.loading import config_of
from tutelage.models.memory import Pass, Taken
from tutelage.models.rehearsal import Part, Role, Shape, measure

FILE = "part.json"
# Our code that is rehearsed, or that says what it is given.
CODE = ("models", "ops", "data/batch.py")


def measured(
    role: Role, shape: Shape, micro_batch_tokens: int, arithmetic: torch.dtype, device_type: str
) -> Part:
    """What `rehearsal.measure` finds, which is rehearsed once for every architecture, batch and way of computing."""
    how = [asdict(shape), micro_batch_tokens, str(arithmetic), device_type]
    try:
        with claim("rehearsals", _key(role, how)) as folder:
            if not folder.exists():
                part = measure(role, shape, micro_batch_tokens, arithmetic, device_type)
                with folder_atomic(folder) as partial:
                    write_json_atomic(partial / FILE, _to_json(part))
            return _from_json(json.loads((folder / FILE).read_text(encoding="utf-8")), role)
    except (OSError, ValueError):  # where the cache cannot be written; what else is wrong is found again
        return measure(role, shape, micro_batch_tokens, arithmetic, device_type)


def _key(role: Role, how: list[Any]) -> str:
    """A hash of all that a rehearsal depends on: the model without its name or weights, what it is for, batch, code."""
    config = {**config_of(role.source).to_dict(), "_name_or_path": ""}
    # Whose weights it uses does not matter, but that they are another's does.
    asked = {**asdict(replace(role, name="", source="", beside="other" if role.beside else "")), "source": ""}
    asked["dtype"] = str(role.dtype)
    compiled = kernels_here().library is not None
    parts = [config, asked, how, compiled, _code()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """The code that is rehearsed."""
    root = Path(tutelage.__file__).parent
    files = [file for name in CODE for file in sorted((root / name).rglob("*.py")) or [root / name]]
    digests = "".join(sha256_of(file) for file in files)
    return (
        f"{digests} {torch.__version__} {transformers.__version__} {torch.backends.cpu.get_cpu_capability()}"
    )


def _to_json(part: Part) -> dict[str, Any]:
    return {name: value for name, value in asdict(part).items() if name != "role"}


def _from_json(found: dict[str, Any], role: Role) -> Part:
    passes = Pass(**{name: Taken(**taken) for name, taken in found.pop("passes").items()})
    return Part(role=role, passes=passes, **found)
