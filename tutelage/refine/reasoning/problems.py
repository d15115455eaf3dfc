"""What is known of problems beforehand: the traps in them, whether they join two ideas, which of their options are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np

from tutelage.evals.counting import Bools
from tutelage.evals.rows import OVERALL
from tutelage.judges.verify.choice import Letters, right_letters
from tutelage.records import ErrorKind, Prompt
from tutelage.settings.judges import WORLD
from tutelage.settings.refine import EQUATIONS
from tutelage.worlds.options import TRAPS

KINDS: tuple[str, ...] = get_args(ErrorKind)
JOINED, SINGLE = "joined", "single"
SAME, OTHER = "same", "other"
UNNAMED = "unnamed"  # the kind of what cannot be read
TRAP, ERROR = "trap/", "error/"  # what the tasks of rows about one of them begin with


@dataclass(frozen=True)
class Problems:
    """The problems, the same for every model.

    by_world: the world's expert marks, who names traps.  kinds: the kinds of error that the marker can name.  trained: traps
    or kinds that the problems of training had.
    """

    prompts: Sequence[Prompt]
    by_world: bool = True
    kinds: Sequence[str] = KINDS
    trained: Sequence[str] = ()

    @property
    def keys(self) -> list[str]:
        return [prompt.id for prompt in self.prompts]

    @cached_property
    def traps(self) -> list[frozenset[str]]:
        """The traps in each problem, as its reference names them."""
        return [frozenset(_named(_reference(prompt).get("traps"))) for prompt in self.prompts]

    @cached_property
    def letters(self) -> list[Letters | None]:
        """The right options of each problem; None where its answer is no letters."""
        return [right_letters(_reference(prompt)) for prompt in self.prompts]

    def with_trap(self) -> dict[str, Bools]:
        """Trap -> the problems that have it."""
        names = dict.fromkeys(trap for own in self.traps for trap in sorted(own))
        known = [trap for trap in TRAPS if trap in names] if self.by_world else list(names)
        return {name: np.array([name in own for own in self.traps]) for name in known}

    def groups(self) -> dict[str, Bools]:
        """Task of a row -> its problems: all, with each trap, of two ideas or one, like those of training or others."""
        found = {OVERALL: np.ones(len(self.prompts), bool)}
        found |= {TRAP + name: members for name, members in self.with_trap().items()}
        joined = [_reference(prompt).get("joined") for prompt in self.prompts]
        found |= {
            JOINED: np.array([one is True for one in joined]),
            SINGLE: np.array([one is False for one in joined]),
        }
        if self.trained:
            same = np.array([bool(own & set(self.trained)) for own in self._like])
            other = np.array([bool(own) for own in self._like]) & ~same
            found |= {SAME: same, OTHER: other}
        return {name: members for name, members in found.items() if members.any()}

    @cached_property
    def _like(self) -> list[frozenset[str]]:
        """The traps and the kinds of error that each problem is made for."""
        found = []
        for prompt, traps in zip(self.prompts, self.traps, strict=True):
            own = set(traps) | {TRAPS[trap].error for trap in traps if trap in TRAPS}
            found.append(frozenset(own | set(_named(_reference(prompt).get("error")))))
        return found

    def check_trained(self) -> None:
        """Raises ValueError where `trained` names what no problem has."""
        known = sorted(frozenset[str]().union(*self._like))
        for name in self.trained:
            if name not in known:
                there = f"they have {', '.join(known)}" if known else "their references name none"
                raise ValueError(
                    f"trained has {name!r}, a trap or kind of error that no problem has: {there}."
                )


def kinds_of(marks: Any) -> tuple[str, ...]:
    """The kinds of error that who marks can name."""
    return {WORLD: KINDS, EQUATIONS: ("calculation",)}.get(marks, ()) if isinstance(marks, str) else ()


def _reference(prompt: Prompt) -> Mapping[str, Any]:
    return prompt.reference or {}


def _named(given: Any) -> list[str]:
    """Names in a list, or one."""
    several = given if isinstance(given, list | tuple) else [given]
    return [one for one in several if isinstance(one, str) and one]
