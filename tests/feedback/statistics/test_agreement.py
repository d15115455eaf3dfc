"""Agreement against published worked examples, independent libraries, and what must hold whatever the data."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tests.feedback.statistics.tables import tabled, votes_of
from tutelage.feedback import statistics
from tutelage.feedback.statistics import Resampling, Votes, contrast
from tutelage.feedback.statistics.estimate import DEFAULT
from tutelage.statistics import bootstrap

fleiss_kappa, gwet_ac = tabled(statistics.fleiss_kappa), tabled(statistics.gwet_ac)
krippendorff_alpha, percent_agreement = (
    tabled(statistics.krippendorff_alpha),
    tabled(statistics.percent_agreement),
)

ANY = Resampling(resamples=50, enough=0)
N = None
# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C; also Gwet's (irrCAC's) cac.raw4raters.
KRIPPENDORFF = [[1, 1, N, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4],
                [1, 1, 2, 1], [2, 2, 2, 2], [N, 5, 5, 5], [N, N, 1, 1], [N, N, 3, N]]  # fmt: skip
# Fleiss (1971): 30 patients, 6 psychiatrists each; one digit per diagnosis.
FLEISS = """444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 144444 224445
            333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 111155 224444 133333 555555"""
COHEN = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]  # Cohen (1968), counts of 200 patients
ANXIETY = (  # ratings of 20 people by two psychologists, from the R package irr
    [3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4],
    [2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2],
)
MEASURES = [percent_agreement, fleiss_kappa, gwet_ac, krippendorff_alpha]


def cohen_kappa(first, second, categories=None, clusters=None, mirrored=False, how=DEFAULT):
    table = np.stack([np.asarray(first, object), np.asarray(second, object)], axis=1)
    return statistics.cohen_kappa(votes_of(table, categories, clusters, mirrored=mirrored), how=how)


def spread(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """A table of counts as two lists of votes."""
    cells = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [i for i, _ in cells], [j for _, j in cells]


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_krippendorffs(level, published) -> None:
    found = krippendorff_alpha(KRIPPENDORFF, level, how=ANY)
    assert found.value == pytest.approx(published, abs=5e-4)
    assert found.n == 11  # the item with one vote is left out


def test_fleiss_is_fleisss() -> None:
    table = [[int(digit) for digit in item] for item in FLEISS.split()]
    found = fleiss_kappa(table)
    assert found.value == pytest.approx(0.4302445, abs=1e-7)
    assert found.n == 30 and found.low < found.value < found.high


def test_gwets_coefficients_are_gwets() -> None:
    """Printed in the documentation of irrCAC for the data of Gwet's Handbook."""
    assert percent_agreement(KRIPPENDORFF, how=ANY).value == pytest.approx(0.8181818, abs=1e-7)
    assert gwet_ac(KRIPPENDORFF, how=ANY).value == pytest.approx(0.77544, abs=5e-6)
    assert fleiss_kappa(KRIPPENDORFF, how=ANY).value == pytest.approx(0.76117, abs=5e-6)


def test_kappa_is_cohens() -> None:
    first, second = spread(COHEN)
    assert cohen_kappa(first, second).value == pytest.approx(0.492, abs=5e-4)


def test_kappa_is_that_of_sas_and_of_irr() -> None:
    first, second = spread([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
    assert cohen_kappa(first, second, how=ANY).value == pytest.approx(0.4842, abs=5e-5)
    assert cohen_kappa(*ANXIETY, how=ANY).value == pytest.approx(-0.006289308, abs=1e-7)


def test_kappa_is_scikit_learns_on_random_votes() -> None:
    generator = np.random.default_rng(0)
    for size in (2, 3, 7):
        first, second = generator.integers(0, size, (2, 200))
        second = np.where(generator.random(200) < 0.4, first, second)
        expected = cohen_kappa_score(first, second)
        assert cohen_kappa(first, second, how=ANY).value == pytest.approx(expected, abs=1e-12)


def test_kappa_leaves_out_items_of_one_vote() -> None:
    first, second = spread(COHEN)
    gaps = cohen_kappa([*first, 0, N, math.nan], [*second, N, 2, 1])
    assert gaps == cohen_kappa(first, second)


def naive_alpha(table, difference) -> float:
    """Alpha from its definition: pairs within items against pairs of all votes."""
    items = [[v for v in row if v is not None] for row in table]
    items = [row for row in items if len(row) >= 2]
    votes = [v for row in items for v in row]
    within = sum(difference(a, b) / (len(row) - 1) for row in items for a in row for b in row) / len(votes)
    between = sum(difference(a, b) for a in votes for b in votes) / (len(votes) * (len(votes) - 1))
    return 1 - within / between


def test_alpha_with_gaps_is_its_definition() -> None:
    generator = np.random.default_rng(2)
    for _ in range(5):
        table = generator.integers(-3, 4, (15, 4)).astype(object)
        table[generator.random((15, 4)) < 0.3] = None
        nominal = naive_alpha(table, lambda a, b: a != b)
        assert krippendorff_alpha(table, "nominal", how=ANY).value == pytest.approx(nominal)


def test_the_bootstrap_of_sums_is_the_bootstrap_of_items() -> None:
    """Against the plain way: draw items, and compute kappa from the drawn ones."""
    table = np.array([[int(digit) for digit in item] for item in FLEISS.split()])
    counts = np.stack([(table == label).sum(axis=1) for label in range(1, 6)], axis=1)

    def kappa(rows: np.ndarray) -> float:
        drawn = counts[rows]
        observed = (np.sum(drawn * (drawn - 1), axis=1) / 30).mean()
        chance = np.sum((drawn.sum(axis=0) / drawn.sum()) ** 2)
        return (observed - chance) / (1 - chance)

    plain, found = bootstrap(kappa, 30, resamples=4000), fleiss_kappa(table, how=Resampling(resamples=4000))
    assert found.value == pytest.approx(plain.value)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.015)


tables = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 4, (40, 3)))


@settings(max_examples=20, deadline=None)
@given(table=tables, seed=st.integers(0, 100))
def test_names_of_labels_annotators_and_the_order_of_items_do_not_matter(table, seed) -> None:
    generator = np.random.default_rng(seed)
    renamed = np.array(["d", "a", "c", "b"])[table]
    shuffled = table[generator.permutation(40)][:, generator.permutation(3)]
    for measure in MEASURES:
        value = measure(table, how=ANY).value
        assert measure(renamed, how=ANY).value == pytest.approx(value)
        assert measure(shuffled, how=ANY).value == pytest.approx(value)


@pytest.mark.parametrize("measure", MEASURES)
def test_perfect_agreement_is_one_and_independence_is_chance(measure) -> None:
    generator = np.random.default_rng(3)
    column = generator.integers(0, 4, 5000)
    assert measure(np.stack([column] * 3, axis=1), how=ANY).value == pytest.approx(1.0)
    chance = measure(generator.integers(0, 4, (5000, 3)), how=Resampling(resamples=200))
    expected = 0.25 if measure is percent_agreement else 0.0
    assert chance.value == pytest.approx(expected, abs=0.02)
    assert chance.low < expected < chance.high


def test_ordinal_alpha_forgives_neighbours_more_than_nominal() -> None:
    truth = np.random.default_rng(4).integers(0, 7, 300)
    near = np.stack([truth, np.minimum(truth + 1, 6)], axis=1)
    assert krippendorff_alpha(near, "nominal", how=ANY).value < 0.2
    assert krippendorff_alpha(near, "ordinal", how=ANY).value > 0.8


def test_ac1_survives_skewed_labels() -> None:
    """The paradox of kappa: 98 % agreement, one common label; kappa falls to zero and AC1 does not."""
    votes = [[0, 0]] * 98 + [[0, 1], [1, 0]]
    assert fleiss_kappa(votes).value == pytest.approx(-0.01, abs=0.01)
    assert gwet_ac(votes).value > 0.97


def test_possible_categories_count_for_ac1() -> None:
    table = np.where(np.random.default_rng(5).random((50, 2)) < 0.9, "yes", "no")
    two, three = gwet_ac(table, how=ANY), gwet_ac(votes_of(table, ["yes", "no", "tie"]), how=ANY)
    assert three.value > two.value


def test_intervals_cover_the_truth() -> None:
    """95 % intervals of alpha hold the value of a huge sample about 95 times in 100."""

    def draw(n: int, generator: np.random.Generator) -> np.ndarray:
        truth = generator.integers(0, 3, n)
        return np.where(generator.random((n, 3)) < 0.6, truth[:, None], generator.integers(0, 3, (n, 3)))

    true = krippendorff_alpha(draw(200_000, np.random.default_rng(0)), how=Resampling(resamples=2)).value
    held = 0
    for seed in range(200):
        found = krippendorff_alpha(draw(100, np.random.default_rng(seed + 1)), how=Resampling(resamples=300))
        held += found.low <= true <= found.high
    assert 0.90 <= held / 200 <= 0.985


def test_items_of_one_prompt_are_drawn_together() -> None:
    table = np.random.default_rng(6).integers(0, 2, (60, 3))
    five = votes_of(np.repeat(table, 5, axis=0), clusters=np.repeat(np.arange(60), 5))
    once, together = fleiss_kappa(table), fleiss_kappa(five)
    naive = fleiss_kappa(np.repeat(table, 5, axis=0))
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_too_few_items_give_no_number() -> None:
    table = np.random.default_rng(7).integers(0, 2, (29, 2))
    for measure in MEASURES:
        found = measure(table)
        assert (found.value, found.low, found.high, found.n) == (None, None, None, 29)
        assert found.note == "insufficient: 29 of at least 30 items with two votes or more"
    assert cohen_kappa(table[:, 0], table[:, 1]).value is None
    assert fleiss_kappa(np.vstack([table, [[0, 1]]])).value is not None


def test_votes_that_are_all_the_same_have_no_kappa() -> None:
    same = np.ones((40, 3))
    assert "all votes are the same" in krippendorff_alpha(same).note
    assert fleiss_kappa(same).value is None and cohen_kappa(same[:, 0], same[:, 1]).value is None
    agreed = percent_agreement(same)
    assert agreed.value == agreed.high == 1.0
    assert agreed.low == pytest.approx(0.912, abs=1e-3)  # Wilson: 40 of 40 is not proof of always


@pytest.mark.parametrize("second", [0, 1])
def test_full_agreement_within_prompts_is_told_from_the_prompts(second) -> None:
    votes = votes_of([[0, second]] * 40, [0, 1], clusters=np.repeat(np.arange(10), 4))
    found = percent_agreement(votes)
    expected = stats.binomtest(10 - 10 * second, 10).proportion_ci(method="wilson")
    assert (found.value, found.n) == (1 - second, 40)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def pair_votes(seed: int = 0) -> np.ndarray:
    """60 pairs, three people, the second response better more often, from -3 to 3, with gaps."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(0.8, 1.2, (60, 1))
    table = np.clip(np.rint(truth + generator.normal(0, 1.0, (60, 3))), -3, 3).astype(int).astype(object)
    table[generator.random((60, 3)) < 0.2] = None
    return table


def swapped(table: np.ndarray, which: np.ndarray) -> np.ndarray:
    return np.array(
        [[None if v is None else -v for v in row] if w else list(row) for row, w in zip(table, which)], object
    )


SCALE = list(range(-3, 4))


def kappa_of_two(votes: Votes, how: Resampling):
    said = np.full((len(votes.items), len(votes.annotators)), None, object)
    said[votes.item, votes.annotator] = votes.categories[votes.label]
    return cohen_kappa(said[:, 0], said[:, 1], categories=votes.categories, clusters=votes.cluster,
                       mirrored=votes.mirrored, how=how)  # fmt: skip


ON_PAIRS = [
    *(partial(krippendorff_alpha, level=level) for level in ("nominal", "ordinal")),
    percent_agreement,
    fleiss_kappa,
    gwet_ac,
    kappa_of_two,
]


@pytest.mark.parametrize("measure", ON_PAIRS)
def test_votes_on_pairs_are_those_of_either_order_of_the_sides(measure) -> None:
    """The same value and interval as of plain votes in which every pair stands twice, once each way round."""
    table = pair_votes()
    both = np.concatenate([table, swapped(table, np.ones(60, bool))])
    plain = measure(votes_of(both, SCALE, clusters=np.tile(np.arange(60), 2)), how=Resampling())
    found = measure(votes_of(table, SCALE, mirrored=True), how=Resampling())
    assert found.value == pytest.approx(plain.value, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    assert found.low < found.value < found.high and 2 * found.n == plain.n


@pytest.mark.parametrize("measure", ON_PAIRS)
def test_which_side_of_a_pair_stands_first_changes_nothing(measure) -> None:
    table = pair_votes()
    given = measure(votes_of(table, SCALE, mirrored=True), how=Resampling())
    for seed in range(3):
        turned = swapped(table, np.random.default_rng(seed).random(60) < 0.5)
        found = measure(votes_of(turned, SCALE, mirrored=True), how=Resampling())
        assert found.value == pytest.approx(given.value, abs=1e-12)
        assert (found.low, found.high) == pytest.approx((given.low, given.high), abs=1e-12)


def test_alpha_of_pairs_is_its_definition_on_twice_the_pairs() -> None:
    table = pair_votes(1)
    both = [list(row) for row in np.concatenate([table, swapped(table, np.ones(60, bool))])]
    kept = [v for row in both if sum(v is not None for v in row) >= 2 for v in row if v is not None]
    often = {c: kept.count(c) for c in SCALE}

    def between(a: int, b: int) -> float:
        inner = sum(often[c] for c in range(min(a, b), max(a, b) + 1))
        return (inner - (often[a] + often[b]) / 2) ** 2

    differences = {"nominal": lambda a, b: a != b, "ordinal": between}
    votes = votes_of(table, SCALE, mirrored=True)
    for level, difference in differences.items():
        assert krippendorff_alpha(votes, level, how=ANY).value == pytest.approx(naive_alpha(both, difference))


def test_agreement_on_pairs_is_not_chance_because_the_better_side_stands_first() -> None:
    """Everybody names the better response, which happens to be the first of every pair: that is no constant answer."""
    votes = [[-1, -1]] * 40
    assert "all votes are the same" in krippendorff_alpha(votes_of(votes, [-1, 0, 1])).note
    found = krippendorff_alpha(votes_of(votes, [-1, 0, 1], mirrored=True))
    assert (found.value, found.low) == (1.0, None)


def test_categories_of_mirrored_votes_are_symmetric() -> None:
    with pytest.raises(ValueError, match="not the same the other way round"):
        votes_of([[-3, 1], [2, 2]], mirrored=True)
    first, second = [-1, 1, 1, 0] * 10, [-1, 1, 0, 0] * 10
    kappa = cohen_kappa(first, second, categories=[-1, 0, 1], mirrored=True).value
    # Of 4 pairs 3 agree.  Both ways round the first says 3 : 2 : 3, the second 2 : 4 : 2 of 8 each.
    assert kappa == pytest.approx(1 - 0.25 / (1 - (2 * 3 * 2 + 2 * 4) / 64))


@pytest.mark.slow
@pytest.mark.parametrize(("measure", "single"), [("share", percent_agreement), ("alpha", krippendorff_alpha)])
def test_a_contrast_is_both_measures_on_the_shared_items(measure, single) -> None:
    """Against the plain way: draw shared items, and compute both measures from the drawn ones."""
    draw = np.random.default_rng(3)
    truth = draw.choice([-1, 0, 1], 80)
    one, other = (
        np.where(draw.random((80, 3)) < right, truth[:, None], draw.choice([-1, 0, 1], (80, 3)))
        for right in (0.8, 0.4)
    )
    names = np.arange(80)
    shared = np.arange(20, 60)

    def votes(table: np.ndarray, items: np.ndarray) -> Votes:
        who = np.tile(["a", "b", "c"], items.size)
        return Votes.from_triplets(items.repeat(3), who, table[items].ravel(), [-1, 0, 1], mirrored=True)

    found = contrast(
        votes(one, names[:60]), votes(other, names[20:]), measure, how=Resampling(resamples=4000)
    )
    alone = [single(votes(table, shared), how=ANY).value for table in (one, other)]
    assert [found.first.value, found.second.value] == pytest.approx(alone) and found.first.n == 40
    assert found.difference.value == pytest.approx(alone[0] - alone[1])

    def plain(rows: np.ndarray) -> float:
        who = np.tile([0, 1, 2], rows.size)
        values = []
        for table in (one, other):
            drawn = Votes.from_triplets(
                np.arange(rows.size).repeat(3), who, table[shared[rows]].ravel(), [-1, 0, 1], mirrored=True
            )
            values.append(single(drawn, how=Resampling(resamples=1, enough=0)).value)
        return values[0] - values[1]

    slow = bootstrap(plain, 40, resamples=400)
    assert (found.difference.low, found.difference.high) == pytest.approx((slow.low, slow.high), abs=0.06)


def test_the_same_seed_gives_the_same_interval() -> None:
    table = np.random.default_rng(8).integers(0, 3, (50, 3))
    assert fleiss_kappa(table) == fleiss_kappa(table)
    assert fleiss_kappa(table).low != fleiss_kappa(table, how=Resampling(seed=1)).low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fleiss_kappa(Votes.from_triplets([1, 1], ["ann", "ann"], [0, 1])), "ann votes twice on item 1"),
    ],
)  # fmt: skip
def test_mistakes_are_told(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
