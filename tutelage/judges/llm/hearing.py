"""Asking a language model, reading what it says, and asking once more where that says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from tutelage.judges.llm.asking import Asker, Call
from tutelage.judges.llm.tally import Tally
from tutelage.settings.judges import LLMOptions
from tutelage.store import Answer

AGAIN = (
    "There is no verdict in your answer that can be read. Give the same verdict again, as JSON alone and with nothing around it, "
    "as you were asked to."
)
PROBE = 16  # answers after which a judge without a single verdict is given up
Progress = Callable[[int], None]
T = TypeVar("T")
S = TypeVar("S", covariant=True)


class Asked(NamedTuple, Generic[S]):
    """A question, and what reads its answer: None where that holds no verdict."""

    call: Call
    read: Callable[[Answer], S | None]


@dataclass
class Hearing:
    """Of one judge, called `name`; `tally` counts what its answers were like."""

    name: str
    options: LLMOptions
    asker: Asker
    endpoint: Callable[[], Any]
    tally: Tally

    def heard(self, asked: Sequence[Asked[T]], progress: Progress | None) -> list[T | None]:
        """The verdict of every answer, in order.  Raises ValueError where none of the first PROBE holds one."""
        if self.tally.answers == 0 and len(asked) > PROBE:  # before all is paid for
            return self.heard(asked[:PROBE], progress) + self.heard(asked[PROBE:], progress)
        if not asked:
            return []
        answers = self._answers([one.call for one in asked], progress)
        found = [_read(one, answer) for one, answer in zip(asked, answers, strict=True)]
        self.tally.answers += len(found)
        if self.options.mode == "text" and self.options.repair:
            self._repair(asked, answers, found)
        self.tally.unparsed += found.count(None)
        if self.tally.unparsed == self.tally.answers >= PROBE:
            raise ValueError(self._says_nothing(answers[-1]))
        return found

    def _says_nothing(self, said: Answer) -> str:
        shown = " ".join(said.text.split())[:80] or "nothing"
        return (
            f"none of {self.tally.answers} answers of {self.name} holds a verdict, the last one says {shown!r}: take another "
            f"model, template or mode{', or raise max_tokens' if said.finish == 'length' else ''}."
        )

    def _repair(self, asked: Sequence[Asked[T]], answers: Sequence[Answer], found: list[T | None]) -> None:
        """Ask once more where there was no verdict; what is found then takes its place."""
        again: dict[int, Call] = {}
        for number, (one, said) in enumerate(zip(asked, answers, strict=True)):
            if found[number] is None and said.status == "answered":
                words = (
                    {"role": "assistant", "content": said.text or "(nothing)"},
                    {"role": "user", "content": AGAIN},
                )
                call = one.call
                again[number] = Call(
                    (*call.messages, *words), call.params, f"{call.about} again", call.prompt
                )
        for number, answer in zip(again, self._answers(list(again.values()), None), strict=True):
            found[number] = _read(asked[number], answer)
            self.tally.repaired += found[number] is not None

    def _answers(self, calls: Sequence[Call], progress: Progress | None) -> list[Answer]:
        return self.asker.ask(calls, self.endpoint, progress) if calls else []


def _read(one: Asked[T], answer: Answer) -> T | None:
    return None if answer.status == "refused" else one.read(answer)
