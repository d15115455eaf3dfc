"""`label` on two ranks: reward models compute half of the pairs on each, and the votes are those of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.feedback.test_label import sample, votes_in
from tests.ranks import on_ranks
from tests.train.making import make_model, make_tokenizer
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, save
from tutelage.records import Vote
from tutelage.settings.feedback import LabelSettings

RULE: Any = {"judge": "formula:length", "target": 20, "weight": 0.01}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, folder / "policy")
    save(load_scalar(folder / "policy"), tokenizer, folder / "reward")
    return str(folder / "reward")


def chosen(folder: Path, judge: Any, **more: Any) -> LabelSettings:
    store = str(folder / "store.sqlite")
    return LabelSettings(out=folder / "label", store=store, judge=judge, annotator="it", **more)


def labelled(folder: Path, judge: Any, ranks: int) -> dict[tuple[str, str], Vote]:
    """The votes on responses in a store of its own."""
    folder.mkdir()
    sample(folder / "store.sqlite")
    on_ranks(ranks, folder / "ranks", lambda _: launch("label", chosen(folder, judge)))
    return votes_in(folder)


@pytest.mark.parametrize(
    "mixed", [pytest.param(False, marks=pytest.mark.slow, id="alone"), pytest.param(True, id="mixed")]
)
def test_two_ranks_vote_as_one_process(tmp_path: Path, model: str, mixed: bool) -> None:
    judge: Any = [{"judge": model}, RULE] if mixed else model  # a mix is measured first, on what rank 0 reads
    alone = labelled(tmp_path / "one", judge, 1)
    assert len(alone) > 30 and len({vote.preference for vote in alone.values()}) > 1
    assert labelled(tmp_path / "two", judge, 2) == alone


def test_nothing_is_shared_where_nothing_is_computed(tmp_path: Path, model: str) -> None:
    assert chosen(tmp_path, model, ranks=2).starts_ranks
    assert chosen(tmp_path, [{"judge": model}, RULE], ranks=2).starts_ranks
    assert not chosen(tmp_path, model).starts_ranks
    assert not chosen(tmp_path, [RULE], ranks=2).starts_ranks
    assert not chosen(tmp_path, "llm:somebody", ranks=2).starts_ranks
    written = tmp_path / "mix.yaml"
    for other, shared in ((RULE, True), ({"judge": "llm:somebody"}, False)):
        written.write_text(json.dumps({"reward": [{"judge": model}, other]}))
        assert chosen(tmp_path, str(written), ranks=2).starts_ranks == shared


def test_a_store_that_cannot_be_read_ends_all_ranks(tmp_path: Path, model: str) -> None:
    def ended(_: Any) -> str:
        with pytest.raises(ValueError) as error:
            launch("label", chosen(tmp_path, model))
        return str(error.value)

    found = on_ranks(2, tmp_path / "ranks", ended)
    assert all("no project 'main'" in said for said in found), found
