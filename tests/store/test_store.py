"""Every question asked of the store, and that asking twice changes nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.making import fill, new_vote, prompt, response
from tutelage.records import Prompt
from tutelage.store import (
    Counts,
    ModelInfo,
    Store,
)


def test_adding_everything_twice_adds_nothing(store: Store) -> None:
    before = store.counts("main")
    assert before == Counts(
        prompts=3, responses=12, pairs=18, labelled_pairs=0, votes=0, ties=0, annotators=0
    )
    fill(store)
    assert store.counts("main") == before
    votes = [new_vote(pair.item_id, "ann", 1) for pair in store.pairs("main")]
    assert store.add_votes("main", votes + votes[:3]) == 18
    assert store.add_votes("main", votes) == 0
    assert store.counts("main").votes == 18


def test_prompts_come_back_as_they_were(path: Path) -> None:
    prompts = [
        prompt(1),
        Prompt("plain text, naïve – 語\n"),
        Prompt("p", "task", {"nested": {"a": [1, None, 2.5]}}),
    ]
    with Store(path) as store:
        store.add_prompts("main", prompts)
        run = store.add_generation_run(ModelInfo("m"), "local", {})
        store.add_responses("main", run, [response(p, i) for p in prompts for i in range(2)])
        store.build_pairs("main", 0, 1)
        read = {pair.prompt.id: pair.prompt for pair in store.pairs("main")}
    assert read == {p.id: p for p in prompts}
    assert all(read[p.id].reference == p.reference and read[p.id].task == p.task for p in prompts)


def test_a_prompt_in_two_splits_is_refused_and_nothing_is_added(store: Store) -> None:
    with pytest.raises(
        ValueError, match="question 1' is already in the project as 'train', not as 'heldout'"
    ):
        store.add_prompts("main", [prompt(77), prompt(1)], split="heldout")
    assert store.counts("main").prompts == 3
    assert store.add_prompts("other", [prompt(1)], split="heldout") == 1


def test_generation_runs_are_their_content(store: Store) -> None:
    def run(name: str = "m", sha256: str = "a", engine: str = "local", seed: int = 0) -> int:
        return store.add_generation_run(ModelInfo(name, sha256), engine, {"seed": seed})

    assert run() == run()
    assert len({run(), run(name="n"), run(sha256="b"), run(engine="other"), run(seed=1)}) == 5


def test_responses_resume_and_refuse_a_changed_model(store: Store) -> None:
    run = store.add_generation_run(ModelInfo("m"), "local", {"seed": 3})
    written = [response(prompt(0), index) for index in range(3)]
    assert store.add_responses("main", run, written[:2]) == 2
    assert store.sampled("main", run) == {(prompt(0).id, 0), (prompt(0).id, 1)}
    assert store.add_responses("main", run, written) == 1
    with pytest.raises(ValueError, match="already has another response 0 to the prompt 'user: question 0'"):
        store.add_responses("main", run, [replace(written[0], text="changed")])
    with pytest.raises(ValueError, match="'user: question 99' is not in the project"):
        store.add_responses("main", run, [response(prompt(99), 0)])


def test_pairs_join_different_texts_of_one_prompt_and_run(path: Path) -> None:
    with Store(path) as store:
        store.add_prompts("main", [prompt(0), prompt(1)])
        for seed, texts in enumerate((["a", "a", "b", "c"], ["d", "d"])):
            run = store.add_generation_run(ModelInfo("m"), "local", {"seed": seed})
            responses = [
                response(prompt(number), i, text) for number in (0, 1) for i, text in enumerate(texts)
            ]
            store.add_responses("main", run, responses)
        assert store.build_pairs("main", 0, 1) == 6
        found = {(pair.prompt.id, frozenset(pair.texts)) for pair in store.pairs("main")}
    expected = [frozenset(two) for two in itertools.combinations("abc", 2)]
    assert found == {(prompt(number).id, two) for number in (0, 1) for two in expected}


def test_fewer_pairs_are_a_part_of_more_and_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    asked = [prompt(number) for number in range(20)]
    written = [response(p, index) for p in asked for index in range(4)]
    seen = []
    for name, order in (("a", 1), ("b", -1)):
        with Store(tmp_path / name) as store:
            store.add_prompts("main", asked[::order])
            run = store.add_generation_run(ModelInfo("m"), "local", {})
            store.add_responses("main", run, written[::order])
            assert store.build_pairs("main", 2, 1) == 40
            few = [(pair.digest, pair.texts) for pair in store.pairs("main")]
            assert store.build_pairs("main", 3, 1) == 20
            assert set(few) < {(pair.digest, pair.texts) for pair in store.pairs("main")}
            seen.append(few)
    assert seen[0] == seen[1]
    first_is_earlier = [texts[0] < texts[1] for _, texts in seen[0]]
    assert 5 < sum(first_is_earlier) < 35  # a slot says nothing about who was sampled first


def test_unlabelled_pairs_shrink_with_votes(store: Store) -> None:
    everything = store.pairs("main")
    assert store.unlabelled_pairs("main") == everything
    first, second = everything[:2]
    store.add_votes("main", [new_vote(first.item_id, "ann", 1), new_vote(second.item_id, "ann", 1)])
    store.add_votes(
        "main", [new_vote(first.item_id, "bob", -1)]
    )  # two of two wanted: nobody is asked any more
    assert [pair.item_id for pair in store.unlabelled_pairs("main", "cat")] == [
        p.item_id for p in everything[1:]
    ]
    assert store.unlabelled_pairs("main", "cat")[0].voters == ("ann",)
    assert [pair.item_id for pair in store.unlabelled_pairs("main", "ann", limit=3)] == [
        p.item_id for p in everything[2:5]
    ]
    store.build_pairs("main", 0, overlap=3)
    assert store.unlabelled_pairs("main", "cat")[0].voters == ("ann", "bob")


def test_revisions_supersede_and_all_of_them_stay(store: Store) -> None:
    item = store.pairs("main")[0].item_id
    store.add_votes("main", [new_vote(item, "ann", 3, key="k1")])
    (first,) = store.votes("main")
    store.add_votes("main", [new_vote(item, "ann", -1, key="k2", supersedes=first.id)])
    (current,) = store.votes("main")
    assert (current.vote.preference, current.supersedes, current.client_key) == (-1, first.id, "k2")
    assert [vote.vote.preference for vote in store.votes("main", revisions=True)] == [3, -1]
    assert current.submitted_at.utcoffset() is not None
    assert len(store.comparisons("main")) == 1 and store.counts("main").votes == 1
    assert store.pairs("main")[0].voters == ("ann",)
    store.add_votes("main", [new_vote(item, "ann", 0, key="k3", supersedes=current.id)])
    assert [vote.vote.preference for vote in store.votes("main")] == [0]


def test_votes_that_cannot_be_are_refused_and_nothing_of_their_batch_is_stored(store: Store) -> None:
    one, two = [pair.item_id for pair in store.pairs("main")[:2]]
    store.add_votes("main", [new_vote(one, "ann", 1, key="k")])
    (stored,) = store.votes("main")
    fine = new_vote(two, "bob", 1)
    for bad, reason in (
        (new_vote(one, "ann", 1, key="other"), "'ann' has already voted on pair"),
        (new_vote(one, "ann", -1, key="k"), "client_key 'k' is that of another vote"),
        (new_vote(one, "bob", 1, supersedes=stored.id), "is not the latest of 'bob' .*none"),
        (new_vote(one, "ann", 1, key="n", supersedes=stored.id + 9), "is not the latest of 'ann'"),
        (new_vote(two, "nobody", 1), "no annotator 'nobody'"),
        (new_vote(9999, "ann", 1), "pair 9999 is not in this project"),
        (new_vote(two, "ann", 4), "must be -3 to 3"),
        (new_vote(two, "ann", 1, first_shown=2), "must be 0 or 1"),
    ):
        with pytest.raises(ValueError, match=reason):
            store.add_votes("main", [fine, bad])
        assert [vote.id for vote in store.votes("main", revisions=True)] == [stored.id]
    with pytest.raises(ValueError, match="'ann' has already voted"):  # twice in one batch
        store.add_votes("main", [new_vote(two, "ann", 1, key="x"), new_vote(two, "ann", 1, key="y")])


def test_a_vote_belongs_to_its_project(store: Store) -> None:
    fill(store, "other", prompts=1)
    with pytest.raises(ValueError, match="is not in this project"):
        store.add_votes("other", [new_vote(store.pairs("main")[0].item_id, "ann", 1)])
    assert store.projects() == ["main", "other"]


def test_annotators_keep_their_identity(store: Store) -> None:
    assert store.add_annotator("dan", "judge", {"model": "x"}) == store.add_annotator(
        "dan", "judge", {"model": "x"}
    )
    with pytest.raises(ValueError, match="already has an annotator 'dan' who is another one"):
        store.add_annotator("dan", "judge", {"model": "y"})
    with pytest.raises(ValueError, match="already has an annotator 'ann'"):
        store.add_annotator("ann", "human", {"reliability": 0.8})


def test_annotator_table_by_hand(store: Store) -> None:
    a, b, c = [pair.item_id for pair in store.pairs("main")[:3]]
    store.add_votes(
        "main",
        [
            new_vote(a, "ann", -1, first_shown=0),  # chose what was first
            new_vote(b, "ann", -1, first_shown=1),  # chose what was second
            new_vote(c, "ann", 0, first_shown=1),
            new_vote(a, "bob", -3, first_shown=1),
            new_vote(b, "bob", 2, first_shown=1),  # first
            new_vote(c, "bob", 2, first_shown=0),
            new_vote(a, "cat", 1, first_shown=1),  # first
        ],
    )
    ann, bob, cat = store.annotator_table("main")
    assert (ann.votes, ann.ties, ann.chose_first) == (3, 1, 0.5)
    assert ann.agreement == 0.0  # on a the others are split (not counted), on b bob disagrees
    assert (bob.votes, bob.ties, bob.chose_first, bob.agreement) == (3, 0, pytest.approx(1 / 3), 0.0)
    assert (cat.votes, cat.chose_first, cat.agreement) == (1, 1.0, 0.0)
    store.add_annotator("eve", "human")
    store.add_votes("main", [new_vote(a, "eve", -1)])
    by_name = {row.name: row for row in store.annotator_table("main")}
    assert by_name["eve"].agreement == 1.0 and by_name["eve"].kind == "human"
    assert by_name["ann"].agreement == 0.5


def test_comparisons_do_not_depend_on_the_order_of_votes(tmp_path: Path) -> None:
    lists = []
    for name, order in (("a", 1), ("b", -1)):
        with Store(tmp_path / name) as store:
            fill(store)
            pairs = store.pairs("main")[::order]
            for who, sign in (("ann", 1), ("bob", -1))[::order]:
                votes = [new_vote(p.item_id, who, sign * (int(p.digest[0], 16) % 3)) for p in pairs]
                store.add_votes("main", votes)
            lists.append(store.comparisons("main", "all") + store.comparisons("main"))
    assert lists[0] == lists[1] and len(lists[0]) == 36


@pytest.mark.slow
def test_thousands_of_rows(path: Path) -> None:
    """Not a benchmark: work that must not be quadratic (this takes well under two seconds)."""
    with Store(path) as store:
        fill(store, prompts=1200, samples=2)
        pairs = store.pairs("main")
        store.add_votes("main", [new_vote(pair.item_id, who, 1) for pair in pairs for who in ("ann", "bob")])
        assert store.counts("main") == Counts(1200, 2400, 1200, 1200, 2400, 0, 2)
        assert store.unlabelled_pairs("main") == []
        assert len(store.comparisons("main")) == 1200
