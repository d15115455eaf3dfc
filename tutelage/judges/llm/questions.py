"""What a language model that judges is asked about pairs, single responses, several responses, and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tutelage.judges.llm.asking import Call
from tutelage.judges.llm.ranking import canonical, rotations
from tutelage.judges.llm.templates import Message, Template, principle_for
from tutelage.records import Help, Prompt, Response
from tutelage.settings.judges import LLMOptions

LIKELY = 20  # first tokens that an endpoint is asked for
Pair = tuple[Response, Response]


@dataclass(frozen=True)
class Exemplar:
    """A comparison that was judged before: shown as a question and its answer, in an order of its own."""

    prompt: Prompt
    texts: tuple[str, str]
    better: Literal[1, 2]


@dataclass(frozen=True)
class Questions:
    """Of a template.  local: the model runs here, and is told which tokens matter."""

    template: Template
    options: LLMOptions
    local: bool = False
    exemplars: Sequence[Exemplar] = ()
    constitution: Sequence[str] = ()

    def orders(self, pair: Pair) -> tuple[int, ...]:
        """Which response stands first in each question about a pair."""
        if self.options.orders == "both":
            return (0, 1)
        key = self.pair(pair, 0).key(""), self.pair(pair, 1).key("")
        return (0,) if key[0] < key[1] else (1,)

    def pair(self, pair: Pair, first: int, help: Help | None = None) -> Call:
        """Which is better, with the response of that number shown first, and what an assistant has said of both."""
        prompt, texts = pair[0].prompt, [pair[first].text, pair[1 - first].text]
        given = {"prompt": prompt.text(), "first": texts[0], "second": texts[1], **self._beside(prompt)}
        shown = [message for one in self.exemplars for message in self._shown(one)]
        messages = self.template.messages(self.options.mode, **_help_for(help, first), **given)
        lead = [message for message in messages if message["role"] == "system"]
        return self._call(
            [*lead, *shown, *messages[len(lead) :]], prompt, ("1", "2"), f"pair {first}{1 - first}"
        )

    def ratings(self, response: Response, help: str = "") -> list[Call]:
        """How good a response is, as often as it is to be asked; and what an assistant has said of it."""
        call = self.rating(response, help)
        if self.options.answers == 1:
            return [call]
        first = self.options.seed or 0
        return [
            replace(call, params={**call.params, "seed": first + number})
            for number in range(self.options.answers)
        ]

    def rating(self, response: Response, help: str = "") -> Call:
        """How good a response is, asked once."""
        prompt = response.prompt
        given = {"prompt": prompt.text(), "response": response.text, **self._beside(prompt)}
        low, high = self.template.scale
        numbers = tuple(map(str, range(low, high + 1)))
        messages = self.template.messages(self.options.mode, help=[help] if help else [], **given)
        return self._call(messages, prompt, numbers, "rating")

    def rankings(self, responses: Sequence[Response]) -> list[tuple[int, ...]]:
        """Which responses (2 to 9, to one prompt) stand in which place in each question about them."""
        turns = rotations(canonical(responses))
        if self.options.orders == "both":
            return turns
        return [min(turns, key=lambda order: self.ranking(responses, order).key(""))]

    def ranking(self, responses: Sequence[Response], order: Sequence[int]) -> Call:
        """In which order they are, shown in this order."""
        prompt, texts = responses[0].prompt, [responses[number].text for number in order]
        messages = self.template.messages(
            self.options.mode, several=texts, prompt=prompt.text(), **self._beside(prompt)
        )
        return self._call(messages, prompt, (), f"ranking {''.join(map(str, order))}")

    def steps(self, prompt: Prompt, steps: Sequence[str]) -> Call:
        """Which steps of a response are right."""
        messages = self.template.messages(
            self.options.mode, several=steps, prompt=prompt.text(), **self._beside(prompt)
        )
        return self._call(messages, prompt, (), f"{len(steps)} steps")

    def _shown(self, one: Exemplar) -> list[Message]:
        given = {"prompt": one.prompt.text(), "first": one.texts[0], "second": one.texts[1]}
        *_, asked = self.template.messages(self.options.mode, **given, **self._beside(one.prompt))
        said = str(one.better) if self.options.mode == "logits" else f'{{"rank": [{one.better}]}}'
        return [asked, {"role": "assistant", "content": said}]

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


def _help_for(help: Help | None, first: int) -> dict[str, Any]:
    """What an assistant has said, in the order in which the responses are shown."""
    if help is None or not any(help.said):
        return {}
    better = None if help.argues is None else 1 if help.argues == first else 2
    return {"help": help.said if first == 0 else help.said[::-1], "better": better}


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
