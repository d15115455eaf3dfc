"""Rows in the forms in which others publish theirs: `docs/commands/feedback-export.md` says what each can carry.

A row has the columns of its form and no others.  It is written only where our own reader finds in it what was put in; the
rest is counted.  A plain prompt becomes one user's turn, as the readers of these forms take it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.layouts import Purpose, Record, read_columns
from tutelage.data.reading.rankings import ATTRIBUTES
from tutelage.data.reading.steps import TAG
from tutelage.data.reading.transcripts import is_dialogue
from tutelage.feedback.asking.checking import dense
from tutelage.feedback.exports.current import RowDict, Source
from tutelage.feedback.exports.formats import turns_of
from tutelage.feedback.exports.outcomes import (
    BY_SKILL,
    Marked,
    compared,
    marked_steps,
    mean_ratings,
    neutral_gone,
    rankings,
    rated_items,
    rated_responses,
)
from tutelage.feedback.exports.provenance import NOBODY, with_writers
from tutelage.records import Comparison, Message, Prompt, Rating, StepMarks
from tutelage.store import VotedPair
from tutelage.store.comparing import ItemContent

# Why something has no place in a form.
TIE = "tie: the format has none"
TOOLS = "prompt has tools, which the format cannot say"
CUT = "response was cut, which the format cannot say"
QUESTION = "conversation is not one question, as the format wants it"
MISREAD = "text that readers would take for something else"
FEW = "fewer than two responses are left to rank"
UNRATED = "no rating"
CRITERION = "rating by a criterion that is no column of the format"
UNMARKED = "not every step is marked"


# comparisons ----------------------------------------------------------------------------------------------------------


def openai(source: Source) -> Iterator[RowDict]:
    """OpenAI's preference files: {input: {messages, tools}, preferred_output, non_preferred_output}."""
    for _, row in _decided(source, lambda prompt: ""):
        prompt = Prompt(turns_of(row.prompt), tools=row.prompt.tools)
        tools = {"tools": list(prompt.tools)} if prompt.tools else {}
        said = {
            "input": {"messages": list(map(_openai_turn, turns_of(prompt)))} | tools,
            "preferred_output": [Message("assistant", row.chosen).to_json()],
            "non_preferred_output": [Message("assistant", row.rejected).to_json()],
        }
        yield from _as_read(source, said, "comparisons", Comparison(prompt, row.chosen, row.rejected))


def orca(source: Source) -> Iterator[RowDict]:
    """Intel's Orca pairs: {system, question, chosen, rejected}."""
    for _, row in _decided(source, lambda prompt: _not_a_question(prompt, system=True)):
        turns = turns_of(row.prompt)
        said = {
            "system": turns[0].content if len(turns) > 1 else "",
            "question": turns[-1].content,
            "chosen": row.chosen,
            "rejected": row.rejected,
        }
        yield from _as_read(source, said, "comparisons", Comparison(Prompt(turns), row.chosen, row.rejected))


def summarize_from_feedback(source: Source) -> Iterator[RowDict]:
    """OpenAI's comparisons of summaries: {info: {id, post}, summaries: [{text, policy}] * 2, choice, split}."""
    decided = _decided(source, _not_a_question)
    for (pair, row), wrote in with_writers(source, decided, lambda one: one[0].responses):
        turns = turns_of(row.prompt)
        first = (row.chosen, row.chosen_finish) == (pair.texts[0], pair.finishes[0])
        said = {
            "info": {"id": pair.group, "post": turns[0].content},
            "summaries": [
                {"text": text, "policy": NOBODY[0] if by is None else wrote[by][0]}
                for text, by in zip(pair.texts, pair.responses, strict=True)
            ],
            "choice": 0 if first else 1,
            "split": pair.split,
        }
        yield from _as_read(source, said, "comparisons", Comparison(Prompt(turns), row.chosen, row.rejected))


def _decided(source: Source, cannot: Callable[[Prompt], str]) -> Iterator[tuple[VotedPair, Comparison]]:
    """Comparisons with a better side of which both ended; `cannot`: why a prompt has no place, "" where it has."""
    for pair, row in compared(source):
        ends = (row.chosen_finish, row.rejected_finish)
        reason = TIE if row.p_chosen == 0.5 else CUT if "length" in ends else cannot(row.prompt)
        if reason:
            source.left_out[reason] += 1
        else:
            yield pair, row


def _openai_turn(turn: Message) -> dict[str, Any]:
    """A turn as OpenAI takes it: the arguments of a call are JSON as text."""
    said = turn.to_json()
    for call in said.get("tool_calls", ()):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return said


# several responses ----------------------------------------------------------------------------------------------------


def nemo(source: Source) -> Iterator[RowDict]:
    """NeMo's ranked completions: {context: turns, completions: [{rank, completion: [turn]}]}, 0 = best; equal ranks are ties.

    Rankings whole, and beside them what was compared in pairs; by skill everything is pairs.
    """
    whole = source.aggregation not in BY_SKILL
    for content, ranks in rankings(source) if whole else ():
        kept = _ended(source, content)
        left = dense([ranks[slot] for slot in kept])
        yield from _nemo_row(source, content.prompt, [content.texts[slot] for slot in kept], left)
    for _, row in compared(source, ranked=not whole):
        if "length" in (row.chosen_finish, row.rejected_finish):
            source.left_out[CUT] += 1
            continue
        places = (1, 1) if row.p_chosen == 0.5 else (1, 2)
        yield from _nemo_row(source, row.prompt, [row.chosen, row.rejected], places)


def _nemo_row(
    source: Source, prompt: Prompt, texts: Sequence[str], places: Sequence[int]
) -> Iterator[RowDict]:
    """places: of each text, 1 = best."""
    reason = TOOLS if prompt.tools else FEW if len(texts) < 2 else ""
    if reason:
        source.left_out[reason] += 1
        return
    yield {
        "context": [turn.to_json() for turn in turns_of(prompt)],
        "completions": [
            {"rank": place - 1, "completion": [Message("assistant", text).to_json()]}
            for text, place in zip(texts, places, strict=True)
        ],
    }


def ultrafeedback(source: Source) -> Iterator[RowDict]:
    """UltraFeedback before it was made into pairs: {instruction, models, completions: [{model, response, overall_score,
    annotations: {criterion: {Rating}}}]}; the criterion `overall` is the score."""
    rated_ones = with_writers(source, rated_items(source), lambda one: one[0].content.responses)
    for (item, answers), wrote in rated_ones:
        content = item.content
        spoken = any(map(is_dialogue, content.texts))  # compared, they would be read as turns
        reason = _not_a_question(content.prompt) or (MISREAD if spoken else "")
        if reason:
            source.left_out[reason] += 1
            continue
        rated = {slot: mean_ratings(answers, slot) for slot in _ended(source, content)}
        if not any(rated.values()):
            source.left_out[UNRATED] += 1
            continue
        models = [wrote[content.responses[slot]][0] for slot in rated]
        turns = turns_of(content.prompt)
        said = {
            "instruction": turns[0].content,
            "models": list(dict.fromkeys(models)),
            "completions": [
                _rated_completion(model, content.texts[slot], values)
                for model, (slot, values) in zip(models, rated.items(), strict=True)
            ],
        }
        records = [
            Rating(Prompt(turns), content.texts[slot], values) for slot, values in rated.items() if values
        ]
        yield from _as_read(source, said, "ratings", *records)


def _rated_completion(model: str, text: str, values: Mapping[str, float]) -> RowDict:
    rest = {name: {"Rating": str(_plainly(value))} for name, value in values.items() if name != "overall"}
    score = {"overall_score": _plainly(values["overall"])} if "overall" in values else {}
    return {"model": model, "response": text} | score | {"annotations": rest}


def _plainly(value: float) -> int | float:
    """A number as people write it: whole ones without a point."""
    return int(value) if value == int(value) else value


def helpsteer(source: Source) -> Iterator[RowDict]:
    """HelpSteer's attributes: {prompt, response, and a column for each criterion}; the prompt is text."""
    for item, slot, answers in rated_responses(source):
        content = item.content
        values = mean_ratings(answers, slot)
        reason = _not_a_question(content.prompt)
        reason = reason or (CUT if content.finishes[slot] == "length" else "") or ("" if values else UNRATED)
        if reason:
            source.left_out[reason] += 1
            continue
        columns = {name: _plainly(value) for name, value in values.items() if name in ATTRIBUTES}
        if len(columns) < len(values):
            source.left_out[CRITERION] += len(values) - len(columns)
        if columns:
            question, text = turns_of(content.prompt)[0].content, content.texts[slot]
            said = {"prompt": question, "response": text} | columns
            yield from _as_read(source, said, "ratings", Rating(Prompt(question), text, columns))


def _ended(source: Source, content: ItemContent) -> list[int]:
    """The slots of the responses that ended by themselves; the others are counted one by one."""
    kept = [slot for slot, finish in enumerate(content.finishes) if finish != "length"]
    if len(kept) < len(content.finishes):
        source.left_out[CUT] += len(content.finishes) - len(kept)
    return kept


# steps ----------------------------------------------------------------------------------------------------------------


def prm800k(source: Source) -> Iterator[RowDict]:
    """OpenAI's PRM800K: {question: {problem, ground_truth_answer}, label: {steps: [{completions: [{text, rating}]}],
    finish_reason}}; ratings are 1, 0 and -1."""
    for one in marked_steps(source):
        if not _asks_once(source, one):
            continue
        turns, answer = turns_of(one.item.prompt), _right_answer(one.item.prompt)
        end = "solution" if one.finish == "eos" else "found_error" if -1 in one.labels else "give_up"
        steps = [_rated_step(text, label) for text, label in zip(one.steps, one.labels, strict=True)]
        if one.labels[-1] == -1:
            steps[-1]["chosen_completion"] = None  # nobody went on from it
        said = {
            "is_quality_control_question": False,
            "is_initial_screening_question": False,
            "question": {"problem": turns[0].content, "ground_truth_answer": answer},
            "label": {"steps": steps, "finish_reason": end},
        }
        prompt = Prompt(turns, reference=None if answer is None else {"answer": answer})
        marks = StepMarks(prompt, tuple(one.steps), tuple(one.labels), finish=one.finish)
        yield from _as_read(source, said, "step marks", marks)


def _rated_step(text: str, rating: int) -> RowDict:
    """A step of which one completion was tried, and taken."""
    tried = {"text": text, "rating": rating, "flagged": False}
    return {"completions": [tried], "human_completion": None, "chosen_completion": 0}


def _right_answer(prompt: Prompt) -> Any:
    """The one answer that a prompt's reference consists of, None for any other."""
    found = prompt.reference["answer"] if prompt.reference and set(prompt.reference) == {"answer"} else None
    return found if isinstance(found, str | int | float) else None


def math_shepherd(source: Source) -> Iterator[RowDict]:
    """Math-Shepherd: {input: the question and its steps with a tag behind each, label: the same with + or -, task}.

    Steps begin with "Step 1: " and so on, and have no white space around them.
    """
    for one in marked_steps(source):
        labels = neutral_gone(source, one.labels) if _asks_once(source, one, whole=True) else None
        if labels is None:
            continue
        turns = turns_of(one.item.prompt)
        steps = [_numbered(step, number) for number, step in enumerate(one.steps, 1)]
        signs = ["+" if right else "-" for right in labels]
        said = {
            "input": _tagged(turns[0].content, steps, [TAG] * len(steps)),
            "label": _tagged(turns[0].content, steps, signs),
            "task": one.item.prompt.task,
        }
        marks = tuple(1 if right else -1 for right in labels)
        prompt = Prompt(turns, task=one.item.prompt.task)
        yield from _as_read(source, said, "step marks", StepMarks(prompt, tuple(steps), marks))


def _numbered(step: str, number: int) -> str:
    said = step.strip()
    return said if re.match(rf"Step {number}\b", said) else f"Step {number}: {said}"


def _tagged(question: str, steps: Sequence[str], tags: Sequence[str]) -> str:
    return f"{question} " + "\n".join(f"{step} {tag}" for step, tag in zip(steps, tags, strict=True))


def processbench(source: Source) -> Iterator[RowDict]:
    """ProcessBench: {id, generator, problem, steps: all of the response, label: the first wrong one from 0, or -1}."""
    for one, wrote in with_writers(source, marked_steps(source), lambda one: one.item.responses):
        first = one.labels.index(-1) if -1 in one.labels else None
        if not _asks_once(source, one, whole=first is None):
            continue
        marks = neutral_gone(source, one.labels[:first])
        if marks is None:
            continue
        first = marks.index(False) if False in marks else first
        steps = (*one.steps, *one.rest)
        turns = turns_of(one.item.prompt)
        said = {
            "id": one.item.digest,
            "generator": wrote[one.item.responses[0]][0],
            "problem": turns[0].content,
            "steps": list(steps),
            "label": -1 if first is None else first,
        }
        right = len(steps) if first is None else first
        labels = (*[1] * right, *[-1, *[None] * (len(steps) - right - 1)][: len(steps) - right])
        yield from _as_read(source, said, "step marks", StepMarks(Prompt(turns), steps, labels))


def _asks_once(source: Source, one: Marked, whole: bool | None = None) -> bool:
    """Whether marked steps have a place, else they are counted.

    whole: whether every step of the response must be marked; None where the form can say that the response goes on.
    """
    reason = _not_a_question(one.item.prompt)
    if whole is not None and not reason:
        cut = one.item.finishes[0] == "length"
        reason = CUT if cut else UNMARKED if whole and one.rest else ""
    if reason:
        source.left_out[reason] += 1
    return not reason


# what a form can say --------------------------------------------------------------------------------------------------


def _not_a_question(prompt: Prompt, system: bool = False) -> str:
    """Why a prompt is not one user's turn of words, "" where it is.  system: one system turn may stand before it."""
    turns = turns_of(prompt)
    if prompt.tools or any(turn.tool_calls for turn in turns):
        return TOOLS
    roles = ["system", "user"] if system and len(turns) == 2 else ["user"]
    plain = [Message(role, turn.content) for role, turn in zip(roles, turns, strict=False)]
    return "" if list(turns) == plain else QUESTION


def _as_read(source: Source, said: RowDict, purpose: Purpose, *records: Record) -> Iterator[RowDict]:
    """The row, where our reader finds these records in it; else it is counted."""
    try:
        found, _ = read_columns(said, purpose)
    except Skip:
        found = []
    if found == list(records):
        yield said
    else:
        source.left_out[MISREAD] += 1


FOREIGN: dict[str, Callable[[Source], Iterator[RowDict]]] = {
    "openai": openai,
    "orca": orca,
    "summarize-from-feedback": summarize_from_feedback,
    "nemo": nemo,
    "ultrafeedback": ultrafeedback,
    "helpsteer": helpsteer,
    "prm800k": prm800k,
    "math-shepherd": math_shepherd,
    "processbench": processbench,
}
