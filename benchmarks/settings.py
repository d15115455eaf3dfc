"""The settings of `python -m benchmarks`, in the form of every command's: YAML files and `key=value`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import field_validator

from benchmarks.work import CASES, SHAPES
from tutelage.settings.base import Settings, setting

DEFAULT_SIZES = ["S", "M"]


class BenchSettings(Settings):
    """Time Tutelage, and TRL beside it where it is installed, step by step in turns."""

    cases: list[str] = setting(list(CASES), f"What to time: {', '.join(CASES)}.")
    sizes: list[str] = setting(
        DEFAULT_SIZES, "Sizes of the model: XS (tiny, to try things out), S (1 M), M (10 M parameters)."
    )
    rounds: int = setting(7, "Timed steps of every side.", unit="steps", ge=1)
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "Arithmetic; auto takes bf16 where the processor has it. fp32 holds for TRL too."
    )
    threads: int = setting(0, "Threads of every process; 0 = one per core.", unit="threads", ge=0)
    trl_python: str = setting(
        "", "Python interpreter of an environment with TRL; empty: $TRL_PYTHON, else this one."
    )
    trl_ppo_python: str = setting(
        "", "The same for PPO, which needs TRL 1.12 or older; empty: $TRL_PPO_PYTHON, else trl_python."
    )
    out: str = setting("", "Also write the results to this file, as JSON; empty only prints them.")

    @field_validator("cases")
    @classmethod
    def _known_cases(cls, value: list[str]) -> list[str]:
        return known("case", value, CASES)

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: list[str]) -> list[str]:
        return known("size", value, SHAPES)


def known(what: str, given: list[str], known: Iterable[str]) -> list[str]:
    names = list(known)
    for name in given:
        if name not in names:
            raise ValueError(f"there is no {what} {name!r}: choose from {', '.join(names)}")
    return given
