"""The worked example of Iterative Refinement with Explanations: a problem that misleads, a solution with a false step in it, what
an expert said of each step, and the solution that came of it.  `FILE` has it as an expert would write it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "golden" / "refinement.json"
ROW: dict[str, Any] = json.loads(FILE.read_text("utf-8"))[0]
PROMPT: str = ROW["prompt"]
FIRST, SECOND = ROW["rounds"]
REWRITE: str = FIRST["feedback"][4]["rewrite"]
PREFIX = "".join(f"{step}\n\n" for step in FIRST["steps"][:4])
"""The four steps that both solutions begin with."""


def text(said: dict[str, Any]) -> str:
    """A solution as the model wrote it: its steps, and its answer below the last one."""
    return "\n\n".join(said["steps"]) + "\n" + said["answer"]
