"""A decode step that is played back instead of called.

A step of a few rows is hundreds of small kernels, and on a GPU launching them takes longer than running them: there a step
is recorded as one CUDA graph when it has been called a few times with the same storage.  What is recorded reads and writes the
memory that it had then, and computes with the Python numbers of then: a step that is to be played must keep everything that
changes in tensors that stay where they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

WARM = 2
"""Calls before a step is recorded: libraries choose their kernels and take their memory in the first."""

Step = Callable[[], Tensor]
Record = Callable[[Step], Step]
"""A step -> the same played back: its result lies in the same tensor every time."""

_log = logging.getLogger(__name__)


class Played:
    """`step` (tokens [rows] -> logits [rows, V]), recorded by `record` and played as long as its storage stays the same."""

    def __init__(self, step: Callable[[Tensor], Tensor], record: Record) -> None:
        self._step, self._record = step, record
        self._able, self._calls = True, 0
        self._storage: Hashable = None
        self._tokens: Tensor | None = None
        self._play: Step | None = None

    def __call__(self, tokens: Tensor, storage: Hashable) -> Tensor:
        """The logits of what follows `tokens`; overwritten by the next call.  storage: other where the step would read or write
        other memory."""
        if storage != self._storage:
            self._storage, self._calls, self._play = storage, 0, None
        self._calls += 1
        if self._able and self._play is None and self._calls > WARM:
            self._recorded(tokens)
        if self._play is None or self._tokens is None:
            return self._step(tokens)
        self._tokens.copy_(tokens)
        return self._play()

    def _recorded(self, tokens: Tensor) -> None:
        """Record the step; one that cannot be (its kernels depend on what it computes) is called from now on."""
        own = self._tokens = tokens.clone()
        try:
            self._play = self._record(lambda: self._step(own))
        except RuntimeError as error:
            self._able = False
            _log.warning("Decoding without a CUDA graph: %s", str(error).splitlines()[0])


def cuda_graph(step: Step) -> Step:
    """Record a step as a CUDA graph.  Raises RuntimeError where it does something that cannot be."""
    graph = torch.cuda.CUDAGraph()
    other_threads_go_on = "thread_local"  # they may serve people meanwhile
    with torch.cuda.graph(graph, capture_error_mode=other_threads_go_on):
        result = step()

    def play() -> Tensor:
        graph.replay()
        return result

    return play


def recorder(device: torch.device) -> Record | None:
    """How steps are recorded on a device; None where calls cost no more than what they do."""
    return cuda_graph if device.type == "cuda" else None
