"""The rows of every export format, made from the answers in the store.

Each function returns its rows and counts in `left_out` what has no place in the format, by reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from tutelage.feedback.asking.checking import dense
from tutelage.feedback.asking.payloads import PairAnswer, RankAnswer, RateAnswer, StepAnswer
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.current import CurrentAnswer, RowDict, Source, aliases, given_to, items_of
from tutelage.feedback.training.consensus import comparisons_by_skill, soft_labels
from tutelage.feedback.training.source import aggregate
from tutelage.records import Comparison, Finish, Message, Prompt
from tutelage.store.comparing import ItemContent, read_demonstrations, read_voted_pairs
from tutelage.store.schema import Annotation, Item
from tutelage.store.schema_feedback import StepMarkRow

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"  # Anthropic's transcripts (hh-rlhf)


def preference(source: Source) -> Iterator[RowDict]:
    """TRL's preference rows, with ours (p_chosen, task, reference, ...) beside them: readable as data=."""
    for comparison, item in _comparisons(source):
        yield comparison.to_json() | {"item": item}


def hh(source: Source) -> Iterator[RowDict]:
    """Anthropic's transcripts.  They know no ties, no system turns and nothing between better and worse."""
    for comparison, _ in _comparisons(source):
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
    labels = _acceptable if source.spec.labels_from == "acceptable" else _rated_well
    given = given_to(source, "pair", "rank", "rate")
    for item in items_of(source, "pair", "rank", "rate"):
        for slot, (text, finish) in enumerate(zip(item.texts, item.finishes, strict=True)):
            votes = [
                (g.annotator, g.role, label)
                for g in given[item.item_id]
                if (label := labels(g, slot)) is not None
            ]
            yield from _unpaired_rows(source, item, text, finish, votes)


def ranked(source: Source) -> Iterator[RowDict]:
    """{prompt, responses, ranks}: 1 = best, equal ranks are ties.  majority: in the order of the mean rank."""
    if source.spec.aggregation in ("dawid-skene", "crowd-bt"):
        raise Refused("invalid", f"aggregation={source.spec.aggregation} is not for ranks: choose another.")
    given = given_to(source, "rank")
    for item in items_of(source, "rank"):
        answers = given[item.item_id]
        votes = [g.answer.ranks for g in answers if g.role == "answer" and isinstance(g.answer, RankAnswer)]
        settled = [
            g.answer.ranks for g in answers if g.role == "adjudication" and isinstance(g.answer, RankAnswer)
        ]
        for ranks in _rankings(source, votes, settled):
            yield _prompt_columns(item.prompt) | {
                "responses": [_completion(item.prompt, text) for text in item.texts],
                "responses_finish": list(item.finishes),
                "ranks": list(ranks),
                "item": item.digest,
            }


def stepwise(source: Source) -> Iterator[RowDict]:
    """{prompt, completions: steps, labels}: TRL's stepwise rows; after a first wrong step nothing need follow."""
    if source.spec.aggregation == "crowd-bt":
        raise Refused("invalid", "aggregation=crowd-bt is for pairs, not for steps: use dawid-skene.")
    given = given_to(source, "step")
    soft = _step_skills(given) if source.spec.aggregation == "dawid-skene" else {}
    steps = _step_texts(source)
    for item in items_of(source, "step"):
        answers = given[item.item_id]
        for group in _one_or_all(source, answers):
            labels = _step_labels(source, item, group, soft)
            if labels is None:
                continue
            texts = next(steps[g.annotation_id] for g in group if len(steps[g.annotation_id]) >= len(labels))
            row = _neutral(source, labels)
            if row is not None and row:
                yield _prompt_columns(item.prompt) | {
                    "completions": texts[: len(row)],
                    "labels": row,
                    "item": item.digest,
                }


def sft(source: Source) -> Iterator[RowDict]:
    """{prompt, completion}: demonstrations and rewrites."""
    for row in read_demonstrations(source.connection, source.project_id):
        yield _prompt_columns(row.prompt) | {"completion": _completion(row.prompt, row.response)}


def ratings(source: Source) -> Iterator[RowDict]:
    """{prompt, response, n, values: {criterion: value}}; majority: means over n annotators; all: one row each."""
    if source.spec.aggregation not in ("majority", "all"):
        raise Refused(
            "invalid",
            f"aggregation={source.spec.aggregation} is not for ratings: use majority (means) or all.",
        )
    given, alias = given_to(source, "rate"), aliases(source)
    for item in items_of(source, "rate"):
        answers = [g for g in given[item.item_id] if g.role == "answer"]
        for slot, (text, finish) in enumerate(zip(item.texts, item.finishes, strict=True)):
            start = _prompt_columns(item.prompt) | {"response": text, "response_finish": finish}
            start |= {"item": item.digest, "slot": slot}
            if source.spec.aggregation == "all":
                for g in answers:
                    assert isinstance(g.answer, RateAnswer)
                    values = {
                        name: by_slot[slot]
                        for name, by_slot in g.answer.ratings.items()
                        if by_slot[slot] is not None
                    }
                    yield start | {"annotator": alias[g.annotator], "n": 1, "values": values}
            elif answers:
                yield start | {"n": len(answers), "values": _means(answers, slot)}


# comparisons ----------------------------------------------------------------------------------------------------------


def _comparisons(source: Source) -> Iterator[tuple[Comparison, str]]:
    gold = source.gold_items()
    for pair, row in _aggregated(source, gold):
        if row is None:
            source.left_out["tie or unsettled dispute"] += 1
        else:
            yield row, pair


def _aggregated(source: Source, gold: set[int]) -> Iterator[tuple[str, Comparison | None]]:
    """(item digest, row) of every voted pair; by skill all at once, because one pair's share depends on the others."""
    spec = source.spec
    pairs = [p for p in read_voted_pairs(source.connection, source.project_id) if p.item_id not in gold]
    source.left_out["gold"] += len({p.item_id for p in pairs} & gold)
    if spec.aggregation in ("dawid-skene", "crowd-bt"):
        rows = comparisons_by_skill(pairs, spec.aggregation, spec.ties)
        yield from ((pair.group, row) for pair, row in zip(pairs, rows, strict=True))
        return
    for pair in pairs:
        found = aggregate([pair], spec.aggregation, spec.ties)
        yield pair.group, found[0] if found else None


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
    for comparison, item in _comparisons(source):
        if comparison.p_chosen == 0.5:
            source.left_out["tie"] += 1
            continue
        row = comparison
        for text, finish, label in (
            (row.chosen, row.chosen_finish, True),
            (row.rejected, row.rejected_finish, False),
        ):
            yield _unpaired_row(row.prompt, text, finish, label, item)


def _unpaired_rows(
    source: Source, item: ItemContent, text: str, finish: Finish, votes: Sequence[tuple[str, str, bool]]
) -> Iterator[RowDict]:
    answers = [(name, label) for name, role, label in votes if role == "answer"]
    settled = [label for _, role, label in votes if role == "adjudication"]
    if source.spec.aggregation == "all":
        for _, label in answers:
            yield _unpaired_row(item.prompt, text, finish, label, item.digest)
        return
    if source.spec.aggregation in ("dawid-skene", "crowd-bt"):
        raise Refused(
            "invalid",
            f"aggregation={source.spec.aggregation} needs labels_from=pairs here: choose that, or majority.",
        )
    if source.spec.aggregation == "adjudicated":
        labels = settled or ([answers[0][1]] if answers and len({label for _, label in answers}) == 1 else [])
        verdict = labels[0] if labels else None
    else:
        balance = sum(1 if label else -1 for _, label in answers)
        verdict = None if balance == 0 else balance > 0
    if verdict is None:
        source.left_out["no label" if not votes else "undecided"] += 1
    else:
        yield _unpaired_row(item.prompt, text, finish, verdict, item.digest)


def _unpaired_row(prompt: Prompt, text: str, finish: Finish, label: bool, item: str) -> RowDict:
    said = {"completion": _completion(prompt, text), "completion_finish": finish}
    return _prompt_columns(prompt) | said | {"label": label, "item": item}


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


def _rankings(
    source: Source, votes: Sequence[tuple[int, ...]], settled: Sequence[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    if source.spec.aggregation == "all":
        return [tuple(ranks) for ranks in votes]
    if source.spec.aggregation == "adjudicated":
        if settled:
            return [settled[-1]]
        if len(set(votes)) > 1:
            source.left_out["unsettled dispute"] += 1
            return []
        return list(votes[:1])
    if not votes:
        return []
    totals = [sum(column) for column in zip(*votes, strict=True)]
    return [dense(totals)]


def _one_or_all(source: Source, answers: Sequence[CurrentAnswer]) -> list[list[CurrentAnswer]]:
    """Answers that make one row together: all of an item's, or (aggregation=all) each on its own."""
    if source.spec.aggregation == "all":
        return [[given] for given in answers if given.role == "answer"]
    return [list(answers)] if answers else []


def _step_labels(
    source: Source, item: ItemContent, group: Sequence[CurrentAnswer], soft: Mapping[str, Mapping[int, float]]
) -> list[int] | None:
    """One label per step, as far as steps are marked; None where the item is left out."""
    marked: dict[int, list[int]] = {
        g.annotation_id: [m.label for m in g.answer.marks] for g in group if isinstance(g.answer, StepAnswer)
    }
    answers = [marked[g.annotation_id] for g in group if g.role == "answer"]
    settled = [marked[g.annotation_id] for g in group if g.role == "adjudication"]
    if source.spec.aggregation == "adjudicated":
        if not settled and any(labels != answers[0] for labels in answers):
            source.left_out["unsettled dispute"] += 1
            return None
        return [*answers, *settled][-1] if answers or settled else None
    longest = max((len(labels) for labels in answers), default=0)
    columns = [[labels[step] for labels in answers if step < len(labels)] for step in range(longest)]
    if source.spec.aggregation == "dawid-skene":
        probable = [soft[f"{item.item_id}/{step}"] for step in range(longest)]
        return [max(by_label, key=lambda label: by_label[label]) for by_label in probable]
    sums = [sum(column) for column in columns]
    return [(total > 0) - (total < 0) for total in sums]


def _step_skills(given: Mapping[int, Sequence[CurrentAnswer]]) -> dict[str, Mapping[int, float]]:
    """Dawid and Skene over every marked step of the project."""
    labels = [
        (f"{g.item_id}/{mark.step}", g.annotator, mark.label)
        for answers in given.values()
        for g in answers
        if g.role == "answer" and isinstance(g.answer, StepAnswer)
        for mark in g.answer.marks
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
        .join(Annotation, Annotation.id == StepMarkRow.annotation_id)
        .join(Item, Item.id == Annotation.item_id)
        .where(Item.project_id == source.project_id)
        .order_by(StepMarkRow.annotation_id, StepMarkRow.step)
    )
    for annotation_id, text in source.connection.execute(query):
        texts[annotation_id].append(text)
    return texts


def _means(answers: Sequence[CurrentAnswer], slot: int) -> dict[str, float]:
    values: dict[str, list[int]] = defaultdict(list)
    for given in answers:
        assert isinstance(given.answer, RateAnswer)
        for name, by_slot in given.answer.ratings.items():
            if by_slot[slot] is not None:
                values[name].append(by_slot[slot])  # type: ignore[arg-type]
    return {name: round(sum(some) / len(some), 6) for name, some in values.items()}


def _turns(prompt: Prompt) -> tuple[Message, ...]:
    return (Message("user", prompt.content),) if isinstance(prompt.content, str) else prompt.content


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
