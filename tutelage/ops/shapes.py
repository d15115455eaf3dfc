"""Sizes at which to compute."""

from __future__ import annotations


def round_up(count: int, device_type: str = "cpu") -> int:
    """How many rows to compute for `count`: on a CPU the next of a few sizes, at most a 32nd more (or 15 rows).

    oneDNN writes a kernel for every new shape, which takes longer than a small product, and ragged text brings a new
    shape with every step.  There are 32 sizes from each power of two to the next.
    """
    if device_type != "cpu":
        return count
    step = max(16, 1 << max(count.bit_length() - 6, 0))
    return -(-count // step) * step
