"""What the answers to an item come to, whatever is written of it: comparisons, rankings, marked steps, ratings.

Each function counts in `left_out` what comes to nothing, by reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import select

from tutelage.feedback.asking.checking import dense
from tutelage.feedback.asking.payloads import RankAnswer, RateAnswer, StepAnswer
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.current import (
    AnsweredItem,
    CurrentAnswer,
    Source,
    answered_items,
    answered_responses,
)
from tutelage.feedback.refining.lessons import last_word
from tutelage.feedback.training.consensus import soft_labels
from tutelage.feedback.training.habits import WITHOUT_HABITS
from tutelage.feedback.training.source import aggregated, skill_of, wanted_of
from tutelage.records import Comparison, Finish
from tutelage.store import VotedPair
from tutelage.store.aggregate import weighted_mean
from tutelage.store.comparing import ItemContent, stream_voted_pairs
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import StepMarkRow
from tutelage.store.schema_refining import RefinementRound
from tutelage.store.sql import batched, chunks

TIE, DISPUTE = "tie", "unsettled dispute"
AT_ONCE = 500  # items whose marked steps are read at once
BY_SKILL = ("dawid-skene", "crowd-bt", *WITHOUT_HABITS)
T = TypeVar("T")


def refuse(source: Source, which: Sequence[str], why: str) -> None:
    """Refused: invalid, where answers are aggregated in a way that is none for these."""
    if source.aggregation in which:
        raise Refused("invalid", f"aggregation={source.aggregation} {why}")


def counted(
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


# comparisons and rankings ---------------------------------------------------------------------------------------------


def compared(source: Source, ranked: bool = True) -> Iterator[tuple[VotedPair, Comparison]]:
    """Every two responses that were compared, with the row that the votes make; by skill one depends on the others.

    ranked: also the responses of rankings, two at a time.
    """

    def pairs(counting: Source) -> Iterator[VotedPair]:
        every = stream_voted_pairs(counting.connection, counting.project_id, ranked)
        return counting.wanted((pair.item_id, pair.split, pair.redacted, pair) for pair in every)

    # Learning skill reads all pairs, which count once, however often they are read.
    aside = replace(source, left_out=Counter[str](), look=None)
    skill = skill_of(lambda: pairs(aside), source.aggregation)
    for pair, row in aggregated(pairs(source), source.aggregation, source.spec.ties, skill):
        if isinstance(row, str):
            source.left_out[row] += 1
        else:
            yield pair, row


def rankings(source: Source) -> Iterator[tuple[ItemContent, tuple[int, ...]]]:
    """Each ranked item with its ranks, one for each response: 1 = best, equal ranks are ties, no gaps.

    majority: in the order of the mean rank.  all: every ranking by itself.
    """
    refuse(source, BY_SKILL, "is not for ranks: choose another.")
    for item in answered_items(source, "rank"):
        votes = counted(source, item, _ranks)
        if not votes:
            continue
        if source.aggregation == "all":
            yield from ((item.content, ranks) for ranks, _ in votes)
            continue
        slots = range(len(item.content.texts))
        means = [round(weighted_mean((ranks[slot], w) for ranks, w in votes), 9) for slot in slots]
        yield item.content, dense(means)


def _ranks(given: CurrentAnswer) -> tuple[int, ...] | None:
    return given.answer.ranks if isinstance(given.answer, RankAnswer) else None


# marked steps ---------------------------------------------------------------------------------------------------------


class Marked(NamedTuple):
    """A response with its marked steps, what was said of each (1, 0 or -1), and the steps behind them that nobody marked;
    whether its answer is right, where that is known."""

    item: ItemContent
    steps: list[str]
    labels: list[int]
    rest: tuple[str, ...]
    right: bool | None = None

    def up_to(self, labels: list[int]) -> Marked:
        """The same with these labels of its first steps."""
        kept = len(labels)
        return self._replace(steps=self.steps[:kept], labels=labels, rest=(*self.steps[kept:], *self.rest))

    @property
    def finish(self) -> Finish:
        """How the marked steps end: "length" where the response goes on behind them, or was cut."""
        return "length" if self.rest else self.item.finishes[0]


def marked_steps(
    source: Source, annotators: Sequence[str] = (), kinds: Mapping[str, str] | None = None
) -> Iterator[Marked]:
    """The items whose steps were marked; by some annotators only (names, or `kinds` by name), where they are given."""
    refuse(source, ("crowd-bt", *WITHOUT_HABITS), "is for pairs, not for steps: use dawid-skene.")
    items: Iterable[AnsweredItem] = answered_items(source, "step")
    soft: Mapping[str, Mapping[int, float]] = {}
    if annotators or source.aggregation == "dawid-skene":  # all have a say in each
        every = list(items)
        items = every = _answered_by(every, annotators, kinds or {}) if annotators else every
        soft = _step_skills(every) if source.aggregation == "dawid-skene" else {}
    rounds = _rounds(source)
    found = _marked(source, items, soft, rounds)
    yield from found if source.aggregation == "all" or not rounds else _last_words(list(found), rounds)


def _marked(
    source: Source,
    items: Iterable[AnsweredItem],
    soft: Mapping[str, Mapping[int, float]],
    rounds: Mapping[int, Any],
) -> Iterator[Marked]:
    """What the marks of each item come to, item by item."""
    for some in batched(items, AT_ONCE):
        texts = _step_texts(source, [one.annotation_id for item in some for one in item.answers])
        for item in some:
            for labels in filter(None, _step_labels(source, item, soft)):
                asked = next(one for one in item.answers if len(texts[one.annotation_id]) >= len(labels))
                steps = texts[asked.annotation_id][: len(labels)]
                rest = _unmarked(item.content.texts[0], steps, asked)
                right = rounds[item.content.item_id].correct if item.content.item_id in rounds else None
                yield Marked(item.content, steps, labels, rest, right)


def _rounds(source: Source) -> dict[int, Any]:
    """item -> the round of a refinement that it is: of which (root_id), and whether its answer is right (correct)."""
    query = select(RefinementRound.__table__).join(Item, Item.id == RefinementRound.item_id)
    rows = source.connection.execute(query.where(Item.project_id == source.project_id))
    return {row.item_id: row for row in rows}


def _last_words(found: Sequence[Marked], rounds: Mapping[int, Any]) -> Iterator[Marked]:
    """The same, where the rounds of one refinement do not contradict each other: a later look at the same steps holds."""
    of_one: dict[int, list[Marked]] = defaultdict(list)
    for one in found:
        if one.item.item_id in rounds:
            of_one[rounds[one.item.item_id].root_id].append(one)
    held: dict[int, list[int]] = {}
    for some in of_one.values():
        some.sort(key=lambda one: rounds[one.item.item_id].n)
        labels = last_word([(one.steps, one.labels) for one in some])
        for one, own in zip(some, labels, strict=True):
            held[one.item.item_id] = [label for label in own if label is not None]
    for one in found:
        yield one.up_to(held.get(one.item.item_id, one.labels))


def _answered_by(
    items: Sequence[AnsweredItem], annotators: Sequence[str], kinds: Mapping[str, str]
) -> list[AnsweredItem]:
    """The items with the answers of some annotators only, those without any left out.  ValueError: a name of nobody."""
    wanted = wanted_of({vote.annotator for item in items for vote in item.votes}, annotators, kinds)
    fewer = (replace(item, votes=[vote for vote in item.votes if vote.annotator in wanted]) for item in items)
    return [item for item in fewer if item.votes]


def neutral_gone(source: Source, labels: Sequence[int]) -> list[bool] | None:
    """Labels as true and false; a neutral step becomes what the specification says, or its row is left out."""
    if source.spec.neutral == "drop" and 0 in labels:
        source.left_out["neutral step"] += 1
        return None
    return [label == 1 or (label == 0 and source.spec.neutral == "true") for label in labels]


def _unmarked(text: str, steps: Sequence[str], asked: CurrentAnswer) -> tuple[str, ...]:
    """The steps of a response behind those that were marked."""
    rest = text.removeprefix("".join(steps))
    return split_steps(rest, asked.questions["splitter"]) if rest.strip() and rest != text else ()


def _step_labels(
    source: Source, item: AnsweredItem, soft: Mapping[str, Mapping[int, float]]
) -> list[list[int]]:
    """The rows of an item: one label per step, as far as steps are marked."""
    votes = counted(source, item, _marks)
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


def _step_texts(source: Source, annotations: Sequence[int]) -> dict[int, list[str]]:
    """annotation -> the texts of the steps it marks, as they were shown."""
    texts: dict[int, list[str]] = defaultdict(list)
    query = select(StepMarkRow.annotation_id, StepMarkRow.text)
    query = query.order_by(StepMarkRow.annotation_id, StepMarkRow.step)
    for some in chunks(annotations):
        for annotation_id, text in source.connection.execute(
            query.where(StepMarkRow.annotation_id.in_(some))
        ):
            texts[annotation_id].append(text)
    return texts


# ratings --------------------------------------------------------------------------------------------------------------


def rated_responses(source: Source) -> Iterator[tuple[AnsweredItem, int, list[CurrentAnswer]]]:
    """Every rated response (an item, and the slot in it) with the answers behind each row about it."""
    refuse(source, BY_SKILL, "is not for ratings: use majority (means), adjudicated or all.")
    for item, slot in answered_responses(source, "rate"):
        yield from ((item, slot, answers) for answers in _behind_rows(source, item))


def rated_items(source: Source) -> Iterator[tuple[AnsweredItem, list[CurrentAnswer]]]:
    """The same by item."""
    refuse(source, BY_SKILL, "is not for ratings: use majority (means), adjudicated or all.")
    for item in answered_items(source, "rate"):
        yield from ((item, answers) for answers in _behind_rows(source, item))


def _behind_rows(source: Source, item: AnsweredItem) -> list[list[CurrentAnswer]]:
    """All answers together, or (all) each by itself; none for a dispute, which is counted."""
    if source.aggregation == "adjudicated" and item.settled is not None:
        return [[item.settled]]
    if source.aggregation == "adjudicated" and item.in_conflict:
        source.left_out[DISPUTE] += 1
        return []
    if source.aggregation == "all":
        return [[one] for one in item.votes]
    return [item.votes] if item.votes else []


def mean_ratings(answers: Sequence[CurrentAnswer], slot: int) -> dict[str, float]:
    """criterion -> the mean of the values that answers give a response, by their weights."""
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in answers:
        assert isinstance(one.answer, RateAnswer)
        for name, by_slot in one.answer.ratings.items():
            value = by_slot[slot]
            if value is not None:
                values[name].append((value, one.weight))
    return {name: round(weighted_mean(some), 6) for name, some in values.items()}
