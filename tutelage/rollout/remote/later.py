"""What is worked out beside the program, one thing after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """The result of `work`, done in a thread of its own as soon as what came `before` is done.

    Nobody waits for the thread when the program ends: what it asks servers for may take as long as their patience.
    """

    def __init__(self, work: Callable[[], T], before: Later[Any] | None = None) -> None:
        self._found: list[T] = []
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._do, args=(work, before), name="draws", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it is done, well or not."""
        self._thread.join()

    def result(self) -> T:
        """What `work` returns; raises what it raises."""
        self.wait()
        if self._fault is not None:
            raise self._fault
        return self._found[0]

    def _do(self, work: Callable[[], T], before: Later[Any] | None) -> None:
        try:
            if before is not None:
                before.wait()
            self._found.append(work())
        except BaseException as fault:  # whoever asks for the result gets it
            self._fault = fault
