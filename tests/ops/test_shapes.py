"""The sizes at which things are computed."""

from __future__ import annotations

from tutelage.ops.shapes import round_up


def test_few_sizes_none_much_larger() -> None:
    for low in (512, 1024, 4096):
        assert len({round_up(n) for n in range(low, 2 * low)}) <= 33
    for n in range(1, 5000):
        assert n <= round_up(n) < n + max(16, n / 32 + 1)
        assert round_up(round_up(n)) == round_up(n)
    assert round_up(77, "cuda") == 77
