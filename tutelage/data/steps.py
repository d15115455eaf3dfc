"""Where steps end in the tokens of a response: found in the ids alone, in the same way for training and for use.

A step is what a separator ends (a line, unless another is set).  It is scored at the token that holds its last word's end, the
last step of a response like all others: at a token of one kind, behind which the policy has learnt to go on.  (At its
separator, and the last one at the end token, whose state nothing has trained: then two in five models never learn to see an
error in the last step; docs/LOG.md.)  It may be gone on from behind its separator.  A tokenizer may put the separator into one
token with what stands around it: then that token it is, for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.encoding import Unusable
from tutelage.records import Demonstration, Finish, StepMarks

About = Literal["steps", "outcome", "outcome-tokens"]
"""What is scored: each step, where it ends; or the final answer, at the last token or at every token of the response."""

Neutral = Literal["positive", "negative", "drop", "class"]
NEUTRAL = -1.0
"""The target of a neutral step that is a class of its own; others are the probability that the step is right."""


CLASSES = ("wrong", "neutral", "right")
"""What a head with three classes tells apart."""


class StepEnds:
    """Finds the ends of steps.  Cheap to make; what a token spells is looked up once."""

    def __init__(self, tokenizer: Tokenizer, separator: str) -> None:
        self._tokenizer: Any = tokenizer
        self._separator = separator
        self._spelled: dict[int, str] = {}
        self._anchor: list[int] = list(self._tokenizer("a", add_special_tokens=False)["input_ids"])

    def __call__(self, ids: Sequence[int], finish: Finish) -> list[int]:
        """The positions in `ids` (a response, with its end token unless it was cut) at which steps are scored.

        White space alone is no step; a response without a word is one, scored at its last token.  No ids: no step.
        """
        return list(dict.fromkeys(word for word, _ in self._steps(ids, finish)))

    def cuts(self, ids: Sequence[int], finish: Finish) -> list[int]:
        """The positions at which a response is cut behind a step: those that hold the end of its separator; of a last step that
        has none, the last of `ids`."""
        return list(dict.fromkeys(stop for _, stop in self._steps(ids, finish)))

    def _steps(self, ids: Sequence[int], finish: Finish) -> Iterator[tuple[int, int]]:
        """For each step the positions of the tokens that hold the ends of its last word and of its separator."""
        if not len(ids):
            return
        pieces = self._pieces(ids[:-1] if finish == "eos" else ids)
        text, stops, last = "".join(pieces), np.cumsum([len(piece) for piece in pieces]), len(ids) - 1

        def token(characters: int) -> int:
            return int(np.searchsorted(stops, characters))

        said = start = 0
        while (at := text.find(self._separator, start)) >= 0:
            start = at + len(self._separator)
            if words := text[said:at].rstrip():
                yield token(said + len(words)), token(start)
                said = start
        if words := text[said:].rstrip():
            yield token(said + len(words)), last
        elif not said:
            yield last, last

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token spells in the middle of a text: some tokenizers leave out the space before a first one."""
        new = [i for i in dict.fromkeys(ids) if i not in self._spelled]
        if new:
            texts = self._decode([self._anchor, *([*self._anchor, i] for i in new)])
            before = len(texts[0])
            self._spelled |= {i: text[before:] for i, text in zip(new, texts[1:], strict=True)}
        return [self._spelled[i] for i in ids]

    def _decode(self, rows: list[list[int]]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(
            rows, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return texts


def scored_at(about: About, find: StepEnds, ids: Sequence[int], finish: Finish) -> list[int]:
    """The positions in `ids` (a response) at which there are scores."""
    if about == "steps":
        return find(ids, finish)
    return list(range(0 if about == "outcome-tokens" else max(len(ids) - 1, 0), len(ids)))


@dataclass(frozen=True)
class Line:
    """What one separator ends: its text, the label as `StepMarks` has it, and the number of the step that it is part of."""

    text: str
    label: float | None
    step: int


def lines_of(marks: StepMarks, separator: str) -> list[Line]:
    """The steps, cut further where a separator stands inside one: every part of a right (or neutral) step is right
    (neutral); of a wrong one, or one that is right with some probability, only the last part is marked."""
    whole = (1.0,) if marks.soft else (1, 0)
    found = []
    for number, (step, label) in enumerate(zip(marks.steps, marks.labels, strict=True)):
        parts = steps_of(step, separator)
        inner = label if label in whole else None
        found += [Line(part, inner, number) for part in parts[:-1]]
        found.append(Line(parts[-1], label, number))
    return found


def text_of(lines: Sequence[Line], separator: str, finish: Finish) -> str:
    """The response.  One that may go on ("length") ends with a separator."""
    return separator.join(line.text for line in lines) + separator * (finish == "length")


def targets(lines: Sequence[Line], soft: bool, neutral: Neutral, first_error: bool) -> list[float | None]:
    """What to learn of each line: the probability that it is right, or NEUTRAL; None: nothing.

    first_error: nothing of what stands behind the first line that is wrong.
    """
    found = [line.label if soft else _target(line.label, neutral) for line in lines]
    if first_error and 0.0 in found:
        stop = found.index(0.0) + 1
        found[stop:] = [None] * (len(found) - stop)
    return found


def _target(label: float | None, neutral: Neutral) -> float | None:
    if label is None or label:
        return None if label is None else float(label > 0)
    return {"positive": 1.0, "negative": 0.0, "class": NEUTRAL, "drop": None}[neutral]


def response_of(row: StepMarks, separator: str, about: About) -> str:
    """The text that is scored: of an outcome as it was written."""
    if about == "steps":
        return text_of(lines_of(row, separator), separator, row.finish)
    return separator.join(row.steps)


def written(row: StepMarks | Demonstration, separator: str) -> str:
    """The text of a solution: as it was written, where it is whole; else its steps, joined."""
    if isinstance(row, Demonstration):
        return row.response
    return row.steps[0] if len(row.steps) == 1 else response_of(row, separator, "steps")


def steps_of(text: str, separator: str) -> list[str]:
    """The steps in a text, as `StepEnds` finds them in its tokens; none where there is no word."""
    return [part.strip("\n").rstrip() for part in text.split(separator) if part.strip()]


def learnt(
    row: StepMarks, scores: int, separator: str, about: About, neutral: Neutral, first_error: bool
) -> list[float | None]:
    """What is learnt at each of the places of a response that have a score.  Raises `Unusable` where its steps are not found in
    its tokens."""
    if about != "steps":
        return [None if row.outcome is None else float(row.outcome)] * scores
    lines = lines_of(row, separator)
    if len(lines) != scores:
        raise Unusable("whose steps are not found again in its tokens (separator)")
    return targets(lines, row.soft, neutral, first_error)


@dataclass(frozen=True)
class StepTokens:
    """A response with its prompt: `tokens`, whose loss_mask is True where a label stands; `labels` float32, one for each of
    those; `ends`, where its steps are scored, marked or not (positions in the sequence)."""

    tokens: Tokens
    labels: np.ndarray
    ends: tuple[int, ...]


def collate_steps(items: Sequence[StepTokens], rows: Sequence[int]) -> TokenBatch:
    """Responses one after the other.  Per token: `labels` float32 [N], 0 where there is none."""
    batch = TokenBatch.collate([item.tokens for item in items], rows)
    labels = torch.from_numpy(np.concatenate([item.labels for item in items]).astype(np.float32))
    return batch.with_fields(labels=torch.zeros(len(batch.ids)).masked_scatter(batch.loss_mask, labels))
