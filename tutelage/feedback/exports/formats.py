"""The rows of every export format, made from the answers in the store.

Each function returns its rows and counts in `left_out` what has no place in the format, by reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import select

from tutelage.feedback.asking.checking import dense
from tutelage.feedback.asking.payloads import PairAnswer, RankAnswer, RateAnswer, StepAnswer
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.current import (
    AnsweredItem,
    CurrentAnswer,
    RowDict,
    Source,
    aliases,
    answered_items,
    answered_responses,
)
from tutelage.feedback.exports.provenance import provenance
from tutelage.feedback.items.conflicts import unsettled
from tutelage.feedback.training.consensus import soft_labels
from tutelage.feedback.training.habits import WITHOUT_HABITS
from tutelage.feedback.training.source import aggregate, wanted_of
from tutelage.records import Comparison, Finish, Message, Prompt
from tutelage.store import VotedPair
from tutelage.store.aggregate import weighted_mean
from tutelage.store.comparing import ItemContent, read_voted_pairs, read_written
from tutelage.store.schema import Annotation, Item
from tutelage.store.schema_feedback import StepMarkRow

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"  # Anthropic's transcripts (hh-rlhf)
DISPUTE = "unsettled dispute"
BY_SKILL = ("dawid-skene", "crowd-bt", *WITHOUT_HABITS)
T = TypeVar("T")


def preference(source: Source) -> Iterator[RowDict]:
    """TRL's preference rows, with ours (p_chosen, task, reference, ...) beside them: readable as data=."""
    rows = list(_comparisons(source))
    from_where = provenance(source, rows) if source.spec.provenance else [{}] * len(rows)
    for (pair, comparison), more in zip(rows, from_where, strict=True):
        yield comparison.to_json() | {"item": pair.group, "split": pair.split} | more


def hh(source: Source) -> Iterator[RowDict]:
    """Anthropic's transcripts.  They know no ties, no system turns and nothing between better and worse."""
    for _, comparison in _comparisons(source):
        reason = _not_for_hh(comparison)
        if reason:
            source.left_out[reason] += 1
            continue
        start = "".join(
            f"{HUMAN if turn.role == 'user' else ASSISTANT} {turn.content}"
            for turn in _turns(comparison.prompt)
        )
        yield {
            "chosen": f"{start}{ASSISTANT} {comparison.chosen}",
            "rejected": f"{start}{ASSISTANT} {comparison.rejected}",
        }


def unpaired(source: Source) -> Iterator[RowDict]:
    """{prompt, completion, label}: single responses, good or not."""
    if source.spec.labels_from == "pairs":
        yield from _unpaired_from_pairs(source)
        return
    _refuse(source, BY_SKILL, "needs labels_from=pairs here: choose that, or majority.")
    label = _acceptable if source.spec.labels_from == "acceptable" else _rated_well
    for item, slot in answered_responses(source, "pair", "rank", "rate"):
        yield from _unpaired_rows(source, item, slot, label)


def ranked(source: Source) -> Iterator[RowDict]:
    """{prompt, responses, ranks}: 1 = best, equal ranks are ties.  majority: in the order of the mean rank."""
    _refuse(source, BY_SKILL, "is not for ranks: choose another.")
    for item in answered_items(source, "rank"):
        content = item.content
        for ranks in _rankings(source, item):
            yield _item_columns(content) | {
                "responses": [_completion(content.prompt, text) for text in content.texts],
                "responses_finish": list(content.finishes),
                "ranks": list(ranks),
            }


def stepwise(source: Source) -> Iterator[RowDict]:
    """{prompt, completions: steps, labels}: TRL's stepwise rows; after a first wrong step nothing need follow."""
    for item, steps, labels in marked_steps(source):
        row = _neutral(source, labels)
        if row:
            yield _item_columns(item) | {"completions": steps, "labels": row}


def marked_steps(
    source: Source, annotators: Sequence[str] = (), kinds: Mapping[str, str] | None = None
) -> Iterator[tuple[ItemContent, list[str], list[int]]]:
    """Each item with the texts of its marked steps and what was said of them: 1, 0 or -1; by some annotators only (names, or
    `kinds` by name), where they are given."""
    _refuse(source, ("crowd-bt", *WITHOUT_HABITS), "is for pairs, not for steps: use dawid-skene.")
    items = answered_items(source, "step")
    if annotators:
        items = _answered_by(items, annotators, kinds or {})
    soft = _step_skills(items) if source.aggregation == "dawid-skene" else {}
    texts = _step_texts(source)
    for item in items:
        answers = [*item.votes, *([item.settled] if item.settled else [])]
        for labels in _step_labels(source, item, soft):
            if labels:
                said = (texts[one.annotation_id] for one in answers)
                steps = next(steps for steps in said if len(steps) >= len(labels))
                yield item.content, steps[: len(labels)], labels


def _answered_by(
    items: Sequence[AnsweredItem], annotators: Sequence[str], kinds: Mapping[str, str]
) -> list[AnsweredItem]:
    """The items with the answers of some annotators only, those without any left out.  ValueError: a name of nobody."""
    wanted = wanted_of({vote.annotator for item in items for vote in item.votes}, annotators, kinds)
    fewer = (replace(item, votes=[vote for vote in item.votes if vote.annotator in wanted]) for item in items)
    return [item for item in fewer if item.votes]


def sft(source: Source) -> Iterator[RowDict]:
    """{prompt, completion}: demonstrations and rewrites."""
    written = read_written(source.connection, source.project_id)
    for row in source.wanted((one.item.item_id, one.item.split, one.redacted, one) for one in written):
        yield _prompt_columns(row.item.prompt) | {
            "completion": _completion(row.item.prompt, row.text),
            "split": row.item.split,
        }


def ratings(source: Source) -> Iterator[RowDict]:
    """{prompt, response, n, values: {criterion: value}}: means over n annotators; all: one row each.

    adjudicated: the values that settled a conflict; unsettled ones are left out.
    """
    _refuse(source, BY_SKILL, "is not for ratings: use majority (means), adjudicated or all.")
    alias = aliases(source)
    adjudicated = source.aggregation == "adjudicated"
    disputed = set(unsettled(source.connection, source.project_id) if adjudicated else ())
    for item, slot in answered_responses(source, "rate"):
        answers = item.votes
        if adjudicated and item.settled is not None:
            answers = [item.settled]
        elif item.content.item_id in disputed:
            source.left_out[DISPUTE] += 1
            continue
        response = {"response": item.content.texts[slot], "response_finish": item.content.finishes[slot]}
        start = _item_columns(item.content) | response | {"slot": slot}
        if source.aggregation == "all":
            for one in answers:
                yield start | {"annotator": alias[one.annotator], "n": 1, "values": _means([one], slot)}
        elif answers:
            yield start | {"n": len(answers), "values": _means(answers, slot)}


# comparisons ----------------------------------------------------------------------------------------------------------


def _comparisons(source: Source) -> Iterator[tuple[VotedPair, Comparison]]:
    """Every two responses that were compared, with the row that the votes make; by skill one depends on the others."""
    found = read_voted_pairs(source.connection, source.project_id)
    pairs = list(source.wanted((pair.item_id, pair.split, pair.redacted, pair) for pair in found))
    for pair, row in zip(pairs, aggregate(pairs, source.aggregation, source.spec.ties), strict=True):
        if isinstance(row, str):
            source.left_out[row] += 1
        else:
            yield pair, row


def _not_for_hh(row: Comparison) -> str:
    turns = _turns(row.prompt)
    if row.p_chosen == 0.5:
        return "tie: transcripts have none"
    if row.prompt.tools or any(turn.tool_calls for turn in turns):
        return "prompt has tools, which transcripts cannot say"
    if "length" in (row.chosen_finish, row.rejected_finish):
        return "response was cut, which transcripts cannot say"
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        return "conversation is not human, assistant, human, ..."
    texts = [*(turn.content for turn in turns), row.chosen, row.rejected]
    if any(mark in f"\n\n{text.lstrip()}" for text in texts for mark in (HUMAN, ASSISTANT)):
        return "text contains the transcript's own marks"
    if any(text != text.strip() for text in texts):
        return "text begins or ends with white space, which transcripts lose"
    if row.chosen == row.rejected:
        return "both responses are the same"
    return ""


# single responses -----------------------------------------------------------------------------------------------------


def _unpaired_from_pairs(source: Source) -> Iterator[RowDict]:
    """Both halves of every strict pair; a response that is in several pairs gives several rows."""
    for pair, row in _comparisons(source):
        if row.p_chosen == 0.5:
            source.left_out["tie"] += 1
            continue
        for text, finish, label in (
            (row.chosen, row.chosen_finish, True),
            (row.rejected, row.rejected_finish, False),
        ):
            columns = _prompt_columns(row.prompt) | {"item": pair.group, "split": pair.split}
            yield columns | _labelled(row.prompt, text, finish, label)


def _unpaired_rows(
    source: Source, item: AnsweredItem, slot: int, label: Callable[[CurrentAnswer, int], bool | None]
) -> Iterator[RowDict]:
    """The rows of one response."""
    votes = _counted(source, item, lambda one: label(one, slot))
    if votes is None:
        return
    balance = sum(weight if said else -weight for said, weight in votes)
    if source.aggregation == "all":
        labels = [said for said, _ in votes]
    else:
        labels = [balance > 0] if balance else []
    if not labels:
        source.left_out["tie" if votes else "no label"] += 1
    content = item.content
    for one in labels:
        row = _labelled(content.prompt, content.texts[slot], content.finishes[slot], one)
        yield _item_columns(content) | row


def _counted(
    source: Source, item: AnsweredItem, said: Callable[[CurrentAnswer], T | None]
) -> list[tuple[T, float]] | None:
    """What was said of an item, with weights; adjudicated: what settled it alone, None for a dispute (which is counted)."""
    votes = [(value, one.weight) for one in item.votes if (value := said(one)) is not None]
    if source.aggregation != "adjudicated":
        return votes
    if item.settled is not None and (settled := said(item.settled)) is not None:
        return [(settled, 1.0)]
    if any(value != votes[0][0] for value, _ in votes):
        source.left_out[DISPUTE] += 1
        return None
    return votes


def _refuse(source: Source, which: Sequence[str], why: str) -> None:
    if source.aggregation in which:
        raise Refused("invalid", f"aggregation={source.aggregation} {why}")


def _labelled(prompt: Prompt, text: str, finish: Finish, label: bool) -> RowDict:
    return {"completion": _completion(prompt, text), "completion_finish": finish, "label": label}


def _acceptable(given: CurrentAnswer, slot: int) -> bool | None:
    answer = given.answer
    if isinstance(answer, PairAnswer | RankAnswer | RateAnswer) and answer.acceptable:
        return answer.acceptable[slot]
    return None


def _rated_well(given: CurrentAnswer, slot: int) -> bool | None:
    """Above the middle of the scale by the criterion `overall` (or the first one there is); the middle says nothing."""
    if not isinstance(given.answer, RateAnswer):
        return None
    names = [criterion["name"] for criterion in given.questions["criteria"]]
    values = given.answer.ratings.get("overall" if "overall" in names else names[0])
    middle = (1 + given.questions["scale"]) / 2
    value = None if values is None else values[slot]
    return None if value is None or value == middle else value > middle


# ranks, steps and ratings ---------------------------------------------------------------------------------------------


def _rankings(source: Source, item: AnsweredItem) -> list[tuple[int, ...]]:
    votes = _counted(
        source, item, lambda one: one.answer.ranks if isinstance(one.answer, RankAnswer) else None
    )
    if not votes or source.aggregation == "all":
        return [ranks for ranks, _ in votes or ()]
    slots = range(len(item.content.texts))
    means = [round(weighted_mean((ranks[slot], w) for ranks, w in votes), 9) for slot in slots]
    return [dense(means)]


def _step_labels(
    source: Source, item: AnsweredItem, soft: Mapping[str, Mapping[int, float]]
) -> list[list[int]]:
    """The rows of an item: one label per step, as far as steps are marked."""
    votes = _counted(source, item, _marks)
    if votes is None or source.aggregation == "all":
        return [labels for labels, _ in votes or ()]
    longest = range(max((len(labels) for labels, _ in votes), default=0))
    if source.aggregation == "dawid-skene":
        probable = [soft[f"{item.content.item_id}/{step}"] for step in longest]
        return [[max(by_label, key=lambda label: by_label[label]) for by_label in probable]]
    sums = [sum(weight * labels[step] for labels, weight in votes if step < len(labels)) for step in longest]
    return [[(total > 0) - (total < 0) for total in sums]]


def _marks(given: CurrentAnswer) -> list[int]:
    assert isinstance(given.answer, StepAnswer)
    return [mark.label for mark in given.answer.marks]


def _step_skills(items: Sequence[AnsweredItem]) -> dict[str, Mapping[int, float]]:
    """Dawid and Skene over every marked step of the project."""
    labels = [
        (f"{item.content.item_id}/{step}", one.annotator, label)
        for item in items
        for one in item.votes
        for step, label in enumerate(_marks(one))
    ]
    return soft_labels(labels, (-1, 0, 1))


def _neutral(source: Source, labels: Sequence[int]) -> list[bool] | None:
    """Labels as true and false; a neutral step becomes what the specification says, or its row is left out."""
    if source.spec.neutral == "drop" and 0 in labels:
        source.left_out["neutral step"] += 1
        return None
    return [label == 1 or (label == 0 and source.spec.neutral == "true") for label in labels]


def _step_texts(source: Source) -> dict[int, list[str]]:
    """annotation -> the texts of the steps it marks, as they were shown."""
    texts: dict[int, list[str]] = defaultdict(list)
    query = (
        select(StepMarkRow.annotation_id, StepMarkRow.text)
        .join(Annotation)
        .join(Item)
        .where(Item.project_id == source.project_id)
        .order_by(StepMarkRow.annotation_id, StepMarkRow.step)
    )
    for annotation_id, text in source.connection.execute(query):
        texts[annotation_id].append(text)
    return texts


def _means(answers: Sequence[CurrentAnswer], slot: int) -> dict[str, float]:
    """criterion -> the mean of the values that answers give a response, by their weights."""
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in answers:
        assert isinstance(one.answer, RateAnswer)
        for name, by_slot in one.answer.ratings.items():
            value = by_slot[slot]
            if value is not None:
                values[name].append((value, one.weight))
    return {name: round(weighted_mean(some), 6) for name, some in values.items()}


def _turns(prompt: Prompt) -> tuple[Message, ...]:
    return (Message("user", prompt.content),) if isinstance(prompt.content, str) else prompt.content


def _item_columns(item: ItemContent) -> RowDict:
    return _prompt_columns(item.prompt) | {"item": item.digest, "split": item.split}


def _prompt_columns(prompt: Prompt) -> RowDict:
    return {"prompt": prompt.content_json(), "task": prompt.task, "reference": prompt.reference}


def _completion(prompt: Prompt, text: str) -> Any:
    """A response in the form that goes with its prompt: text, or one assistant message."""
    return [Message("assistant", text).to_json()] if prompt.is_chat else text


WRITERS: dict[str, Callable[[Source], Iterator[RowDict]]] = {
    "preference": preference,
    "hh": hh,
    "unpaired": unpaired,
    "ranked": ranked,
    "stepwise": stepwise,
    "sft": sft,
    "ratings": ratings,
}
