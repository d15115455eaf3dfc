"""OpenAssistant's trees: a prompt with ranked replies, each with what was asked next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from tutelage.data.reading.cells import Skip
from tutelage.records import Comparison, Demonstration, Message, Prompt

Node = Mapping[str, Any]
DEEPEST = 200  # turns
MOST_RANKED = 100  # replies to one question: each two of them are a comparison


def is_tree(value: Any) -> bool:
    return isinstance(value, dict) and "replies" in value and "text" in value


def best_answers(root: Node) -> Iterator[Demonstration]:
    """To every question on the way of the best answers, the best answer."""
    for turns, answers in _asked(root, (), best_only=True):
        yield Demonstration(Prompt(turns), _text(answers[0]))


def ranked_answers(root: Node) -> Iterator[Comparison]:
    """Of every question's answers, each two that were ranked apart: the better one is chosen."""
    for turns, answers in _asked(root, (), best_only=False):
        ranked = [answer for answer in answers if _rank(answer) < math.inf]
        if len(ranked) > MOST_RANKED:
            raise Skip(f"whose tree ranks more than {MOST_RANKED} replies to one question")
        for better, worse in combinations(ranked, 2):
            if _rank(better) < _rank(worse):
                yield Comparison(Prompt(turns), _text(better), _text(worse))


def _asked(
    node: Node, before: tuple[Message, ...], best_only: bool
) -> Iterator[tuple[tuple[Message, ...], list[Node]]]:
    """(turns that end with a question, its answers from the best to the worst), depth first."""
    if len(before) > DEEPEST:
        raise Skip(f"whose tree is deeper than {DEEPEST} turns")
    turns = (*before, Message("user", _text(node)))
    answers = sorted(_replies(node), key=_rank)
    if not answers:
        return
    yield turns, answers
    for answer in answers[:1] if best_only else answers:
        for question in _replies(answer):
            yield from _asked(question, (*turns, Message("assistant", _text(answer))), best_only)


def _replies(node: Node) -> list[Node]:
    """Without those that were deleted or did not pass the review."""
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise Skip("whose tree has replies that are no list of messages")
    return [r for r in replies if not r.get("deleted") and r.get("review_result") is not False]


def _rank(node: Node) -> float:
    """0 is the best; those without come last."""
    rank = node.get("rank")
    return rank if isinstance(rank, int | float) else math.inf


def _text(node: Node) -> str:
    text = node.get("text")
    if not isinstance(text, str):
        raise Skip("whose tree has a node without a text")
    return text
