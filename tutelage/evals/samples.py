"""Samples for the page: the same held-out prompts, answered by every model, chosen by seed and never by outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.evals.findings import Number, number
from tutelage.evals.rows import Row
from tutelage.seeds import rng

_DOES = {"asks": "asks", "goes_on": "goes on", "unreadable": "unreadable"}


@dataclass(frozen=True)
class Answer:
    """One model's response. `verdict` compares its score with the baseline's: better, equal, worse or nothing."""

    model: str
    slot: int
    text: str
    finish: str
    verdict: str
    score: Number | None
    parts: list[tuple[str, Number]]
    tokens: Number | None
    does: str = ""  # what it does, where that is not to answer


@dataclass(frozen=True)
class Example:
    """One held-out prompt (role and text of each turn) with the answers of all models."""

    task: str
    turns: list[tuple[str, str]]
    answers: list[Answer]


def stratified(tasks: Sequence[str], count: int, seed: int) -> list[int]:
    """`count` row numbers in equal shares per task (as far as there are enough), drawn by seed, in row order."""
    order = rng(seed, "samples").permutation(len(tasks))
    queues: dict[str, list[int]] = {task: [] for task in sorted(set(tasks))}
    for i in order:
        queues[tasks[i]].append(int(i))
    drawn: list[int] = []
    while len(drawn) < count and any(queues.values()):
        for queue in queues.values():
            if queue and len(drawn) < count:
                drawn.append(queue.pop(0))
    return sorted(drawn)


def choose(
    lines: Sequence[dict[str, Any]], baseline: str, prefix: str, slots: dict[str, int], count: int, seed: int
) -> tuple[list[Example], list[Row]]:
    """Examples for the page from the lines of an evaluation's samples.jsonl, and a row for every number in them."""
    usable = [line for line in lines if isinstance(line.get("responses"), dict)]
    examples, rows = [], []
    tasks = [str(line.get("task", "")) for line in usable]
    for i in sorted(stratified(tasks, count, seed), key=lambda i: (tasks[i], i)):
        line = usable[i]
        answers = []
        reference = line["responses"].get(baseline.removeprefix(prefix), {}).get("score")
        for name, response in line["responses"].items():
            model = prefix + name
            answer = _answer(
                model,
                slots.get(model, 0),
                response,
                f"prompt {line.get('id', i)}",
                reference,
                model == baseline,
            )
            answers.append(answer)
            shown = [answer.score, answer.tokens, *(value for _, value in answer.parts)]
            rows += [value.row for value in shown if value is not None]
        examples.append(Example(str(line.get("task", "")), _turns(line.get("prompt", "")), answers))
    return examples, rows


def _answer(
    model: str, slot: int, response: dict[str, Any], task: str, reference: float | None, is_baseline: bool
) -> Answer:
    def shown(metric: str, value: Any, unit: str) -> Number | None:
        return None if value is None else number(Row(model, metric, task, float(value), n=1, unit=unit))

    score = response.get("score")
    verdict = ""
    if score is not None and reference is not None and not is_baseline:
        verdict = "equal" if abs(score - reference) <= 1e-9 else "better" if score > reference else "worse"
    parts = [
        (name, shown(f"sample/score/{name}", value, "score"))
        for name, value in (response.get("parts") or {}).items()
    ]
    return Answer(
        model,
        slot,
        str(response.get("text", "")),
        str(response.get("finish", "")),
        verdict,
        shown("sample/score", score, "score"),
        [(name, value) for name, value in parts if value is not None],
        shown("sample/length", response.get("tokens"), "tokens"),
        _DOES.get(str(response.get("does", "")), ""),
    )


def _turns(prompt: Any) -> list[tuple[str, str]]:
    if isinstance(prompt, list):
        return [
            (str(turn.get("role", "")), str(turn.get("content", "")))
            for turn in prompt
            if isinstance(turn, dict)
        ]
    return [("", str(prompt))]
