"""A language model as a judge of pairs, and of single responses.

A pair is asked about in both orders unless told otherwise.  With q1 the probability that the response shown first wins where the
pair's first is shown first, and q2 where its second is, the first one is better with

    p = 1/2 + (q1 - q2) / 2        (the mean of q1 and 1 - q2)

so that what is liked for its place alone cancels (Wang et al. 2023, arXiv 2305.17926), and a swapped pair has exactly 1 - p.
In text q is 1, 0, or 1/2 where the model says that neither is better; with mode=logits it is what the model's first token says
(Lee et al. 2023, arXiv 2309.00267, 3.1).  A rating counts from 0 (the lowest) to 1; with logits it is its expected value (3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.judges.judge import Judge, shared_vote
from tutelage.judges.llm.asking import Asker, Call
from tutelage.judges.llm.templates import Message, Template, principle_for
from tutelage.judges.llm.verdict import read_pair, read_rating
from tutelage.records import Prompt, Response, Score, Vote
from tutelage.settings.judges import LLMOptions
from tutelage.store import Answer

LIKELY = 20  # first tokens that an endpoint is asked for
LEAST_MASS = 0.01  # where an endpoint tells few tokens, and hardly any is a verdict, there is none
AGAIN = (
    "There is no verdict in your answer that can be read. Give the same verdict again, as JSON alone and with nothing around it, "
    "as you were asked to."
)
PROBE = 16  # answers after which a judge without a single verdict is given up
Pair = tuple[Response, Response]


@dataclass
class Tally:
    """What a judge's answers were like, in counts.

    answers: questions that were to give a verdict; unparsed: those that gave none, also when asked again; repaired: those that
    gave one then; pairs: asked about in both orders, with a verdict in both; flips: those that differ in who is better;
    first: verdicts for the response shown first, of `decided` that are for one of them.
    """

    answers: int = 0
    unparsed: int = 0
    repaired: int = 0
    pairs: int = 0
    flips: int = 0
    first: int = 0
    decided: int = 0

    @property
    def figures(self) -> dict[str, float]:
        """Shares by the names that docs/metrics.md explains; none of nothing."""
        shares = {
            "unparsed_rate": (self.unparsed, self.answers),
            "repaired_rate": (self.repaired, self.answers),
            "flip_rate": (self.flips, self.pairs),
            "first_position_rate": (self.first, self.decided),
        }
        return {name: count / of for name, (count, of) in shares.items() if of}


@dataclass(frozen=True)
class Exemplar:
    """A comparison that was judged before: shown as a question and its answer, in an order of its own."""

    prompt: Prompt
    texts: tuple[str, str]
    better: Literal[1, 2]


@dataclass
class LLMJudge(Judge):
    """`asker` asks `endpoint` (which opens an async context that gives an `Answering`).

    local: the model runs here, and is told which tokens matter.
    """

    name: str
    template: Template
    options: LLMOptions
    asker: Asker
    endpoint: Callable[[], Any]
    local: bool = False
    exemplars: Sequence[Exemplar] = ()
    constitution: Sequence[str] = ()
    progress: Callable[[int], None] | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def pairwise(self) -> bool:  # type: ignore[override]
        """Templates that compare give no scores."""
        return self.template.asks == "pair"

    # ---- what is asked -----------------------------------------------------------------------------------------------

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """A rating from 0 to 1; where the answer holds none, None, or (`unrated`) the mean of the others.  Raises ValueError
        for a template that compares."""
        if self.template.asks != "rating":
            raise ValueError(
                f"{self.name} compares responses and gives no scores: take template: rating, or a command "
                "that compares."
            )
        values = self._values([self._rating(response) for response in responses])
        low, high = self.template.scale
        known = [value for value in values if value is not None]
        instead = sum(known) / len(known) if known and self.options.unrated == "mean" else None
        scaled = [instead if value is None else value for value in values]
        return [None if value is None else Score((value - low) / (high - low)) for value in scaled]

    def compare(self, pairs: Sequence[Pair]) -> list[Vote | None]:
        """One vote per pair; None where an order has no verdict."""
        if self.template.asks == "rating":
            return super().compare(pairs)
        orders = [self._orders(pair) for pair in pairs]
        asked = zip(pairs, orders, strict=True)
        found = iter(self._values([self._pair(pair, first) for pair, shown in asked for first in shown]))
        return [self._counted(shown, [next(found) for _ in shown]) for shown in orders]

    def calls_for(self, pairs: Sequence[Pair]) -> list[Call]:
        """All that would be asked about pairs, before anything is repaired."""
        if self.template.asks == "rating":
            return [self._rating(response) for pair in pairs for response in pair]
        return [self._pair(pair, first) for pair in pairs for first in self._orders(pair)]

    def _orders(self, pair: Pair) -> tuple[int, ...]:
        """Which response stands first in each question."""
        if self.options.orders == "both":
            return (0, 1)
        key = self._pair(pair, 0).key(""), self._pair(pair, 1).key("")
        return (0,) if key[0] < key[1] else (1,)

    def _pair(self, pair: Pair, first: int) -> Call:
        prompt, texts = pair[0].prompt, [pair[first].text, pair[1 - first].text]
        given = {"prompt": prompt.text(), "first": texts[0], "second": texts[1], **self._beside(prompt)}
        shown = [message for one in self.exemplars for message in self._shown(one)]
        messages = self.template.messages(self.options.mode, **given)
        lead = [message for message in messages if message["role"] == "system"]
        return self._call(
            [*lead, *shown, *messages[len(lead) :]], prompt, ("1", "2"), f"pair {first}{1 - first}"
        )

    def _shown(self, one: Exemplar) -> list[Message]:
        given = {"prompt": one.prompt.text(), "first": one.texts[0], "second": one.texts[1]}
        *_, asked = self.template.messages(self.options.mode, **given, **self._beside(one.prompt))
        said = str(one.better) if self.options.mode == "logits" else f'{{"rank": [{one.better}]}}'
        return [asked, {"role": "assistant", "content": said}]

    def _rating(self, response: Response) -> Call:
        given = {
            "prompt": response.prompt.text(),
            "response": response.text,
            **self._beside(response.prompt),
        }
        low, high = self.template.scale
        numbers = tuple(map(str, range(low, high + 1)))
        return self._call(
            self.template.messages(self.options.mode, **given), response.prompt, numbers, "rating"
        )

    def _beside(self, prompt: Prompt) -> dict[str, str]:
        """What the template shows beside prompt and responses: a reference, a principle."""
        by = (
            {"principle": principle_for(self.constitution, prompt.id)}
            if self.template.wants_principle
            else {}
        )
        return self._reference(prompt) | by

    def _reference(self, prompt: Prompt) -> dict[str, str]:
        if not self.template.wants_reference:
            return {}
        found = dict(prompt.reference or {})
        text = next(
            (found[key] for key in ("answer", "text", "reference", "summary") if found.get(key)), None
        )
        if not isinstance(text, str | int | float):
            raise ValueError(
                f"the template {self.template.name} shows a reference, and the prompt {prompt.text()[:60]!r} has none with "
                "answer, text or summary: take another template, or give the prompts one."
            )
        return {"reference": str(text)}

    def _call(self, messages: Sequence[Message], prompt: Prompt, among: Sequence[str], about: str) -> Call:
        options = self.options
        if options.mode == "logits":
            params: dict[str, Any] = (
                {"among": list(among)}
                if self.local
                else {options.max_tokens_name: 1, "logprobs": True, "top_logprobs": LIKELY}
            )
            if options.temperature is not None and not self.local:
                params["temperature"] = options.temperature
        else:
            params = text_params(options)
        return Call(tuple(messages), params, about, prompt.id)

    # ---- what is answered --------------------------------------------------------------------------------------------

    def _values(self, calls: Sequence[Call]) -> list[float | None]:
        """The verdict of every answer: the probability that the response shown first is better, or a rating."""
        if self.tally.answers == 0 and len(calls) > PROBE:  # before all is paid for
            return self._values(calls[:PROBE]) + self._values(calls[PROBE:])
        if not calls:
            return []
        answers = self._asked(calls, self.progress)
        found = [self._value(answer) for answer in answers]
        self.tally.answers += len(found)
        if self.options.mode == "text" and self.options.repair:
            self._repair(calls, answers, found)
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

    def _repair(self, calls: Sequence[Call], answers: Sequence[Answer], found: list[float | None]) -> None:
        """Ask once more where there was no verdict; what is found then takes its place."""
        again: dict[int, Call] = {}
        for number, (call, said) in enumerate(zip(calls, answers, strict=True)):
            if found[number] is None and said.status == "answered":
                words = (
                    {"role": "assistant", "content": said.text or "(nothing)"},
                    {"role": "user", "content": AGAIN},
                )
                again[number] = Call(
                    (*call.messages, *words), call.params, f"{call.about} again", call.prompt
                )
        for number, answer in zip(again, self._asked(list(again.values()), None), strict=True):
            found[number] = self._value(answer)
            self.tally.repaired += found[number] is not None

    def _asked(self, calls: Sequence[Call], progress: Callable[[int], None] | None) -> list[Answer]:
        return self.asker.ask(calls, self.endpoint, progress) if calls else []

    def _value(self, answer: Answer) -> float | None:
        if answer.status == "refused":
            return None
        pair = self.template.asks == "pair"
        if self.options.mode == "logits":
            low, high = self.template.scale
            values = {"1": 1.0, "2": 0.0} if pair else _numbers(low, high)
            return _from_likely(answer.likely, values, 0.0 if self.local else LEAST_MASS)
        found = read_pair(answer.text) if pair else read_rating(answer.text, *self.template.scale)
        if found is None:
            return None
        return {1.0: 1.0, 2.0: 0.0, 0.0: 0.5}[found.value] if pair else found.value

    def _counted(self, shown: Sequence[int], said: Sequence[float | None]) -> Vote | None:
        """A vote from the verdicts of one pair, each the probability that the response shown first is better."""
        verdicts = [value for value in said if value is not None]
        self.tally.decided += sum(value != 0.5 for value in verdicts)
        self.tally.first += sum(value > 0.5 for value in verdicts)
        if len(verdicts) < len(said):
            return None
        if len(shown) == 1:
            return shared_vote(self.name, verdicts[0] if shown[0] == 0 else 1 - verdicts[0], shown[0])
        self.tally.pairs += 1
        self.tally.flips += (verdicts[0] - 0.5) * (verdicts[1] - 0.5) > 0
        return shared_vote(self.name, 0.5 + (verdicts[0] - verdicts[1]) / 2, 0)


def text_params(options: LLMOptions) -> dict[str, Any]:
    """What an endpoint is sent beside the messages where it is to write."""
    params: dict[str, Any] = {options.max_tokens_name: options.max_tokens}
    if options.json_answer:
        params["response_format"] = {"type": "json_object"}
    if options.seed is not None:
        params["seed"] = options.seed
    if options.temperature is not None:
        params["temperature"] = options.temperature
    return params


def _numbers(low: int, high: int) -> dict[str, float]:
    return {str(number): float(number) for number in range(low, high + 1)}


def _from_likely(
    likely: Mapping[str, float] | None, values: Mapping[str, float], least: float
) -> float | None:
    """The mean of `values` by the probabilities of the first tokens that spell them; None where that is too seldom."""
    mass = total = 0.0
    for token, logprob in (likely or {}).items():
        value = values.get(token.strip())
        if value is not None and logprob > -math.inf:
            mass += math.exp(logprob)
            total += math.exp(logprob) * value
    return total / mass if mass > 0 and mass >= least else None
