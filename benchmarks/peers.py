"""Where TRL is, and in which ways it is run for a case."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.settings import BenchSettings

LAST_WITH_PPO = (1, 12)
"""The PPO trainer left TRL in version 1.13."""

ALONE = ("orpo", "simpo", "kto", "kto_pairs")
"""Cases that are timed to be put beside our own DPO."""

VARIANTS = {"dpo": ("", "reference every step")}
"""TRL is measured as it does the same work as ours, and for DPO also as it works by default."""


@dataclass(frozen=True)
class Peer:
    """One way to run TRL: the interpreter, the variant that `peer_trl` is told, and what to call it."""

    python: str
    variant: str
    label: str


def peers_for(case: str, settings: BenchSettings) -> tuple[list[Peer], str]:
    """The ways to run TRL for `case`, and when there are none, one sentence that says why."""
    if case in ALONE:
        return [], f"{case} stands beside our own DPO, with as many tokens."
    python, source = _interpreter(case, settings)
    version, problem = _version(python)
    if problem:
        return [], f"TRL is left out: {problem} ({source})."
    if case == "ppo" and tuple(int(part) for part in version.split(".")[:2]) > LAST_WITH_PPO:
        return [], f"TRL is left out: {version} has no PPO trainer, 1.12 is the last that has ({source})."
    name = "transformers.generate" if case == "generation" else f"TRL {version}"
    return [
        Peer(python, variant, f"{name}, {variant}" if variant else name)
        for variant in VARIANTS.get(case, ("",))
    ], ""


def _interpreter(case: str, settings: BenchSettings) -> tuple[str, str]:
    """(path, where the choice comes from)."""
    choices = [
        (settings.trl_python, "trl_python"),
        (os.environ.get("TRL_PYTHON", ""), "$TRL_PYTHON"),
        (sys.executable, "this environment; set trl_python to one that has it"),
    ]
    if case == "ppo":
        choices = [
            (settings.trl_ppo_python, "trl_ppo_python"),
            (os.environ.get("TRL_PPO_PYTHON", ""), "$TRL_PPO_PYTHON"),
            *choices[:2],
            (sys.executable, "this environment; set trl_ppo_python to one that has it"),
        ]
    return next(choice for choice in choices if choice[0])


def _version(python: str) -> tuple[str, str]:
    """(version of TRL in that environment, what is wrong)."""
    script = "import importlib.metadata as m; print(m.version('trl'))"
    try:
        found = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=60)
    except OSError as error:
        return "", f"{python} does not run: {error.strerror}"
    return (found.stdout.strip(), "") if found.returncode == 0 else ("", f"it is not installed for {python}")
