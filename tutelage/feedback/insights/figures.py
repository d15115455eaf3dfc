"""What the insights page shows: a project's answers through `tutelage.feedback.statistics`, as named estimates.

labels.py reads the answers; verdict.py says in words how far annotators agree; annotators.py has a row for each of
them; the other sections are here.  Gold items are left out of agreement and strengths, which they would flatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from threading import Lock
from typing import Literal

import numpy as np
from sqlalchemy import Connection, select

from tutelage.feedback import statistics
from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.insights import labels
from tutelage.feedback.insights.annotators import Person, first_won, longer_first, people
from tutelage.feedback.insights.helped import Helped, helped
from tutelage.feedback.insights.labels import Column, Pairs, Sides, Values, sides_of
from tutelage.feedback.insights.sampling import Sample, State, draw, state_of
from tutelage.feedback.insights.shown import HOW, SCALE, SIDES, Line, value_votes, votes_of
from tutelage.feedback.insights.timeline import Timeline, timeline
from tutelage.feedback.insights.verdict import (
    Parted,
    Question,
    Verdict,
    level,
    parted_from_judges,
    verdict,
    worst_items,
)
from tutelage.feedback.people.access import Member
from tutelage.records import Prompt
from tutelage.store.database import Database
from tutelage.store.schema import Item, PromptRow

Whose = Literal["people", "judges", "all", "against"]
KINDS: dict[str, tuple[str, ...]] = {"people": ("human", "simulated"), "judges": ("judge", "rule")}
EVERYBODY = "everybody"


@dataclass(frozen=True)
class Contrast(statistics.Contrast):
    """Agreement on the same two responses, asked in two ways (pair, rank, rate), and `first` less `second`."""

    ways: tuple[str, str]
    measure: str


@dataclass(frozen=True)
class Judge(statistics.JudgeAgreement):
    """A judge beside people."""

    name: str
    kind: str


class Overturn(Model):
    """Without `votes` of the `n` votes the model `second` would be first instead of `first`."""

    first: str
    second: str
    votes: int
    n: int


class Insight(Model):
    """Everything on the page, from the answers of `whose`; `known`: whose answers there are; `parted`: the items that
    annotators (or judges and people) part on most; `sample`: what was drawn, where it is not from all answers."""

    whose: Whose
    known: tuple[Whose, ...]
    sample: Sample | None = None
    verdict: Verdict | None = None
    parted: tuple[Parted, ...] = ()
    questions: tuple[Question, ...] = ()
    agreement: tuple[Line, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    judges: tuple[Judge, ...] = ()
    people: tuple[Person, ...] = ()
    bias: tuple[Line, ...] = ()
    help: tuple[Helped, ...] = ()
    leaderboard: tuple[Line, ...] = ()
    overturned: Overturn | None = None
    circles: tuple[Line, ...] = ()
    timeline: Timeline | None = None


def insight(database: Database, who: Member, whose: Whose | None = None) -> Insight:
    """The project's numbers, from the answers of `whose` (default: people, or else judges).  Needs view.

    They are kept until something is answered or changed: the key of what is kept is the state of the project.  Of very many
    answers a sample is read (`sampling`).
    """
    who.require("view")
    with database.read() as connection:
        state = state_of(connection, who.project_id)
    with _ONE_AT_A_TIME:
        pairs, values, _, _ = _read(database, who.project_id, state)
        found = _computed(
            database, who.project_id, state, whose or next(iter(_known(pairs, values)), "people")
        )
    with database.read() as connection:  # no text is kept: it may be redacted
        return found.model_copy(update={"parted": _with_prompts(connection, found.parted)})


FEWEST, MOST = 30, 100_000  # votes of which it is said how few hold the first place

# kept between requests ------------------------------------------------------------------------------------------------

_ONE_AT_A_TIME = Lock()  # who asks for the same numbers meanwhile waits and finds them made


@lru_cache(maxsize=4)
def _read(database: Database, project_id: int, state: State) -> tuple[Pairs, Values, Sides, Sample | None]:
    with database.read() as connection:
        drawn = draw(connection, project_id)
        pairs = labels.read_pairs(connection, project_id, drawn.prompts)
        values = labels.read_values(connection, project_id, drawn.prompts)
    return pairs, values, sides_of(pairs, values), drawn.sample


@lru_cache(maxsize=16)
def _computed(database: Database, project_id: int, state: State, whose: Whose) -> Insight:
    pairs, values, sides, sample = _read(database, project_id, state)
    return compute(pairs, values, sides, whose).model_copy(update={"sample": sample})


# the sections ---------------------------------------------------------------------------------------------------------


def compute(pairs: Pairs, values: Values, sides: Sides, whose: Whose) -> Insight:
    """The numbers from the answers of `whose`; "against": judges beside people, and where they part."""
    known = _known(pairs, values)
    if whose == "against":
        return _against(pairs, known)
    own, own_values = pairs.where(_of(pairs.kind, whose)), values.where(_of(values.kind, whose))
    own_sides = sides.where(_of(sides.kind, whose))
    plain = own.where(np.isnan(own.gold))
    asked = _questions(plain, own_values)
    return Insight(
        whose=whose,
        known=known,
        verdict=verdict(asked),
        parted=worst_items(plain, own_values),
        questions=tuple(asked),
        agreement=agreement(plain),
        contrasts=contrasts(own_sides),
        people=people(own, own_sides),
        bias=bias(own),
        help=helped(own),
        leaderboard=leaderboard(plain),
        overturned=overturn(plain),
        circles=circles(plain),
        timeline=timeline(plain, own_values),
    )


def _against(pairs: Pairs, known: tuple[Whose, ...]) -> Insight:
    plain = pairs.where(np.isnan(pairs.gold))
    human, programs = (plain.where(_of(plain.kind, whose)) for whose in ("people", "judges"))
    parted = parted_from_judges(human, programs)
    return Insight(whose="against", known=known, parted=parted, judges=judges(human, programs))


def _of(kind: Column, whose: Whose) -> Column:
    return np.isin(kind, KINDS[whose]) if whose in KINDS else np.ones(kind.size, bool)


def _known(pairs: Pairs, values: Values) -> tuple[Whose, ...]:
    kinds = np.concatenate([pairs.kind, values.kind])
    human, programs = (bool(np.isin(kinds, KINDS[name]).any()) for name in ("people", "judges"))
    if human and programs:
        return ("people", "judges", "against", "all")
    return ("people",) if human else ("judges",) if programs else ()


def agreement(pairs: Pairs) -> tuple[Line, ...]:
    """How far annotators agree on pairs: on the side (three categories), and ordinally on the whole scale."""
    if not len(pairs):
        return ()
    signs = votes_of(pairs, pairs.side, SIDES)
    scale = votes_of(pairs, pairs.preference, SCALE)
    return (
        Line("share", statistics.percent_agreement(signs, how=HOW)),
        Line("kappa", statistics.fleiss_kappa(signs, how=HOW)),
        Line("ac1", statistics.gwet_ac(signs, how=HOW)),
        Line("alpha", statistics.krippendorff_alpha(scale, "ordinal", how=HOW)),
    )


def _questions(pairs: Pairs, values: Values) -> list[Question]:
    """Ordinal alpha of every question that was asked."""
    asked: list[tuple[str, str, statistics.Votes]] = []
    if len(pairs):
        asked.append(("pair", "", votes_of(pairs, pairs.preference, SCALE)))
    for name, criterion in sorted(set(zip(values.question.tolist(), values.criterion.tolist(), strict=True))):
        own = values.where((values.question == name) & (values.criterion == criterion))
        asked.append((name, criterion, value_votes(own)))
    found = []
    for name, criterion, votes in asked:
        alpha = statistics.krippendorff_alpha(votes, "ordinal", how=HOW)
        found.append(Question(name=name, criterion=criterion, alpha=alpha, level=level(alpha)))
    return found


def contrasts(sides: Sides) -> tuple[Contrast, ...]:
    """Whether people agree more when they compare two responses than when they rank or rate the same two."""
    by_way = {way: sides.where(sides.way == way) for way in ("pair", "rank", "rate")}
    votes = {way: votes_of(own, own.side, SIDES) for way, own in by_way.items() if len(own)}
    found = []
    for ways in combinations(votes, 2):
        for measure in ("share", "alpha"):
            told = statistics.contrast(votes[ways[0]], votes[ways[1]], measure, how=HOW)
            if told.first.n:
                found.append(Contrast(ways=ways, measure=measure, **vars(told)))
    return tuple(found)


def judges(human: Pairs, programs: Pairs) -> tuple[Judge, ...]:
    """Every judge beside people, on pairs."""
    if not len(human):
        return ()
    votes = votes_of(human, human.side, SIDES)
    found = []
    for name in np.unique(programs.annotator).tolist():
        own = programs.where(programs.annotator == name)
        told = statistics.judge_agreement(own.item, own.side, votes, how=HOW)
        found.append(Judge(name=name, kind=str(own.kind[0]), **vars(told)))
    return tuple(found)


def bias(pairs: Pairs) -> tuple[Line, ...]:
    """Habits of everybody together."""
    if not len(pairs):
        return ()
    names = np.full(len(pairs), EVERYBODY)
    first, longer = first_won(pairs), longer_first(pairs)
    position = statistics.position_bias(names, first, clusters=pairs.prompt, how=HOW)[EVERYBODY]
    length = statistics.length_bias(names, first, longer, clusters=pairs.prompt, how=HOW)[EVERYBODY]
    return Line("first", position.rate), Line("side", position.side), Line("length", length)


def leaderboard(pairs: Pairs) -> tuple[Line, ...]:
    """Bradley-Terry strengths of the models, best first; what being shown first is worth is taken out."""
    met = pairs.where(pairs.model[:, 0] != pairs.model[:, 1])
    if not len(met):
        return ()
    rows = np.arange(len(met))
    first, second = met.model[rows, met.first_shown], met.model[rows, 1 - met.first_shown]
    found = statistics.bradley_terry(first, second, first_won(met), side=True, clusters=met.prompt, how=HOW)
    ranked = sorted(found.players.items(), key=lambda item: -(item[1].value or 0.0))
    return tuple(Line(str(name), strength) for name, strength in ranked)


def overturn(pairs: Pairs) -> Overturn | None:
    """How few votes hold the first place; not told of more votes than a page can wait for."""
    met = pairs.where(pairs.model[:, 0] != pairs.model[:, 1])
    if not FEWEST <= len(met) <= MOST:
        return None
    rows = np.arange(len(met))
    first, second = met.model[rows, met.first_shown], met.model[rows, 1 - met.first_shown]
    told = statistics.overturned(first, second, first_won(met), side=True)
    if told is None:
        return None
    return Overturn(first=str(told.first), second=str(told.second), votes=told.votes, n=told.n)


def circles(pairs: Pairs) -> tuple[Line, ...]:
    """A over B, B over C, C over A: in the answers of one annotator, and in those of all together."""
    decided = pairs.where(pairs.side != 0)
    if not len(decided):
        return ()
    rows = np.arange(len(decided))
    second_won = (decided.side > 0).astype(int)
    who = np.unique(decided.annotator, return_inverse=True)[1]
    own = decided.prompt * (1 + who.max()) + who
    found = []
    for name, group in (("one", own), ("all", decided.prompt)):
        _, number, size = np.unique(group, return_inverse=True, return_counts=True)
        kept = size[number] >= 3  # fewer make no triple
        winners = decided.response[rows, second_won][kept]
        losers = decided.response[rows, 1 - second_won][kept]
        told = statistics.three_cycles(group[kept], winners, losers, how=HOW)
        if told.triples:
            found.append(Line(name, told.rate))
    return tuple(found)


def _with_prompts(connection: Connection, parted: tuple[Parted, ...]) -> tuple[Parted, ...]:
    ids = [one.item_id for one in parted]
    query = select(Item.id, PromptRow.content).join(PromptRow, PromptRow.id == Item.prompt_id)
    rows = connection.execute(query.where(Item.id.in_(ids)))
    prompts = {row.id: Prompt.from_json(row.content).text() for row in rows}
    return tuple(one.model_copy(update={"prompt": prompts[one.item_id]}) for one in parted)
