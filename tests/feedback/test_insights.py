"""The numbers of the insights page: rows that can be counted by hand, and panels whose members are known."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sqlalchemy import insert

from tests.feedback.kit import hand_in, join, keys, start, take, vote
from tutelage.feedback.asking.payloads import PairAnswer, Submission
from tutelage.feedback.insights import figures
from tutelage.feedback.insights.annotators import people
from tutelage.feedback.insights.figures import compute, insight, overturn
from tutelage.feedback.insights.labels import Pairs, Values, sides_of
from tutelage.feedback.insights.own import own_agreement
from tutelage.feedback.insights.timeline import timeline
from tutelage.feedback.insights.totals import totals
from tutelage.feedback.insights.verdict import level, parted_from_judges, verdict, worst_items
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.statistics import Estimate
from tutelage.feedback.work import answers, queue
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Annotator, Item, ItemResponse
from tutelage.store.schema_feedback import RankEntry, Rating
from tutelage.store.sql import insert_one

ITEMS = 200
RIGHT = {"careful": 0.95, "fair": 0.85, "coin": 0.5}  # how often a decided answer is right
Row = tuple[int, str, int]  # item, annotator, preference or value


def pairs_of(rows: list[Row], kinds: dict[str, str] | None = None, minutes: list[int] | None = None) -> Pairs:
    """Every item is a prompt of its own; its responses are 2 * item and 2 * item + 1."""
    item, name, preference = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    at = np.datetime64("2026-01-01T12:00:00") + np.array(minutes or [0] * n).astype("timedelta64[m]")
    return Pairs(
        item, item, name, np.array([(kinds or {}).get(who, "human") for who in name]), preference, item % 2,
        np.full(n, 3.0), at, np.full(n, np.nan), np.stack([2 * item, 2 * item + 1], axis=1),
        np.tile([40, 50], (n, 1)), np.tile(["a", "b"], (n, 1)),
        np.full(n, ""), np.full(n, -1),
    )  # fmt: skip


def values_of(question: str, rows: list[tuple[int, str, int, int]], criterion: str = "") -> Values:
    """(item, annotator, slot, value); the slots of an item hold the responses 2 * item, 2 * item + 1, ..."""
    item, name, slot, said = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    return Values(
        item, item, name, np.full(n, "human"), np.full(n, question), slot, np.full(n, criterion), said,
        2 * item + slot, np.full(n, np.datetime64("2026-01-01T12:00:00")),
    )  # fmt: skip


NO_PAIRS = pairs_of([(0, "a", 0)]).where(slice(0))
NO_VALUES = values_of("rank", [(0, "a", 0, 1)]).where(slice(0))


def panel() -> list[Row]:
    """Everybody sees every item, a fifth of the answers are ties, and one person only ever ties."""
    draw = np.random.default_rng(0)
    truth = draw.choice([-1, 1], ITEMS)
    found = [(item, "undecided", 0) for item in range(ITEMS)]
    for name, right in RIGHT.items():
        said = np.where(draw.random(ITEMS) < right, truth, -truth) * (draw.random(ITEMS) > 0.2)
        found += [(item, name, int(preference)) for item, preference in enumerate(said)]
    return found


def test_reliability_is_about_sides_and_ties_lower_nobodys() -> None:
    pairs = pairs_of(panel())
    found = {person.name: person for person in people(pairs, sides_of(pairs, NO_VALUES))}
    for name, right in RIGHT.items():
        reliability = found[name].reliability
        assert reliability.value is not None and abs(reliability.value - right) < 0.1
    assert found["undecided"].reliability.value is None
    assert found["undecided"].reliability.note == "ties only"
    assert found["undecided"].ties == ITEMS


def test_agreement_and_reliability_do_not_depend_on_which_response_stands_first() -> None:
    draw = np.random.default_rng(1)
    truth = draw.normal(0.8, 1.5, ITEMS)
    said = {
        name: np.clip(np.rint(truth + draw.normal(0, s, ITEMS)), -3, 3) for name, s in (("a", 1), ("b", 2))
    }
    turned = draw.random(ITEMS) < 0.5

    def shown(turn: np.ndarray) -> list[tuple[str, float | None, float | None, float | None]]:
        rows = [
            (i, name, int(-p if turn[i] else p)) for name, votes in said.items() for i, p in enumerate(votes)
        ]
        pairs = pairs_of(rows)
        lines = [(line.name, line.estimate) for line in figures.agreement(pairs)]
        lines += [(person.name, person.reliability) for person in people(pairs, sides_of(pairs, NO_VALUES))]
        return [(name, e.value, e.low, e.high) for name, e in lines]

    given, other = shown(np.zeros(ITEMS, bool)), shown(turned)
    assert [name for name, *_ in given][3] == "alpha"
    for (_, *numbers), (_, *again) in zip(given, other, strict=True):
        assert again == pytest.approx(numbers, abs=1e-9)
        assert None not in numbers


# the verdict ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (-0.1, 0.1, 0.3, "chance"),
        (0.1, 0.3, 0.5, "part"),
        (0.68, 0.7, 0.75, "tentative"),
        (0.81, 0.9, 0.95, "reliable"),
        (0.6, 0.7, 0.79, "unclear"),
        (-0.2, 0.4, 0.9, "unclear"),
        (0.7, 0.79, 0.85, "tentative"),  # what the whole interval says
    ],
)
def test_words_follow_the_whole_interval(low: float, value: float, high: float, said: str) -> None:
    assert level(Estimate(value, low, high, 50, "coefficient")) == said


def test_nothing_is_claimed_without_an_interval_or_without_items() -> None:
    assert level(Estimate(1.0, None, None, 50, "coefficient")) == "few"
    assert level(Estimate(None, None, None, 0, "coefficient")) == "alone"
    everybody_alike = pairs_of([(item, name, 2) for item in range(40) for name in "ab"])
    found = compute(everybody_alike, NO_VALUES, sides_of(everybody_alike, NO_VALUES), "people")
    assert found.verdict is not None and found.verdict.level == "few" and found.parted == ()


def test_missing_items_are_told_once_and_count_those_answered_twice() -> None:
    pairs = pairs_of([(item, name, -1) for item in range(6) for name in "ab"] + [(9, "a", 1)])
    found = verdict(figures._questions(pairs, NO_VALUES))
    assert found is not None and (found.level, found.missing) == ("few", 24)


def test_what_is_asked_beside_the_main_question_does_not_drown_it() -> None:
    rows = [(item, name) for item in range(6) for name in "ab"]
    accepted = values_of("acceptable", [(item, name, slot, 1) for item, name in rows for slot in (0, 1)])
    found = verdict(figures._questions(pairs_of([(item, name, -1) for item, name in rows]), accepted))
    assert found is not None and (found.question, found.missing) == ("pair", 24)
    alone = verdict(figures._questions(NO_PAIRS, accepted))
    assert alone is not None and alone.question == "acceptable"


def test_the_items_that_they_part_on_most_by_hand() -> None:
    rows = [(1, "a", -3), (1, "b", 3), (2, "a", 1), (2, "b", -1), (3, "a", 2), (3, "b", 2), (4, "a", 3)]
    ratings = values_of("rating", [(7, "a", 0, 1), (7, "b", 0, 4), (8, "a", 0, 1), (8, "b", 0, 7)], "overall")
    found = worst_items(pairs_of(rows), ratings)
    assert [(one.item_id, one.spread) for one in found] == [
        (1, 1.0),
        (8, 1.0),
        (7, 0.5),
        (2, round(1 / 3, 6)),
    ]
    judged = parted_from_judges(
        pairs_of([(1, "a", -3), (2, "a", 1), (2, "b", 3)]), pairs_of([(1, "j", 3), (2, "j", 2)])
    )
    assert [(one.item_id, one.spread, one.answers) for one in judged] == [(1, 1.0, 2)]


# ways of asking -------------------------------------------------------------------------------------------------------


def test_ranks_and_ratings_become_sides_by_hand() -> None:
    ranks = values_of("rank", [(5, "a", 0, 2), (5, "a", 1, 1), (5, "a", 2, 2)])
    found = sides_of(pairs_of([(5, "a", -2)]), ranks)
    # Responses 10, 11, 12: the comparison prefers 10 to 11; the ranks 11 to both others, which are equal.
    assert list(zip(found.way.tolist(), found.pair.tolist(), found.side.tolist(), strict=True)) == [
        ("pair", 0, -1),
        ("rank", 0, 1),
        ("rank", 1, 0),
        ("rank", 2, -1),
    ]


def test_a_rating_is_overall_or_else_the_mean_of_the_criteria() -> None:
    def side(*parts: Values) -> int:
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]))
        return int(sides_of(NO_PAIRS, Values(*columns)).side[0])

    kind = values_of("rating", [(5, "a", 0, 7), (5, "a", 1, 6)], "kind")
    right = values_of("rating", [(5, "a", 0, 1), (5, "a", 1, 3)], "right")
    overall = values_of("rating", [(5, "a", 0, 5), (5, "a", 1, 4)], "overall")
    assert side(kind) == -1 and side(kind, right) == 1 and side(kind, right, overall) == -1


def test_comparing_and_scoring_are_set_side_by_side_on_the_same_pairs() -> None:
    rows, ratings = [], []
    for item in range(40):
        for name in "ab":  # all agree where they compare; every second time where they score
            rows.append((item, name, -1 if item % 4 < 2 else 1))
            low = item % 2 and name == "b"
            ratings += [(item, name, 0, 3 if low else 5), (item, name, 1, 4)]
    rows += [
        (item, name, 1 if name == "a" else -1) for item in range(50, 60) for name in "ab"
    ]  # never scored
    sides = sides_of(pairs_of(rows), values_of("rating", ratings, "overall"))
    share, alpha = figures.contrasts(sides)
    assert share.ways == ("pair", "rate") and (share.first.n, share.first.value, share.second.value) == (
        40,
        1,
        0.5,
    )
    assert share.difference.value == 0.5 and 0.3 < share.difference.low < 0.5 < share.difference.high < 0.7
    assert alpha.first.value == 1 and alpha.second.value is not None and alpha.second.value < 0.1


def test_consistency_is_of_the_same_two_responses_asked_in_two_ways() -> None:
    rows = [(item, "a", -1) for item in range(40)]
    ratings = [(item, "a", slot, 5 - slot if item < 30 else slot) for item in range(40) for slot in (0, 1)]
    pairs = pairs_of(rows)
    (person,) = people(pairs, sides_of(pairs, values_of("rating", ratings, "overall")))
    assert person.consistency is not None and (person.consistency.value, person.consistency.n) == (0.75, 40)


# judges, circles, time ------------------------------------------------------------------------------------------------


def test_a_judge_stands_beside_people_and_is_no_person() -> None:
    rows = [(item, name, -1) for item in range(40) for name in "ab"]
    rows += [(item, "j", -1 if item < 30 else 1) for item in range(40)]
    pairs = pairs_of(rows, {"j": "judge"})
    sides = sides_of(pairs, NO_VALUES)
    found = compute(pairs, NO_VALUES, sides, "against")
    assert found.known == ("people", "judges", "against", "all") and len(found.parted) == 10
    (judge,) = found.judges
    assert (judge.majority.value, judge.person.value, judge.people.value, judge.gap.value) == (
        0.75,
        0.75,
        1,
        -0.25,
    )
    of_people = compute(pairs, NO_VALUES, sides, "people")
    assert [person.name for person in of_people.people] == ["a", "b"] and of_people.parted == ()
    assert [person.name for person in compute(pairs, NO_VALUES, sides, "judges").people] == ["j"]


def test_circles_are_told_in_ones_own_answers_and_in_all_together() -> None:
    """Two annotators go round in the same sense on half of 40 prompts; on the others they rank."""
    n = np.arange(40).repeat(6)
    edge = np.tile([0, 1, 2], 80)
    first, second = 3 * n + np.array([0, 1, 0])[edge], 3 * n + np.array([1, 2, 2])[edge]
    base = pairs_of([(int(i), "ab"[k % 6 // 3], -1) for k, i in enumerate(n * 3 + edge)])
    side = np.where((edge == 2) & (n < 20), 1, -1)
    fields = {**vars(base), "prompt": n, "preference": side, "response": np.stack([first, second], axis=1)}
    one, both = figures.circles(Pairs(**fields))
    assert (one.estimate.value, one.estimate.n) == (0.5, 80) and (both.estimate.value, both.estimate.n) == (
        0.5,
        40,
    )


def test_the_timeline_counts_answers_where_they_came_and_agreement_where_an_item_was_done() -> None:
    rows = [(item, name, -1) for item in range(40) for name in "ab"]
    minutes = [0 if name == "a" else 60 * 24 for _, name, _ in rows]
    found = timeline(pairs_of(rows, minutes=minutes), NO_VALUES)
    assert found is not None and found.unit == "hour" and len(found.periods) == 25
    assert [period.answers for period in found.periods] == [40, *[0] * 23, 40]
    assert found.periods[-1].agreement.value == 1 and found.periods[0].agreement.n == 0
    assert found.periods[0].start == "2026-01-01 12:00"
    assert timeline(pairs_of(rows), NO_VALUES) is None and timeline(NO_PAIRS, NO_VALUES) is None
    ratings = values_of("rating", [(1, "a", 0, 5), (1, "a", 1, 4)], "overall")
    days = timeline(pairs_of([(1, "a", 1), (2, "a", 1)], minutes=[0, 60 * 24 * 40]), ratings)
    assert (
        days is not None and days.unit == "week" and [p.answers for p in days.periods] == [2, 0, 0, 0, 0, 1]
    )


# from the store -------------------------------------------------------------------------------------------------------


def test_answers_of_all_types_are_read_with_the_responses_they_are_about(
    store: Store, database: Database
) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    vote(database, olga, -2)
    with database.write() as connection:
        person = insert_one(connection, Annotator, name="zoe", kind="human", profile={})
        for type, table, row in (("rank", RankEntry, "rank"), ("rate", Rating, "value")):
            pair = connection.execute(Item.__table__.select().where(Item.type == "pair").limit(1)).one()
            key = insert_one(connection, Item, project_id=pair.project_id, type=type, prompt_id=pair.prompt_id,
                             overlap=1, digest=type)  # fmt: skip
            shown = ItemResponse.__table__.select().where(ItemResponse.item_id == pair.id)
            slots = [(slot.slot, slot.response_id) for slot in connection.execute(shown)]
            connection.execute(
                insert(ItemResponse), [{"item_id": key, "slot": s, "response_id": r} for s, r in slots]
            )
            answer = insert_one(connection, Annotation, item_id=key, annotator_id=person, client_key=type)
            extra = {"criterion": "overall"} if type == "rate" else {}
            connection.execute(
                insert(table), [{"annotation_id": answer, "slot": s, row: s + 1, **extra} for s, _ in slots]
            )
        pairs, values = (
            read(connection, olga.project_id)
            for read in (figures.labels.read_pairs, figures.labels.read_values)
        )
    assert len(pairs) == 1 and pairs.annotator.tolist() == ["olga"] and abs(pairs.preference[0]) == 2
    assert (pairs.length > 0).all() and set(pairs.model.ravel()) == {"runs/sft"} and np.isnan(pairs.gold[0])
    assert sorted(zip(values.question, values.place, values.value, strict=True)) == [
        ("rank", 0, 1), ("rank", 1, 2), ("rating", 0, 1), ("rating", 1, 2)
    ]  # fmt: skip
    sides = sides_of(pairs, values)
    assert sorted(zip(sides.way.tolist(), sides.side.tolist(), strict=True))[1:] == [
        ("rank", -1),
        ("rate", 1),
    ]


def test_numbers_are_kept_until_something_changes(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    ann = join(database, olga.user, "main", "ann2")
    made = []
    compute_again = figures.compute
    monkeypatch.setattr(figures, "compute", lambda *args: made.append(1) or compute_again(*args))
    first = vote(database, ann)
    assert insight(database, olga) == insight(database, olga) and len(made) == 1
    vote(database, olga)
    assert sum(person.votes for person in insight(database, olga).people) == 2 and len(made) == 2
    again = Submission(client_key=next(keys), answer=PairAnswer(preference=0))
    answers.revise(database, ann, first.annotation_id, again)
    assert sum(person.ties for person in insight(database, olga).people) == 1 and len(made) == 3
    item = browsing.find(database, olga, browsing.Query(type="pair")).items[0].item_id
    building.set_gold(database, olga, item, PairAnswer(preference=1))
    insight(database, olga)
    building.set_gold(database, olga, item, PairAnswer(preference=-1))  # another answer, as many gold items
    insight(database, olga)
    assert len(made) == 5


def test_ones_own_agreement_by_hand(store: Store, database: Database) -> None:
    """Of four pairs: agreed, parted, the others split, and a tie of one's own."""
    olga = start(store, database, prompts=1, overlap=3, show_agreement=True)
    names = ("ann2", "bea", "cleo")
    said = {"ann2": (-1, -1, -1, 0), "bea": (-2, 1, 1, 1), "cleo": (-1, 3, -1, 1)}
    members = {name: join(database, olga.user, "main", name) for name in names}
    order: list[int] = []
    for name, member in members.items():
        for _ in range(4):
            task = take(database, member)
            if task.item_id not in order:
                order.append(task.item_id)
            wanted = said[name][order.index(task.item_id)]
            turned = task.responses[0].text > task.responses[1].text  # the same side for everybody
            hand_in(database, member, task, PairAnswer(preference=-wanted if turned else wanted))
    found = own_agreement(database, members["ann2"])
    assert found is not None and (found.agreed, found.compared, found.by_kind) == (1, 2, {"human": (1, 2)})


def test_totals_are_of_one_project(database: Database, busy: Member) -> None:
    """Another project in the same store has nothing of it: no answers, revisions, flags, gold items, skips or people."""
    person = join(database, busy.user, "main", "cy")
    work = take(database, person)
    queue.flag(database, person, work.assignment_id, "other")
    queue.skip(database, person, work.assignment_id, "other")
    other = projects.create_project(database, busy.user, "other")
    found = asdict(totals(database, busy))
    assert all(
        found[name] for name in ("items", "answers", "revisions", "skips", "flags", "settled", "annotators")
    )
    assert not any(asdict(totals(database, other)).values())


def test_how_few_votes_hold_the_first_place() -> None:
    """Of two models it is known: the lead in votes, and one more; nothing is said of a handful."""
    votes: list[Row] = [(n, "ann", -1 if n < 22 else 1) for n in range(40)]
    found = overturn(pairs_of(votes))
    assert found is not None and (found.votes, found.n) == (5, 40) and found.first != found.second
    assert overturn(pairs_of(votes[:20])) is None
