"""Data sheets of GPUs, and what published runs reached of them.  Sources and dates: docs/cluster-plan.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OF_LINKS = 0.8
"""Share of a link's bandwidth that large all-gathers reach: NCCL's bus bandwidth on 8 A100 is 230 to 250 of 300 GB/s."""

OF_MEMORY = 0.6
"""Share of the memory bandwidth that decoding reaches: gpt-fast reads 1,397 of 2,039 GB/s on an A100 in bf16; here less is
fused."""


@dataclass(frozen=True)
class GPU:
    """bytes: memory, by the data sheet, in powers of ten: what the card has beyond goes to driver and communication.
    flops: dense bf16, per second.  bandwidth: of its memory, bytes/s.  nvlink: in one direction, bytes/s.  node: network of
    a node of eight in one direction, bytes/s.  reached: share of `flops` that training in bf16 reaches while it computes.
    """

    name: str
    bytes: float
    flops: float
    bandwidth: float
    nvlink: float
    node: float
    reached: float


GPUS: Mapping[str, GPU] = {
    gpu.name: gpu
    for gpu in (
        GPU("A100-80", 80e9, 312e12, 2.039e12, 300e9, 8 * 25e9, 0.67),
        GPU("H100", 80e9, 989e12, 3.35e12, 450e9, 8 * 50e9, 0.45),
        GPU("H200", 141e9, 989e12, 4.8e12, 450e9, 8 * 50e9, 0.45),
        GPU("B200", 180e9, 2250e12, 8e12, 900e9, 8 * 50e9, 0.45),
    )
}


@dataclass(frozen=True)
class Cluster:
    """`ranks` GPUs, `per_node` in each node, whose network moves `network` bytes/s in and as many out."""

    gpu: GPU
    ranks: int
    per_node: int
    network: float

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.per_node)

    def gather_seconds(self, size: float) -> float:
        """To have `size` bytes, of which every rank holds its share, on every rank; a reduce-scatter is the same backwards.

        Every rank takes in what it does not hold, (ranks - 1) / ranks of it, by NVLink; a node takes in what its ranks do not
        hold, (nodes - 1) / nodes, by its network, once for all of them.  Both go on at once: the slower one counts.
        """
        inside = size * (self.ranks - 1) / self.ranks / (self.gpu.nvlink * OF_LINKS)
        between = size * (self.nodes - 1) / self.nodes / (self.network * OF_LINKS)
        return max(inside, between)
