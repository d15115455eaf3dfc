"""Simulated annotators: they see the gold standard through noise, and they have the habits of people.

The noisy utility of the second response over the first, in logits, is

    u = sharpness * (gold_second - gold_first) + length_bias * (words_second - words_first) / 10 +- position_bias + noise,

where the position bias favours the response shown first and the noise is standard logistic. Where |u| is below
`tie_width` the vote is a tie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tutelage.records import Vote
from tutelage.seeds import rng

GAP = 0.5  # the gold difference at which `reliability` is stated
STRONGER = (1.5, 3.0)  # |u| from which a preference counts as 2, and as 3
MOST_WORDS = 20  # a difference in length beyond this sways nobody further
PEOPLE = (
    (0.97, 0.0, 0.0),
    (0.95, 0.2, 0.1),
    (0.93, 0.1, 0.3),
    (0.9, 0.3, 0.0),
    (0.85, 0.2, 0.2),
    (0.75, 0.5, 0.3),
)


@dataclass(frozen=True)
class Annotator:
    """One simulated person.

    reliability: probability (0.5 to below 1) of preferring the better of two equally long responses that differ by 0.5
    in gold score, when neither position nor ties play a part. position_bias: logits in favour of what is shown first.
    length_bias: logits per ten words more. tie_width: half the width, in logits, of the band in which the annotator sees
    no difference.
    """

    name: str
    reliability: float
    position_bias: float
    length_bias: float
    tie_width: float

    def __post_init__(self) -> None:
        if not 0.5 <= self.reliability < 1:
            raise ValueError(
                f"annotator {self.name} has reliability {self.reliability}; it must be at least 0.5 and below 1"
            )

    @property
    def sharpness(self) -> float:
        """Logits per unit of gold score."""
        return math.log(self.reliability / (1 - self.reliability)) / GAP


def panel(seed: int, length_bias: float = 0.0, position_bias: float = 0.0) -> tuple[Annotator, ...]:
    """Six people, from careful to careless; the seed varies each of them a little.  The biases are what a pool has in common, in
    logits beside each one's own."""
    people = []
    for number, (reliability, position, length) in enumerate(PEOPLE):
        draw = rng(seed, "world", "annotator", number)
        people.append(
            Annotator(
                name=f"sim-{seed}-{number}",
                reliability=round(reliability + draw.uniform(-0.02, 0.02), 3),
                position_bias=round(position + position_bias + draw.uniform(-0.05, 0.05), 3),
                length_bias=round(length + length_bias + draw.uniform(-0.05, 0.05), 3),
                tie_width=round(draw.uniform(0.1, 0.4), 3),
            )
        )
    return tuple(people)


def vote(
    annotator: Annotator,
    texts: tuple[str, str],
    grades: tuple[float, float],
    first_shown: int,
    generator: np.random.Generator,
) -> Vote:
    """What the annotator says of two responses, given their gold scores; `first_shown` (0 or 1) is the one shown first."""
    assert first_shown in (0, 1)
    words = len(texts[1].split()) - len(texts[0].split())
    utility = annotator.sharpness * (grades[1] - grades[0])
    utility += annotator.length_bias * max(-MOST_WORDS, min(MOST_WORDS, words)) / 10
    utility += annotator.position_bias * (1 if first_shown == 1 else -1)
    utility += float(generator.logistic())
    size = abs(utility)
    if size < annotator.tie_width:
        return Vote(annotator.name, 0, first_shown)
    strength = 1 + sum(size >= limit for limit in STRONGER)
    return Vote(annotator.name, strength if utility > 0 else -strength, first_shown)
