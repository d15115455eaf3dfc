"""How fast this machine multiplies matrices right now: one turn is PRODUCTS products of SIDE x SIDE matrices.

`python -m benchmarks.meter WORK`, where WORK is a `Work` as JSON (its threads and precision count).
"""

from __future__ import annotations

import sys

import torch

from benchmarks.turns import Turns
from benchmarks.work import Work

SIDE = 1024
PRODUCTS = 20
FLOPS = PRODUCTS * 2 * SIDE**3


def multiply(work: Work, turns: Turns) -> None:
    """Multiply, turn by turn, until there are no more turns."""
    if work.threads:
        torch.set_num_threads(work.threads)
    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    a, b = (torch.ones(SIDE, SIDE, dtype=dtype) for _ in range(2))
    while True:
        for _ in range(PRODUCTS):
            torch.mm(a, b)
        turns.wait()


if __name__ == "__main__":
    pace = Turns()
    multiply(Work.from_json(sys.argv[1]), pace)
