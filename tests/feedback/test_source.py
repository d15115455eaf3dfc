"""`data=store:PROJECT`: what trainers get from the store, and digests that change with it only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import fresh_sqlite
from tests.store.making import fill, new_vote, prompt, response
from tutelage.feedback.training.source import (
    comparisons_digest,
    comparisons_from,
    is_store_source,
    responses_digest,
)
from tutelage.records import Comparison
from tutelage.store import ModelInfo, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fresh_sqlite(tmp_path / "store.sqlite")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        fill(opened)
        yield opened


def test_sources(store: Store, path: Path, tmp_path: Path) -> None:
    assert is_store_source("store:main") and not is_store_source("data/store.jsonl")
    with pytest.raises(ValueError, match="has no labelled pairs yet: run `label` first"):
        comparisons_from("store:main", path)
    store.add_votes("main", [new_vote(store.pairs("main")[0].item_id, "ann", 0)])
    assert comparisons_from("store:main", path).rows == store.comparisons("main")
    assert comparisons_from("store:main", f"sqlite:///{path}").rows == store.comparisons("main")
    with pytest.raises(ValueError, match=r"nothing that can be trained on \(1 tie\)"):
        comparisons_from("store:main", path, ties="drop")
    with pytest.raises(ValueError, match=r"has no project 'mian': did you mean 'main'\?"):
        comparisons_from("store:mian", path)
    with pytest.raises(ValueError, match="there is no store at"):
        comparisons_from("store:main", tmp_path / "absent.sqlite")
    assert not (tmp_path / "absent.sqlite").exists()
    with pytest.raises(ValueError, match="names no project"):
        comparisons_from("store:", path)


def test_only_some_annotators_votes(store: Store, path: Path) -> None:
    """By name and by kind; what they did not vote on is not there, and the digest is that of what is."""
    first, second = (pair.item_id for pair in store.pairs("main")[:2])
    store.add_annotator("hal", "judge")
    votes = [(first, "ann", 1), (first, "bob", 1), (first, "hal", -1), (second, "bob", 2)]
    store.add_votes("main", [new_vote(item, name, preference) for item, name, preference in votes])

    def read(*annotators: str) -> list[Comparison]:
        return comparisons_from("store:main", path, annotators=annotators).rows

    everybody = comparisons_from("store:main", path).rows
    assert read("ann", "bob") == everybody and len(everybody) == 2
    (hal,) = read("judge")
    assert (hal.chosen, hal.rejected) == (everybody[0].rejected, everybody[0].chosen)
    assert read("hal") == [hal]
    kind = store.annotator_kinds()["ann"]
    assert read(kind) == read("ann", "bob")
    assert read("ann") == everybody[:1]
    with pytest.raises(ValueError, match=r"annotators=bobb: nobody .* did you mean 'bob'\?"):
        read("bobb")
    with pytest.raises(ValueError, match="none of annotators=rule has voted"):
        read("rule")
    assert comparisons_digest("store:main", path, annotators=["hal"]) not in (
        None,
        comparisons_digest("store:main", path),
    )


def test_digests_change_with_their_content_only(store: Store, path: Path) -> None:
    """A pipeline skips a stage while the digest of its input stays."""
    assert comparisons_digest("store:main", path) is None and comparisons_digest("store:nope", path) is None
    assert (
        responses_digest("store:nope", path) is None
        and responses_digest("store:main", path.parent / "no") is None
    )
    item = store.pairs("main")[0].item_id
    before = responses_digest("store:main", path)
    store.add_votes("main", [new_vote(item, "ann", 1), new_vote(item, "bob", 2)])
    assert responses_digest("store:main", path) == before
    votes = comparisons_digest("store:main", path)
    assert votes is not None and votes == comparisons_digest("store:main", path, ties="drop")
    store.add_votes("main", [new_vote(item, "cat", -1)])  # the majority stays, the share does not
    assert comparisons_digest("store:main", path) == votes
    assert comparisons_digest("store:main", path, "all") not in (votes, None)
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    store.add_responses("main", run, [response(prompt(0), 0, "one more")])
    assert responses_digest("store:main", path) != before


def test_several_projects_are_read_one_behind_the_other(store: Store, path: Path) -> None:
    """Each row knows its project; a prompt that one project holds out is trained on in none of them."""
    fill(store, "two", per_prompt=1)
    for project in ("main", "two"):
        store.add_votes(project, [new_vote(pair.item_id, "ann", 1) for pair in store.pairs(project)])
    both = comparisons_from(["store:main", "store:two"], path)
    assert both.train == [*store.comparisons("main"), *store.comparisons("two")] and not both.held_out
    places = [row.place for row in both.train if row.place]
    assert [(place.file, place.number) for place in places] == [
        *(("store:main", number) for number in range(1, len(store.comparisons("main")) + 1)),
        *(("store:two", number) for number in range(1, len(store.comparisons("two")) + 1)),
    ]
    assert comparisons_digest(["store:main", "store:two"], path) == both.digest
    for wrong, sentence in (
        (["store:main", "store:main"], "data has store:main twice"),
        (["store:main", "store:tow"], "has no project 'tow': did you mean 'two'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            comparisons_from(wrong, path)
    with pytest.raises(ValueError, match=r"data mixes the store with a\.jsonl"):
        is_store_source(["store:main", "a.jsonl"])
    assert is_store_source(["store:a", "store:b"]) and not is_store_source(["a.jsonl", "b.jsonl*3"])


def test_what_one_project_holds_out_none_trains_on(store: Store, path: Path) -> None:
    asked = [prompt(0), prompt(7)]
    for split, some in (("heldout", asked[:1]), ("train", asked[1:])):
        store.add_prompts("later", some, split)
    run = store.add_generation_run(ModelInfo("runs/ppo", "cd34"), "local", {"seed": 0})
    store.add_responses("later", run, [response(p, index) for p in asked for index in range(2)])
    store.build_pairs("later", 0, overlap=1)
    for project in ("main", "later"):
        store.add_votes(project, [new_vote(pair.item_id, "ann", 1) for pair in store.pairs(project)])
    found = comparisons_from(["store:main", "store:later"], path)
    assert {row.prompt.id for row in found.held_out} == {prompt(0).id}
    assert {row.prompt.id for row in found.train} == {prompt(number).id for number in (1, 2, 7)}
    assert {row.place.file for row in found.held_out if row.place} == {"store:main", "store:later"}
    assert (
        len(found.held_out) == 6 + 1 and len(found.train) == 2 * 6 + 1
    )  # 4 responses make 6 pairs, 2 make one
