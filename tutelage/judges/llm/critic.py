"""A language model as an assistant: it writes a critique of each response, and says how good the response is.

An adversary rates honestly first, and then praises the response that it holds to be worse and finds fault with the better one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from tutelage.judges.assist.assistant import Assistant, Finding
from tutelage.judges.llm.asking import Asker, Call
from tutelage.judges.llm.hearing import Asked, Hearing
from tutelage.judges.llm.questions import text_params
from tutelage.judges.llm.tally import Tally
from tutelage.judges.llm.templates import Template, read_template
from tutelage.judges.llm.verdict import read_finding
from tutelage.records import Response
from tutelage.settings.judges import LLMOptions
from tutelage.store import Answer

SILENT = "I cannot say."


class Critic(Assistant):
    """`asker` asks `endpoint`; an answer that cannot be read, even when asked again, is `SILENT`, in the middle of the scale."""

    def __init__(
        self,
        name: str,
        options: LLMOptions,
        asker: Asker,
        endpoint: Callable[[], Any],
        template: Template,
    ) -> None:
        self.name = name
        self._options = options
        self._honest = template
        self._praise, self._accuse = (
            read_template(f"critic-{way}", ["finding"]) for way in ("praise", "accuse")
        )
        shas = [one.sha for one in (template, self._praise, self._accuse)]
        self.template = f"{template.name}-{hashlib.sha256(''.join(shas).encode()).hexdigest()[:8]}"
        self._hearing = Hearing(name, options, asker, endpoint, Tally())

    def review(self, responses: Sequence[Response]) -> list[Finding]:
        return self._say([(one, self._honest) for one in responses])

    def mislead(
        self, responses: Sequence[Response], found: Sequence[Finding], praise: Sequence[bool]
    ) -> list[Finding]:
        ways = [self._praise if one else self._accuse for one in praise]
        return self._say(list(zip(responses, ways, strict=True)))

    def _say(self, about: Sequence[tuple[Response, Template]]) -> list[Finding]:
        asked = [Asked(self._call(*one), _reader(one[1])) for one in about]
        said = self._hearing.heard(asked, None)
        return [
            Finding(SILENT, sum(template.scale) / 2) if one is None else one
            for one, (_, template) in zip(said, about, strict=True)
        ]

    def _call(self, response: Response, template: Template) -> Call:
        messages = template.messages("text", prompt=response.prompt.text(), response=response.text)
        return Call(tuple(messages), text_params(self._options), template.name, response.prompt.id)


def _reader(template: Template) -> Callable[[Answer], Finding | None]:
    low, high = template.scale

    def read(answer: Answer) -> Finding | None:
        found = read_finding(answer.text, low, high)
        return None if found is None else Finding(found.rationale, found.value)

    return read
