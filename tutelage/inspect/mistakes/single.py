"""Mistakes that are seen in one row.  Each is a rule: where it could be, what shows it, from which share it is said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tutelage.data.preflight.unfit import is_glued
from tutelage.inspect.facts import Mistake
from tutelage.inspect.mistakes.common import Level, Tally, around
from tutelage.inspect.plain import normalised
from tutelage.inspect.views import View

WHOLE_ANSWER = 40  # characters from which an answer that stands in its prompt is no coincidence
WHOLE_PROMPT = 20  # characters from which a response that begins with its prompt is none


@dataclass
class Rule:
    """looks: what shows the mistake in a row (an excerpt), None where there is none."""

    name: str
    says: str  # goes on after "In 3 of 1,600 rows"
    advice: str
    looks: Callable[[View], str | None]
    share: float  # of the rows it applies to, from which it is said
    applies: Callable[[View], bool] = lambda view: True
    level: Level = "mistake"
    tally: Tally = field(default_factory=Tally)

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        if self.applies(view):
            self.tally.of += 1
            if (seen := self.looks(view)) is not None:
                self.tally.note(view.place, seen)

    def found(self) -> Iterator[Mistake]:
        if self.tally.reaches(self.share):
            yield self.tally.mistake(
                self.name, f"{self.tally.within()} {self.says}.", self.advice, self.level
            )


def single() -> list[Rule]:
    """The rules, fresh."""
    return [
        Rule(
            "answer in the prompt",
            "the prompt holds the whole answer",
            "Look whether a column with the answer went into the prompt: the model would learn to copy.",
            _answer_in_prompt,
            0.05,
            _answered,
        ),
        Rule(
            "response begins with the prompt",
            "the response begins with the whole prompt",
            "Cut the prompt off the response: many generators write both.",
            _begins_with_prompt,
            0.01,
            _answered,
        ),
        Rule(
            "glued",
            "plain text goes on without white space where the response begins",
            "Begin responses (or end prompts) with a space or a line break; or use messages, which get the chat template.",
            _glued,
            0.05,
            lambda view: not view.turns and bool(view.responses),
        ),
        Rule(
            "identical sides",
            "chosen and rejected say the same",
            "Nothing can be learnt from such a pair: leave it out, or look where one side was overwritten.",
            _identical,
            0.001,
            lambda view: view.kind == "comparison",
        ),
        Rule(
            "empty side",
            "chosen or rejected is empty",
            "An empty response is trained and scored as one that ends at once: keep it only if a model gave it.",
            _empty_side,
            0.001,
            lambda view: view.kind == "comparison",
        ),
        Rule(
            "empty response",
            "the response is empty",
            "These rows are dropped: fill them in, or leave them out.",
            _empty_response,
            0.0,
            lambda view: view.kind in ("demonstration", "conversation"),
        ),
        Rule(
            "template marks",
            "marks of a chat template, or role names, are spelled out in the text",
            "Give turns as messages, without marks: the model's own template writes them, and these are read as plain text.",
            _marks,
            0.001,
        ),
        Rule(
            "HTML entities",
            "the text holds HTML entities",
            "Decode them (html.unescape in Python), unless the data are about HTML.",
            _entity,
            0.01,
        ),
        Rule(
            "broken characters",
            "characters are broken by a wrong encoding",
            "The file was read in one encoding and written in another: export it again as UTF-8.",
            _broken,
            0.001,
        ),
        Rule(
            "answer as a user's",
            "the last two turns are both the user's",
            "The last one may be an answer under the wrong role: it is not trained.",
            _answer_as_user,
            0.0,
            lambda view: view.kind == "conversation",
        ),
        Rule(
            "ends unanswered",
            "the conversation ends with a turn that nobody answers",
            "The turns behind the last answer are not trained.",
            _unanswered,
            0.0,
            lambda view: view.kind == "conversation",
        ),
        Rule(
            "tie",
            "neither side is preferred (p_chosen is 0.5)",
            "dpo and reward learn from ties that both sides are as good; sft leaves them out.",
            lambda view: view.answer if getattr(view.record, "p_chosen", 1.0) == 0.5 else None,
            0.5,
            lambda view: view.kind == "comparison",
        ),
        Rule(
            "answer in another language",
            "prompt and response seem to be in different languages (a guess)",
            "Fine for translations; else look at these rows.",
            _other_language,
            0.05,
            _answered,
            "note",
        ),
    ]  # fmt: skip


def _answered(view: View) -> bool:
    return bool(view.responses)


def _asked(view: View) -> str:
    """What the model reads before it answers, without the turns before the last."""
    return f"{view.system}\n{view.asked}" if view.system else view.asked


def _answer_in_prompt(view: View) -> str | None:
    answer = view.answer.strip()
    if len(answer) < WHOLE_ANSWER or len(answer) > len(_asked(view)):
        return None
    plain = normalised(answer)
    return answer if len(plain) >= WHOLE_ANSWER and plain in normalised(_asked(view)) else None


def _begins_with_prompt(view: View) -> str | None:
    asked = view.asked.strip()
    if len(asked) < WHOLE_PROMPT or not view.answer.strip().startswith(asked):
        return None
    return view.answer if len(view.answer.strip()) > len(asked) else None


def _glued(view: View) -> str | None:
    """Scripts that are written without spaces have nothing to part."""
    if not is_glued(view.record) or unicodedata.east_asian_width(view.answer[0]) == "W":
        return None
    return around(view.prompt + view.answer, len(view.prompt), len(view.prompt))


def _identical(view: View) -> str | None:
    chosen, rejected = view.responses
    same = chosen == rejected or " ".join(chosen.casefold().split()) == " ".join(rejected.casefold().split())
    return chosen if same else None


def _empty_side(view: View) -> str | None:
    empty = [not text.strip() for text in view.responses]
    name = "chosen" if empty[0] else "rejected"
    return f"{name} is empty; asked: {view.asked}" if any(empty) else None


def _empty_response(view: View) -> str | None:
    said = view.responses and all(map(str.strip, view.responses))
    calls = any(turn.tool_calls for turn in view.turns)
    return None if said or calls else f"prompt: {view.asked}"


def _answer_as_user(view: View) -> str | None:
    last = [turn.role for turn in view.turns[-2:]]
    return view.turns[-1].content if last == ["user", "user"] else None


def _unanswered(view: View) -> str | None:
    """That an answer has the wrong role is said by its own rule."""
    last = view.turns[-1]
    return (
        None
        if last.role == "assistant" or _answer_as_user(view) is not None
        else f"{last.role}: {last.content}"
    )


def _other_language(view: View) -> str | None:
    asked, answered = view.languages
    return f"{asked}, {answered}: {view.answer}" if asked and answered and asked != answered else None


# ---- marks in texts ----------------------------------------------------------------------------------------------------

_CONTROL = re.compile(
    r"<\|(?:im_start|im_end|im_sep|endoftext|end_of_text|begin_of_text|eot_id|eom_id|start_header_id|end_header_id"
    r"|user|assistant|system|end|endofprompt|channel|message|return)\|>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>"
    r"|^\s*<s>|</s>\s*$"
)
_TURNS = re.compile(
    r"(?:^|\n)[ \t]*#{2,3} ?(?:Human|Assistant|User|Instruction|Response|Input|System) ?:"
    r"|(?:^|\n\s*\n)[ \t]*(?:Human|Assistant) ?:"
    r"|(?:^|\n)(?:USER|ASSISTANT): "
)
_NAMES = ("Human", "Assistant", "##", "USER", "ASSISTANT")  # one of these is in every match
_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|hellip|[lr]squo|[lr]dquo|[mn]dash|#\d{2,5}|#x[0-9a-fA-F]{2,4});"
)
_TAG = re.compile(r"</?\w+[^<>]*>")
# UTF-8 read as Latin-1 or Windows-1252: two or three letters for one; and the mark for bytes that could not be read.
_MOJIBAKE = re.compile(
    r"Ã[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    r"|â€[\u0080-\u00bf\u0153\u2122\u02dc\u0161\u201c\u201d\u00a6\u2013\u2014]"
    r"|Â[\u00a0-\u00bf]|ðŸ|ï»¿|ï¿½|\ufffd"
)  # fmt: skip


def _first(pattern: re.Pattern[str], texts: Iterable[str]) -> str | None:
    """What stands around the first match."""
    return next((around(text, *found.span()) for text in texts if (found := pattern.search(text))), None)


def _entity(view: View) -> str | None:
    """Where there are tags, entities belong to them."""
    return _first(_ENTITY, (text for text in view.texts if "&" in text and not _TAG.search(text)))


def _broken(view: View) -> str | None:
    return _first(_MOJIBAKE, (text for text in view.texts if not text.isascii()))


def _marks(view: View) -> str | None:
    """Plain prompts may be written in anybody's template, by hand: there only control tokens are none."""
    found = _first(_CONTROL, (text for text in view.texts if "<" in text or "INST]" in text))
    if found is not None or view.kind == "text":
        return found
    texts = view.texts if view.turns else view.responses
    return _first(_TURNS, (text for text in texts if any(name in text for name in _NAMES)))
