"""Exports: the rows by hand, a reader for each, and a raw file that makes the same project again."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from tests.feedback.kit import conflicts_left, hand_in, join, prioritise, start, take, text_by_slot
from tests.store.making import new_vote
from tutelage.data.reading.formats import (
    read_comparisons,
    read_demonstrations,
    read_labelled,
    read_ratings,
)
from tutelage.feedback.asking.payloads import (
    Criterion,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
    StepMark,
)
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec
from tutelage.feedback.exports.marks import step_marks_from
from tutelage.feedback.exports.singles import labelled_from, ratings_from
from tutelage.feedback.imports import importing
from tutelage.feedback.items import browsing, building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.training.source import comparisons_from, demonstrations_from
from tutelage.feedback.upkeep import examine
from tutelage.feedback.work import queue
from tutelage.files import sha256_of
from tutelage.records import Prompt, Response
from tutelage.settings.groups import ExportFormat as Format
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database
from tutelage.store.origins import identity


def rows(database: Database, who: Member, **spec: object) -> list[dict]:
    return list(exporting.rows(database, who, ExportSpec(**spec)))


def said(completion: str | list[dict]) -> str:
    return completion if isinstance(completion, str) else completion[0]["content"]


def answer_all(database: Database, who: Member, type: str, make) -> None:
    """Answer every item of a type; `make(task)` gives the answer in positions."""
    while (task := queue.next_task(database, who)) is not None:
        if task.type == type:
            hand_in(database, who, task, make(task))
        else:
            queue.skip(database, who, task.assignment_id, "other")


@pytest.mark.parametrize("side", [0, 1])
def test_preference_and_hh_read_back_as_what_was_clicked(
    store: Store, database: Database, tmp_path: Path, address: str, side: int
) -> None:
    """Screen -> store -> file -> the trainer's reader, for both orders on the screen."""
    olga = start(store, database, prompts=2)
    liked = set()
    while (task := queue.next_task(database, olga)) is not None:
        hand_in(database, olga, task, PairAnswer(preference=-1 if side == 0 else 1))
        liked.add((task.responses[side].text, task.responses[1 - side].text))
    for format in ("preference", "hh"):
        done = exporting.export(database, olga, ExportSpec(format=format), tmp_path / f"{format}.jsonl")
        read = list(read_comparisons(str(done.file)))
        assert {(row.chosen, row.rejected) for row in read} == liked and done.rows == 12
    assert (
        list(read_comparisons(str(tmp_path / "preference.jsonl")))
        == comparisons_from("store:main", address).rows
    )


@pytest.mark.parametrize(("strength", "pressed", "margin"), [(3, 2, 2 / 3), (2, 2, 1.0), (1, 1, 0.0)])
def test_margins_are_shares_of_the_scale_that_was_asked_for(
    store: Store, database: Database, strength: int, pressed: int, margin: float
) -> None:
    olga = start(store, database, prompts=1, schema=Schema(strength=strength))
    hand_in(database, olga, take(database, olga), PairAnswer(preference=pressed))
    (row,) = rows(database, olga)
    assert row["margin"] == pytest.approx(margin, abs=1e-6)


def test_the_manifest_tells_what_the_file_is(store: Store, database: Database, tmp_path: Path) -> None:
    olga = start(store, database, prompts=1)
    pairs = store.pairs("main")
    store.add_votes("main", [new_vote(pairs[0].item_id, "ann", 1), new_vote(pairs[1].item_id, "ann", 0)])
    done = exporting.export(database, olga, ExportSpec(), tmp_path / "deep" / "out.jsonl")
    manifest = json.loads(done.manifest.read_text())
    assert manifest["sha256"] == done.sha256 == sha256_of(done.file) and manifest["rows"] == done.rows == 1
    assert manifest["left_out"] == {"tie": 1} and manifest["project"] == "main"
    assert (manifest["spec"]["aggregation"], manifest["aggregation"]) == ("auto", "majority")
    assert manifest["totals"]["answers"] == 2
    assert projects.audit(database, olga)[0]["what"] == "export"
    assert exporting.preview(database, olga, ExportSpec()).first == [json.loads(done.file.read_text())]
    vic = join(database, olga.user, "main", "vic", "viewer")
    with pytest.raises(Refused, match="does not include to export"):
        exporting.preview(database, vic, ExportSpec())


def test_what_transcripts_cannot_say_is_left_out_and_counted(database: Database, store: Store) -> None:
    olga = start(store, database, prompts=1)
    asked = [Prompt("fine"), Prompt("talk\n\nAssistant: of marks"), Prompt("space ")]
    store.add_prompts("main", asked)
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    store.add_responses(
        "main", run, [Response(p, f"r{n}", (), (1,), (), "eos", n) for p in asked for n in (0, 1)]
    )
    store.build_pairs("main", 0, 1)
    store.add_votes(
        "main", [new_vote(pair.item_id, "ann", 1) for pair in store.pairs("main") if not pair.prompt.is_chat]
    )
    left: Counter[str] = Counter()
    found = list(exporting.rows(database, olga, ExportSpec(format="hh"), left))
    assert found[0]["chosen"].startswith("\n\nHuman: fine\n\nAssistant: r") and len(found) == 1
    assert (sum(left.values()) == 2 and len(left) == 3 - left["gold"] - 0) or len(
        [k for k in left if left[k]]
    ) == 2


def test_ranks_become_rows_and_every_pair_of_them(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, overlap=2, schema=Schema(type="rank"))
    ben = join(database, olga.user, "main", "ben")
    assert building.build(database, olga, "rank", size=3) == building.Built(1, 0, 0)
    assert building.build(database, olga, "rank", size=3) == building.Built(0, 1, 0)
    (row,) = browsing.find(database, olga, browsing.Query(type="rank")).items
    best, middle, worst = sorted(row.responses)
    for who, ranks in ((olga, (1, 2, 5)), (ben, (1, 1, 2))):
        said = dict(zip((best, middle, worst), ranks, strict=True))
        answer_all(
            database,
            who,
            "rank",
            lambda task, said=said: RankAnswer(ranks=tuple(said[r.text] for r in task.responses)),
        )
    (mean,) = rows(database, olga, format="ranked")
    assert dict(zip([c[0]["content"] for c in mean["responses"]], mean["ranks"], strict=True)) == {
        best: 1,
        middle: 2,
        worst: 3,
    }
    both = rows(database, olga, format="ranked", aggregation="all")
    assert sorted(sorted(row["ranks"]) for row in both) == [[1, 1, 2], [1, 2, 3]]
    assert rows(database, olga, format="ranked", aggregation="adjudicated") == []
    pairs = {(c.chosen, c.rejected): c.p_chosen for c in store.comparisons("main", "all")}
    assert pairs == {(best, middle): 0.75, (best, worst): 1.0, (middle, worst): 1.0}
    for aggregation in ("dawid-skene", "crowd-bt"):
        with pytest.raises(Refused, match=f"{aggregation} is not for ranks"):
            rows(database, olga, format="ranked", aggregation=aggregation)
    for format in ("stepwise", "unpaired", "ratings"):
        with pytest.raises(Refused, match="aggregation=crowd-bt"):
            rows(database, olga, format=format, aggregation="crowd-bt")
    by_skill = rows(database, olga, aggregation="crowd-bt", ties="keep")
    assert {row["chosen"][0]["content"] for row in by_skill} == {best, middle}


def test_acceptable_responses_become_unpaired_rows(
    store: Store, database: Database, tmp_path: Path, address: str
) -> None:
    olga = start(store, database, prompts=1, overlap=3)
    people = [olga, *(join(database, olga.user, "main", name) for name in ("ben", "cy"))]
    item = take(database, olga).item_id
    first, second = text_by_slot(store, item)
    for who, good in zip(people, ((True, None), (True, False), (False, True)), strict=True):
        task = take(database, who)
        assert task.item_id == item
        said = dict(zip((first, second), good, strict=True))
        acceptable = tuple(said[shown.text] for shown in task.responses)
        hand_in(database, who, task, PairAnswer(preference=1, acceptable=acceptable))
    labels = {
        row["completion"][0]["content"]: row["label"] for row in rows(database, olga, format="unpaired")
    }
    assert labels == {first: True}  # two of three; the second is one against one
    everything = [
        (r["completion"][0]["content"], r["label"])
        for r in rows(database, olga, format="unpaired", aggregation="all")
    ]
    assert sorted(everything) == sorted(
        [(first, True), (first, True), (first, False), (second, False), (second, True)]
    )
    halves = rows(database, olga, format="unpaired", labels_from="pairs")
    assert sorted(row["label"] for row in halves) in ([False, True], [])
    for aggregation in ("majority", "all"):
        spec = ExportSpec(format="unpaired", aggregation=aggregation)
        done = exporting.export(database, olga, spec, tmp_path / f"{aggregation}.jsonl")
        told = labelled_from("store:main", address, aggregation, "acceptable")
        assert told.rows == list(read_labelled(str(done.file))) and len(told.rows) == done.rows > 0


def test_steps_become_stepwise_rows(store: Store, database: Database) -> None:
    olga = start(
        store,
        database,
        prompts=1,
        overlap=3,
        schema=Schema(type="step", splitter="sentences", first_error=True),
    )
    store.add_prompts("main", [asked := Prompt("sum")])
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    store.add_responses("main", run, [Response(asked, "One. Two. Three.", (), (1,), (), "eos", 0)])
    building.build(database, olga, "step")
    item = next(
        r
        for r in browsing.find(database, olga, browsing.Query(type="step")).items
        if r.responses == ("One. Two. Three.",)
    )
    prioritise(database, olga, {item.item_id: 1.0})
    people = [olga, *(join(database, olga.user, "main", name) for name in ("ben", "cy"))]
    for who, labels in zip(people, ((1, 1, -1), (1, -1), (1, 1, 1)), strict=True):
        task = take(database, who)
        marks = tuple(StepMark(step=n, label=label) for n, label in enumerate(labels))
        hand_in(database, who, task, StepAnswer(marks=marks))
    (row,) = rows(database, olga, format="stepwise", neutral="false")
    assert (row["completions"], row["labels"]) == (["One. ", "Two. ", "Three."], [True, True, False])
    assert rows(database, olga, format="stepwise") == []  # the third step is one against one: neutral
    lengths = [len(row["labels"]) for row in rows(database, olga, format="stepwise", aggregation="all")]
    assert sorted(lengths) == [2, 3, 3]
    assert conflicts_left(database, olga) == 1
    by_skill = rows(database, olga, format="stepwise", aggregation="dawid-skene", neutral="true")
    assert len(by_skill) == 1 and by_skill[0]["labels"][0] is True
    trained = step_marks_from(
        "store:main", database.place
    ).train  # three marked them: who marked less says less
    assert [(row.steps, row.labels, row.finish) for row in trained] == [
        (("One. ", "Two. ", "Three."), (1, 1, 0), "eos")
    ]
    every = step_marks_from("store:main", database.place, "all").train
    assert sorted(row.labels for row in every) == [(1, -1), (1, 1, -1), (1, 1, 1)]
    assert [row.finish for row in every if len(row.steps) == 2] == ["length"]
    for annotators, labels in (
        ([people[1].user.name], (1, -1)),
        ([one.user.name for one in people[::2]], (1, 1, 0)),
        (["human"], (1, 1, 0)),
    ):
        [row] = step_marks_from("store:main", database.place, annotators=annotators).train
        assert row.labels == labels
    with pytest.raises(ValueError, match="annotators=nobody: nobody of that name has voted here"):
        step_marks_from("store:main", database.place, annotators=["nobody"])
    with pytest.raises(ValueError, match="none of annotators=judge has marked steps in it yet"):
        step_marks_from("store:main", database.place, annotators=["judge"])


def test_demonstrations_and_rewrites_become_sft_rows(
    store: Store, database: Database, tmp_path: Path, address: str
) -> None:
    olga = start(store, database, prompts=2, schema=Schema(type="rewrite", rewrite_makes_pair=False))
    with pytest.raises(ValueError, match="nobody has rewritten or written"):
        demonstrations_from("store:main", address)
    building.build(database, olga, "rewrite", size=0)
    answer_all(
        database, olga, "rewrite", lambda task: RewriteAnswer(text=f"my answer to {task.thread[-1].content}")
    )
    done = exporting.export(database, olga, ExportSpec(format="sft"), tmp_path / "sft.jsonl")
    assert list(read_demonstrations(str(done.file))) == demonstrations_from("store:main", address).rows
    assert {row.response for row in demonstrations_from("store:main", address).rows} == {
        "my answer to question 0",
        "my answer to question 1",
    }
    assert store.voted_pairs("main") == []


def test_ratings_become_a_wide_table(store: Store, database: Database, tmp_path: Path, address: str) -> None:
    criteria = tuple(Criterion(name=name, title=name) for name in ("overall", "accuracy"))
    olga = start(store, database, prompts=1, overlap=2, schema=Schema(type="rate", criteria=criteria))
    ben = join(database, olga.user, "main", "ben")
    building.build(database, olga, "rate", size=2)
    (item,) = browsing.find(database, olga, browsing.Query(type="rate")).items
    for who, values in (
        (olga, {item.responses[0]: 6, item.responses[1]: 1}),
        (ben, {item.responses[0]: 3, item.responses[1]: 2}),
    ):

        def rate(task, values=values) -> RateAnswer:
            overall = tuple(values[shown.text] for shown in task.responses)
            return RateAnswer(ratings={"overall": overall, "accuracy": (None,) * 2})

        answer_all(database, who, "rate", rate)
    found = {row["response"]: row["values"]["overall"] for row in rows(database, olga, format="ratings")}
    assert found == {item.responses[0]: 4.5, item.responses[1]: 1.5}
    each = rows(database, olga, format="ratings", aggregation="all", names=True)
    assert {(row["annotator"], row["values"]["overall"]) for row in each} == {
        ("olga", 6),
        ("olga", 1),
        ("ben", 3),
        ("ben", 2),
    }
    spec = ExportSpec(format="ratings", aggregation="all", names=True)
    done = exporting.export(database, olga, spec, tmp_path / "ratings.jsonl")
    told = ratings_from("store:main", address)
    assert told.rows == list(read_ratings(str(done.file))) and len(told.rows) == 4
    assert {(row.annotator, row.values["overall"]) for row in told.rows} >= {("olga", 6), ("ben", 2)}
    labels = {
        r["completion"][0]["content"]: r["label"]
        for r in rows(database, olga, format="unpaired", labels_from="rating")
    }
    assert labels == {item.responses[1]: False}  # 6 and 3 lie on both sides of the middle


def test_dawid_skene_weighs_by_skill(store: Store, database: Database, address: str) -> None:
    """Two who are always right outvote three who press at random, where the majority would not always."""
    start(store, database, prompts=30, overlap=5)
    pairs = store.pairs("main")
    truth = {pair.item_id: -1 if int(pair.digest, 16) % 2 else 1 for pair in pairs}
    for name in ("good1", "good2", "noise1", "noise2", "noise3"):
        store.add_annotator(name, "simulated")
        noisy = name.startswith("noise")
        cast = [
            truth[p.item_id] * (-1 if noisy and int(p.digest[4:], 16) % int(name[-1] + "7") < 8 else 1)
            for p in pairs
        ]
        store.add_votes(
            "main",
            [
                new_vote(p.item_id, name, v, key=f"{name}{p.item_id}")
                for p, v in zip(pairs, cast, strict=True)
            ],
        )

    def right(aggregation: str) -> float:
        found = comparisons_from("store:main", address, aggregation).rows  # type: ignore[arg-type]
        chosen = {(row.prompt.id, row.chosen, row.rejected) for row in found if row.p_chosen > 0.5}
        want = [(p.prompt.id, *(p.texts if truth[p.item_id] < 0 else p.texts[::-1])) for p in pairs]
        return sum(row in chosen for row in want) / len(want)

    assert right("dawid-skene") > 0.99 >= right("majority")
    assert right("crowd-bt") > 0.95


# raw: everything, and back -------------------------------------------------------------------------------------------


def test_a_raw_file_makes_the_same_project_again(
    store: Store, database: Database, busy: Member, tmp_path: Path
) -> None:
    done = exporting.export(database, busy, ExportSpec(format="raw"), tmp_path / "raw.jsonl")
    assert "olga" not in done.file.read_text() and done.rows > 25
    content = done.file.read_bytes()
    other = Database(tmp_path / "other.sqlite")
    there = projects.local_member(other, "copy", create=True)
    taken = importing.import_stream(other, there, "raw", io.BytesIO(content), "raw.jsonl")
    assert (taken.new, taken.there, taken.bad) == (done.rows, 0, [])
    again = importing.import_stream(other, there, "raw", io.BytesIO(content), "raw.jsonl")
    assert (again.new, again.there, again.bad) == (0, done.rows, [])

    with database.read() as one, other.read() as two:
        first, second = identity(one), identity(two)
    expected = [
        row if row["kind"] != "answer"
        else row | {"store": second, "annotator": f"{row['annotator']}@{first[:8]}"}
        for row in rows(database, busy, format="raw")
    ]  # fmt: skip
    assert rows(other, there, format="raw") == rows(other, there, format="raw", names=True) == expected
    with Store(tmp_path / "other.sqlite") as copied:
        for aggregation in ("majority", "all", "adjudicated"):
            assert copied.comparisons("copy", aggregation) == store.comparisons("main", aggregation)
        assert copied.demonstrations("copy") == store.demonstrations("main")
    assert [finding for finding in examine(other) if finding.wrong] == []
    other.close()


def test_exports_write_nothing_half(store: Store, database: Database, tmp_path: Path) -> None:
    olga = start(store, database)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        exporting.export(database, olga, ExportSpec(format="raw"), tmp_path / "file" / "out.jsonl")
    with pytest.raises(Refused):
        exporting.export(
            database, olga, ExportSpec(format="ratings", aggregation="dawid-skene"), tmp_path / "x.jsonl"
        )
    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite" not in path.name) == ["file"]


def test_every_format_writes_rows_of_its_own(
    store: Store, database: Database, busy: Member, tmp_path: Path
) -> None:
    found = {}
    for format in ("unpaired", "ranked", "stepwise", "ratings"):
        spec = ExportSpec(format=format, aggregation="all", neutral="true")
        done = exporting.export(database, busy, spec, tmp_path / f"{format}.jsonl")
        found[format] = [json.loads(line) for line in done.file.read_text().splitlines()]
        assert len(found[format]) == done.rows > 0
    texts = {text for pair in store.pairs("main") for text in pair.texts}
    assert all(row["label"] is True and said(row["completion"]) in texts for row in found["unpaired"])
    assert all(sorted(row["ranks"]) == [1, 2, 2, 3] for row in found["ranked"])
    assert all("".join(row["completions"]) in texts and row["labels"] == [False] for row in found["stepwise"])
    criteria = {"overall", "accuracy", "coverage", "coherence"}
    assert all(row["n"] == 1 and set(row["values"]) == criteria for row in found["ratings"])


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(one, marks=() if one in ("preference", "raw") else pytest.mark.slow)
        for one in get_args(Format)
    ],
)
def test_of_a_large_project_the_beginning_is_looked_at(
    database: Database, busy: Member, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ExportSpec(format=format)
    whole = exporting.preview(database, busy, spec, limit=1_000)
    assert whole.whole
    monkeypatch.setattr(exporting, "LOOKED_AT", 1)
    part = exporting.preview(database, busy, spec, limit=1_000)
    assert part.first == whole.first[: part.rows] and len(part.first) == part.rows
    assert part.rows + sum(part.left_out.values()) <= max(1, whole.rows + sum(whole.left_out.values()))
    if whole.rows > 4:  # raw begins with questions and guidelines, a step's item gives several rows
        assert not part.whole and part.rows < whole.rows


def test_a_look_by_skill_learns_from_all_votes(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    olga = start(store, database, prompts=3)
    store.add_annotator("cy", "simulated")
    for n, pair in enumerate(store.pairs("main")):
        votes = [
            new_vote(pair.item_id, name, 1 if (n + k) % 3 else -2)
            for k, name in enumerate(("ann", "bob", "cy"))
        ]
        store.add_votes("main", votes)
    spec = ExportSpec(aggregation="dawid-skene")
    whole = exporting.preview(database, olga, spec)
    monkeypatch.setattr(exporting, "LOOKED_AT", 3)
    part = exporting.preview(database, olga, spec)
    assert not part.whole and whole.whole and part.first == whole.first and part.rows == 3 < whole.rows
