"""What the insights page shows: the project's answers through `tutelage.feedback.statistics`, as named estimates.

Agreement is measured on who was said to be better (three categories) and, ordinally, on the whole scale; strengths of
models by Bradley-Terry; habits per annotator.  Gold items are left out of agreement and strengths, which they would
flatter.  Everything follows from the answers alone, so it is kept until one of them changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tutelage.feedback import statistics
from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.insights import tables
from tutelage.feedback.insights.tables import PairLabel, ValueLabel
from tutelage.feedback.projects.projects import Member
from tutelage.feedback.statistics import Estimate
from tutelage.store.database import Database

HOW = statistics.Resampling(resamples=200)  # two digits are shown, and people wait for them
EVERYBODY = "everybody"
NO_SIDES = Estimate(None, None, None, 0, "share", "ties only")


class Value(Model):
    """An estimate for JSON: `value` is null where `note` says why; the interval is at 95 %."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    note: str


class Line(Model):
    """One named value; `help` says in a sentence what it is."""

    name: str
    help: str
    estimate: Value


class Person(Model):
    """One annotator in numbers."""

    name: str
    kind: str
    votes: int
    ties: int
    reliability: Value
    gold: Value | None
    gold_alert: bool
    first: Value
    length: Value
    seconds: Value | None
    longest_run: Value
    run_chance: float | None


class Insight(Model):
    """Everything on the page."""

    agreement: tuple[Line, ...]
    people: tuple[Person, ...]
    bias: tuple[Line, ...]
    leaderboard: tuple[Line, ...]
    values: tuple[Line, ...]


def insight(database: Database, who: Member) -> Insight:
    """The project's numbers.  Needs view."""
    return _computed(tuple(tables.pair_labels(database, who)), tuple(tables.value_labels(database, who)))


@lru_cache(maxsize=8)
def _computed(pairs: tuple[PairLabel, ...], values: tuple[ValueLabel, ...]) -> Insight:
    plain = [label for label in pairs if label.gold is None]
    return Insight(
        agreement=_agreement(plain),
        people=_people(pairs),
        bias=_bias(pairs),
        leaderboard=_leaderboard(plain),
        values=_values(values),
    )


def _agreement(labels: Sequence[PairLabel]) -> tuple[Line, ...]:
    """How far annotators agree on pairs."""
    if not labels:
        return ()
    signs = _votes(labels, lambda label: _sign(label.preference), [-1, 0, 1])
    scale = _votes(labels, lambda label: label.preference, list(range(-3, 4)))
    return (
        _line("Agreement", "Share of pairs of answers to an item that name the same winner (or both a tie).",
              statistics.percent_agreement(signs, how=HOW)),
        _line("Fleiss' kappa", "The same beyond chance: 0 is chance, 1 is perfect.", statistics.fleiss_kappa(signs, how=HOW)),
        _line("Gwet's AC1", "Beyond chance, and steady when one answer is much more common.", statistics.gwet_ac(signs, how=HOW)),
        _line("Krippendorff's alpha, ordinal", "On the whole scale: near answers count as near.",
              statistics.krippendorff_alpha(scale, "ordinal", how=HOW)),
    )  # fmt: skip


def _people(labels: Sequence[PairLabel]) -> tuple[Person, ...]:
    """One row per annotator, most answers first."""
    if not labels:
        return ()
    names = [label.annotator for label in labels]
    clusters = [label.prompt_id for label in labels]
    first, longer = [_first_won(label) for label in labels], [_longer(label) for label in labels]
    # Without the ties: as a label of its own a tie takes in every pair that people see differently, and nobody looks reliable.
    decided = [label for label in labels if label.preference]
    sides = _votes(decided, lambda label: _sign(label.preference), [-1, 1])
    reliable = statistics.dawid_skene(sides, how=HOW).accuracy if decided else {}
    position = statistics.position_bias(names, first, clusters=clusters, how=HOW)
    length = statistics.length_bias(names, first, longer, clusters=clusters, how=HOW)
    runs = statistics.straight_lining(names, [_as_clicked(label) for label in labels], how=HOW)
    gold, speed = _gold(labels), _speed(labels)
    grouped: dict[str, list[PairLabel]] = defaultdict(list)
    for label in labels:
        grouped[label.annotator].append(label)
    return tuple(
        Person(
            name=name,
            kind=own[0].kind,
            votes=len(own),
            ties=sum(label.preference == 0 for label in own),
            reliability=_value(reliable.get(name, NO_SIDES)),
            gold=_value(gold[name].accuracy) if name in gold else None,
            gold_alert=name in gold and gold[name].alert,
            first=_value(position[name].rate),
            length=_value(length[name]),
            seconds=_value(speed[name].median) if name in speed else None,
            longest_run=_value(runs[name].longest),
            run_chance=runs[name].chance,
        )
        for name, own in sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _bias(labels: Sequence[PairLabel]) -> tuple[Line, ...]:
    """Habits of everybody together."""
    if not labels:
        return ()
    names = [EVERYBODY] * len(labels)
    clusters = [label.prompt_id for label in labels]
    first, longer = [_first_won(label) for label in labels], [_longer(label) for label in labels]
    position = statistics.position_bias(names, first, clusters=clusters, how=HOW)[EVERYBODY]
    length = statistics.length_bias(names, first, longer, clusters=clusters, how=HOW)[EVERYBODY]
    return (
        _line("Chose what was shown first", "Share of decided answers; 0.5 is fair.", position.rate),
        _line("Side", "Logits in favour of what was shown first; 0 is fair.", position.side),
        _line("Length", "Logits per standard deviation of length in favour of the longer response.", length),
    )


def _leaderboard(labels: Sequence[PairLabel]) -> tuple[Line, ...]:
    """Strengths of the models, best first."""
    met = [label for label in labels if label.models[0] != label.models[1]]
    if not met:
        return ()
    found = statistics.bradley_terry(
        [label.models[0] for label in met],
        [label.models[1] for label in met],
        [_slot_zero_won(label) for label in met],
        clusters=[label.prompt_id for label in met],
        how=HOW,
    )
    ranked = sorted(found.players.items(), key=lambda item: -(item[1].value or 0.0))
    return tuple(
        _line(str(name), "Bradley-Terry strength in logits; 0 is the average.", found)
        for name, found in ranked
    )


def _values(labels: Sequence[ValueLabel]) -> tuple[Line, ...]:
    """Agreement on ranks, ratings, acceptance and marks."""
    grouped: dict[str, list[ValueLabel]] = defaultdict(list)
    for label in labels:
        grouped[f"{label.question} {label.unit[2]}".strip()].append(label)
    lines = []
    for question, own in sorted(grouped.items()):
        votes = statistics.Votes.from_triplets(
            [f"{label.unit[0]}/{label.unit[1]}" for label in own],
            [label.annotator for label in own],
            [label.value for label in own],
            clusters=[label.unit[0] for label in own],
        )
        name = question.replace(":", ": ")
        lines.append(
            _line(
                name,
                "Krippendorff's alpha, ordinal.",
                statistics.krippendorff_alpha(votes, "ordinal", how=HOW),
            )
        )
    return tuple(lines)


def _votes(
    labels: Sequence[PairLabel], said: Callable[[PairLabel], int], categories: list[int]
) -> statistics.Votes:
    return statistics.Votes.from_triplets(
        [label.item_id for label in labels],
        [label.annotator for label in labels],
        [said(label) for label in labels],
        categories=categories,
        clusters=[label.prompt_id for label in labels],
        mirrored=True,
    )


def _gold(labels: Sequence[PairLabel]) -> Mapping[Any, statistics.GoldAccuracy]:
    known = [label for label in labels if label.gold is not None]
    right = [float(_sign(label.preference) == _sign(label.gold or 0)) for label in known]
    return statistics.gold_accuracy([label.annotator for label in known], right)


def _speed(labels: Sequence[PairLabel]) -> Mapping[Any, statistics.Speed]:
    timed = [label for label in labels if label.active_ms is not None]
    seconds = [(label.active_ms or 0) / 1000 for label in timed]
    return statistics.speed([label.annotator for label in timed], seconds, how=HOW)


def _sign(preference: int) -> int:
    return (preference > 0) - (preference < 0)


def _slot_zero_won(label: PairLabel) -> float:
    return 0.5 - 0.5 * _sign(label.preference)


def _first_won(label: PairLabel) -> float:
    """1 where the response shown first won, 0 where the other did, one half for a tie."""
    won = _slot_zero_won(label)
    return won if label.first_shown == 0 else 1 - won


def _longer(label: PairLabel) -> int:
    """By how many characters the response shown first is the longer one."""
    return label.lengths[label.first_shown] - label.lengths[1 - label.first_shown]


def _as_clicked(label: PairLabel) -> int:
    return label.preference if label.first_shown == 0 else -label.preference


def _line(name: str, help: str, found: Estimate) -> Line:
    return Line(name=name, help=help, estimate=_value(found))


def _value(found: Estimate) -> Value:
    return Value(**vars(found))
