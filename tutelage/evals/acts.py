"""What a response does: it answers, asks back, goes on with the user's text, or is none that can be read.  No torch.

Every response does exactly one of these, the first that applies:

unreadable  nothing that is a letter or a digit, or a character that no text has: U+FFFD (bytes that are no UTF-8), a control
            character other than a line break or a tab, one of private use, half a character.
goes_on     it has no end (it was cut at its longest length); or writes a further turn: a control token before its end, or a line
            that begins with a role (user, human, assistant, system and a colon); or it begins in the middle of a sentence: with a
            mark that can only follow something, or with a small letter after a prompt that ends without a mark.
asks        more than half of its sentences end in a question mark.
answers     all others.

Sentences end at a mark or a line break.  The marks are those of many scripts, the roles are the English ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tutelage.evals.rows import OVERALL, Row, row
from tutelage.evals.scored import by_task
from tutelage.records import Prompt, Response
from tutelage.statistics import wilson

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ACTS = ("answers", "asks", "goes_on", "unreadable")
USUAL = 0.95  # share of answers from which on there is nothing to tell
QUESTIONS = "?？؟՞⸮"
ENDS = f".!。！…।۔։{QUESTIONS}"
FOLLOWS = f",;:)]}}»”，；：）、،؛{ENDS}"  # what no sentence begins with
CLOSING = "\"')]}»”’"
_ROLE = re.compile(r"^\s*(?:user|human|assistant|system)\s*:", re.IGNORECASE | re.MULTILINE)
_SENTENCE = re.compile(rf"([^{ENDS}\n]+)([{ENDS}]*)")
_REPLACED = "\ufffd"


def act_of(response: Response, control: Collection[int] = ()) -> str:
    """One of `ACTS`.  control: ids of the control tokens, its own end among them."""
    text = response.text.rstrip(_REPLACED) if response.finish == "length" else response.text
    if not any(character.isalnum() for character in text) or any(map(_is_no_text, text)):
        return "unreadable"
    written = response.ids[:-1] if response.finish == "eos" else response.ids
    if response.finish == "length" or any(token in control for token in written) or _ROLE.search(text):
        return "goes_on"
    if _in_the_middle(text.lstrip(), last_words(response.prompt)):
        return "goes_on"
    marks = [mark for words, mark in _SENTENCE.findall(text) if any(map(str.isalnum, words))]
    questions = sum(any(one in QUESTIONS for one in mark) for mark in marks)
    return "asks" if 2 * questions > len(marks) else "answers"


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that are no text: those of the template, the end, padding."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def last_words(prompt: Prompt) -> str:
    """The text that a response could go on with: the prompt's, or what was said last."""
    return prompt.content if isinstance(prompt.content, str) else prompt.content[-1].content


def evaluate(model: str, responses: Sequence[Response], acts: Sequence[str]) -> list[Row]:
    """Rows of the shares of `ACTS`, overall and per task, with Wilson's intervals.  acts: what each response does."""
    rows = []
    for task, members in by_task(responses).items():
        found = [acts[member] for member in members]
        rows += [row(model, act, task, wilson(found.count(act), len(found)), "share") for act in ACTS]
    return rows


def telling(rows: Sequence[Row]) -> bool:
    """Whether some model often does something else than answer."""
    return any(
        r.metric == "answers" and r.task == OVERALL and r.value is not None and r.value < USUAL for r in rows
    )


def _is_no_text(character: str) -> bool:
    kind = unicodedata.category(character)
    return character == _REPLACED or kind in ("Co", "Cs") or (kind == "Cc" and character not in "\n\r\t")


def _in_the_middle(text: str, before: str) -> bool:
    """Whether a response begins in the middle of a sentence."""
    if text[0] in FOLLOWS:
        return True
    ended = before.rstrip().rstrip(CLOSING)[-1:]
    return text[0].islower() and ended not in ENDS and ended != ":"
