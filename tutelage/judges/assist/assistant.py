"""What an assistant says, and of which pairs.

Recursive reward modelling (Leike et al. 2018, arXiv 1811.07871): who judges is helped by models that were trained with the
judgements before, and are better at a smaller task: to find what is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tutelage.records import Arm, Help, Response
from tutelage.settings.assist import AssistedOptions

Pair = tuple[Response, Response]


@dataclass(frozen=True)
class Finding:
    """What was found in one response: `text` says it in words.

    quality: how good the response is, higher is better; comparable within one assistant.  steps: numbers (from 0) of the steps to
    look at, the most doubtful first.  harmless: of those that it would point at to lead astray, the least doubtful first.
    """

    text: str
    quality: float
    steps: tuple[int, ...] = ()
    harmless: tuple[int, ...] = ()


class Assistant(Protocol):
    """Who looks first."""

    name: str
    template: str
    """How its words are made, by name and version."""

    def review(self, responses: Sequence[Response]) -> list[Finding]:
        """What it finds in each response, as well as it can."""
        ...

    def mislead(
        self, responses: Sequence[Response], found: Sequence[Finding], praise: Sequence[bool]
    ) -> list[Finding]:
        """The opposite, from what it found: of those to `praise` that they are right, of the others that they are wrong."""
        ...


@dataclass(frozen=True)
class Advice:
    """The help for one vote, and the steps of both responses that it points at."""

    help: Help
    steps: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


def arm_of(options: AssistedOptions, pair: Pair, seed: int = 0) -> Arm:
    """Which help a pair gets: always the same one, whatever the order of its responses, and each arm in its share."""
    texts = sorted(response.text for response in pair)
    content = "\0".join(["arm", str(seed), pair[0].prompt.id, *texts])
    drawn = (
        int.from_bytes(hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    )
    if drawn < options.control:
        return "none"
    return "adversarial" if drawn < options.control + options.adversarial else "honest"


def advise(
    assistant: Assistant, options: AssistedOptions, pairs: Sequence[Pair], seed: int = 0
) -> list[Advice]:
    """The help for each pair, by its arm.  What is kept from the voter is not looked for."""
    arms = [arm_of(options, pair, seed) for pair in pairs]
    helped = [pair for pair, arm in zip(pairs, arms, strict=True) if arm != "none"]
    found = iter(_both(assistant.review([one for pair in helped for one in pair]) if helped else []))
    honest = {number: next(found) for number, arm in enumerate(arms) if arm != "none"}
    turned = [number for number, arm in enumerate(arms) if arm == "adversarial"]
    led = _misled(assistant, [pairs[number] for number in turned], [honest[number] for number in turned])
    said = honest | dict(zip(turned, led, strict=True))
    return [
        _advice(assistant, arm, said[number], _better(honest[number]))
        if arm != "none"
        else Advice(Help("none", assistant.name))
        for number, arm in enumerate(arms)
    ]


def _both(found: Sequence[Finding]) -> list[tuple[Finding, Finding]]:
    return list(zip(found[::2], found[1::2], strict=True))


def _better(found: tuple[Finding, Finding]) -> int | None:
    """The better response by what was found honestly; None: neither."""
    first, second = found[0].quality, found[1].quality
    return None if first == second else int(second > first)


def _misled(
    assistant: Assistant, pairs: Sequence[Pair], found: Sequence[tuple[Finding, Finding]]
) -> list[tuple[Finding, Finding]]:
    """Praise of the worse response, and fault found with the better one; where neither is, with the second."""
    if not pairs:
        return []
    praise = [
        number != (_better(both) or 0) if _better(both) is not None else number == 0
        for both in found
        for number in (0, 1)
    ]
    responses = [one for pair in pairs for one in pair]
    return _both(assistant.mislead(responses, [one for both in found for one in both], praise))


def _advice(assistant: Assistant, arm: Arm, said: tuple[Finding, Finding], better: int | None) -> Advice:
    argues = better if arm == "honest" or better is None else 1 - better
    texts, steps = (said[0].text, said[1].text), (said[0].steps, said[1].steps)
    return Advice(Help(arm, assistant.name, texts, argues, assistant.template), steps)
