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
