"""Which of the page's colours a model is drawn in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tutelage.evals import figures

SLOTS = {"sft": 1, "ppo": 2, "dpo": 3, "reward": 4, "pretrain": 5, "reinforce": 6}


def slots_of(names: Sequence[str]) -> dict[str, int]:
    """A colour for every model, in order: the same for a name that is (or ends in) a command's, a free one for the others."""
    slots: dict[str, int] = {}
    for name in names:
        known = SLOTS.get(re.split(r"[/\-_ ]", name.lower())[-1]) or SLOTS.get(
            re.split(r"[/\-_ ]", name.lower())[0]
        )
        if known and known not in slots.values():
            slots[name] = known
    free = [slot for slot in range(figures.SERIES, 0, -1) if slot not in slots.values()]
    for name in names:
        if name not in slots:
            slots[name] = free.pop(0) if free else 1 + len(slots) % figures.SERIES
    return {name: slots[name] for name in names}
