"""Who can judge: demonstrations of rating responses, so that a policy can be asked what its own are worth.

Self-rewarding language models (Yuan et al. 2024, arXiv 2401.10020) begin with such demonstrations, beside those of answering.
"""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.judges.llm.templates import read_template
from tutelage.records import Demonstration, Message, Prompt
from tutelage.seeds import rng

from .gold import grade
from .world import prompt_at, write_response

TEMPLATE = "points"


def judgements(seed: int, count: int, careless: float) -> Iterator[Demonstration]:
    """`count` responses to chains as the template `points` shows them, of which the share `careless` is flawed, with their gold
    score in points."""
    template = read_template(TEMPLATE)
    low, high = template.scale
    for index in range(count):
        prompt = prompt_at(seed, "judgements", index, "chain")
        text = write_response(prompt, rng(seed, "world", "judged", index), careless).text
        asked = [
            Message(one["role"], one["content"])
            for one in template.messages("logits", prompt=prompt.text(), response=text)
        ]
        points = low + round(grade(prompt, text).value * (high - low))
        yield Demonstration(Prompt(tuple(asked), "chain"), str(points))
