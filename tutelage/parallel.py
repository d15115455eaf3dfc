"""The world that a run lives in: its device, its arithmetic, and the ranks that share the work."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from tutelage.ranks.watch import moved

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """device: where tensors live.  dtype: torch.bfloat16 (autocast; weights stay float32) or torch.float32.

    `size` processes run the same `main` on the same batches; each computes its own share of every batch, and what is
    summed is summed over all of them.  Files, metrics and progress are the business of rank 0 alone (`leads`).
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    rank: int = 0
    size: int = 1

    @staticmethod
    def here() -> World:
        """This machine's, for work that was given no place: a GPU where there is one."""
        return World(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 autocast where that was chosen, nothing otherwise."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what the ranks share; over all ranks every item once."""
        return items if self.size == 1 else items[self.rank :: self.size]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add every tensor up over the ranks, in place; all ranks must call it, with the same shapes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
            moved()

    @cached_property
    def mesh(self) -> Any:
        """The ranks as one row, over which models are cut (`models.sharding`)."""
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.size,))

    def most_of(self, numbers: Sequence[int]) -> list[int]:
        """The greatest that any rank has, of each number."""
        if self.size == 1 or not numbers:
            return list(numbers)
        together = torch.tensor(list(numbers))
        distributed.all_reduce(together, distributed.ReduceOp.MAX)
        return [int(number) for number in together.tolist()]

    def gather(self, own: T) -> list[T]:
        """What every rank has, in the order of the ranks, on all of them."""
        if self.size == 1:
            return [own]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, own)
        moved()
        return found

    def together(self, work: Callable[[], T]) -> list[T]:
        """What `work` gives on every rank, in the order of the ranks, on all of them.

        Raises the ValueError or OSError that it raised on one of them on every rank: nobody is waited for in vain.
        """
        own: T | None = None
        failure: Exception | None = None
        try:
            own = work()
        except (ValueError, OSError) as error:
            if self.size == 1:
                raise
            failure = error
        both = self.gather((own, failure))
        if failed := next((error for _, error in both if error is not None), None):
            raise failed
        return [cast(T, value) for value, _ in both]

    def told(self, work: Callable[[], T]) -> T:
        """What `work` gives on rank 0, which alone does it, on all ranks; what it raises, too."""
        return self.together(lambda: work() if self.leads else cast(T, None))[0]

    def alone(self) -> World:
        """The same place for work that this rank does by itself."""
        return World(self.device, self.dtype)

    def sum_of(self, numbers: Sequence[float]) -> list[float]:
        """The same for plain numbers, in float64."""
        if self.size == 1:
            return list(numbers)
        together = torch.tensor(list(numbers), dtype=torch.float64)  # on the processor: gloo is always there
        self.sum([together])
        return list(together.tolist())

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.size > 1:
            distributed.barrier()


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step.

    glibc gives large blocks back to the system, which then hands them out again page by page: 5 to 10 % of a step at a
    million parameters.  Blocks over 128 MiB still go back.  Does nothing where the library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt(mmap_threshold, 2**27)
    mallopt(trim_threshold, 2**31 - 1)
