"""A response that was cut when it was sampled reaches trainers as what it is: from the store, and through files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.databases import fresh_sqlite
from tests.feedback.kit import hand_in, start
from tests.store import making
from tests.train.making import make_model, make_tokenizer
from tutelage.data.reading.formats import read_comparisons, read_demonstrations
from tutelage.data.template import encode_prompts
from tutelage.feedback.asking.payloads import (
    Criterion,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
)
from tutelage.feedback.commands.voters import both_of
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.imports import importing
from tutelage.feedback.items import building
from tutelage.feedback.people.access import Member
from tutelage.feedback.training.source import comparisons_digest, comparisons_from, demonstrations_from
from tutelage.feedback.work import queue
from tutelage.records import Comparison, Finish, Prompt, Response
from tutelage.runs import Run
from tutelage.settings.preference import DPOSettings
from tutelage.settings.reward import RewardSettings
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.train.stage import prepare_pairs

SOURCE = "store:main"
plain_response = making.response


def sampled(to: Prompt, index: int, text: str = "") -> Response:
    """Every second response of a prompt was cut."""
    finish: Finish = "length" if index % 2 else "eos"
    return replace(plain_response(to, index, text), finish=finish)


def finish_of(text: str) -> Finish:
    """What `sampled` says of the response with this text; people's own are complete."""
    return "length" if text.startswith(("answer 1", "answer 3")) else "eos"


def ends(row: Comparison) -> tuple[Finish, Finish]:
    return row.chosen_finish, row.rejected_finish


@pytest.fixture
def olga(store: Store, database: Database, monkeypatch: pytest.MonkeyPatch) -> Member:
    """A project with pairs, ranks, ratings and rewrites of these responses, all answered by its owner."""
    monkeypatch.setattr(making, "response", sampled)
    criteria = (Criterion(name="overall", title="Overall"),)
    olga = start(store, database, prompts=2, schema=Schema(criteria=criteria))
    building.build(database, olga, "rank", size=4)
    building.build(database, olga, "rate", size=2)
    building.build(database, olga, "rewrite")
    number = 0
    while (task := queue.next_task(database, olga)) is not None:
        number += 1
        answer = {
            "pair": PairAnswer(preference=-1, acceptable=(True, False)),
            "rank": RankAnswer(ranks=(1, 2, 3, 4)),
            "rate": RateAnswer(ratings={"overall": (1, 5)}),
            "rewrite": RewriteAnswer(text=f"what olga wrote {number}"),
        }[task.type]
        hand_in(database, olga, task, answer)
    return olga


def test_every_comparison_says_how_its_responses_ended(olga: Member, address: str) -> None:
    rows = comparisons_from(SOURCE, address).rows
    assert {row.rejected for row in rows if row.chosen.startswith("what olga wrote")}
    assert all(ends(row) == (finish_of(row.chosen), finish_of(row.rejected)) for row in rows)
    assert set(map(ends, rows)) == {(a, b) for a in ("eos", "length") for b in ("eos", "length")}
    for aggregation in ("all", "adjudicated", "dawid-skene", "crowd-bt"):
        found = comparisons_from(SOURCE, address, aggregation).rows  # type: ignore[arg-type]
        assert found and all(ends(row) == (finish_of(row.chosen), finish_of(row.rejected)) for row in found)
    assert all(row.finish == "eos" for row in demonstrations_from(SOURCE, address).rows)


def test_judges_are_told(olga: Member, store: Store) -> None:
    """What `label` gives a judge to compare: a reward model puts no end after a response that was cut."""
    sides = [side for pair in store.pairs("main") for side in both_of(pair)]
    assert {side.finish for side in sides} == {"eos", "length"}
    assert all(side.finish == finish_of(side.text) for side in sides)


@pytest.mark.parametrize("settings", [RewardSettings, DPOSettings])
def test_trainers_get_the_ids_that_were_sampled(
    olga: Member, address: str, tmp_path: Path, settings: type[RewardSettings | DPOSettings]
) -> None:
    """A finished response with one end token, a cut one without: as the generator left them."""
    tokenizer = make_tokenizer()
    given = settings(data=SOURCE, store=address, heldout_share=0, max_length=128)
    run = Run.open(tmp_path / "run", "reward", given)
    pairs = prepare_pairs(given, tokenizer, make_model(tokenizer), run)
    rows = comparisons_from(SOURCE, address).rows
    assert len(pairs.train) == len(rows)
    for row, pair in zip(rows, pairs.train, strict=True):
        [prompt] = encode_prompts(tokenizer, [row.prompt])
        for tokens, text in ((pair.chosen, row.chosen), (pair.rejected, row.rejected)):
            said = tokenizer(text, add_special_tokens=False)["input_ids"]
            end = [tokenizer.eos_token_id] if finish_of(text) == "eos" else []
            assert tokens.ids.tolist() == [*prompt, *said, *end]  # type: ignore[misc]
    dropping = given.model_copy(update={"cut_responses": "drop", "max_dropped_share": 0.9})
    kept = prepare_pairs(dropping, tokenizer, make_model(tokenizer), run).train
    assert len(kept) == sum(ends(row) == ("eos", "eos") for row in rows) > 0


def test_it_decides_whether_a_stage_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for make in (plain_response, sampled):
        path = fresh_sqlite(tmp_path / f"{len(digests)}.sqlite")
        monkeypatch.setattr(making, "response", make)
        with Store(path) as store:
            making.fill(store)
            store.add_votes("main", [making.new_vote(pair.item_id, "ann", 1) for pair in store.pairs("main")])
        digests.append(comparisons_digest(SOURCE, path))
    assert digests[0] != digests[1]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_exports_say_it_and_are_read_back(
    olga: Member, database: Database, address: str, tmp_path: Path, kind: str
) -> None:
    def write(format: str, **more: str) -> str:
        spec = ExportSpec(format=format, file_format=kind, **more)  # type: ignore[arg-type]
        return str(exporting.export(database, olga, spec, tmp_path / f"{format}.{kind}").file)

    rows = comparisons_from(SOURCE, address).rows
    assert set(read_comparisons(write("preference"))) == set(rows)
    for labels in ("pairs", "acceptable"):
        unpaired = read_demonstrations(write("unpaired", labels_from=labels))
        assert unpaired and all(row.finish == finish_of(row.response) for row in unpaired)  # type: ignore[union-attr]
        assert {row.finish for row in unpaired} == {"eos", "length"}  # type: ignore[union-attr]


def test_every_format_says_it_or_leaves_the_row_out(olga: Member, database: Database) -> None:
    left: Counter[str] = Counter()
    found = list(exporting.rows(database, olga, ExportSpec(format="hh"), left))
    assert found and not any(finish_of(text) == "length" for row in found for text in answers_of(row))
    assert left["response was cut, which transcripts cannot say"] > 0
    for row in exporting.rows(database, olga, ExportSpec(format="ranked")):
        texts = [turns[0]["content"] for turns in row["responses"]]
        assert row["responses_finish"] == [finish_of(text) for text in texts]
    for row in exporting.rows(database, olga, ExportSpec(format="ratings")):
        assert row["response_finish"] == finish_of(row["response"])


def answers_of(row: dict[str, str]) -> list[str]:
    return [row[side].rpartition("\n\nAssistant: ")[2] for side in ("chosen", "rejected")]


def test_an_exported_file_makes_the_same_comparisons_in_another_project(
    olga: Member, database: Database, address: str, tmp_path: Path
) -> None:
    exporting.export(database, olga, ExportSpec(), tmp_path / "rows.jsonl")
    with Store(tmp_path / "other.sqlite") as store:
        other = Database(tmp_path / "other.sqlite")
        who = start(store, other, prompts=1)
        with (tmp_path / "rows.jsonl").open("rb") as file:
            done = importing.import_stream(other, who, "preference", file, "rows.jsonl")
        assert done.new and done.bad == []
        found = Counter((row.chosen, row.rejected, *ends(row)) for row in store.comparisons("main"))
        other.close()
    rows = comparisons_from(SOURCE, address).rows
    assert found == Counter((row.chosen, row.rejected, *ends(row)) for row in rows)
