"""A language model's part, played by the gold standard: it reads what a judge is asked in words, and answers in words.

Its verdicts are those of a simulated annotator (`annotators.py`), drawn by the content of the question: the same question has the
same answer.  A share of its answers says nothing that can be read, as some models' do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.judges.llm.templates import unfenced
from tutelage.records import Prompt
from tutelage.seeds import rng
from tutelage.worlds.annotators import MOST_WORDS, Annotator, vote
from tutelage.worlds.gold import gradable, grade, mark
from tutelage.worlds.world import write_response

UNREADABLE = (
    "Both responses have their merits, and it would be hard to choose.",
    '{"rationale": "The first response is clear and',
    "",
    '{"rationale": "", "rank": [3]}',
    '"rank": [1] for style, but "rank": [2] for substance',
    "I am sorry, but I cannot judge this.",
    '{"rationale": "See above.", "rating": "high"}',
)
STRANGE = "I do not know this prompt."
SCORES = re.compile(r'"scores" before "rank": (\{.*?\}), where a and b are whole numbers from (\d+) to (\d+)')
CRITERION = re.compile(r'("(?:[^"\\]|\\.)*"): \[a, b\]')


@dataclass(frozen=True)
class Said:
    """An answer: its text, and log-probabilities of first tokens where they were asked for."""

    text: str
    likely: Mapping[str, float] | None = None


class Speaker:
    """Answers questions about responses to `prompts`, which it knows by their text."""

    def __init__(self, prompts: Sequence[Prompt], annotator: Annotator, malformed: float, seed: int) -> None:
        self._prompts = {one.text(): one for one in prompts if gradable(one)}
        self._annotator, self._malformed, self._seed = annotator, malformed, seed

    def answer(self, messages: Sequence[Mapping[str, Any]], weighed: bool) -> Said:
        """What it says to the last question in the messages; `weighed`: the probabilities of its first token, too."""
        content = json.dumps([[one["role"], one["content"]] for one in messages])
        draw = rng(self._seed, "speaker", content)
        if not weighed and draw.random() < self._malformed:
            return Said(UNREADABLE[int(draw.integers(len(UNREADABLE)))])
        asked = (unfenced(str(one["content"])) for one in reversed(messages))
        found = next((texts for texts in asked if texts), {})
        words = str(next((one["content"] for one in reversed(messages) if unfenced(str(one["content"]))), ""))
        prompt = self._prompts.get(found.get("prompt", ""))
        if prompt is None:
            return Said(STRANGE)
        if "critique" in found:
            return Said(write_response(prompt, draw, careless=0.0).text)
        if "draft" in found:
            return Said(f"By the gold standard it is worth {grade(prompt, found['draft']).value}.")
        if "response" in found:
            return self._rating(grade(prompt, found["response"]).value, weighed, draw)
        if "step-1" in found:
            return self._marks(prompt, found, draw)
        if "best first" in words:
            return self._ranking(prompt, found, draw)
        texts = (found["response-1"], found["response-2"])
        grades = (grade(prompt, texts[0]).value, grade(prompt, texts[1]).value)
        return self._pair(texts, grades, weighed, draw, words)

    def _marks(self, prompt: Prompt, found: Mapping[str, str], draw: Any) -> Said:
        """Those of the expert, each seen through noise; of what no expert marks, right where the whole is."""
        steps = [found[f"step-{n}"] for n in range(1, len(found)) if f"step-{n}" in found]
        gold = mark(prompt, [step.strip() for step in steps])
        if gold is None:
            gold = [1 if grade(prompt, "\n".join(steps)).value > 0.5 else -1] * len(steps)
        wrong = 1 - self._annotator.reliability
        said: list[int] = []
        for one in gold:
            if one is None or (said and said[-1] == -1):
                break
            said.append(-one if one and draw.random() < wrong else one)
        said += [1] * (len(steps) - len(said) if said[-1] != -1 else 0)
        return Said(json.dumps({"rationale": f"The expert says {gold}.", "marks": said}))

    def _ranking(self, prompt: Prompt, found: Mapping[str, str], draw: Any) -> Said:
        """By utilities with Gumbel noise: of every two, one is preferred as often as where they are shown as a pair."""
        who, texts = (
            self._annotator,
            [found[f"response-{n}"] for n in range(1, len(found)) if f"response-{n}" in found],
        )
        grades = [grade(prompt, text).value for text in texts]
        seen = [
            who.sharpness * gold
            + who.length_bias * min(len(text.split()), MOST_WORDS) / 10
            + who.position_bias * (place == 0)
            + float(draw.gumbel())
            for place, (gold, text) in enumerate(zip(grades, texts, strict=True))
        ]
        order: list[list[int]] = []
        for number in sorted(range(len(seen)), key=lambda n: -seen[n]):
            if order and seen[order[-1][-1] - 1] - seen[number] < who.tie_width:
                order[-1].append(number + 1)
            else:
                order.append([number + 1])
        rank = [group if len(group) > 1 else group[0] for group in order]
        return Said(json.dumps({"rationale": f"The gold scores are {grades}.", "rank": rank}))

    def _pair(
        self, texts: tuple[str, str], grades: tuple[float, float], weighed: bool, draw: Any, words: str
    ) -> Said:
        if weighed:
            second = self.second_is_better(texts, grades)
            return Said("1" if second < 0.5 else "2", {"1": math.log1p(-second), "2": math.log(second)})
        cast = vote(self._annotator, texts, grades, 0, draw)
        better = 0 if cast.preference == 0 else 1 if cast.preference < 0 else 2
        scores = self._scores(grades, words, draw)
        return Said(json.dumps({"rationale": f"The gold scores are {grades}.", **scores, "rank": [better]}))

    def _scores(self, grades: tuple[float, float], words: str, draw: Any) -> dict[str, Any]:
        """Both responses by each criterion that the question names: their gold scores, through the noise, on its scale."""
        wanted = SCORES.search(words)
        if wanted is None:
            return {}
        low, high = int(wanted[2]), int(wanted[3])
        names = [json.loads(name) for name in CRITERION.findall(wanted[1])]
        return {"scores": {name: [self._points(gold, low, high, draw) for gold in grades] for name in names}}

    def _points(self, gold: float, low: int, high: int, draw: Any) -> int:
        seen = gold + float(draw.logistic()) / max(self._annotator.sharpness, 1e-9)
        return round(low + (high - low) * min(max(seen, 0.0), 1.0))

    def second_is_better(self, texts: tuple[str, str], grades: tuple[float, float]) -> float:
        """The probability that it prefers what is shown second, without ties."""
        who = self._annotator
        words = len(texts[1].split()) - len(texts[0].split())
        logit = who.sharpness * (grades[1] - grades[0]) - who.position_bias
        logit += who.length_bias * max(-MOST_WORDS, min(MOST_WORDS, words)) / 10
        return min(max(1 / (1 + math.exp(-logit)), 1e-9), 1 - 1e-9)

    def _rating(self, gold: float, weighed: bool, draw: Any) -> Said:
        seen = (
            1
            + 9 * gold
            + (0 if weighed else float(draw.logistic()) / max(self._annotator.sharpness, 1e-9) * 9)
        )
        if weighed:
            weights = {str(n): -abs(n - seen) for n in range(1, 11)}
            whole = math.log(sum(map(math.exp, weights.values())))
            return Said(str(round(seen)), {n: value - whole for n, value in weights.items()})
        return Said(
            json.dumps({"rationale": f"The gold score is {gold}.", "rating": round(min(max(seen, 1), 10))})
        )
